"""Two pulls of one name: they take turns, and whoever waits sees how the other one comes along."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio
from attrs import define, field

if TYPE_CHECKING:
    from ross.model.images import BlobProgress

Report = Callable[["BlobProgress"], None]


@define
class _Turn:
    lock: trio.Lock = field(factory=trio.Lock)
    reports: list[Report] = field(factory=list)


class Turns:
    """Turns by what is wanted."""

    def __init__(self) -> None:
        self._turns: dict[Hashable, _Turn] = {}

    @asynccontextmanager
    async def take(self, key: Hashable, report: Report) -> AsyncIterator[Report]:
        """Wait for the turn. Yields what to report to, from worker threads too: everybody who wants the same."""
        turn = self._turns.setdefault(key, _Turn())
        turn.reports.append(report)

        def tell(progress: BlobProgress) -> None:
            for one in tuple(turn.reports):
                one(progress)

        try:
            async with turn.lock:
                yield tell
        finally:
            turn.reports.remove(report)
            if not turn.reports:
                del self._turns[key]
