"""Content as clients see it: looking, reading, labelling, bringing in, taking away.

What a client brings in is held for it as long as it holds the writer; to stay beyond that it must be part of an image, or have the
label :data:`KEEP`.
"""

from __future__ import annotations

import os
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import trio

from ross.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from ross.model.content import ContentFilter, ContentInfo, IngestStatus
from ross.services.filters import has_label
from ross.services.labels import LabelRecord, check_labels

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from ross.oci.digest import Digest
    from ross.services.collector import Collector
    from ross.services.ingest import BlobInfo, Ingest
    from ross.services.pins import Pin, Pins
    from ross.services.store import ContentStore

KEEP: Final = "ross.gc.root"
"""Content with this label, of whatever value, and what it references, is not collected."""
_CHUNK_BYTES: Final = 1 << 20
_IDLE_SECONDS: Final = 60.0
"""A client that has written nothing for so long has others go on, where they wait for it."""


class Content:
    """The content store, for clients."""

    def __init__(self, *, store: ContentStore, collector: Collector, pins: Pins) -> None:
        self._store = store
        self._collector = collector
        self._pins = pins
        collector.add_root(self._kept)

    def _kept(self) -> Iterable[Digest]:
        return [record.digest for record in self._store.labels.all() if KEEP in record.labels]

    # -- looking ------------------------------------------------------------------------------------------------------

    async def info(self, digest: Digest) -> ContentInfo:
        """What is known of a piece of content.

        Raises:
            NotFound: it is not in the store.
        """
        kind, known, path = self._get(digest)
        return (await self._describe([(kind, known, path)]))[0]

    async def list(self, wanted: ContentFilter) -> tuple[ContentInfo, ...]:
        """What fits, by digest."""
        store = self._store
        there = [("blob", one, store.layout.blob(one.digest)) for one in store.blobs()]
        there += [("manifest", one, store.layout.manifest(one.digest)) for one in store.manifests()]
        chosen = [
            (kind, one, path)
            for kind, one, path in there
            if (not wanted.kind or kind == wanted.kind)
            and str(one.digest).startswith(wanted.digest_prefix)
            and all(has_label(self._labels(one.digest), text) for text in wanted.labels)
        ]
        return tuple(await self._describe(sorted(chosen, key=lambda found: found[1].digest)))

    async def _describe(self, chosen: Sequence[tuple[str, BlobInfo, Path]]) -> Sequence[ContentInfo]:
        def times() -> Sequence[int]:
            return [_changed_at(path) for _kind, _known, path in chosen]

        written = await trio.to_thread.run_sync(times)
        found = []
        for (kind, known, _path), created_at in zip(chosen, written, strict=True):
            record = self._store.labels.find(known.digest)
            found.append(
                ContentInfo(
                    digest=known.digest,
                    kind=kind,
                    size_bytes=known.size_bytes,
                    created_at=created_at,
                    updated_at=record.updated_at if record is not None else created_at,
                    labels=dict(record.labels) if record is not None else {},
                )
            )
        return found

    def _get(self, digest: Digest) -> tuple[str, BlobInfo, Path]:
        blob = self._store.find(digest)
        if blob is not None:
            return "blob", blob, self._store.layout.blob(digest)
        manifest = self._store.find_manifest(digest)
        if manifest is not None:
            return "manifest", manifest, self._store.layout.manifest(digest)
        raise NotFound(f"the content {digest} is not in the store")

    def _labels(self, digest: Digest) -> Mapping[str, str]:
        record = self._store.labels.find(digest)
        return record.labels if record is not None else {}

    # -- reading ------------------------------------------------------------------------------------------------------

    async def read(
        self, digest: Digest, write: Callable[[bytes], Awaitable[None]], *, offset: int = 0, length: int = -1
    ) -> None:
        """Write content out, from ``offset`` on, so many bytes, or to the end. It stays meanwhile.

        Raises:
            NotFound: it is not in the store.
            InvalidArgument: it ends before the offset.
        """
        with self._pins.hold(digest):
            _kind, known, path = self._get(digest)
            if offset > known.size_bytes:
                raise InvalidArgument(f"the content {digest} has {known.size_bytes} bytes, and none at {offset}")
            end = known.size_bytes if length < 0 else min(known.size_bytes, offset + length)
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                while offset < end:
                    chunk = await trio.to_thread.run_sync(os.pread, fd, min(_CHUNK_BYTES, end - offset), offset)
                    if not chunk:
                        raise NotFound(
                            f"the content {digest} ends at {offset}: it is damaged", hint="ross system check --repair"
                        )
                    await write(chunk)
                    offset += len(chunk)
            finally:
                os.close(fd)

    # -- changing -----------------------------------------------------------------------------------------------------

    async def update(
        self, digest: Digest, *, labels: Mapping[str, str] | None = None, forget: Sequence[str] = ()
    ) -> ContentInfo:
        """Set labels, and take away those named by ``forget``; others stay.

        Raises:
            NotFound: it is not in the store.
            InvalidArgument: there are too many, or one is not allowed.
        """
        with self._pins.hold(digest):
            self._get(digest)
            kept = {key: value for key, value in self._labels(digest).items() if key not in forget}
            record = LabelRecord(digest=digest, updated_at=time.time_ns(), labels={**kept, **(labels or {})})
            self._store.labels.set(record)
            return await self.info(digest)

    async def remove(self, digest: Digest) -> int:
        """Remove content that nothing references. Returns the bytes that were freed.

        Raises:
            NotFound: it is not in the store.
            FailedPrecondition: an image, a label or somebody who works with it needs it.
        """
        await self._collector.learn()
        self._get(digest)
        if digest in self._collector.referenced():
            raise FailedPrecondition(
                f"the content {digest} is in use: an image, the label {KEEP} or somebody at work needs it",
                hint="remove the image with ross rmi, or take the label away",
            )
        return await self._store.remove_all(digest)

    # -- bringing in --------------------------------------------------------------------------------------------------

    def ingests(self) -> tuple[IngestStatus, ...]:
        """What is on its way, whether or not anybody goes on with it."""
        return tuple(self._store.ingests.statuses())

    async def abort(self, digest: Digest) -> None:
        """Throw away what has come so far.

        Raises:
            NotFound: nothing of it is on its way.
            FailedPrecondition: somebody goes on with it.
        """
        if digest not in self._store.ingests.digests():
            raise NotFound(f"nothing of {digest} is on its way")
        if self._store.ingests.is_busy(digest):
            raise FailedPrecondition(f"somebody is bringing in {digest}", hint="end that first")
        await self._store.ingests.abort(digest)

    async def write(self, digest: Digest, size_bytes: int) -> ContentWriter:
        """Begin to bring in a blob, or go on where it stopped. One writer at a time.

        Raises:
            AlreadyExists: it is in the store.
            Unavailable: somebody else is bringing it in.
            ResourceExhausted: too little space is free.
        """
        if self._store.find(digest) is not None:
            raise AlreadyExists(f"the content {digest} is in the store")
        await self._store.ingests.take_from_idle(digest)
        if self._store.ingests.is_busy(digest):
            raise Unavailable(f"somebody else is bringing in {digest}", hint="wait until it is there")
        pin = self._pins.hold(digest)
        stack = AsyncExitStack()
        try:
            ingest = await stack.enter_async_context(self._store.ingest(digest, size_bytes))
            if ingest is None:
                raise AlreadyExists(f"the content {digest} is in the store")
        except BaseException:
            await stack.aclose()
            pin.release()
            raise
        writer = ContentWriter(self, ingest, stack, pin)
        stack.enter_context(self._store.ingests.lent(digest, writer.close_if_idle))
        return writer


class ContentWriter:
    """A blob that a client brings in. Made by :meth:`Content.write`; must be closed."""

    def __init__(self, content: Content, ingest: Ingest, stack: AsyncExitStack, pin: Pin) -> None:
        self._content = content
        self._ingest = ingest
        self._stack = stack
        self._pin = pin
        self._turn = trio.Lock()
        self._closed = False
        self._taken = False
        self._active_at = trio.current_time()

    @property
    def offset(self) -> int:
        """So much is there."""
        return self._ingest.offset

    async def write(self, data: bytes, *, offset: int) -> int:
        """Append. Returns how much is there then.

        Raises:
            InvalidArgument: that is not where it goes on.
            Corrupt: it is more than was announced; nothing is kept.
            ResourceExhausted: the disk is full, or the floor is reached; what is there is kept.
        """
        async with self._turn:
            self._check_open()
            if offset != self._ingest.offset:
                raise InvalidArgument(f"{self._ingest.digest} goes on at {self._ingest.offset}, not at {offset}")
            await self._ingest.write(data)
            self._active_at = trio.current_time()
            return self._ingest.offset

    async def restart(self) -> None:
        """Throw away what is there and begin at 0."""
        async with self._turn:
            self._check_open()
            await self._ingest.restart()

    async def commit(self, *, labels: Mapping[str, str] | None = None) -> ContentInfo:
        """Verify, and make it content of the store, which is on the disk when this returns. It is held until this is closed.

        Raises:
            Corrupt: size or digest is wrong; nothing is kept.
        """
        async with self._turn:
            self._check_open()
            check_labels(labels or {})
            try:
                await self._ingest.commit()
            finally:
                if self._ingest.committed or self._ingest.corrupt:
                    await self._close_ingest()
            if labels:
                return await self._content.update(self._ingest.digest, labels=labels)
            return await self._content.info(self._ingest.digest)

    async def close(self) -> None:
        """Let go; what is not committed stays, for whoever goes on with it. Does nothing the second time."""
        with trio.CancelScope(shield=True):  # brief: what is being written is a chunk
            async with self._turn:
                await self._close_ingest()
        self._pin.release()

    async def close_if_idle(self) -> None:
        """Let go if nothing came for long."""
        async with self._turn:
            if not self._closed and trio.current_time() - self._active_at >= _IDLE_SECONDS:
                self._taken = True
                await self._close_ingest()

    async def _close_ingest(self) -> None:
        self._closed = True
        with trio.CancelScope(shield=True):
            await self._stack.aclose()

    def _check_open(self) -> None:
        if self._taken:
            raise FailedPrecondition(
                f"nothing of {self._ingest.digest} came for {_IDLE_SECONDS:g} s, and others bring it in",
                hint="if it does not come, begin to write it again: it goes on where it stopped",
            )
        if self._closed:
            raise FailedPrecondition(f"the writer of {self._ingest.digest} is closed")


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # gone meanwhile
        return 0
