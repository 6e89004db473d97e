"""Running something again after it failed, with a growing pause."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio
from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


@frozen(kw_only=True)
class RestartPolicy:
    """How long to pause before each new attempt. All times are seconds."""

    initial_seconds: float = 0.1
    maximum_seconds: float = 60.0
    factor: float = 2.0
    reset_after_seconds: float = 10.0
    """An attempt that lasted this long counts as a success: the next pause is the initial one again."""

    def next_pause(self, previous: float | None, *, lasted: float) -> float:
        """The pause before the next attempt, after one that lasted so many seconds."""
        if previous is None or lasted >= self.reset_after_seconds:
            return self.initial_seconds
        return min(previous * self.factor, self.maximum_seconds)


async def supervise(
    async_fn: Callable[[], Awaitable[T]], *, policy: RestartPolicy, on_failure: Callable[[Exception, float], None]
) -> T:
    """Run ``async_fn()`` until it returns; after an exception, pause and run it again, for ever.

    Args:
        async_fn: The body. It must be able to begin anew from whatever its last attempt left.
        policy: The pauses.
        on_failure: Told the exception and the pause in seconds, before the pause. Must not raise.

    Returns:
        What the body returned.
    """
    pause: float | None = None
    while True:
        began = trio.current_time()
        try:
            return await async_fn()
        except Exception as error:  # noqa: BLE001 -- whatever failed, it is reported and run again
            pause = policy.next_pause(pause, lasted=trio.current_time() - began)
            on_failure(error, pause)
        await trio.sleep(pause)
