"""``Content`` and ``ContentWriter``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ross.capabilities.pages import ContentPagesServer, Pages
from ross.model.content import ContentFilter, ContentInfo
from ross.oci.digest import Digest
from ross.wire.bytestream import ByteStreamSink
from ross.wire.convert import from_wire, to_wire
from ross.wire.schema import schema
from ross.wire.serving import Served

if TYPE_CHECKING:
    from ross.capabilities.session import Session
    from ross.services.content import Content, ContentWriter

_PAGES: Final[Pages[ContentInfo]] = Pages("content", ContentPagesServer)


class ContentServer(Served, schema.Content.Server):  # type: ignore[misc]  # the schema is loaded at run time
    """The content store, for one connection."""

    def __init__(self, content: Content, session: Session) -> None:
        self._content = content
        self._session = session

    async def info_context(self, context: Any) -> None:
        context.results.info = to_wire(await self._content.info(Digest.parse(context.params.digest)))

    async def list_context(self, context: Any) -> None:
        wanted = from_wire(ContentFilter, context.params.filter)
        _PAGES.answer(context.results, await self._content.list(wanted))

    async def read_context(self, context: Any) -> None:
        params = context.params
        sink = ByteStreamSink(params.sink)
        digest = Digest.parse(params.digest)
        await self._content.read(digest, sink.write, offset=params.offset, length=params.length)
        await sink.done()

    async def ingests_context(self, context: Any) -> None:
        context.results.ingests = [to_wire(status) for status in self._content.ingests()]

    async def abort_context(self, context: Any) -> None:
        await self._content.abort(Digest.parse(context.params.digest))

    async def write_context(self, context: Any) -> None:
        writer = await self._content.write(Digest.parse(context.params.digest), context.params.sizeBytes)
        context.results.writer = ContentWriterServer(writer, self._session)
        context.results.offset = writer.offset

    async def remove_context(self, context: Any) -> None:
        context.results.freedBytes = await self._content.remove(Digest.parse(context.params.digest))

    async def update_context(self, context: Any) -> None:
        params = context.params
        labels = {pair.key: pair.value for pair in params.labels}
        info = await self._content.update(Digest.parse(params.digest), labels=labels, forget=tuple(params.forget))
        context.results.info = to_wire(info)


class ContentWriterServer(Served, schema.ContentWriter.Server):  # type: ignore[misc]
    """A blob on its way in; closed when it is dropped, or its connection ends."""

    def __init__(self, writer: ContentWriter, session: Session) -> None:
        self._writer = writer
        self._holding = session.hold(writer.close)

    def __del__(self) -> None:
        self._holding.release()

    async def write_context(self, context: Any) -> None:
        context.results.offset = await self._writer.write(context.params.data, offset=context.params.offset)

    async def restart_context(self, context: Any) -> None:  # noqa: ARG002 -- pycapnp's signature
        await self._writer.restart()

    async def commit_context(self, context: Any) -> None:
        labels = {pair.key: pair.value for pair in context.params.labels}
        context.results.info = to_wire(await self._writer.commit(labels=labels))

    async def close_context(self, context: Any) -> None:  # noqa: ARG002 -- pycapnp's signature
        await self._holding.run()
