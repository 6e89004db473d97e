"""Having a mount that only another process sees: a copy of it, where we are (open_tree(2), setns(2)).

The kernel copies a mount only for who is in its namespace. So a thread goes there, copies it into no namespace at all, and ends: a thread
that has been there must do nothing else, for every path would mean another thing to it.
"""

from __future__ import annotations

import ctypes
import os
import threading
from typing import TYPE_CHECKING, Final

from ross.linux.openat2 import Resolve, openat2
from ross.linux.pidfd import identify
from ross.linux.syscalls import OPEN_TREE, attach_mount, libc, syscall

if TYPE_CHECKING:
    from pathlib import Path

    from ross.linux.pidfd import ProcessIdentity

_CLONE_FS: Final = 0x200
_CLONE_NEWNS: Final = 0x20000
_OPEN_TREE_CLONE: Final = 1
_AT_EMPTY_PATH: Final = 0x1000


def copy_mount(process: ProcessIdentity, path: str, target: Path) -> None:
    """Mount on ``target`` what a process sees at a path, without what is mounted below. Blocks.

    Args:
        process: Whose view.
        path: Absolute; no part of it may be a link.
        target: A directory of ours.

    Raises:
        OSError: the process is gone, sees nothing there, or the kernel refuses.
    """
    namespace = os.open(f"/proc/{process.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if identify(process.pid) != process:
            raise ProcessLookupError(f"process {process.pid} is gone")
        found = _in_thread(namespace, path)
    finally:
        os.close(namespace)
    try:
        attach_mount(found, target)
    finally:
        os.close(found)


def _in_thread(namespace: int, path: str) -> int:
    results: list[int] = []
    failures: list[OSError] = []

    def copy() -> None:
        try:
            results.append(_copy(namespace, path))
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=copy)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def _copy(namespace: int, path: str) -> int:
    _check(libc().unshare(_CLONE_FS), "unshare")  # the root directory is the threads' in common
    _check(libc().setns(namespace, _CLONE_NEWNS), "setns")
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        place = openat2(root, path.lstrip("/"), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, resolve=Resolve.NO_SYMLINKS)
    finally:
        os.close(root)
    try:
        flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH
        return syscall(OPEN_TREE, place, b"", flags, what=path)
    finally:
        os.close(place)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
