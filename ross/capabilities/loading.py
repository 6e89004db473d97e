"""``Loading``, and the stream that feeds it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from ross.capabilities.pages import LoadedPagesServer, Pages, say
from ross.capabilities.progress import open_progress
from ross.errors import FailedPrecondition
from ross.model.archives import LoadedImage
from ross.model.images import BlobProgress
from ross.wire.bytestream import ByteStreamServer
from ross.wire.schema import schema
from ross.wire.serving import Served

if TYPE_CHECKING:
    from ross.capabilities.session import Session
    from ross.services.feed import Feed

Report = Callable[[BlobProgress], None]
Load = Callable[["Feed", Report], Awaitable[Sequence[LoadedImage]]]

_PAGES: Final[Pages[LoadedImage]] = Pages("loaded", LoadedPagesServer, say)


class FeedServer(ByteStreamServer):
    """What a client writes an archive to. Dropping it before its end breaks the archive off."""

    def __init__(self, feed: Feed, session: Session) -> None:
        super().__init__(feed.write, done=feed.done)
        self._holding = session.hold(feed.break_off)

    def __del__(self) -> None:
        self._holding.release()


class LoadingServer(Served, schema.Loading.Server):  # type: ignore[misc]  # the schema is loaded at run time
    """An archive on its way in. Dropping it ends the stream."""

    def __init__(self, feed: Feed, load: Load, progress: Any, session: Session) -> None:
        self._feed = feed
        self._load: Load | None = load
        self._progress = progress
        self._holding = session.hold(feed.close)

    def __del__(self) -> None:
        self._holding.release()

    async def finish_context(self, context: Any) -> None:
        load, self._load = self._load, None
        if load is None:
            raise FailedPrecondition("this archive is loaded already, or being loaded")
        async with open_progress(self._progress) as report:
            loaded = await load(self._feed, report)
        _PAGES.answer(context.results, loaded)
