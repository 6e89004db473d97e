"""Receiving what the daemon sends by itself: logs, progress, differences.

What comes rarely is imported when it comes: the start of a command line would pay for it otherwise.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import anyio

from ross.client.background import background
from ross.client.connection import answer
from ross.errors import Cancelled, RossError
from ross.model.images import BlobProgress
from ross.model.logs import LogChunk
from ross.wire.bytestream import ByteStreamServer
from ross.wire.convert import from_wire
from ross.wire.schema import schema
from ross.wire.serving import Served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from anyio.streams.memory import MemoryObjectReceiveStream

    from ross.model.registries import Notice
    from ross.model.snapshots import SnapshotChange
    from ross.model.stats import ContainerStats

T = TypeVar("T")
_BUFFERED = 64


class LogReceiver(Served, schema.LogSink.Server):  # type: ignore[misc]  # the schema is loaded at run time
    """Hands stretches of a log on; the daemon waits until they are taken."""

    def __init__(self, take: Callable[[LogChunk], Awaitable[None]]) -> None:
        self._take = take

    async def write_context(self, context: Any) -> None:
        await self._take(from_wire(LogChunk, context.params.chunk))


class ChangeReceiver(Served, schema.ChangeSink.Server):  # type: ignore[misc]
    """Hands differences of snapshots on, one at a time; the daemon waits until they are taken."""

    def __init__(self, take: Callable[[SnapshotChange], Awaitable[None]]) -> None:
        self._take = take

    async def write_context(self, context: Any) -> None:
        from ross.model.snapshots import SnapshotChange

        for change in context.params.changes:
            await self._take(from_wire(SnapshotChange, change))


class StatsReceiver(Served, schema.StatsSink.Server):  # type: ignore[misc]
    """Hands samples on, one at a time; a container is not measured again before the last one was taken."""

    def __init__(self, take: Callable[[ContainerStats], Awaitable[None]]) -> None:
        self._take = take

    async def write_context(self, context: Any) -> None:
        from ross.model.stats import ContainerStats

        await self._take(from_wire(ContainerStats, context.params.stats))


class ProgressReceiver(Served, schema.Progress.Server):  # type: ignore[misc]
    """Hands a pull's progress to a function, and what registries say to another."""

    def __init__(
        self, report: Callable[[BlobProgress], None] | None, notify: Callable[[Notice], None] | None = None
    ) -> None:
        self._report = report or (lambda _progress: None)
        self._notify = notify or (lambda _notice: None)

    async def update_context(self, context: Any) -> None:
        for blob in context.params.blobs:
            self._report(from_wire(BlobProgress, blob))

    async def notice_context(self, context: Any) -> None:
        from ross.model.registries import Notice

        self._notify(from_wire(Notice, context.params.notice))


class BytesReceiver(ByteStreamServer):
    """Hands bytes on. Their end is known from the end of the call."""

    def __init__(self, take: Callable[[bytes], Awaitable[None]]) -> None:
        super().__init__(take, done=_nothing)


async def _nothing() -> None:
    return


class Received(Generic[T]):
    """What the daemon sends, one item at a time, until its call has ended."""

    def __init__(self, stream: MemoryObjectReceiveStream[T], failure: list[RossError]) -> None:
        self._stream = stream
        self._failure = failure

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        try:
            return await self._stream.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):  # its call has ended, or its block
            if self._failure:
                raise self._failure[0] from None
            raise StopAsyncIteration from None


@asynccontextmanager
async def receiving(
    call: Callable[[Any], Any], receiver: Callable[[Callable[[T], Awaitable[None]]], Any], *, buffered: int = _BUFFERED
) -> AsyncIterator[AsyncIterator[T]]:
    """Run a call that sends to a sink of ours, and yield an iterator over what it sends, until the call ends or the block.

    Raises:
        RossError: in the iteration, what the call failed with.
    """
    send, receive = anyio.create_memory_object_stream[T](buffered)
    failure: list[RossError] = []

    async def take(item: T) -> None:
        try:
            await send.send(item)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise Cancelled("nobody reads this any more") from None

    async def run() -> None:
        async with send:
            try:
                await answer(call(receiver(take)))
            except RossError as error:
                failure.append(error)

    async with background() as tasks:
        tasks.start_soon(run)
        with receive:
            yield Received(receive, failure)
