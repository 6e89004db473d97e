"""A blob on its way into the store, for somebody who reads it meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from pathlib import Path


class Arrival:
    """How far a blob has come. Told by who fetches it, waited for by who unpacks it."""

    def __init__(self) -> None:
        self.path: Path | None = None
        """Where it is written; it may move, or be begun anew, at any time."""
        self.complete = False
        """It is in the store, verified."""
        self.restarts = 0
        """How often what was there was thrown away."""
        self._offset = 0
        self._changed = trio.Event()

    def begin(self, path: Path, offset: int) -> None:
        """It is written to ``path``, where so many bytes are already."""
        self.path = path
        self.advance(offset)

    def advance(self, offset: int) -> None:
        """So many bytes are there."""
        if offset < self._offset:
            self.restarts += 1
        self._offset = offset
        self._wake()

    def finish(self) -> None:
        """It is in the store."""
        self.complete = True
        self._wake()

    async def begun(self) -> None:
        """Wait until there is something to read."""
        while self.path is None and not self.complete:
            await self._changed.wait()

    async def more_than(self, offset: int, *, size_bytes: int) -> int:
        """Wait until there are more bytes than that; returns how many, ``size_bytes`` when it is complete."""
        while not self.complete and self._offset <= offset:
            await self._changed.wait()
        return size_bytes if self.complete else self._offset

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
