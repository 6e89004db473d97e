"""Holding back: so many bytes a second for all downloads together."""

from __future__ import annotations

from typing import Final

import trio

_BURST_SECONDS: Final = 0.25
"""What was not used for so long may be caught up with at once."""


class Throttle:
    """A bound on bytes a second, shared by whoever takes from it, in the order in which they come."""

    def __init__(self, bytes_per_second: int) -> None:
        """Let through ``bytes_per_second``; everything if that is 0."""
        self._rate = bytes_per_second
        self._free_at = 0.0

    async def take(self, count: int) -> None:
        """Wait for the turn of what comes behind these ``count`` bytes."""
        if not self._rate:
            return
        now = trio.current_time()
        self._free_at = max(self._free_at, now - _BURST_SECONDS) + count / self._rate
        await trio.sleep_until(max(self._free_at, now))
