"""What a container with users of its own needs to be started: a map of ids for its mounts, and a way to its root filesystem.

The files of its snapshot, and of the image's below it, have other owners where they are mounted, and only there: on the disk its root is 0,
as of any other container. So nothing is copied or changed, several containers use the same layers, and a commit has nothing to undo.
"""

from __future__ import annotations

import os
import stat
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Final

from attrs import frozen

from ross.errors import FailedPrecondition
from ross.linux.files import make_directory
from ross.linux.idmap import Ids, mount_mapped
from ross.linux.mount import bind, mounts_below, part, unmount
from ross.linux.userns import open_user_namespace
from ross.model.mounts import Recursion
from ross.model.namespaces import UserMode, UserNamespace, inside, outside
from ross.shim.bundle import Places, find_source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Container, Iterator, Sequence
    from pathlib import Path

    from ross.layout import RuntimeLayout
    from ross.model.containers import ContainerSpec
    from ross.model.mounts import Mount
    from ross.model.namespaces import IdRange

_NOBODY: Final = 65534
"""What the kernel shows for an id that is not mapped (/proc/sys/kernel/overflowuid)."""


@frozen(kw_only=True)
class Owners:
    """Whose the files of a container are, where its users are mapped."""

    users: UserNamespace

    def told(self, owner: tuple[int, int]) -> tuple[int, int]:
        """Who an owner on the host is in the container; nobody, as it sees them itself, if it has no such id."""
        if self.users.mode is UserMode.HOST:
            return owner
        return _or_nobody(self.users.uids, owner[0]), _or_nobody(self.users.gids, owner[1])

    def meant(self, owner: tuple[int, int]) -> tuple[int, int]:
        """Who an owner in the container is on the host.

        Raises:
            FailedPrecondition: the container has no such id.
        """
        if self.users.mode is UserMode.HOST:
            return owner
        try:
            return outside(self.users.uids, owner[0]), outside(self.users.gids, owner[1])
        except LookupError as error:
            raise FailedPrecondition(f"the container has no id {error} to own a file") from None


def _or_nobody(ranges: Sequence[IdRange], number: int) -> int:
    try:
        return inside(ranges, number)
    except LookupError:
        return _NOBODY


@asynccontextmanager
async def own_ids(users: UserNamespace, directory: Path) -> AsyncIterator[Ids | None]:
    """How the ids of its files are mapped, for the length of a block; None if it has the host's.

    ``directory`` is for what must be mounted meanwhile; it is removed at the end.

    Raises:
        FailedPrecondition: the host makes no user namespace.
    """
    if users.mode is UserMode.HOST:
        yield None
        return
    try:
        namespace = await open_user_namespace(users.uids, users.gids)
    except OSError as error:
        raise FailedPrecondition(
            f"this host gives the container no users of its own: {error.strerror or error}",
            hint="see /proc/sys/user/max_user_namespaces; or leave out --userns",
        ) from error
    try:
        yield Ids(namespace=namespace, root=users.root, place=directory / "layers")
    finally:
        os.close(namespace)
        take_binds_away(directory)


@contextmanager
def places_of(
    spec: ContainerSpec, ids: Ids | None, layout: RuntimeLayout, *, container_id: str, rootfs: Path
) -> Iterator[Places]:
    """Where the runtime finds the mounted root filesystem, and mounts whose ids are mapped, for the length of a block.

    Raises:
        FailedPrecondition: the users of the container cannot get to its files, or a filesystem maps no ids.
        InvalidArgument: what is to be mounted is not there.
    """
    if ids is None:
        yield Places(root=rootfs)
        return
    with (
        _reachable(rootfs, layout, container_id, ids.root[1]) as root,
        _binds(spec.mounts, ids, layout.binds(container_id)) as binds,
    ):
        yield Places(root=root, binds=binds)


@contextmanager
def _binds(mounts: Sequence[Mount], ids: Ids, directory: Path) -> Iterator[dict[str, Path]]:
    wanted = [mount for mount in mounts if mount.idmap]
    found: dict[str, Path] = {}
    try:
        for number, mount in enumerate(wanted):
            source, place = find_source(mount.source), directory / str(number)
            make_directory(directory)
            place.mkdir() if source.is_dir() else place.touch()
            found[mount.target] = place
            try:
                mount_mapped(source, place, ids, recursive=mount.recursion is not Recursion.DISABLED)
            except OSError as error:
                raise FailedPrecondition(
                    f"the ids of {mount.source} cannot be mapped for the container: {error.strerror}",
                    hint="not every filesystem does that, and all that is mounted below must too, without bind-nonrecursive; or leave "
                    "out idmap",
                ) from error
        yield found
    finally:
        take_binds_away(directory)


def take_binds_away(directory: Path) -> None:
    """Unmount what is mounted there for a start, and remove the empty places; never what is in one."""
    with suppress(FileNotFoundError):
        for place in directory.iterdir():
            part(place)  # copies of what is shared with the host, which would lose what is mounted below
            unmount(place)
            place.rmdir() if place.is_dir() else place.unlink()
        directory.rmdir()


@contextmanager
def _reachable(rootfs: Path, layout: RuntimeLayout, container_id: str, gid: int) -> Iterator[Path]:
    """Another place for a mounted root filesystem, to which the container's root can get, for the length of a block.

    The runtime looks for it as the container's root, who may not enter the engine's own directories. Nobody else of the host may pass: what
    runs as its owner in there is not for them to execute. The empty directory stays: the runtime begins there also when it executes
    something later.

    Raises:
        FailedPrecondition: a directory on the way is closed to others.
    """
    place = layout.root(container_id)
    make_directory(layout.roots, mode=0o711)
    for directory in layout.roots.parents:
        if not directory.stat().st_mode & stat.S_IXOTH:
            raise FailedPrecondition(
                f"the users of the container cannot get to its files: {directory} is closed to them",
                hint=f"chmod o+x {directory}",
            )
    make_directory(place, mode=0o710)
    os.chown(place.parent, 0, gid)
    try:
        bind(rootfs, place)
        yield place
    finally:
        unmount(place)


def take_way_away(layout: RuntimeLayout, container_id: str) -> None:
    """Unmount what is mounted there for a start, and remove the directories; what is not there is fine."""
    place = layout.root(container_id)
    unmount(place)
    for directory in (place, place.parent):
        with suppress(FileNotFoundError):
            directory.rmdir()


def close_ways(layout: RuntimeLayout, known: Container[str]) -> None:
    """Take away what an earlier daemon was killed over; what is known has still the empty directory."""
    for place in mounts_below(layout.roots):
        unmount(place)
    with suppress(FileNotFoundError):
        for directory in layout.roots.iterdir():
            if directory.name not in known:
                take_way_away(layout, directory.name)
    with suppress(FileNotFoundError):
        for place in layout.all_binds.iterdir():
            take_binds_away(place)
