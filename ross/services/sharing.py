"""What a container has of other containers: their namespaces of processes and of IPC, and what they have mounted.

Whose they are is said by reference when it is created, and kept by id; whether they are there is seen at each start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import trio
from attrs import evolve, field, frozen

from ross.errors import FailedPrecondition, InvalidArgument
from ross.linux.mount import unmount
from ross.linux.pidfd import identify
from ross.linux.seen_mounts import copy_mount
from ross.model.mounts import MountKind
from ross.model.namespaces import NamespaceMode, UserMode
from ross.services.tracked import TrackedContainer
from ross.shim.namespaces import Joined
from ross.shim.state import ALIVE, check_alive

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from ross.linux.pidfd import ProcessIdentity
    from ross.model.containers import ContainerSpec
    from ross.model.mounts import Mount

_MODES: Final = {"": None, "ro": True, "rw": False}
_SHM: Final = "/dev/shm"  # noqa: S108 -- the container's


@frozen(kw_only=True)
class Shared:
    """What a new container has of others, and of whoever creates it."""

    pid: TrackedContainer | None = None
    ipc: TrackedContainer | None = None
    mounts: Sequence[tuple[TrackedContainer, str]] = ()
    """Whose mounts it has too, with ``ro`` or ``rw`` for all of them, or nothing for as they are."""
    handed: Mapping[str, int] = field(factory=dict)
    """Directories and files that its creator has opened, to be mounted in it, by target; they stay the caller's."""


NOTHING: Final = Shared()


def with_shared(spec: ContainerSpec, shared: Shared) -> ContainerSpec:
    """The spec with what it has of others; what it says itself of a place counts more.

    Raises:
        InvalidArgument: it is not said whose namespace it is to be in, or the mode of mounts is none.
        NotFound: one of the others is removed.
    """
    ids: dict[str, str] = {}
    for kind, owner in (("pid", shared.pid), ("ipc", shared.ipc)):
        wanted = getattr(spec.namespaces, kind) is NamespaceMode.CONTAINER
        if wanted != (owner is not None):
            raise InvalidArgument(f"the {kind} namespace of another container goes with a reference to that container")
        if owner is not None:
            check_alive(owner.record.name, owner.state)
            if owner.record.spec.namespaces.users.mode is not UserMode.HOST:
                raise InvalidArgument(
                    f"the container {owner.record.name} has users of its own, so its {kind} namespace is not to be shared"
                )
        ids[kind] = owner.id if owner is not None else ""
    mounts = list(spec.mounts)
    for owner, mode in shared.mounts:
        check_alive(owner.record.name, owner.state)
        mounts += _inherited(owner.record.spec.mounts, mode, {mount.target for mount in mounts})
    namespaces = evolve(spec.namespaces, pid_container=ids["pid"], ipc_container=ids["ipc"])
    return evolve(spec, namespaces=namespaces, mounts=tuple(mounts))


def _inherited(mounts: Sequence[Mount], mode: str, taken: set[str]) -> Iterator[Mount]:
    if mode not in _MODES:
        raise InvalidArgument(f"the mounts of another container are not had {mode!r}", hint="write ro or rw")
    read_only = _MODES[mode]
    for mount in mounts:
        if mount.kind is MountKind.BIND and mount.target not in taken:
            yield mount if read_only is None else evolve(mount, read_only=read_only)


class Sharing:
    """What one container has of others while it is started."""

    def __init__(self, spec: ContainerSpec, find: Callable[[str], TrackedContainer | None]) -> None:
        self._namespaces = spec.namespaces
        self._find = find

    @asynccontextmanager
    async def joined(self, shm: Path) -> AsyncIterator[Joined]:
        """Where the runtime finds what it joins, for the length of a block; it was the right one if the block ends without an error.

        Args:
            shm: Where to mount the shared memory of the other meanwhile.

        Raises:
            FailedPrecondition: one of the others is not there, or does not run, or has ended meanwhile.
        """
        owners = {
            kind: self._running(kind, identity)
            for kind, mode, identity in (
                ("pid", self._namespaces.pid, self._namespaces.pid_container),
                ("ipc", self._namespaces.ipc, self._namespaces.ipc_container),
            )
            if mode is NamespaceMode.CONTAINER
        }
        paths = {kind: f"/proc/{process.pid}/ns/{kind}" for kind, (_name, process) in owners.items()}
        if "ipc" in owners:
            name, process = owners["ipc"]
            try:
                await trio.to_thread.run_sync(_borrow, name, process, shm)
                yield Joined(paths=paths, shm=shm)
            finally:
                take_away(shm)
        else:
            yield Joined(paths=paths, shm=None)
        for kind, (name, process) in owners.items():
            if identify(process.pid) != process:  # its number may have been another's
                raise _not_running(kind, name)

    def _running(self, kind: str, identity: str) -> tuple[str, ProcessIdentity]:
        owner = self._find(identity)
        if owner is None:
            raise FailedPrecondition(
                f"the container {identity[:12]}, whose {kind} namespace this one shares, has been removed"
            )
        run = owner.record.run
        if owner.state not in ALIVE or run is None or identify(run.process.pid) != run.process:
            raise _not_running(kind, owner.record.name)
        return owner.record.name, run.process


def _not_running(kind: str, name: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"the container {name}, whose {kind} namespace this one shares, does not run",
        hint=f"start it first: ross start {name}",
    )


def _borrow(name: str, process: ProcessIdentity, shm: Path) -> None:
    shm.mkdir(exist_ok=True)
    try:
        copy_mount(process, _SHM, shm)
    except OSError as error:
        raise FailedPrecondition(f"the shared memory of the container {name} cannot be had: {error}") from None


def take_away(shm: Path) -> None:
    """Unmount what is mounted there for a start, and remove the directory; what is not there is fine."""
    unmount(shm)
    with suppress(FileNotFoundError):
        shm.rmdir()
