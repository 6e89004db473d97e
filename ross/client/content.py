"""The content store of a daemon."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from ross.client.connection import all_of, answer
from ross.client.receive import BytesReceiver, receiving
from ross.errors import Unavailable
from ross.model.content import ContentFilter, ContentInfo, IngestStatus
from ross.wire.convert import from_wire, to_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from ross.oci.digest import Digest

_CHUNK_BYTES = 1 << 20


class Content:
    """Content by digest: blobs, and manifests."""

    def __init__(self, capability: Any) -> None:
        self._capability = capability

    async def info(self, digest: Digest) -> ContentInfo:
        """What is known of a piece of content.

        Raises:
            NotFound: it is not in the store.
        """
        return from_wire(ContentInfo, (await answer(self._capability.info(digest=str(digest)))).info)

    async def list(
        self, *, kind: str = "", digest_prefix: str = "", labels: Sequence[str] = ()
    ) -> tuple[ContentInfo, ...]:
        """What fits, by digest.

        Args:
            kind: ``blob`` or ``manifest``; both if empty.
            digest_prefix: What its digest begins with, as ``sha256:0a``.
            labels: Each ``key=value``, or ``key`` for a label of any value.
        """
        wanted = ContentFilter(kind=kind, digest_prefix=digest_prefix, labels=tuple(labels))
        return await all_of(self._capability.list(filter=to_wire(wanted)), ContentInfo, "content")

    def read(
        self, digest: Digest, *, offset: int = 0, length: int = -1
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Content: ``async with engine.content.read(digest) as chunks: async for chunk in chunks: ...``

        Args:
            digest: Of what.
            offset: Where to begin.
            length: So many bytes; to the end if negative.

        Raises:
            NotFound: it is not in the store; in the iteration, as everything that fails.
        """
        return receiving(
            lambda sink: self._capability.read(digest=str(digest), offset=offset, length=length, sink=sink),
            BytesReceiver,
            buffered=4,
        )

    async def ingests(self) -> tuple[IngestStatus, ...]:
        """What is on its way into the store."""
        found = (await answer(self._capability.ingests())).ingests
        return tuple(from_wire(IngestStatus, status) for status in found)

    async def abort(self, digest: Digest) -> None:
        """Throw away what has come so far.

        Raises:
            NotFound: nothing of it is on its way.
            FailedPrecondition: somebody goes on with it.
        """
        await answer(self._capability.abort(digest=str(digest)))

    @asynccontextmanager
    async def write(self, digest: Digest, size_bytes: int) -> AsyncIterator[ContentWriter]:
        """Bring in a blob, or go on where it stopped; without a commit what has come stays for the next attempt.

        Raises:
            AlreadyExists: it is in the store.
            Unavailable: somebody else is bringing it in.
        """
        begun = await answer(self._capability.write(digest=str(digest), sizeBytes=size_bytes))
        writer = ContentWriter(self._capability.hold(begun.writer), begun.offset)
        del begun
        try:
            yield writer
        except anyio.get_cancelled_exc_class():
            writer.drop()  # the connection may be about to end, and would not answer any more
            raise
        except BaseException:
            await writer.close()  # noqa: ASYNC120 -- who is cancelled here is told that, which is what happened last
            raise
        await writer.close()

    async def remove(self, digest: Digest) -> int:
        """Remove content that nothing references. Returns the bytes that were freed.

        Raises:
            NotFound: it is not in the store.
            FailedPrecondition: something needs it.
        """
        freed: int = (await answer(self._capability.remove(digest=str(digest)))).freedBytes
        return freed

    async def update(
        self, digest: Digest, *, labels: Mapping[str, str] | None = None, forget: Sequence[str] = ()
    ) -> ContentInfo:
        """Set labels, and take away those named by ``forget``; others stay. ``ross.gc.root`` keeps it from being collected.

        Raises:
            NotFound: it is not in the store.
            InvalidArgument: there are too many, or one is not allowed.
        """
        call = self._capability.update(digest=str(digest), labels=_pairs(labels), forget=list(forget))
        return from_wire(ContentInfo, (await answer(call)).info)


class ContentWriter:
    """A blob on its way in."""

    def __init__(self, capability: Any, offset: int) -> None:
        self._capability = capability
        self.offset = offset
        """So much is there."""

    async def write(self, data: bytes, *, offset: int | None = None) -> int:
        """Append. Returns how much is there then.

        Raises:
            InvalidArgument: ``offset`` is not where it goes on.
            Corrupt: it is more than was announced; nothing is kept.
            ResourceExhausted: the disk is full, or the floor is reached; what is there is kept.
        """
        at = self.offset if offset is None else offset
        for start in range(0, max(1, len(data)), _CHUNK_BYTES):
            chunk = data[start : start + _CHUNK_BYTES]
            at = (await answer(self._capability.write(offset=at, data=chunk))).offset
            self.offset = at
        return self.offset

    async def restart(self) -> None:
        """Throw away what is there and begin at 0."""
        await answer(self._capability.restart())
        self.offset = 0

    async def commit(self, *, labels: Mapping[str, str] | None = None) -> ContentInfo:
        """Verify, and make it content of the store, which is held until the block ends.

        Raises:
            Corrupt: size or digest is wrong; nothing is kept.
        """
        return from_wire(ContentInfo, (await answer(self._capability.commit(labels=_pairs(labels)))).info)

    def drop(self) -> None:
        """Let go, soon."""
        self._capability = None

    async def close(self) -> None:
        """Let go."""
        try:
            await answer(self._capability.close())
        except Unavailable:  # with the connection it is closed too
            return


def _pairs(labels: Mapping[str, str] | None) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in (labels or {}).items()]
