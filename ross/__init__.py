"""Ross, a container engine. ``ross.connect()`` is the way in; see :mod:`ross.client`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ross.client import (
        Completed,
        Container,
        Containers,
        Device,
        DeviceRule,
        Engine,
        Exec,
        HugePages,
        Image,
        Images,
        Mount,
        Pending,
        Process,
        Snapshots,
        Throttle,
        Ulimit,
        connect,
    )
    from ross.errors import RossError

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
    "RossError",
    "Snapshots",
    "Throttle",
    "Ulimit",
    "connect",
]

_MODULES: Final = frozenset({"client", "errors"})
"""What is there once ``ross`` is imported, for ``except ross.errors.NotFound``."""


def __dir__() -> list[str]:
    return [*globals(), *__all__, *_MODULES]


if not TYPE_CHECKING:  # or every name would be one to a type checker

    def __getattr__(name: str) -> Any:
        # Imported when asked for: the command line and the daemon load only what they need.
        if name in _MODULES:
            return import_module(f"ross.{name}")
        if name == "RossError":
            from ross.errors import RossError

            return RossError
        if name in __all__:
            import ross.client

            return getattr(ross.client, name)
        raise AttributeError(f"module 'ross' has no attribute {name!r}")
