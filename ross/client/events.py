"""Events, one by one."""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import anyio

from ross.client.connection import answer
from ross.model.events import Event, EventBatch, EventGap
from ross.wire.convert import from_wire, to_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ross.model.events import EventOptions


class Events:
    """The events of a daemon, in their order, and the gaps between them. Made by :meth:`ross.client.Engine.events`."""

    def __init__(self, reader: Any, position: int) -> None:
        self._reader = reader
        self._asked = position
        self._waiting: deque[Event | EventGap] = deque()
        self._position = position
        self._ended = False

    @property
    def position(self) -> int:
        """The sequence number behind which a later reading goes on: it then misses nothing, and has nothing twice."""
        return self._position

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event | EventGap:
        """The next one; waits for it. Cancelled, nothing is lost."""
        await anyio.lowlevel.checkpoint()
        while not self._waiting:
            if self._ended:
                raise StopAsyncIteration
            self._take(from_wire(EventBatch, (await answer(self._reader.next(after=self._asked))).batch))
        one = self._waiting.popleft()
        if not self._waiting:
            self._position = self._asked
        elif isinstance(one, Event):
            self._position = one.sequence
        return one

    def _take(self, batch: EventBatch) -> None:
        self._asked, self._ended = batch.position, batch.ended
        self._waiting.extend([batch.gap] if batch.gap is not None else [])
        self._waiting.extend(batch.events)

    def close(self) -> None:
        """Read no more."""
        self._reader = None
        self._ended = True
        self._waiting.clear()


@asynccontextmanager
async def open_events(engine: Any, options: EventOptions) -> AsyncIterator[Events]:
    """Read events for the length of a block.

    Raises:
        InvalidArgument: no event has the sequence number that they are to begin behind.
    """
    opened = await answer(engine.events(options=to_wire(options)))
    events = Events(engine.hold(opened.reader), opened.position)
    try:
        yield events
    finally:
        events.close()
