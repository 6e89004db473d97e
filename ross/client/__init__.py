"""The client library: ``async with ross.connect() as engine: ...``, on Trio and on asyncio.

Names enter once (``engine.images.get(name)``, ``engine.containers.get(name)``); what comes back are references, whose methods take
no id. Answers are the frozen records of ``ross.model``, a module for each kind of thing; failures are the exceptions of ``ross.errors``.
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

__all__ = [
    "Completed",
    "Container",
    "Containers",
    "Engine",
    "Exec",
    "Image",
    "Images",
    "Pending",
    "Process",
    "Snapshots",
    "connect",
]

_MODULES: Final = {
    "Completed": "processes",
    "Container": "containers",
    "Containers": "containers",
    "Engine": "engine",
    "Exec": "processes",
    "Image": "images",
    "Images": "images",
    "Pending": "connection",
    "Process": "processes",
    "Snapshots": "snapshots",
    "connect": "engine",
}


def __dir__() -> list[str]:
    return [*globals(), *__all__]


if not TYPE_CHECKING:  # or every name would be one to a type checker

    def __getattr__(name: str) -> Any:
        # Imported when asked for: a command line that only pulls loads nothing of containers.
        if name in _MODULES:
            return getattr(import_module(f"ross.client.{_MODULES[name]}"), name)
        raise AttributeError(f"module 'ross.client' has no attribute {name!r}")
