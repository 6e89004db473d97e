"""``EventReader``: a place in the events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ross.wire.convert import to_wire
from ross.wire.schema import schema
from ross.wire.serving import Served

if TYPE_CHECKING:
    from ross.services.events import Reader


class EventReaderServer(Served, schema.EventReader.Server):  # type: ignore[misc]  # the schema is loaded at run time
    """One reading. There is nothing to let go of: it is a place and a filter, and whoever waits at it is a call of the client's."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def next_context(self, context: Any) -> None:
        context.results.batch = to_wire(await self._reader.next(context.params.after))
