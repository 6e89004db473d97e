"""Raw system calls for which Python has no wrapper, 1:1. Failures are :class:`OSError` with errno and what was operated on."""

from __future__ import annotations

import ctypes
import os
import platform
from functools import cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

# unistd.h; these numbers are the same on every architecture that has the new calls (kernel 5.x, include/uapi/asm-generic).
OPEN_TREE: Final = 428
MOVE_MOUNT: Final = 429
FSOPEN: Final = 430
FSCONFIG: Final = 431
FSMOUNT: Final = 432
OPENAT2: Final = 437
MOUNT_SETATTR: Final = 442
SYNCFS: Final = {"x86_64": 306, "aarch64": 267}.get(platform.machine(), 267)

RENAMEAT2: Final = {"x86_64": 316}.get(platform.machine(), 276)
_RENAME_EXCHANGE: Final = 2
_PR_SET_DUMPABLE: Final = 4


@cache
def libc() -> Any:
    """The C library, keeping errno for each thread."""
    return ctypes.CDLL(None, use_errno=True)


def syscall(number: int, *arguments: Any, what: str | bytes = "") -> int:
    """Make a system call. The GIL is released meanwhile.

    Raises:
        OSError: it failed; ``filename`` is ``what``.
    """
    result = libc().syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
    return int(result)


def keep_memory_private() -> None:
    """Let nobody have this process's memory: no core is dumped, and only the superuser may look at it (PR_SET_DUMPABLE, prctl(2)).

    Of this process only: what it executes is dumpable again, unlike with a limit on the size of cores, which containers would inherit.
    """
    if libc().prctl(_PR_SET_DUMPABLE, *(ctypes.c_ulong(0) for _argument in range(4))) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "prctl")


def syncfs(fd: int) -> None:
    """Write everything of the filesystem that ``fd`` is on to its disk (syncfs(2))."""
    syscall(SYNCFS, ctypes.c_int(fd), what="syncfs")


def attach_mount(fd: int, target: Path | int) -> None:
    """Give a mount that is nowhere its place, by descriptor (move_mount(2)): at a path, or where a descriptor is.

    Raises:
        OSError: the kernel refuses.
    """
    here, by_descriptor, to_descriptor = -100, 4, 0x40  # AT_FDCWD, MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH
    if isinstance(target, int):
        syscall(MOVE_MOUNT, fd, b"", target, b"", by_descriptor | to_descriptor, what="mount")
    else:
        syscall(MOVE_MOUNT, fd, b"", here, os.fsencode(target), by_descriptor, what=os.fspath(target))


def exchange(one: Path, other: Path) -> None:
    """Let two names of one filesystem swap what they denote, in one step (renameat2(2), RENAME_EXCHANGE).

    Raises:
        OSError: one of them does not exist, or the filesystem cannot.
    """
    first, second = (ctypes.c_char_p(os.fsencode(path)) for path in (one, other))
    here = ctypes.c_int(-100)  # AT_FDCWD; the paths are absolute
    syscall(RENAMEAT2, here, first, here, second, ctypes.c_uint(_RENAME_EXCHANGE), what=str(one))
