"""A lock that a process holds as long as it lives, and that names its holder."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class LockHeldError(Exception):
    """Another process holds the lock. ``pid`` is what it wrote into the file, or None."""

    def __init__(self, path: Path, pid: int | None) -> None:
        super().__init__(f"{path} is locked by process {pid}" if pid else f"{path} is locked")
        self.path = path
        self.pid = pid


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive ``flock`` on ``path``, which is created (0600) and gets our pid as its content.

    The kernel lets go of it when the process ends, however it ends; the file stays.

    Raises:
        LockHeldError: another process holds it.
        OSError: the file cannot be opened or written.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockHeldError(path, _holder(fd)) from None
        os.ftruncate(fd, 0)
        with suppress(OSError):  # a full disk keeps nobody from holding the lock: its content is for messages
            os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def _holder(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else None
