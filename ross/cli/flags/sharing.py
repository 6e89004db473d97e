"""What a container is to have of other containers, as flags name them: ``--pid container:NAME``, ``--ipc``, ``--volumes-from``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ross.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ross.client import Container, Engine
    from ross.client.specs import CreateOptions

_PREFIX: Final = "container:"


def shared_options(engine: Engine, *, pid: str, ipc: str, volumes_from: Sequence[str]) -> CreateOptions:
    """References to the containers that are named, as options of the client library.

    Raises:
        InvalidArgument: a name, or a mode behind it, is none.
    """
    options: CreateOptions = {}
    if pid.startswith(_PREFIX):
        options["pid"] = _container(engine, pid.removeprefix(_PREFIX))
    if ipc.startswith(_PREFIX):
        options["ipc"] = _container(engine, ipc.removeprefix(_PREFIX))
    if volumes_from:
        options["volumes_from"] = [_mounts_of(engine, text) for text in volumes_from]
    return options


def _container(engine: Engine, name: str) -> Container:
    if not name:
        raise InvalidArgument("the other container has no name", hint="write container:NAME")
    return engine.containers.get(name).now


def _mounts_of(engine: Engine, text: str) -> tuple[Container, str]:
    name, _colon, mode = text.partition(":")
    if mode not in {"", "ro", "rw"}:
        raise InvalidArgument(f"{text!r} is not a container and a mode", hint="write NAME, NAME:ro or NAME:rw")
    return _container(engine, name), mode
