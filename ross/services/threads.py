"""Threads for work that may wait for clients. None of it takes one of Trio's own, by which everything else is done.

What is sent to a client is made piece by piece (:func:`hand_over`): while the client is waited for, there is no thread at all. What a
client sends is read by code that cannot be left in the middle; so a thread waits with it, one of a bounded number (:class:`SenderThreads`).
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator, Hashable
from typing import Final, TypeVar

import trio

T = TypeVar("T")

TOTAL: Final = 64
EACH: Final = 8
"""So it takes eight connections that stall in all they do, until a ninth has to wait."""


async def hand_over(
    pieces: Generator[T, None, None], write: Callable[[T], Awaitable[None]], *, threads: trio.CapacityLimiter
) -> None:
    """Hand what is made in a thread to ``write``.

    Args:
        pieces: Made one at a time, each in a thread; closed at the end.
        write: Waited for, without a thread.
        threads: How many of these may be busy.
    """
    try:
        while (piece := await trio.to_thread.run_sync(next, pieces, None, limiter=threads)) is not None:
            await write(piece)
    finally:
        if inspect.getgeneratorstate(pieces) != inspect.GEN_CLOSED:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(pieces.close, limiter=threads)


class SenderThreads:
    """Threads that wait for what clients send, in a bounded number: each client has a share of them, so that others have some too."""

    def __init__(self, *, total: int = TOTAL, each: int = EACH) -> None:
        self._all = trio.CapacityLimiter(total)
        self._each = each
        self._shares: dict[Hashable, trio.Semaphore] = {}

    async def run(self, work: Callable[[], T], *, sender: Hashable) -> T:
        """Do something in a thread of a sender's share; waits for one.

        Args:
            work: Blocks, and may call back by ``trio.from_thread``.
            sender: Whom it waits for.
        """
        share = self._shares.setdefault(sender, trio.Semaphore(self._each, max_value=self._each))
        try:
            async with share:
                return await trio.to_thread.run_sync(work, limiter=self._all)
        finally:
            if share.value == self._each:
                self._shares.pop(sender, None)
