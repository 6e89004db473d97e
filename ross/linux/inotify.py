"""Waiting until files are written to (inotify(7)): one descriptor for all, since a user may have but some hundred of them."""

from __future__ import annotations

import ctypes
import os
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

from ross.linux.syscalls import libc

if TYPE_CHECKING:
    from collections.abc import Iterator

_IN_MODIFY: Final = 0x2
_IN_ONESHOT: Final = 0x80000000
_READ_BYTES: Final = 64 << 10
_EVENT: Final = struct.Struct("iIII")


class Watch:
    """Tells of the first write to one file since it was made."""

    def __init__(self, watches: Watches) -> None:
        self._watches = watches
        self._scope = trio.CancelScope()

    async def changed(self) -> None:
        """Return when the file has been written to."""
        with self._scope:
            await self._watches._serve()  # noqa: SLF001 -- the other half of this module

    def fire(self) -> None:
        """It has been written to."""
        self._scope.cancel()


class Watches:
    """Watches of files. Whoever waits reads what the kernel tells, for all; there is no task behind it."""

    def __init__(self) -> None:
        self._fd: int = libc().inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), "inotify_init1")
        self._reading = trio.Lock()
        self._armed: dict[int, set[Watch]] = {}

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)

    @contextmanager
    def armed(self, fd: int) -> Iterator[Watch]:
        """A watch of the file behind a descriptor, for the length of a block. It tells of one write, and then of no more.

        Raises:
            OSError: the kernel watches no more for this user.
        """
        mask = ctypes.c_uint(_IN_MODIFY | _IN_ONESHOT)
        number: int = libc().inotify_add_watch(self._fd, f"/proc/self/fd/{fd}".encode(), mask)
        if number < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), "inotify_add_watch")
        watch = Watch(self)
        armed = self._armed.setdefault(number, set())
        armed.add(watch)
        try:
            yield watch
        finally:
            armed.discard(watch)
            if not armed and self._armed.get(number) is armed:
                del self._armed[number]
                libc().inotify_rm_watch(self._fd, number)

    async def _serve(self) -> None:
        """Tell all watches, until our own is told and cancels this."""
        async with self._reading:
            while True:
                try:
                    told = os.read(self._fd, _READ_BYTES)
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(self._fd)
                    continue
                self._tell(told)
                await trio.lowlevel.checkpoint()

    def _tell(self, told: bytes) -> None:
        offset = 0
        while offset < len(told):
            number, _mask, _cookie, length = _EVENT.unpack_from(told, offset)
            offset += _EVENT.size + length
            for watch in self._armed.pop(number, ()):
                watch.fire()
