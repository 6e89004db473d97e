"""Garbage that holds what belongs to KJ is collected where KJ's loop runs, and nowhere else."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import TYPE_CHECKING

import trio

from ross.wire.garbage import collect_for_ever, collecting_here

if TYPE_CHECKING:
    from trio.testing import MockClock


class Cycle:
    """Held by itself; tells who has collected it."""

    def __init__(self, told: list[int]) -> None:
        self.itself = self
        weakref.finalize(self, lambda: told.append(threading.get_ident()))


def churn() -> None:
    """Allocate as much as makes Python collect several times."""
    for _ in range(50):
        _kept: list[list[int]] = [[] for _ in range(2000)]


async def test_other_threads_collect_nothing(mock_clock: MockClock) -> None:
    told: list[int] = []
    with collecting_here():
        for _ in range(1000):
            Cycle(told)
        await trio.to_thread.run_sync(churn)
        assert told == []
        churn()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(collect_for_ever)
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(2)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert told == [threading.get_ident()] * 1000


async def test_nothing_is_left_behind_the_block() -> None:
    told: list[int] = []
    with collecting_here():
        Cycle(told)
    assert told == [threading.get_ident()]
    assert gc.isenabled()
    await trio.lowlevel.checkpoint()
