"""The client library: ``async with ross.connect() as engine: ...``, on Trio and on asyncio.

Names enter once (``engine.images.get(name)``, ``engine.containers.get(name)``); what comes back are references, whose methods take
no id. Answers are the frozen records of ``ross.model``, a module for each kind of thing, as are those that are given, which are here too
(``Mount`` and its like); failures are the exceptions of ``ross.errors``.
Cancelling a call cancels it in the daemon.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ross.client.connection import Pending
    from ross.client.containers import Container, Containers
    from ross.client.engine import Engine, connect
    from ross.client.images import Image, Images
    from ross.client.processes import Completed, Exec, Process
    from ross.client.snapshots import Snapshots
    from ross.model.limits import HugePages, Throttle, Ulimit
    from ross.model.mounts import Mount
    from ross.model.security import Device, DeviceRule

__all__ = [
    "Completed",
    "Container",
    "Containers",
    "Device",
    "DeviceRule",
    "Engine",
    "Exec",
    "HugePages",
    "Image",
    "Images",
    "Mount",
    "Pending",
    "Process",
    "Snapshots",
    "Throttle",
    "Ulimit",
    "connect",
]

_MODULES: Final = {
    "Completed": "ross.client.processes",
    "Container": "ross.client.containers",
    "Containers": "ross.client.containers",
    "Device": "ross.model.security",
    "DeviceRule": "ross.model.security",
    "Engine": "ross.client.engine",
    "Exec": "ross.client.processes",
    "HugePages": "ross.model.limits",
    "Image": "ross.client.images",
    "Images": "ross.client.images",
    "Mount": "ross.model.mounts",
    "Pending": "ross.client.connection",
    "Process": "ross.client.processes",
    "Snapshots": "ross.client.snapshots",
    "Throttle": "ross.model.limits",
    "Ulimit": "ross.model.limits",
    "connect": "ross.client.engine",
}


def __dir__() -> list[str]:
    return [*globals(), *__all__]


if not TYPE_CHECKING:  # or every name would be one to a type checker

    def __getattr__(name: str) -> Any:
        # Imported when asked for: a command line that only pulls loads nothing of containers.
        if name in _MODULES:
            return getattr(import_module(_MODULES[name]), name)
        raise AttributeError(f"module 'ross.client' has no attribute {name!r}")
