"""Mounts inside of what is mounted of the host: put together here, and handed to the runtime as one.

A runtime mounts by paths, and makes the mount points that it does not find. In the container's own root filesystem nobody else can be; but
a directory of the host may be another container's too, which changes a part of it for a link at the right moment. So the host was shown,
files and directories were made there, and masks and labels written where they do not belong (CVE-2021-30465, CVE-2024-45310,
CVE-2025-31133, CVE-2025-52565, CVE-2025-52881). Here each is mounted by descriptor, below a copy of the outer mount that is its own root:
no link leads out of it.
"""

from __future__ import annotations

import errno
import posixpath
import stat
from typing import TYPE_CHECKING, Final

from attrs import evolve, field, frozen

from ross.errors import FailedPrecondition
from ross.linux.fds import held
from ross.linux.files import make_directory
from ross.linux.syscalls import attach_mount
from ross.linux.trees import NOTHING, PRIVATE, SLAVE, MountAttribute, change_tree, copy_tree, new_mount
from ross.model.mounts import Mount, MountKind, Recursion
from ross.model.namespaces import NamespaceMode
from ross.shim.bundle import TMPFS_MODE, find_source
from ross.shim.rootfs import Rootfs, open_rootfs

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ross.model.containers import ContainerSpec
    from ross.shim.bundle import Places

_SHARED_MEMORY: Final = ("/dev/shm/", "/dev/mqueue/")  # noqa: S108 -- the container's
_SHARED: Final = frozenset({"shared", "rshared"})
_ATTRIBUTES: Final = {
    "nosuid": MountAttribute.NO_SUID,
    "nodev": MountAttribute.NO_DEVICES,
    "noexec": MountAttribute.NO_EXECUTION,
    "noatime": MountAttribute.NO_ACCESS_TIMES,
}


@frozen(kw_only=True)
class Inner:
    """A mount inside of another."""

    mount: Mount
    path: str
    """Where, below the outer one."""
    beside: Mount
    """On which its mount point is: the outer one, or another inside of it."""


@frozen
class Outer:
    """A mount of the host's files, or of an image's, with others inside."""

    mount: Mount
    inners: list[Inner] = field(factory=list)


def nest(spec: ContainerSpec, rootfs: Rootfs) -> tuple[Outer, ...]:
    """Which mounts are inside of which, however links of the root filesystem lead there.

    Not inside of a tmpfs, in which nobody else is; nor of a mount that is shared with the host, which is to see what is mounted in there.

    Raises:
        FailedPrecondition: a link leads up from what is mounted, a device would be inside, or something in memory that is shared.
    """
    _refuse_in_shared_memory(spec, rootfs)
    outers: list[Outer] = []
    points: dict[str, tuple[Mount, Outer | None, str]] = {}
    """By place in the container: what is mounted there last, in which outer mount, and where in there."""
    for mount in sorted(spec.mounts, key=lambda mount: mount.target.count("/")):
        place, point = _point_of(rootfs, mount.target, points)
        if point is None:
            outer = Outer(mount) if _may_be_changed(mount) else None
            points[place] = mount, outer, ""
            outers += [outer] if outer is not None else []
            continue
        beside, outer, before = points[point]
        path = before + place[len(point) :]
        if outer is not None:
            outer.inners.append(Inner(mount=mount, path=path, beside=beside))
        points[place] = mount, outer, path
    for device in spec.security.devices:
        _place, point = _point_of(rootfs, device.target, points)
        if point is not None and points[point][1] is not None:
            raise FailedPrecondition(
                f"the device {device.target!r} would be made in what is mounted on {point!r}",
                hint="give it a place that is the container's own, as in /dev",
            )
    return tuple(outer for outer in outers if outer.inners)


def _refuse_in_shared_memory(spec: ContainerSpec, rootfs: Rootfs) -> None:
    """What is there is another's too, and is mounted by the runtime itself."""
    if spec.namespaces.ipc is NamespaceMode.PRIVATE:
        return
    for target in (*(mount.target for mount in spec.mounts), *(device.target for device in spec.security.devices)):
        if posixpath.normpath(rootfs.locate(target)).startswith(_SHARED_MEMORY):
            raise FailedPrecondition(
                f"nothing can be mounted on {target!r}, in memory that the container shares with others",
                hint="give it another place, or leave out --ipc",
            )


def _may_be_changed(mount: Mount) -> bool:
    return mount.kind is not MountKind.TMPFS and mount.propagation not in _SHARED


def _point_of(rootfs: Rootfs, target: str, points: Mapping[str, object]) -> tuple[str, str | None]:
    """Where a target is, and the innermost of the mount points that it is below."""
    place = rootfs.locate(target, covered=points)
    if points and ".." in place.split("/"):
        raise FailedPrecondition(
            f"nothing can be mounted on {target!r} in this image: a link leads up from what is mounted"
        )
    place = posixpath.normpath(place)
    above = place
    while above != "/":
        above = posixpath.dirname(above)
        if above in points:
            return place, above
    return place, None


def put_together(spec: ContainerSpec, places: Places, *, rootfs: Path, directory: Path) -> tuple[ContainerSpec, Places]:
    """Mount what is inside of others, each with its outer mount. Blocks.

    Args:
        spec: What was asked for.
        places: Where its mounts are found so far.
        rootfs: The mounted root filesystem.
        directory: Where to do it; made if it is needed. What is mounted there is for the caller to take down, after an error too.

    Returns:
        A spec without mounts inside of others, and where the others then are.

    Raises:
        FailedPrecondition: something cannot be mounted where it is to be.
        InvalidArgument: the source of a mount is not there.
    """
    with open_rootfs(rootfs) as looked_at:
        outers = nest(spec, looked_at)
    if not outers:
        return spec, places
    _make_private_place(directory)
    binds = dict(places.binds)
    instead: dict[str, Mount | None] = {}
    for number, outer in enumerate(outers):
        place, target = directory / str(number), outer.mount.target
        instead[target] = _put_one_together(outer, places, place, root=spec.namespaces.users.root)
        instead |= dict.fromkeys((inner.mount.target for inner in outer.inners), None)
        binds[target] = place
    left = (instead.get(mount.target, mount) for mount in spec.mounts)
    return evolve(spec, mounts=tuple(mount for mount in left if mount is not None)), evolve(places, binds=binds)


def _make_private_place(directory: Path) -> None:
    """What is mounted in there must not be seen in other namespaces of the host, where it would stay."""
    make_directory(directory)
    with held(new_mount("tmpfs", [("mode", "711"), ("size", "1m")])) as fd:
        attach_mount(fd, directory)
        change_tree(fd, recursive=False, propagation=PRIVATE)


def _put_one_together(outer: Outer, places: Places, place: Path, *, root: tuple[int, int]) -> Mount:
    """Mount an outer mount on a new place, and all that is inside.

    Returns:
        What is left to the runtime.
    """
    mount = outer.mount
    source = _source(mount, places)
    place.mkdir() if source.is_dir() else place.touch()
    slave = mount.propagation in {"slave", "rslave"}
    try:
        with held(copy_tree(source, recursive=mount.recursion is not Recursion.DISABLED)) as tree:
            change_tree(tree, recursive=True, propagation=SLAVE if slave else PRIVATE)
            if mount.read_only and mount.recursion in {Recursion.ENABLED, Recursion.READONLY}:
                change_tree(tree, recursive=True, add=MountAttribute.READ_ONLY)
            attach_mount(tree, place)
    except OSError as error:
        raise FailedPrecondition(
            f"nothing can be mounted in {mount.source}: {error.strerror}",
            hint="it takes Linux 5.12" if error.errno == errno.ENOSYS else "",
        ) from error
    for inner in outer.inners:
        try:
            with open_rootfs(place, root=root) as inside:
                _mount_inside(inner, places, inside, root)
        except OSError as error:
            raise FailedPrecondition(
                f"nothing can be mounted on {inner.mount.target!r}, in what is mounted on {mount.target!r}: {error.strerror}",
                hint="make the mount point first" if _is_read_only(inner.beside) else "",
            ) from None
    options = ("nosuid", "nodev", *mount.options) if mount.kind is MountKind.IMAGE else mount.options
    read_only = _is_read_only(mount)
    return evolve(
        mount,
        kind=MountKind.BIND,
        read_only=read_only,
        # Those inside are as they are to be.
        recursion=Recursion.WRITABLE if read_only else Recursion.ENABLED,
        propagation="slave" if slave else "private",
        options=options,
    )


def _source(mount: Mount, places: Places) -> Path:
    return places.binds.get(mount.target) or find_source(mount.source)


def _is_read_only(mount: Mount) -> bool:
    return mount.kind is MountKind.IMAGE or (mount.kind is MountKind.BIND and mount.read_only)


def _mount_inside(inner: Inner, places: Places, outer: Rootfs, root: tuple[int, int]) -> None:
    mount = inner.mount
    source = None if mount.kind is MountKind.TMPFS else _source(mount, places)
    found = outer.stat(inner.path)
    if not _is_read_only(inner.beside):
        if source is None or source.is_dir():
            outer.make_directory(inner.path)
        else:
            outer.make_file(inner.path)
    whole = mount.kind is MountKind.BIND and mount.recursion is not Recursion.DISABLED
    with held(_new_tmpfs(mount, found, root) if source is None else copy_tree(source, recursive=whole)) as fd:
        _set_up(fd, mount)
        with held(outer.open(inner.path)) as target:
            attach_mount(fd, target)


def _new_tmpfs(mount: Mount, found: os.stat_result | None, root: tuple[int, int]) -> int:
    """As :attr:`~ross.model.mounts.Mount.mode` says, a tmpfs has the mode of the directory that it hides."""
    mode = mount.mode or (stat.S_IMODE(found.st_mode) if found is not None else TMPFS_MODE)
    options = [("mode", f"{mode:o}"), ("uid", str(root[0])), ("gid", str(root[1]))]
    if mount.size_bytes:
        options.append(("size", str(mount.size_bytes)))
    return new_mount("tmpfs", options)


def _set_up(fd: int, mount: Mount) -> None:
    """Have a mount that is nowhere yet be as it is to be."""
    if mount.kind is MountKind.TMPFS:
        _change(fd, ("nosuid", "nodev", "noexec", *mount.options), read_only=mount.read_only)
        return
    if mount.kind is MountKind.IMAGE:
        _change(fd, ("nosuid", "nodev", *mount.options), read_only=True)
        return
    if mount.propagation not in _SHARED:
        propagation = SLAVE if mount.propagation.endswith("slave") else PRIVATE
        change_tree(fd, recursive=mount.propagation.startswith("r"), propagation=propagation)
    _change(fd, mount.options)
    if mount.read_only:
        whole = mount.recursion in {Recursion.ENABLED, Recursion.READONLY}
        change_tree(fd, recursive=whole, add=MountAttribute.READ_ONLY)


def _change(fd: int, options: Sequence[str], *, read_only: bool = False) -> None:
    """The last of two options that contradict each other is meant."""
    add, drop = MountAttribute.READ_ONLY if read_only else NOTHING, NOTHING
    for option in options:
        attribute = _ATTRIBUTES.get(option) or _ATTRIBUTES[f"no{option}"]
        if option in _ATTRIBUTES:
            add, drop = add | attribute, drop & ~attribute
        else:
            add, drop = add & ~attribute, drop | attribute
    if add & MountAttribute.NO_ACCESS_TIMES:
        drop |= MountAttribute.ALL_ACCESS_TIMES
    if add or drop:
        change_tree(fd, recursive=False, add=add, drop=drop)
