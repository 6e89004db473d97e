"""Sending the daemon what it asks for in pieces: an archive, while its loading goes on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

import anyio

from ross.client.background import background
from ross.client.connection import answer
from ross.errors import RossError
from ross.wire.bytestream import ByteStreamSink

if TYPE_CHECKING:
    from ross.client.remote import Call


async def send_and_finish(
    call: Call, source: AsyncIterable[bytes], *, finish: Callable[[Any], Any] = lambda call: call.loading.finish()
) -> Any:
    """Write ``source`` to the stream of a call that answered with a stream, and return what ``finish`` of the call's answer has found.

    Raises:
        RossError: the loading failed, in whatever way; the rest of ``source`` is not asked for then.
        BaseException: what ``source`` raised; the loading is cancelled. A ``source`` that is a generator is closed in any case.
    """
    found: Any = None
    problem: BaseException | None = None
    chunks = aiter(source)
    async with background() as tasks:

        async def write() -> None:
            nonlocal problem
            sink = ByteStreamSink(call.now.stream)
            try:
                while (chunk := await anext(chunks, None)) is not None:
                    if not await _taken(sink, chunk):
                        return
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:  # noqa: BLE001 -- raised again below, outside the task group, which would wrap it
                problem = error
                tasks.cancel_scope.cancel()
                return
            finally:
                await _close(chunks)
            await _taken(sink, None)

        tasks.start_soon(write)
        found = await answer(finish(call.now))
    if problem is not None:
        raise problem
    return found


async def _taken(sink: ByteStreamSink, chunk: bytes | None) -> bool:
    """Write a chunk, or the end. False if the daemon takes no more: the loading says why."""
    try:
        if chunk is None:
            await sink.done()
        else:
            await sink.write(chunk)
    except RossError:
        return False
    return True


async def _close(chunks: AsyncIterator[bytes]) -> None:
    """A generator that was not read to its end is not left lying about."""
    if isinstance(chunks, AsyncGenerator):
        with anyio.CancelScope(shield=True):
            await chunks.aclose()
