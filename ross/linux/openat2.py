"""Opening a path that somebody else chose, without leaving a directory (openat2(2), kernel 5.6)."""

from __future__ import annotations

import ctypes
import errno
import os
from enum import IntFlag
from typing import Final

from ross.linux.syscalls import OPENAT2, syscall

_ATTEMPTS: Final = 1000
_NOTHING_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


class Resolve(IntFlag):
    """How a path is resolved; every component of it."""

    NO_XDEV = 0x01
    NO_MAGICLINKS = 0x02
    NO_SYMLINKS = 0x04
    BENEATH = 0x08
    """Fail where the path, or a link, leads out of the directory."""
    IN_ROOT = 0x10
    """The directory is the root: absolute links and ``..`` stay inside, as in a chroot."""


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(
    dir_fd: int,
    path: str | bytes,
    flags: int,
    *,
    mode: int = 0,
    resolve: Resolve = Resolve.IN_ROOT | Resolve.NO_MAGICLINKS,
) -> int:
    """Open ``path`` below ``dir_fd``. The descriptor is close-on-exec.

    Raises:
        OSError: with the errno of openat2(2): ELOOP for a forbidden link, EXDEV for a path that leads out, and so on.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    name = os.fsencode(path)
    if b"\0" in name:  # the kernel would open what stands before it
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
    for left in reversed(range(_ATTEMPTS)):
        try:
            return syscall(
                OPENAT2, ctypes.c_int(dir_fd), ctypes.c_char_p(name), ctypes.byref(how), ctypes.c_size_t(24), what=path
            )
        except BlockingIOError:
            # EAGAIN: somebody renamed on the way, and the kernel cannot tell whether `..` left the root; it asks to try again. Or it is a
            # device that says so, and may do so for ever.
            if not left:
                raise
    raise AssertionError("the last attempt has returned or raised")


def lstat(dir_fd: int, path: str | bytes, *, resolve: Resolve) -> os.stat_result | None:
    """What is at a path below ``dir_fd``; None if there is nothing, or a forbidden link on the way. A link at its end is what is there."""
    try:
        fd = openat2(dir_fd, path, os.O_PATH | os.O_NOFOLLOW, resolve=resolve)
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            return None
        raise
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)
