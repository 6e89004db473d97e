"""Sending progress to a client, of a pull or a check: what changed, a few times a second, never slowing what goes on."""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import trio

from ross.wire.convert import to_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ross.model.images import BlobProgress
    from ross.model.registries import Notice
    from ross.model.storage import CheckProgress
    from ross.oci.digest import Digest

INTERVAL_SECONDS: Final = 0.1
_MAX_NOTICES: Final = 64


class Reporter:
    """Takes progress, from any thread, and notices; never waits. What is sent is the latest of each blob, and each notice once."""

    def __init__(self, sink: Any) -> None:
        self._sink = sink
        self._changed: dict[Digest, BlobProgress] = {}
        self._notices: deque[Notice] = deque(maxlen=_MAX_NOTICES)

    def __call__(self, progress: BlobProgress) -> None:
        if self._sink is not None:
            self._changed[progress.digest] = progress  # all that worker threads may do to what a task reads

    def notify(self, notice: Notice) -> None:
        """Take a notice."""
        if self._sink is not None:
            self._notices.append(notice)

    async def send_until(self, ended: trio.Event) -> None:
        """Send what changes, until the sink fails; at the end what was said last."""
        last = False
        while await self._flush() and not last:
            last = await _pause(ended)

    async def _flush(self) -> bool:
        """Send what has changed. False: the sink failed, and will not be told any more."""
        try:
            while self._notices:
                await self._sink.notice(notice=to_wire(self._notices.popleft()))
            latest = [self._changed.pop(digest) for digest in tuple(self._changed)]
            if latest:
                await self._sink.update(blobs=[to_wire(progress) for progress in latest])
        except Exception:  # noqa: BLE001 -- whatever the client's object raises
            self._sink = None
        return self._sink is not None


class CheckReporter:
    """Takes a check's progress, from any thread; never waits. What is sent is the latest."""

    def __init__(self, sink: Any) -> None:
        self._sink = sink
        self._latest: CheckProgress | None = None

    def __call__(self, progress: CheckProgress) -> None:
        self._latest = progress

    async def send_until(self, ended: trio.Event) -> None:
        """Send what changes, until the sink fails; without a sink, nothing."""
        while self._sink is not None:
            latest, self._latest = self._latest, None
            try:
                if latest is not None:
                    await self._sink.update(progress=to_wire(latest))
            except Exception:  # noqa: BLE001 -- whatever the client's object raises
                return
            if await _pause(ended):
                return


async def _pause(ended: trio.Event) -> bool:
    """Wait a moment. True: it is over. Worker threads report too, and cannot set an event."""
    with trio.move_on_after(INTERVAL_SECONDS):
        await ended.wait()
    return ended.is_set()


@asynccontextmanager
async def open_check_progress(sink: Any) -> AsyncIterator[CheckReporter]:
    """Yield what takes a check's progress; a task sends it to ``sink``, a ``CheckSink`` or None."""
    reporter = CheckReporter(sink)
    async with _sending(reporter.send_until):
        yield reporter


@asynccontextmanager
async def open_progress(sink: Any) -> AsyncIterator[Reporter]:
    """Yield what takes progress; a task sends it to ``sink``. What a failing operation has said last is sent too.

    Args:
        sink: A ``Progress`` capability, or None: then nothing is sent. A sink that fails ends the sending, not the pull.
    """
    reporter = Reporter(sink)
    if sink is None:
        yield reporter
        return
    async with _sending(reporter.send_until):
        yield reporter


@asynccontextmanager
async def _sending(send: Callable[[trio.Event], Awaitable[None]]) -> AsyncIterator[None]:
    """Have a task that sends for the length of a block, and is told of its end: what is being sent then would be lost by a cancellation."""
    failure: Exception | None = None
    ended = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, ended, name="progress")
        try:
            yield
        except Exception as error:  # noqa: BLE001 -- raised again below, where no nursery wraps it into a group
            failure = error
        ended.set()
    if failure is not None:
        raise failure
