"""``FileWriting``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ross.errors import FailedPrecondition
from ross.wire.convert import to_wire
from ross.wire.schema import schema
from ross.wire.serving import Served

if TYPE_CHECKING:
    from ross.capabilities.session import Session
    from ross.services.container import Container
    from ross.services.feed import Feed


class FileWritingServer(Served, schema.FileWriting.Server):  # type: ignore[misc]  # the schema is loaded at run time
    """Files on their way into a container. Dropping it ends the stream."""

    def __init__(self, container: Container, feed: Feed, session: Session, *, path: bytes, keep_owners: bool) -> None:
        self._container = container
        self._feed = feed
        self._path = path
        self._keep_owners = keep_owners
        self._begun = False
        self._holding = session.hold(feed.close)

    def __del__(self) -> None:
        self._holding.release()

    async def finish_context(self, context: Any) -> None:
        if self._begun:
            raise FailedPrecondition("these files are copied already, or being copied")
        self._begun = True
        copied = await self._container.files.write(self._path, self._feed, keep_owners=self._keep_owners)
        context.results.copied = to_wire(copied)
