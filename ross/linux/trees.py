"""Mounts that are nowhere yet: made or copied, changed, and then given their place, all by descriptor (fsopen(2), open_tree(2),
mount_setattr(2), move_mount(2))."""

from __future__ import annotations

import ctypes
import os
from enum import IntFlag
from typing import TYPE_CHECKING, Final

from ross.linux.syscalls import FSCONFIG, FSMOUNT, FSOPEN, MOUNT_SETATTR, OPEN_TREE, syscall

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_AT_FDCWD: Final = -100
_AT_EMPTY_PATH: Final = 0x1000
_AT_RECURSIVE: Final = 0x8000
_AT_SYMLINK_NOFOLLOW: Final = 0x100
_OPEN_TREE_CLONE: Final = 1
_FSOPEN_CLOEXEC: Final = 1
_FSMOUNT_CLOEXEC: Final = 1
_SET_STRING: Final = 1
_CMD_CREATE: Final = 6

PRIVATE: Final = 1 << 18
SLAVE: Final = 1 << 19
"""Propagations (MS_PRIVATE, MS_SLAVE)."""


class MountAttribute(IntFlag):
    """What can be said of a mount (MOUNT_ATTR_*)."""

    READ_ONLY = 0x1
    NO_SUID = 0x2
    NO_DEVICES = 0x4
    NO_EXECUTION = 0x8
    NO_ACCESS_TIMES = 0x10
    ALL_ACCESS_TIMES = 0x70
    """All that is said of access times; to be cleared where something else is set."""
    MAPPED_IDS = 0x00100000


NOTHING: Final = MountAttribute(0)


class _Attributes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns"))


def new_mount(kind: str, options: Iterable[tuple[str, str]]) -> int:
    """A filesystem, mounted nowhere, as a descriptor.

    Raises:
        OSError: the kernel does not know the kind or an option, or refuses.
    """
    context = syscall(FSOPEN, kind.encode(), _FSOPEN_CLOEXEC, what=kind)
    try:
        for key, value in options:
            what = f"{kind} option {key}={value}"
            syscall(FSCONFIG, context, _SET_STRING, key.encode(), os.fsencode(value), 0, what=what)
        syscall(FSCONFIG, context, _CMD_CREATE, None, None, 0, what=kind)
        return syscall(FSMOUNT, context, _FSMOUNT_CLOEXEC, 0, what=kind)
    finally:
        os.close(context)


def copy_tree(place: Path | int, *, recursive: bool) -> int:
    """A copy of what is mounted at a path, which is not followed if it is a link, or where a descriptor is; with what is mounted below if
    ``recursive``.

    Raises:
        OSError: the kernel refuses.
    """
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_SYMLINK_NOFOLLOW | (_AT_RECURSIVE if recursive else 0)
    if isinstance(place, int):
        return syscall(OPEN_TREE, place, b"", flags | _AT_EMPTY_PATH, what="mount")
    return syscall(OPEN_TREE, _AT_FDCWD, os.fsencode(place), flags, what=os.fspath(place))


def change_tree(
    fd: int,
    *,
    recursive: bool,
    add: MountAttribute = NOTHING,
    drop: MountAttribute = NOTHING,
    propagation: int = 0,
    namespace: int = 0,
) -> None:
    """Change what is said of a mount, and of all below it if ``recursive``.

    Args:
        fd: The mount.
        recursive: Whether those below it too; then all of them or none.
        add: What is then said of it.
        drop: What is not.
        propagation: :data:`PRIVATE` or :data:`SLAVE`; 0: as it is.
        namespace: The user namespace of :attr:`MountAttribute.MAPPED_IDS`.

    Raises:
        OSError: the kernel refuses; ENOSYS before Linux 5.12.
    """
    attributes = _Attributes(add, drop, propagation, namespace)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    syscall(MOUNT_SETATTR, fd, b"", flags, ctypes.byref(attributes), size, what="mount")
