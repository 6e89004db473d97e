"""Mounts whose files have other owners than on the disk: ids through the map of a user namespace (mount_setattr(2), MOUNT_ATTR_IDMAP).

What belongs to root on the disk belongs to root of that namespace there, and what that makes is root's on the disk. Nothing is copied
and no owner is changed.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

from ross.linux.syscalls import MOUNT_SETATTR, MOVE_MOUNT, OPEN_TREE, syscall

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_AT_FDCWD: Final = -100
_AT_EMPTY_PATH: Final = 0x1000
_AT_RECURSIVE: Final = 0x8000
_AT_SYMLINK_NOFOLLOW: Final = 0x100
_OPEN_TREE_CLONE: Final = 1
_MOVE_MOUNT_F_EMPTY_PATH: Final = 4
_ATTR_IDMAP: Final = 0x00100000
_MS_PRIVATE: Final = 1 << 18


class _Attributes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns"))


@frozen(kw_only=True)
class Ids:
    """Whose ids."""

    namespace: int
    """The user namespace, as a descriptor."""
    root: tuple[int, int]
    """User and group of ours that its root is."""


@contextmanager
def mapped(paths: Sequence[Path], ids: Ids) -> Iterator[list[Path]]:
    """These directories with other owners, for the length of a block, as paths of this process.

    Raises:
        OSError: EINVAL where the filesystem or the kernel cannot.
    """
    fds: list[int] = []
    try:
        for path in paths:
            fds.append(_copied(path, ids, recursive=False))  # noqa: PERF401 -- what is open must be known if one fails
        yield [Path(f"/proc/self/fd/{fd}") for fd in fds]
    finally:
        for fd in fds:
            os.close(fd)


def mount_mapped(source: Path, target: Path, ids: Ids, *, recursive: bool) -> None:
    """Mount a directory or file of the host on ``target``, with other owners, and with what is mounted below if ``recursive``.

    Raises:
        OSError: EINVAL where a filesystem or the kernel cannot.
    """
    fd = _copied(source, ids, recursive=recursive)
    try:
        syscall(MOVE_MOUNT, fd, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH, what=os.fspath(target))
    finally:
        os.close(fd)


def _copied(path: Path, ids: Ids, *, recursive: bool) -> int:
    tree = _AT_RECURSIVE if recursive else 0
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_SYMLINK_NOFOLLOW | tree
    fd = syscall(OPEN_TREE, _AT_FDCWD, os.fsencode(path), flags, what=os.fspath(path))
    try:
        attributes = _Attributes(_ATTR_IDMAP, 0, _MS_PRIVATE, ids.namespace)
        size = ctypes.c_size_t(ctypes.sizeof(attributes))
        syscall(MOUNT_SETATTR, fd, b"", _AT_EMPTY_PATH | tree, ctypes.byref(attributes), size, what=os.fspath(path))
    except BaseException:
        os.close(fd)
        raise
    return fd
