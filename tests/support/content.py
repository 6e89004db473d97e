"""The content store as the contract suite uses it: the daemon's service in this process, or a client's view of a real daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import ross
from ross.layout import StateLayout
from ross.model.content import ContentFilter, ContentInfo, IngestStatus
from ross.services.collector import Collector
from ross.services.content import Content, ContentWriter
from ross.services.pins import Pins
from ross.services.snapshotter import Snapshotter
from ross.services.store import ContentStore

if TYPE_CHECKING:
    from pathlib import Path

    from ross.oci.digest import Digest

Labels = Mapping[str, str]


class WriterUnderTest(Protocol):
    """What the service's writer and the client's have in common."""

    offset: int

    async def write(self, data: bytes, *, offset: int | None = None) -> int: ...
    async def restart(self) -> None: ...
    async def commit(self, *, labels: Labels | None = None) -> ContentInfo: ...


class ContentUnderTest(Protocol):
    """What the service and the client have in common."""

    async def info(self, digest: Digest) -> ContentInfo: ...
    async def list(
        self, *, kind: str = "", digest_prefix: str = "", labels: Sequence[str] = ()
    ) -> tuple[ContentInfo, ...]: ...
    async def read(self, digest: Digest, *, offset: int = 0, length: int = -1) -> bytes: ...
    async def ingests(self) -> tuple[IngestStatus, ...]: ...
    async def abort(self, digest: Digest) -> None: ...
    def write(self, digest: Digest, size_bytes: int) -> AbstractAsyncContextManager[WriterUnderTest]: ...
    async def remove(self, digest: Digest) -> int: ...
    async def update(
        self, digest: Digest, *, labels: Labels | None = None, forget: Sequence[str] = ()
    ) -> ContentInfo: ...
    async def collect(self) -> None: ...


class _WriterOfService:
    def __init__(self, writer: ContentWriter) -> None:
        self._writer = writer
        self.restart, self.commit = writer.restart, writer.commit

    @property
    def offset(self) -> int:
        return self._writer.offset

    async def write(self, data: bytes, *, offset: int | None = None) -> int:
        return await self._writer.write(data, offset=self.offset if offset is None else offset)


class OfService:
    """The service."""

    def __init__(self, service: Content, collector: Collector) -> None:
        self._service = service
        self._collector = collector
        self.info, self.abort, self.remove, self.update = service.info, service.abort, service.remove, service.update

    async def list(
        self, *, kind: str = "", digest_prefix: str = "", labels: Sequence[str] = ()
    ) -> tuple[ContentInfo, ...]:
        return await self._service.list(ContentFilter(kind=kind, digest_prefix=digest_prefix, labels=tuple(labels)))

    async def read(self, digest: Digest, *, offset: int = 0, length: int = -1) -> bytes:
        found = bytearray()

        async def take(data: bytes) -> None:
            found.extend(data)

        await self._service.read(digest, take, offset=offset, length=length)
        return bytes(found)

    async def ingests(self) -> tuple[IngestStatus, ...]:
        return self._service.ingests()

    @asynccontextmanager
    async def write(self, digest: Digest, size_bytes: int) -> AsyncIterator[WriterUnderTest]:
        writer = await self._service.write(digest, size_bytes)
        try:
            yield _WriterOfService(writer)  # type: ignore[misc]  # its offset is read only
        finally:
            await writer.close()

    async def collect(self) -> None:
        await self._collector.collect()


class OfClient:
    """The client library's."""

    def __init__(self, engine: ross.Engine) -> None:
        client = engine.content
        self._client = client
        self._engine = engine
        self.info, self.list, self.ingests, self.abort = client.info, client.list, client.ingests, client.abort
        self.write, self.remove, self.update = client.write, client.remove, client.update

    async def read(self, digest: Digest, *, offset: int = 0, length: int = -1) -> bytes:
        async with self._client.read(digest, offset=offset, length=length) as chunks:
            return b"".join([chunk async for chunk in chunks])

    async def collect(self) -> None:
        await self._engine.collect()


@asynccontextmanager
async def open_service(root: Path) -> AsyncIterator[ContentUnderTest]:
    layout, pins = StateLayout(root=root), Pins()
    store, snapshotter = ContentStore(layout), Snapshotter(layout)
    await store.recover()
    await snapshotter.recover()
    collector = Collector(store=store, snapshotter=snapshotter, pins=pins)
    yield OfService(Content(store=store, collector=collector, pins=pins), collector)


@asynccontextmanager
async def open_client(socket: Path) -> AsyncIterator[ContentUnderTest]:
    async with ross.connect(socket) as engine:
        yield OfClient(engine)
