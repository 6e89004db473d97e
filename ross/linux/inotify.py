"""Waiting until a file grows (inotify(7))."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Final, Self

import trio

from ross.linux.syscalls import libc

if TYPE_CHECKING:
    from pathlib import Path

_IN_MODIFY: Final = 0x2
_IN_CLOSE_WRITE: Final = 0x8
_READ_BYTES: Final = 4096


class FileWatch:
    """Changes of one file. A context manager; watches from the moment it is made."""

    def __init__(self, path: Path) -> None:
        self._fd: int = libc().inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0 or libc().inotify_add_watch(self._fd, os.fsencode(path), _IN_MODIFY | _IN_CLOSE_WRITE) < 0:
            code = ctypes.get_errno()
            if self._fd >= 0:
                os.close(self._fd)
            raise OSError(code, os.strerror(code), os.fspath(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_details: object) -> None:
        trio.lowlevel.notify_closing(self._fd)
        os.close(self._fd)

    async def changed(self) -> None:
        """Return when the file was written to since the last call."""
        while True:
            try:
                os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._fd)
            else:
                return
