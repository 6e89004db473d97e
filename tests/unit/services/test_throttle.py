"""Downloads are held back to so many bytes a second, all together."""

from __future__ import annotations

import trio
import trio.testing

from ross.services.throttle import Throttle


async def test_takers_share_the_rate(autojump_clock: trio.testing.MockClock) -> None:
    throttle = Throttle(1000)

    async def take() -> None:
        for _ in range(10):
            await throttle.take(500)

    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        nursery.start_soon(take)
    assert 9.5 <= trio.current_time() - begun <= 10


async def test_idle_time_is_not_saved_up(autojump_clock: trio.testing.MockClock) -> None:
    throttle = Throttle(1000)
    await trio.sleep(60)
    begun = trio.current_time()
    await throttle.take(5000)
    assert trio.current_time() - begun > 4


async def test_no_rate_is_no_bound(autojump_clock: trio.testing.MockClock) -> None:
    begun = trio.current_time()
    await Throttle(0).take(1 << 40)
    assert trio.current_time() == begun
