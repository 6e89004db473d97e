"""A sink before a slow one: its writer never waits, what is left out is told, and the order stays."""

from __future__ import annotations

import trio

from ross.errors import Unavailable
from ross.services.pacing import Dropping


class Slow:
    """Takes something when it is let to."""

    def __init__(self) -> None:
        self.taken: list[bytes | int] = []
        self.ended = False
        self.room = trio.Semaphore(0)
        self.fails = False

    async def write(self, data: bytes) -> None:
        await self.room.acquire()
        if self.fails:
            raise Unavailable("gone")
        self.taken.append(data)

    async def gap(self, lost_bytes: int) -> None:
        await trio.lowlevel.checkpoint()
        self.taken.append(lost_bytes)

    async def done(self) -> None:
        await trio.lowlevel.checkpoint()
        self.ended = True


async def test_oldest_is_left_out_and_told() -> None:
    slow = Slow()
    sink = Dropping(slow, buffer_bytes=10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sink.run)
        await sink.write(b"first")
        await trio.testing.wait_all_tasks_blocked()
        for part in (b"aaaa", b"bbbb", b"cccc", b"dddd"):
            await sink.write(part)
        await sink.done()
        for _ in range(5):
            slow.room.release()
    assert slow.taken == [b"first", 8, b"cccc", b"dddd"]
    assert slow.ended


async def test_what_fails_is_left_alone() -> None:
    slow = Slow()
    slow.fails = True
    sink = Dropping(slow)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sink.run)
        await sink.write(b"first")
        slow.room.release()
    await sink.write(b"nobody takes this")
    assert slow.taken == []
