"""Threads that wait for clients: each client has its share, and what is sent takes none while it is waited for."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from ross.services.threads import SenderThreads, hand_over

if TYPE_CHECKING:
    from collections.abc import Generator


async def test_client_that_sends_nothing_takes_no_more_than_its_share() -> None:
    threads = SenderThreads(total=4, each=2)
    silence, begun = threading.Event(), list[str]()

    async def receive(sender: str) -> None:
        def work() -> None:
            begun.append(sender)
            silence.wait()

        await threads.run(work, sender=sender)

    async with trio.open_nursery() as nursery:
        for _time in range(5):
            nursery.start_soon(receive, "stalled")
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert await threads.run(lambda: "done", sender="other") == "done"
        assert begun == ["stalled"] * 2
        silence.set()
    assert begun == ["stalled"] * 5
    assert threads._shares == {}


async def test_share_is_given_back_by_who_is_cancelled_while_waiting_for_it() -> None:
    threads = SenderThreads(total=1, each=1)
    go_on = threading.Event()
    async with trio.open_nursery() as nursery:

        async def hold() -> None:
            await threads.run(go_on.wait, sender="one")

        nursery.start_soon(hold)
        await trio.testing.wait_all_tasks_blocked(0.05)
        for sender in ("one", "other"):
            with trio.CancelScope() as scope:
                scope.cancel()
                await threads.run(lambda: None, sender=sender)
            assert scope.cancelled_caught
        go_on.set()
    assert threads._shares == {}
    assert await threads.run(lambda: "done", sender="one") == "done"


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
