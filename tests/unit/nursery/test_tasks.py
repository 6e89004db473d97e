"""Task handles, bounded cleanup, restarts."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ross.nursery.cleanup import bounded_cleanup
from ross.nursery.restart import RestartPolicy, supervise
from ross.nursery.tasks import start_task


async def sleeper(*, task_status: trio.TaskStatus[str]) -> None:
    task_status.started("ready")
    await trio.sleep_forever()


async def test_handle_has_the_value_and_tells_its_state() -> None:
    async with trio.open_nursery() as nursery:
        handle = await start_task(nursery, sleeper, name="sleeper")
        assert handle.value == "ready"
        assert repr(handle) == "<TaskHandle sleeper: running>"
        handle.cancel()
        assert repr(handle) == "<TaskHandle sleeper: cancelling>"
        await handle.join()
        assert handle.finished
        assert repr(handle) == "<TaskHandle sleeper: finished>"


async def test_cancelling_one_task_leaves_its_neighbour() -> None:
    async with trio.open_nursery() as nursery:
        one = await start_task(nursery, sleeper, name="one")
        other = await start_task(nursery, sleeper, name="other")
        await one.cancel_and_join()
        assert one.finished
        assert not other.finished
        nursery.cancel_scope.cancel()


async def test_failure_before_ready_is_raised_by_start() -> None:
    async def broken(*, task_status: trio.TaskStatus[None]) -> None:
        raise ValueError("no")

    async with trio.open_nursery() as nursery:
        with pytest.raises(ValueError, match="no"):
            await start_task(nursery, broken, name="broken")


async def test_failure_after_ready_goes_to_the_nursery() -> None:
    async def broken(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        raise ValueError("later")

    with pytest.raises(ExceptionGroup) as caught:
        async with trio.open_nursery() as nursery:
            await start_task(nursery, broken, name="broken")
            await trio.sleep_forever()
    assert caught.group_contains(ValueError, match="later")


async def test_shielded_task_ends_only_by_its_handle() -> None:
    async with trio.open_nursery() as nursery:
        handle = await start_task(nursery, sleeper, name="sleeper", shield=True)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await wait_all_tasks_blocked()
            assert not handle.finished
            await handle.cancel_and_join()


async def test_start_of_a_shielded_task_can_be_cancelled() -> None:
    async def never_ready(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            scope.cancel()
            await start_task(nursery, never_ready, name="never", shield=True)
        assert scope.cancelled_caught
        assert not nursery.child_tasks


async def test_cleanup_may_await_while_cancelled(autojump_clock: trio.testing.MockClock) -> None:
    done = trio.Event()
    with trio.CancelScope() as scope:
        scope.cancel()
        try:
            await trio.sleep_forever()
        finally:
            with bounded_cleanup(5):
                await trio.sleep(4)
                done.set()
    assert done.is_set()


async def test_cleanup_is_abandoned_at_its_bound(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), bounded_cleanup(5, what="the end of x"):
        await trio.sleep(600)
    assert trio.current_time() == pytest.approx(5, abs=0.1)
    assert caplog.messages == ["the end of x was abandoned after 5 s"]
    caplog.clear()


async def test_supervise_pauses_longer_each_time_and_begins_anew_after_a_success(
    autojump_clock: trio.testing.MockClock,
) -> None:
    pauses: list[float] = []
    attempts = 0

    async def body() -> str:
        nonlocal attempts
        attempts += 1
        if attempts == 4:
            await trio.sleep(20)
        if attempts < 6:
            raise OSError(f"attempt {attempts}")
        return "done"

    policy = RestartPolicy(initial_seconds=1, maximum_seconds=3, factor=2, reset_after_seconds=10)
    result = await supervise(body, policy=policy, on_failure=lambda _error, pause: pauses.append(pause))
    assert result == "done"
    assert pauses == [1, 2, 3, 1, 2]


async def test_supervise_is_cancelled_in_its_pause(autojump_clock: trio.testing.MockClock) -> None:
    async def body() -> None:
        raise OSError("again")

    with trio.move_on_after(0.5) as scope:
        await supervise(body, policy=RestartPolicy(initial_seconds=60), on_failure=lambda _error, _pause: None)
    assert scope.cancelled_caught
