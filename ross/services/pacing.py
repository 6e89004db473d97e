"""A sink that never lets its writer wait: what its reader cannot take in time is left out, the oldest first, and the reader is told."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import trio

from ross.errors import RossError

if TYPE_CHECKING:
    from ross.shim.attach import Sink

BUFFER_BYTES: Final = 1 << 20


class Dropping:
    """Stands before a slow sink. ``run`` writes to the sink what was taken, until :meth:`end`."""

    def __init__(self, sink: Sink, *, buffer_bytes: int = BUFFER_BYTES) -> None:
        self._sink = sink
        self._limit = buffer_bytes
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._lost = 0
        self._ended = False
        self._failed = False
        self._changed = trio.Event()

    async def write(self, data: bytes) -> None:
        """Take some bytes; what was taken long ago and not written yet makes room for them."""
        if not self._failed:
            self._waiting.append(data)
            self._size += len(data)
            while self._size > self._limit and len(self._waiting) > 1:
                oldest = self._waiting.popleft()
                self._size -= len(oldest)
                self._lost += len(oldest)
            self._changed.set()
        await trio.lowlevel.checkpoint()

    async def gap(self, lost_bytes: int) -> None:
        """Some bytes are missing here already."""
        self._lost += lost_bytes
        self._changed.set()
        await trio.lowlevel.checkpoint()

    async def done(self) -> None:
        """There will be no more."""
        self.end()
        await trio.lowlevel.checkpoint()

    def end(self) -> None:
        """Let :meth:`run` end when all is written."""
        self._ended = True
        self._changed.set()

    async def run(self) -> None:
        """Write on, until the end or until the sink fails."""
        try:
            while True:
                if self._lost:
                    lost, self._lost = self._lost, 0
                    await self._sink.gap(lost)
                elif self._waiting:
                    data = self._waiting.popleft()
                    self._size -= len(data)
                    await self._sink.write(data)
                elif self._ended:
                    await self._sink.done()
                    return
                else:
                    self._changed = trio.Event()
                    await self._changed.wait()
        except RossError:
            self._failed = True
            self._waiting.clear()
