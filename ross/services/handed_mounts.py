"""Directories and files that whoever creates a container has opened, to be mounted in it: these, and nothing that is at their paths later.

A descriptor ends with the daemon, and a container does not; so what is kept is the path that the kernel has for it, and what tells it from
everything else there. At each start it is found again by both, and mounted by descriptor.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import evolve

from ross.errors import FailedPrecondition, InvalidArgument
from ross.linux.fds import held, is_path_only
from ross.linux.files import make_directory
from ross.linux.openat2 import Resolve, openat2
from ross.linux.syscalls import attach_mount
from ross.linux.trees import copy_tree
from ross.model.mounts import MountKind, Recursion
from ross.services.own_users import take_binds_away
from ross.services.records import HandedMount, boot_id
from ross.shim.valid_mounts import normal_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ross.model.containers import ContainerSpec
    from ross.model.mounts import Mount
    from ross.services.records import ContainerRecord
    from ross.services.sharing import Shared

_AT_FDCWD: Final = -100
_PLAINLY: Final = Resolve.NO_SYMLINKS | Resolve.NO_MAGICLINKS


def with_handed(spec: ContainerSpec, handed: Mapping[str, int]) -> ContainerSpec:
    """The spec with the paths of what was handed over for its mounts, as sources.

    Args:
        spec: In which the mounts that it is for have no source.
        handed: Descriptors, by target.

    Raises:
        InvalidArgument: one is no open file or directory, or for no such mount.
        FailedPrecondition: one has no path by which the engine finds it.
    """
    if not handed:
        return spec
    by_target = {normal_path(target): fd for target, fd in handed.items()}
    mounts = tuple(
        _with_source(mount, by_target.pop(normal_path(mount.target)))
        if mount.kind is MountKind.BIND and not mount.source and normal_path(mount.target) in by_target
        else mount
        for mount in spec.mounts
    )
    if by_target:
        raise InvalidArgument(
            f"a descriptor was handed over for {min(by_target)!r}, where no mount lacks a source",
            hint="name a bind with that target, and leave its source empty",
        )
    return evolve(spec, mounts=mounts)


def _with_source(mount: Mount, fd: int) -> Mount:
    status = os.fstat(fd)
    if is_path_only(fd):
        raise InvalidArgument(
            f"what is to be mounted on {mount.target!r} is a mere path", hint="open it for reading, not with O_PATH"
        )
    if not (stat.S_ISDIR(status.st_mode) or stat.S_ISREG(status.st_mode)):
        raise InvalidArgument(f"what is to be mounted on {mount.target!r} is neither a directory nor a regular file")
    if (
        stat.S_ISREG(status.st_mode)
        and not mount.read_only
        and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDWR
    ):
        raise InvalidArgument(
            f"the file to be mounted on {mount.target!r} was not opened for writing",
            hint="open it so, or mount it read-only",
        )
    if mount.idmap:
        raise InvalidArgument(f"the ids of what was handed over for {mount.target!r} cannot be mapped")
    path = os.fsdecode(Path(f"/proc/self/fd/{fd}").readlink())
    with _opened(path, mount.target) as found:
        if not os.path.samestat(os.fstat(found), status):
            raise _lost(path, mount.target)
    return evolve(mount, source=path)


def identities(spec: ContainerSpec, shared: Shared) -> tuple[HandedMount, ...]:
    """What tells the mounts that were handed over from all else: those of the spec, and those that other containers were handed."""
    boot = boot_id()
    found = {
        normal_path(target): HandedMount(
            at=normal_path(target), boot=boot, device=os.fstat(fd).st_dev, inode=os.fstat(fd).st_ino
        )
        for target, fd in shared.handed.items()
    }
    here = {mount.target: mount.source for mount in spec.mounts}
    for owner, _mode in shared.mounts:
        theirs = {mount.target: mount.source for mount in owner.record.spec.mounts}
        for one in owner.record.handed_mounts:
            if one.at in here and here[one.at] == theirs[one.at]:
                found.setdefault(one.at, one)
    return tuple(found.values())


@contextmanager
def handed_places(record: ContainerRecord, directory: Path) -> Iterator[dict[str, Path]]:
    """Where what was handed over is mounted on the host, by target, for the length of a block.

    Args:
        record: Of the container.
        directory: Where to mount it.

    Raises:
        FailedPrecondition: it is not where it was any more, or cannot be mounted.
    """
    mounts = {mount.target: mount for mount in record.spec.mounts}
    places: dict[str, Path] = {}
    try:
        for number, one in enumerate(record.handed_mounts):
            make_directory(directory)
            places[one.at] = _place(one, mounts[one.at], directory / f"handed-{number}")
        yield places
    finally:
        if record.handed_mounts:
            take_binds_away(directory)


def _place(one: HandedMount, mount: Mount, place: Path) -> Path:
    with _opened(mount.source, mount.target) as found:
        status = os.fstat(found)
        # The numbers of devices may be others after a reboot.
        if status.st_ino != one.inode or (one.boot == boot_id() and status.st_dev != one.device):
            raise _lost(mount.source, mount.target)
        place.mkdir() if stat.S_ISDIR(status.st_mode) else place.touch()
        try:
            with held(copy_tree(found, recursive=mount.recursion is not Recursion.DISABLED)) as tree:
                attach_mount(tree, place)
        except OSError as error:
            raise FailedPrecondition(f"{mount.source} cannot be mounted: {error.strerror}") from None
    return place


@contextmanager
def _opened(path: str, target: str) -> Iterator[int]:
    """What is at a path, of which no part is a link."""
    try:
        found = openat2(_AT_FDCWD, path, os.O_PATH | os.O_CLOEXEC, resolve=_PLAINLY)
    except OSError:
        raise _lost(path, target) from None
    with held(found) as fd:
        yield fd


def _lost(path: str, target: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"what was handed over to be mounted on {target!r} is not at {path} (any more)",
        hint="it must stay where the engine sees it: not be moved or deleted, and not be in another mount namespace",
    )
