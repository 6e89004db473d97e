"""The service tree: order of start and end, failures, cancellation from outside, the live task tree."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ross.nursery.introspect import task_tree
from ross.nursery.tree import ServiceFailed, open_service_tree


class Recorder:
    """Services that note when they start and end."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    async def run(self, name: str, ends_after: float = 0, *, task_status: trio.TaskStatus[str]) -> None:
        self.notes.append(f"+{name}")
        task_status.started(name.upper())
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(ends_after)
            self.notes.append(f"-{name}")


async def test_services_end_in_the_reverse_order_of_their_start(autojump_clock: trio.testing.MockClock) -> None:
    recorder = Recorder()
    async with open_service_tree() as tree:
        assert await tree.start("store", recorder.run, "store") == "STORE"
        await tree.start("images", recorder.run, "images", 2)
        await tree.start("listener", recorder.run, "listener", 1)
        assert tree.names == ("store", "images", "listener")
    assert recorder.notes == ["+store", "+images", "+listener", "-listener", "-images", "-store"]


async def test_cancellation_from_outside_keeps_the_order(autojump_clock: trio.testing.MockClock) -> None:
    recorder = Recorder()
    with trio.CancelScope() as scope:
        async with open_service_tree() as tree:
            await tree.start("store", recorder.run, "store")
            await tree.start("images", recorder.run, "images", 2)
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert recorder.notes == ["+store", "+images", "-images", "-store"]


async def test_failing_service_ends_the_tree_and_says_which(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()

    async def broken(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep(1)
        raise OSError("disk gone")

    with pytest.raises(ServiceFailed, match=r"the service 'broken' failed: OSError: disk gone") as caught:
        async with open_service_tree() as tree:
            await tree.start("store", recorder.run, "store")
            await tree.start("broken", broken)
            await trio.sleep_forever()
    assert isinstance(caught.value.__cause__, OSError)
    assert recorder.notes == ["+store", "-store"]
    caplog.clear()


async def test_service_that_returns_unasked_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def brief(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()

    with pytest.raises(ServiceFailed, match="it returned"):
        async with open_service_tree() as tree:
            await tree.start("brief", brief)
            await trio.sleep_forever()
    caplog.clear()


async def test_failure_at_the_start_is_raised_there_and_ends_the_started_ones() -> None:
    recorder = Recorder()

    async def broken(*, task_status: trio.TaskStatus[None]) -> None:
        raise ValueError("cannot start")

    with pytest.raises(ValueError, match="cannot start"):
        async with open_service_tree() as tree:
            await tree.start("store", recorder.run, "store")
            await tree.start("broken", broken)
    assert recorder.notes == ["+store", "-store"]


async def test_service_that_will_not_end_does_not_keep_the_others(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder()
    async with open_service_tree(stop_seconds=3) as tree:
        await tree.start("store", recorder.run, "store")
        await tree.start("stuck", recorder.run, "stuck", 60)
    assert recorder.notes == ["+store", "+stuck", "-store", "-stuck"]
    assert caplog.messages == ["the end of the service 'stuck' was abandoned after 3 s"]
    caplog.clear()


async def test_task_tree_shows_names_depths_and_places() -> None:
    recorder = Recorder()
    async with open_service_tree() as tree:
        await tree.start("store", recorder.run, "store")
        nodes = task_tree("ross", root=trio.lowlevel.current_task())
        store = next(node for node in nodes if node.name == "store")
        assert store.depth == nodes[0].depth + 1
        assert store.waiting_at.startswith("ross/nursery/tree.py:")
