"""Progress on its way to a client that takes its time."""

from __future__ import annotations

from typing import Any

import trio
from attrs import define, field
from trio.testing import wait_all_tasks_blocked

from ross.capabilities.progress import open_progress
from ross.model.images import BlobProgress, PullPhase
from ross.model.registries import Notice, NoticeKind
from ross.oci.digest import Digest

LAYER = Digest.of(b"layer")


@define
class Slow:
    """Takes something when it is let to."""

    taken: list[str] = field(factory=list)
    room: trio.Semaphore = field(factory=lambda: trio.Semaphore(0))

    async def update(self, *, blobs: list[Any]) -> None:
        await self.room.acquire()
        self.taken += [blob["phase"] for blob in blobs]

    async def notice(self, *, notice: Any) -> None:
        await self.room.acquire()
        self.taken.append(notice["text"])


def at(phase: PullPhase) -> BlobProgress:
    return BlobProgress(digest=LAYER, phase=phase, current_bytes=1, total_bytes=1)


async def test_what_is_on_its_way_at_the_end_is_not_lost(autojump_clock: trio.testing.MockClock) -> None:
    """A client that is slower than the pull sees how it has ended all the same."""
    sink = Slow()

    async def pull() -> None:
        async with open_progress(sink) as report:
            report.notify(Notice(kind=NoticeKind.WARNING, registry="x", text="once"))
            report(at(PullPhase.DOWNLOADING))
            await trio.sleep(1)
            sink.room.release()
            await trio.sleep(1)
            report(at(PullPhase.DONE))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pull)
        await trio.sleep(5)
        for _time in range(3):
            sink.room.release()
    assert sink.taken == ["once", "downloading", "done"]


async def test_the_end_is_told_that_comes_while_it_is_being_sent() -> None:
    sink = Slow()

    async def pull() -> None:
        async with open_progress(sink) as report:
            report(at(PullPhase.DONE))
            await wait_all_tasks_blocked()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pull)
        for _time in range(2):
            await wait_all_tasks_blocked()
        sink.room.release()
    assert sink.taken == ["done"]
