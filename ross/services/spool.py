"""Content whose digest is only known once it has been written: kept in the ingest area under names of our own, and then taken in.

``ingest/spool-<random>/{metadata.json,1,2,...}``. The record is there before the first file. A spool lives as long as its block; what a
crash leaves of one is removed at the next start, since what it holds has no use without whoever was reading.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio
from attrs import frozen

from ross.errors import Corrupt, ResourceExhausted
from ross.linux.files import make_directory, remove_tree, write_all, write_atomic
from ross.nursery.cleanup import bounded_cleanup
from ross.oci.codec import MAX_DOCUMENT_BYTES, write_record
from ross.oci.digest import Digest
from ross.services.space import NO_SPACE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from ross.services.space import DiskSpace, Promise
    from ross.services.store import ContentStore

_HEAD_BYTES: Final = 8


SPOOL_PREFIX: Final = "spool-"


@frozen(kw_only=True)
class SpoolRecord:
    """What a spool is for."""

    purpose: str
    created_at: int


@frozen(kw_only=True)
class Spooled:
    """A file of a spool, complete."""

    path: Path
    digest: Digest
    size_bytes: int
    head: bytes
    """How it begins."""


class Spool:
    """A directory of such files. Made by :func:`open_spool`; what is in it goes with it, unless the store has taken it in."""

    def __init__(self, directory: Path, space: DiskSpace) -> None:
        self._directory = directory
        self._space = space
        self._count = 0

    def add(
        self, pieces: Iterable[bytes | memoryview], *, algorithm: str = "sha256", expected_bytes: int = 0
    ) -> Spooled:
        """Write a file, and hash it meanwhile. Blocking.

        Args:
            pieces: Its content.
            algorithm: Of its digest.
            expected_bytes: Its size, as far as that is known.

        Raises:
            ResourceExhausted: the disk is full, or the floor would be reached.
        """
        with self._space.promise(expected_bytes, what="the archive") as promise:
            return self._add(pieces, algorithm, promise)

    def _add(self, pieces: Iterable[bytes | memoryview], algorithm: str, promise: Promise) -> Spooled:
        self._count += 1
        path = self._directory / str(self._count)
        found = hashlib.new(algorithm)
        size = 0
        head = b""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            for piece in pieces:
                promise.check(len(piece))
                write_all(fd, piece)
                promise.left_bytes = max(0, promise.left_bytes - len(piece))
                found.update(piece)
                size += len(piece)
                if len(head) < _HEAD_BYTES:
                    head += bytes(piece[: _HEAD_BYTES - len(head)])
        except OSError as error:
            if error.errno in NO_SPACE:
                raise ResourceExhausted(
                    f"no space is left for the archive in {self._directory.parent}",
                    hint="free some, for example with: ross rmi IMAGE",
                ) from None
            raise
        finally:
            os.close(fd)
        return Spooled(path=path, digest=Digest(algorithm, found.hexdigest()), size_bytes=size, head=head)


def read_small(spooled: Spooled, *, what: str) -> bytes:
    """A document, whole. Blocking, briefly.

    Raises:
        Corrupt: it is too large for one.
    """
    if spooled.size_bytes > MAX_DOCUMENT_BYTES:
        raise Corrupt(f"{what} has {spooled.size_bytes} bytes, more than the {MAX_DOCUMENT_BYTES} that Ross reads")
    return spooled.path.read_bytes()


@asynccontextmanager
async def open_spool(store: ContentStore, *, purpose: str) -> AsyncIterator[Spool]:
    """A spool for the length of a block."""
    key = f"{SPOOL_PREFIX}{secrets.token_hex(8)}"
    directory = store.layout.ingest(key)
    with store.ingests.busy_directory(key):
        try:
            make_directory(directory)
            write_atomic(
                directory / "metadata.json", write_record(SpoolRecord(purpose=purpose, created_at=time.time_ns()))
            )
            yield Spool(directory, store.space)
        finally:
            with bounded_cleanup(60, what="removing a spool"):
                await trio.to_thread.run_sync(remove_tree, directory)
