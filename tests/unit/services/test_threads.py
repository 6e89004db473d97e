"""Threads that wait for clients: each client has its share, and what is sent takes none while it is waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from ross.errors import ResourceExhausted
from ross.services.feed import Feed
from ross.services.threads import SenderThreads, hand_over

if TYPE_CHECKING:
    from collections.abc import Generator

    from trio.testing import MockClock

    from ross.linux.archive.stream import NextChunk


def read_all(next_chunk: NextChunk) -> bytes:
    return b"".join(iter(next_chunk, b""))


async def sent(feed: Feed) -> bytes:
    """A feed with something in it, read by whoever calls."""
    await feed.write(b"something")
    await feed.done()
    return b"something"


async def test_client_that_sends_nothing_takes_no_more_than_its_share() -> None:
    threads = SenderThreads(total=4, each=2)
    stalled = [Feed("stalled") for _number in range(5)]
    other = Feed("other")
    async with trio.open_nursery() as nursery:
        for feed in stalled:
            nursery.start_soon(threads.run, read_all, feed)
        await trio.testing.wait_all_tasks_blocked(0.05)
        nursery.start_soon(sent, other)
        assert await threads.run(read_all, other) == b"something"
        for feed in stalled:
            await feed.done()
    assert threads._shares == {}


async def test_share_is_given_back_by_who_is_cancelled_while_waiting_for_it() -> None:
    threads = SenderThreads(total=1, each=1)
    held = Feed("one")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(threads.run, read_all, held)
        await trio.testing.wait_all_tasks_blocked(0.05)
        for sender in ("one", "other"):
            with trio.CancelScope() as scope:
                scope.cancel()
                await threads.run(read_all, Feed(sender))
            assert scope.cancelled_caught
        await held.done()
    assert threads._shares == {}


async def test_who_sends_nothing_gives_way_to_others(autojump_clock: MockClock) -> None:
    """When all threads are taken; as long as nobody wants one, he may take his time."""
    threads = SenderThreads(total=1, each=1)
    stalled, other = Feed("stalled"), Feed("other")

    async def stall() -> None:
        with pytest.raises(ResourceExhausted, match="nothing was sent for 10 s while others wait"):
            await threads.run(read_all, stalled)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stall)
        await trio.sleep(1000)
        assert threads._all.borrowed_tokens == 1
        nursery.start_soon(sent, other)
        assert await threads.run(read_all, other) == b"something"
    assert autojump_clock.current_time() > 1000


async def test_what_is_handed_over_holds_no_thread_meanwhile() -> None:
    threads = trio.CapacityLimiter(1)
    written: list[tuple[int, int]] = []
    closed = []

    def pieces() -> Generator[int, None, None]:
        try:
            yield from (1, 2, 3)
        finally:
            closed.append(True)

    async def write(piece: int) -> None:
        written.append((piece, int(threads.borrowed_tokens)))
        await trio.lowlevel.checkpoint()

    await hand_over(pieces(), write, threads=threads)

    assert written == [(1, 0), (2, 0), (3, 0)]
    assert closed == [True]


async def test_what_nobody_takes_any_more_is_not_made_to_its_end() -> None:
    closed = []

    def pieces() -> Generator[int, None, None]:
        try:
            while True:
                yield 1
        finally:
            closed.append(True)

    async def refuse(_piece: int) -> None:
        raise ValueError("gone")

    with pytest.raises(ValueError, match="gone"):
        await hand_over(pieces(), refuse, threads=trio.CapacityLimiter(1))
    assert closed == [True]
