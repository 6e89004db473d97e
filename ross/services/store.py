"""The content store: blobs and manifests by digest.

A file under ``blobs/`` or ``manifests/`` is complete, durable and was verified when it got there: it came by rename, behind an fsync.
What is on its way is an *ingest* (``ross.services.ingests``); its record is written before its data, and it is kept when a download breaks
off, so that the next one goes on where it stopped. One ingest a digest: a second caller waits for the first.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from functools import partial
from typing import TYPE_CHECKING

import trio

from ross.errors import Corrupt, NotFound, RossError
from ross.linux.files import children, make_directory, remove_or_leave, remove_tree, write_atomic
from ross.oci.codec import MAX_DOCUMENT_BYTES
from ross.oci.digest import ENCODED_LENGTH, Digest
from ross.services.ingest import BlobInfo, Ingest, IngestRecord
from ross.services.ingests import Ingests, ingest_key
from ross.services.labels import ContentLabels
from ross.services.space import DiskSpace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from ross.layout import StateLayout

logger = logging.getLogger(__name__)


class ContentStore:
    """Content by digest. What exists is known from memory; the disk is read once, at :meth:`recover`."""

    def __init__(self, layout: StateLayout, *, space: DiskSpace | None = None) -> None:
        self.layout = layout
        self.space = space or DiskSpace(layout)
        self.labels = ContentLabels(layout)
        self._blobs: dict[Digest, BlobInfo] = {}
        self._manifests: dict[Digest, BlobInfo] = {}
        self._replacing: dict[Digest, int] = {}
        """By how many each of these blobs is being brought in anew."""
        self.ingests = Ingests(layout, is_there=self._is_there)

    async def recover(self) -> None:
        """Read what is there; remove what no record owns. Once, before anything else."""
        await trio.to_thread.run_sync(self._recover)

    def _recover(self) -> None:
        make_directory(self.layout.root)
        with self.space.room_to_remove():
            self._recover_content()

    def _recover_content(self) -> None:
        make_directory(self.layout.trash)  # once for all: where no inode is left, none could be made to remove things
        for path in self.layout.trash.iterdir():
            remove_or_leave(path)
        for directory, known in ((self.layout.blobs, self._blobs), (self.layout.manifests, self._manifests)):
            for path, digest in _contents(directory):
                if digest is None:
                    logger.info("removing %s, which is no content", path)
                    remove_or_leave(path)
                else:
                    known[digest] = BlobInfo(digest=digest, size_bytes=path.stat().st_size)
        self.ingests.recover()
        self.labels.recover(lambda digest: digest in self._blobs or digest in self._manifests)

    # -- blobs --------------------------------------------------------------------------------------------------------

    def add(self, info: BlobInfo) -> None:
        """Note a blob that has got to its place. From any thread."""
        self._blobs[info.digest] = info
        self._replacing.pop(info.digest, None)

    def _is_there(self, digest: Digest) -> bool:
        """There is nothing to be brought in."""
        return digest in self._blobs and digest not in self._replacing

    def find(self, digest: Digest) -> BlobInfo | None:
        """The blob, if it is there."""
        return self._blobs.get(digest)

    def blobs(self) -> tuple[BlobInfo, ...]:
        return tuple(self._blobs.values())

    def path(self, digest: Digest) -> Path:
        """The file of a blob.

        Raises:
            NotFound: it is not in the store.
        """
        if digest not in self._blobs:
            raise NotFound(f"the content {digest} is not in the store")
        return self.layout.blob(digest)

    async def read(self, digest: Digest) -> bytes:
        """A document, whole and verified.

        Raises:
            NotFound: it is not in the store.
            Corrupt: it is not what its digest promises, or too large for a document.
        """
        path = self.path(digest)
        return await trio.to_thread.run_sync(_read_verified, path, digest)

    @asynccontextmanager
    async def ingest(self, digest: Digest, size_bytes: int) -> AsyncIterator[Ingest | None]:
        """Take in a blob. Waits while another caller does so; None if the blob is there then.

        Leaving the block without a commit keeps what was written for the next attempt, unless it was found to be wrong.

        Raises:
            ResourceExhausted: there is no room for it, beside all that is on its way.
        """
        async with self._ingest(digest, size_bytes) as ingest:
            with ingest.promised() if ingest is not None else nullcontext():
                yield ingest

    @asynccontextmanager
    async def _ingest(self, digest: Digest, size_bytes: int) -> AsyncIterator[Ingest | None]:
        async with self.ingests.writer(digest):
            if self._is_there(digest):
                yield None
                return
            record = IngestRecord(digest=digest, size_bytes=size_bytes, created_at=time.time_ns())
            made = Ingest(self, self.ingests.path(digest), record)
            try:
                await trio.to_thread.run_sync(made.open)
                yield made
            finally:
                made.close()

    def require_room(self, contents: Mapping[Digest, int], *, what: str) -> None:
        """See that there is room for what is missing of some content, given by size, beside all that is on its way. Blocking, briefly.

        Raises:
            ResourceExhausted: there is none.
        """
        missing = {
            one: size for one, size in contents.items() if one not in self._blobs and not self.ingests.is_busy(one)
        }
        there = sum(map(self.ingests.size_bytes, missing))
        self.space.require(max(0, sum(missing.values()) - there), what=what)

    async def adopt(self, digest: Digest, path: Path, size_bytes: int, *, durable: bool = True) -> None:
        """Take in a file of the ingest area, which was hashed while it was written; nothing happens if the blob is there.

        Args:
            digest: What it hashes to.
            path: Where it is.
            size_bytes: Its size.
            durable: Wait for the disk; without it whoever calls has said what is to come (see ``ross.services.pending``).
        """
        async with self._ingest(digest, size_bytes) as ingest:  # which needs no room: it is here
            if ingest is not None:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(partial(ingest.replace, path, durable=durable))

    async def write(self, digest: Digest, data: bytes, *, durable: bool = True) -> None:
        """Take in a small blob at once.

        Raises:
            Corrupt: it is not what its digest promises.
        """
        async with self.ingest(digest, len(data)) as ingest:
            if ingest is not None:
                with trio.CancelScope(shield=True):  # it is all there: half of it would be of use to nobody
                    await ingest.restart()
                    await ingest.write(data)
                    await ingest.commit(durable=durable)

    async def is_right(self, digest: Digest) -> bool:
        """Whether a blob is there, and what its digest promises."""
        if digest not in self._blobs:
            return False

        def right() -> bool:
            try:
                with self.layout.blob(digest).open("rb") as file:
                    return hashlib.file_digest(file, digest.algorithm).hexdigest() == digest.encoded
            except FileNotFoundError:
                return False

        return await trio.to_thread.run_sync(right)

    async def remove(self, digest: Digest) -> int:
        """Remove a blob; missing is fine. Returns the bytes that were freed."""
        return await self._remove(self._blobs, digest, self.layout.blob(digest))

    async def remove_all(self, digest: Digest) -> int:
        """Remove a blob and a manifest of this digest; missing is fine. Returns the bytes that were freed."""
        return await self.remove(digest) + await self.remove_manifest(digest)

    async def _remove(self, known: dict[Digest, BlobInfo], digest: Digest, path: Path) -> int:
        """Out of the books and out of its place in one step, since a pull may bring it in again at once; then for good.

        Raises:
            OSError: it stays, or what is left of it is in the trash, which is emptied at start-up.
        """
        if digest not in known:
            return 0
        doomed = self.set_aside(path, ingest_key(digest))
        del known[digest]
        if digest not in self._blobs and digest not in self._manifests:
            self.labels.forget(digest)
        freed = 0
        with trio.CancelScope(shield=True):
            freed += await trio.to_thread.run_sync(remove_tree, doomed)
        return freed

    def set_aside(self, path: Path, name: str) -> Path:
        """Out of its place in one step, which is fine if it is not there; returns where it is, to be removed for good."""
        make_directory(self.layout.trash)
        doomed = self.layout.trash / f"{name}-{secrets.token_hex(4)}"
        with suppress(FileNotFoundError):
            path.rename(doomed)
        return doomed

    @contextmanager
    def replacing(self, digest: Digest) -> Iterator[None]:
        """While a blob that is wrong is brought in anew, in one step. Until then, and if it does not come, it is what it was.

        It does not leave the books: who would miss it meanwhile are a collection, and pulls that have found it.
        """
        self._replacing[digest] = self._replacing.get(digest, 0) + 1
        try:
            yield
        finally:
            others = self._replacing.pop(digest, 1) - 1
            if others:
                self._replacing[digest] = others
            elif digest in self._blobs and not self.ingests.is_busy(digest):
                remove_tree(self.ingests.path(digest))  # of what is there, nothing is on its way

    # -- manifests ----------------------------------------------------------------------------------------------------

    def find_manifest(self, digest: Digest) -> BlobInfo | None:
        """The manifest or index, if it is there."""
        return self._manifests.get(digest)

    def manifests(self) -> tuple[BlobInfo, ...]:
        return tuple(self._manifests.values())

    async def write_manifest(self, digest: Digest, data: bytes, *, durable: bool = True) -> None:
        """Take in a manifest or index.

        Raises:
            Corrupt: it is not what its digest promises.
        """
        if Digest.of(data, algorithm=digest.algorithm) != digest:
            raise Corrupt(f"the manifest {digest} is not what its digest promises")
        path = self.layout.manifest(digest)

        def write() -> None:
            if digest in self._manifests and _holds(path, data):  # else a power failure has torn it
                return
            make_directory(path.parent)
            write_atomic(path, data, sync=durable)
            self._manifests[digest] = BlobInfo(digest=digest, size_bytes=len(data))

        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(write)

    async def read_manifest(self, digest: Digest) -> bytes:
        """A manifest or index, whole and verified.

        Raises:
            NotFound: it is not in the store.
            Corrupt: it is not what its digest promises.
        """
        if digest not in self._manifests:
            raise NotFound(f"the manifest {digest} is not in the store")
        return await trio.to_thread.run_sync(_read_verified, self.layout.manifest(digest), digest)

    async def remove_manifest(self, digest: Digest) -> int:
        """Remove a manifest or index; missing is fine. Returns the bytes that were freed."""
        return await self._remove(self._manifests, digest, self.layout.manifest(digest))


def _contents(directory: Path) -> Iterator[tuple[Path, Digest | None]]:
    """The files that should be content, with the digest that their names say; None for what should not be there."""
    for algorithm in children(directory):
        if algorithm.name not in ENCODED_LENGTH:
            yield algorithm, None
            continue
        for path in children(algorithm):
            try:
                digest = Digest(algorithm.name, path.name)
            except RossError:
                yield path, None
            else:
                yield path, digest if path.is_file() and not path.is_symlink() else None


def _holds(path: Path, data: bytes) -> bool:
    try:
        return path.read_bytes() == data
    except OSError:
        return False


def _read_verified(path: Path, digest: Digest) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_DOCUMENT_BYTES + 1)
    if len(data) > MAX_DOCUMENT_BYTES:
        raise Corrupt(f"the document {digest} is larger than {MAX_DOCUMENT_BYTES} bytes")
    if Digest.of(data, algorithm=digest.algorithm) != digest:
        raise Corrupt(
            f"the document {digest} in the store is damaged",
            hint="remove the image with ross rmi --force, and pull it again",
        )
    return data
