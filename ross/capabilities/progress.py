"""Sending a pull's progress to a client: what changed, a few times a second, never slowing the pull."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import trio

from ross.wire.convert import to_wire

if TYPE_CHECKING:
    from ross.model import BlobProgress
    from ross.oci.digest import Digest

INTERVAL_SECONDS: Final = 0.1


@asynccontextmanager
async def open_progress(sink: Any) -> AsyncIterator[Callable[[BlobProgress], None]]:
    """Yield a function that takes progress, from any thread, and never waits; a task sends the latest of each blob to ``sink``.

    Args:
        sink: A ``Progress`` capability, or None: then nothing is sent. A sink that fails ends the sending, not the pull.
    """
    if sink is None:
        yield lambda _progress: None
        return
    changed: dict[Digest, BlobProgress] = {}

    def report(progress: BlobProgress) -> None:
        changed[progress.digest] = progress  # all that worker threads may do to what a task reads

    async def flush() -> None:
        latest = [changed.pop(digest) for digest in tuple(changed)]
        if latest:
            await sink.update(blobs=[to_wire(progress) for progress in latest])

    async def send() -> None:
        while await _told(flush):  # noqa: ASYNC110 -- worker threads report too, and cannot set an event
            await trio.sleep(INTERVAL_SECONDS)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, name="progress")
        yield report
        nursery.cancel_scope.cancel()
    await _told(flush)


async def _told(flush: Callable[[], Any]) -> bool:
    try:
        await flush()
    except Exception:  # noqa: BLE001 -- whatever the client's object raises: it will not be told any more
        return False
    return True
