"""Mounts whose files have other owners than on the disk: ids through the map of a user namespace (mount_setattr(2), MOUNT_ATTR_IDMAP).

What belongs to root on the disk belongs to root of that namespace there, and what that makes is root's on the disk. Nothing is copied
and no owner is changed.
"""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from ross.linux.files import make_directory
from ross.linux.fsids import acting_as
from ross.linux.mount import mount_overlay, unmount
from ross.linux.syscalls import attach_mount
from ross.linux.trees import PRIVATE, MountAttribute, change_tree, copy_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@frozen(kw_only=True)
class Ids:
    """Whose ids."""

    namespace: int
    """The user namespace, as a descriptor."""
    root: tuple[int, int]
    """User and group of ours that its root is."""
    place: Path
    """A directory, made when it is needed, on which something may be mounted meanwhile; left to the caller."""


def mount_mapped_overlay(
    target: Path, *, lower: Sequence[Path], upper: Path | None, work: Path | None, ids: Ids
) -> None:
    """Mount an overlay, as :func:`~ross.linux.mount.mount_overlay` does, of layers with other owners.

    Raises:
        OSError: the kernel refused; EINVAL where the kernel, or the filesystem of a layer, maps no ids.
    """
    try:
        _mount_overlay(target, lower, upper, work, ids, attached=False)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # Older kernels have only layers that are mounted somewhere.
        _mount_overlay(target, lower, upper, work, ids, attached=True)


def _mount_overlay(
    target: Path, lower: Sequence[Path], upper: Path | None, work: Path | None, ids: Ids, *, attached: bool
) -> None:
    tops = [] if upper is None else [upper.parent]  # one mount for both, as the kernel wants it
    with _mapped([*lower, *tops], ids, attached=attached) as paths:
        if upper is not None and work is not None:
            upper, work = paths[-1] / upper.name, paths[-1] / work.name
        # The overlay works in its own directory as who has mounted it.
        with acting_as(*ids.root):
            mount_overlay(target, lower=paths[: len(lower)], upper=upper, work=work)


@contextmanager
def _mapped(paths: Sequence[Path], ids: Ids, *, attached: bool) -> Iterator[list[Path]]:
    """These directories with other owners, for the length of a block, as paths of this process.

    ``attached`` has them mounted meanwhile: one over the other, at one place, since they are used by descriptor only.
    """
    fds: list[int] = []
    try:
        for path in paths:
            fds.append(_copied(path, ids, recursive=False))  # noqa: PERF401 -- what is open must be known if one fails
        if attached:
            make_directory(ids.place)
            for fd in fds:
                attach_mount(fd, ids.place)
        yield [Path(f"/proc/self/fd/{fd}") for fd in fds]
    finally:
        for fd in fds:
            os.close(fd)
        if attached:
            unmount(ids.place)


def mount_mapped(source: Path, target: Path, ids: Ids, *, recursive: bool) -> None:
    """Mount a directory or file of the host on ``target``, with other owners, and with what is mounted below if ``recursive``.

    Raises:
        OSError: EINVAL where a filesystem or the kernel cannot.
    """
    fd = _copied(source, ids, recursive=recursive)
    try:
        attach_mount(fd, target)
    finally:
        os.close(fd)


def _copied(path: Path, ids: Ids, *, recursive: bool) -> int:
    fd = copy_tree(path, recursive=recursive)
    try:
        change_tree(
            fd,
            recursive=recursive,
            add=MountAttribute.MAPPED_IDS,
            propagation=PRIVATE,
            namespace=ids.namespace,
        )
    except BaseException:
        os.close(fd)
        raise
    return fd
