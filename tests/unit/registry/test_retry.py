"""Waiting before the next attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from ross.registry.retry import Backoff, RetryPolicy, Transient, parse_retry_after

if TYPE_CHECKING:
    from trio.testing import MockClock


async def test_waits_grow_and_end(autojump_clock: MockClock) -> None:
    backoff = Backoff(RetryPolicy(attempts=3, initial_seconds=1, factor=10))
    error = Transient("x")
    begun = trio.current_time()

    await backoff.wait(error, what="it")
    first = trio.current_time() - begun
    await backoff.wait(error, what="it")
    second = trio.current_time() - begun - first
    with pytest.raises(Transient):
        await backoff.wait(error, what="it")

    assert 0.5 <= first <= 1 < 5 <= second <= 10


async def test_a_server_gets_its_wait_but_not_without_bound(autojump_clock: MockClock) -> None:
    backoff = Backoff(RetryPolicy(patience_seconds=60))
    error = Transient("x", retry_after_seconds=40)
    begun = trio.current_time()

    await backoff.wait(error, what="it")
    with pytest.raises(Transient):
        await backoff.wait(error, what="it")

    assert trio.current_time() - begun == pytest.approx(40)


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7), (" 0 ", 0), ("Thu, 01 Jan 1970 00:00:00 GMT", 0), ("soon", None), (None, None)]
)
def test_retry_after_is_read(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value) == seconds
