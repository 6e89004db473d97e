"""Threads for work that may wait for clients. None of it takes one of Trio's own, by which everything else is done.

What is sent to a client is made piece by piece (:func:`hand_over`): while the client is waited for, there is no thread at all. What a
client sends is read by code that cannot be left in the middle; so a thread waits with it, one of a bounded number (:class:`SenderThreads`).
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Generator, Hashable
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from ross.errors import ResourceExhausted

if TYPE_CHECKING:
    from ross.linux.archive.stream import NextChunk
    from ross.services.feed import Feed

T = TypeVar("T")

TOTAL: Final = 64
EACH: Final = 8
"""So it takes eight connections that stall in all they do, until a ninth has to wait."""
PATIENCE_SECONDS: Final = 10.0
"""How long nothing may come from who has a thread that others wait for."""


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
    """Threads that wait for what clients send, in a bounded number: each client has a share of them, so that others have some too.

    Where all are taken, by however many clients, and somebody waits for one, whoever has not sent for a while gives his up.
    """

    def __init__(self, *, total: int = TOTAL, each: int = EACH) -> None:
        self._all = trio.CapacityLimiter(total)
        self._each = each
        self._shares: dict[Hashable, trio.Semaphore] = {}

    async def run(self, work: Callable[[NextChunk], T], feed: Feed) -> T:
        """Do something in a thread of the share that a feed's sender has; waits for one.

        Args:
            work: Blocks, and reads the feed by what it is given.
            feed: What it reads.

        Raises:
            ResourceExhausted: others wait for a thread, and nothing has come for a while.
        """

        def in_thread() -> T:
            return work(lambda: trio.from_thread.run(self._next_chunk, feed))

        share = self._shares.setdefault(feed.sender, trio.Semaphore(self._each, max_value=self._each))
        try:
            async with share:
                return await trio.to_thread.run_sync(in_thread, limiter=self._all)
        finally:
            if share.value == self._each:
                self._shares.pop(feed.sender, None)

    async def _next_chunk(self, feed: Feed) -> bytes:
        while True:
            with trio.move_on_after(PATIENCE_SECONDS):
                return await feed.next_chunk()
            if self._all.statistics().tasks_waiting:
                raise ResourceExhausted(
                    f"nothing was sent for {PATIENCE_SECONDS:g} s while others wait to send: what was to come is broken off",
                    hint="try again",
                )
