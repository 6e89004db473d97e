"""Pulls of one name take turns, and all that wait see the progress of the one whose turn it is."""

from __future__ import annotations

import trio
import trio.testing

from ross.model.images import BlobProgress, PullPhase
from ross.oci.digest import Digest
from ross.services.turns import Report, Turns

STEP = BlobProgress(digest=Digest.of(b"x"), phase=PullPhase.DOWNLOADING, current_bytes=1, total_bytes=2)


async def test_who_waits_sees_the_progress_of_who_works() -> None:
    turns, order = Turns(), list[str]()
    seen: dict[str, list[BlobProgress]] = {"first": [], "second": [], "other": []}
    go_on = trio.Event()

    async def pull(name: str, key: str) -> None:
        async with turns.take(key, seen[name].append) as report:
            order.append(name)
            if name == "first":
                await go_on.wait()
                report(STEP)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pull, "first", "image")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(pull, "second", "image")
        nursery.start_soon(pull, "other", "another")
        await trio.testing.wait_all_tasks_blocked()
        assert order == ["first", "other"]
        go_on.set()
    assert order == ["first", "other", "second"]
    assert (seen["first"], seen["second"], seen["other"]) == ([STEP], [STEP], [])


async def test_turn_is_left_with_nothing_behind() -> None:
    turns = Turns()

    async def wait(report: Report) -> None:
        async with turns.take("image", report):
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, lambda _progress: None)
        nursery.start_soon(wait, lambda _progress: None)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert turns._turns == {}
