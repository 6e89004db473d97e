"""What is on its way into the content store: the ingest area, who is at work in it, and what becomes of what nobody goes on with.

``ingest/<digest>/{metadata.json,data}`` for content whose digest is known, one writer at a time; beside it directories of others, who keep
them from expiring while they need them (``ross.services.spool``).
"""

from __future__ import annotations

import logging
import time
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

import trio

from ross.errors import RossError
from ross.linux.files import children, remove_or_leave, remove_tree
from ross.model.content import IngestStatus
from ross.oci.codec import read_record
from ross.oci.digest import Digest
from ross.services.ingest import IngestRecord

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from ross.layout import StateLayout

logger = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0
"""How often those who wait look whether the writer does nothing any more."""


class Ingests:
    """The ingest area of a store. The disk is the record of what is there; who is at work is in memory."""

    def __init__(self, layout: StateLayout, *, is_there: Callable[[Digest], bool]) -> None:
        """``is_there`` tells whether the store has a blob: what is still here of such a one is on its way no more."""
        self._layout = layout
        self._is_there = is_there
        self._busy: dict[Digest, trio.Semaphore] = {}
        self._lent: dict[Digest, Callable[[], Awaitable[None]]] = {}
        self._busy_directories: set[str] = set()

    def recover(self) -> None:
        """Remove what no record owns. Blocking."""
        for directory in children(self._layout.ingests):
            if self._record(directory) is None:
                logger.info("removing the ingest %s, which has no record", directory)
                remove_or_leave(directory)

    def _record(self, directory: Path) -> IngestRecord | None:
        try:
            record = read_record((directory / "metadata.json").read_bytes(), IngestRecord, what="ingest record")
        except (OSError, RossError):
            return None
        wanted = directory == self.path(record.digest) and not self._is_there(record.digest)
        return record if wanted else None

    def path(self, digest: Digest) -> Path:
        """The directory in which content of this digest is taken in."""
        return self._layout.ingest(ingest_key(digest))

    def digests(self) -> tuple[Digest, ...]:
        """What is on its way, whether or not anybody goes on with it."""
        records = (self._record(directory) for directory in children(self._layout.ingests))
        return tuple(record.digest for record in records if record is not None)

    def statuses(self) -> Iterator[IngestStatus]:
        """How far each of them has come."""
        for directory in children(self._layout.ingests):
            record = self._record(directory)
            try:
                found = (directory / "data").stat()
            except OSError:
                continue
            if record is not None:
                yield IngestStatus(
                    digest=record.digest,
                    offset=found.st_size,
                    total_bytes=record.size_bytes,
                    started_at=record.created_at,
                    updated_at=max(record.created_at, found.st_mtime_ns),  # the files have a coarser clock
                    active=self.is_busy(record.digest),
                )

    def size_bytes(self, digest: Digest) -> int:
        """How much of a digest has come so far."""
        try:
            return (self.path(digest) / "data").stat().st_size
        except FileNotFoundError:
            return 0

    # -- who is at work -----------------------------------------------------------------------------------------------

    def is_busy(self, digest: Digest) -> bool:
        """Whether somebody takes this content in, now."""
        return digest in self._busy

    @asynccontextmanager
    async def writer(self, digest: Digest) -> AsyncIterator[None]:
        """Be the one who writes to the ingest of a digest; waits for who is, unless that is a client that does nothing."""
        # No lock: whoever lets go of a client's ingest is another task than the one that began it.
        turn = self._busy.setdefault(digest, trio.Semaphore(1, max_value=1))
        try:
            await self._wait_for(turn, digest)
            try:
                yield
            finally:
                turn.release()
        finally:
            if turn.value and not turn.statistics().tasks_waiting:
                self._busy.pop(digest, None)

    async def _wait_for(self, turn: trio.Semaphore, digest: Digest) -> None:
        while True:
            with trio.move_on_after(_LOOK_SECONDS):
                await turn.acquire()
                return
            await self.take_from_idle(digest)

    @contextmanager
    def lent(self, digest: Digest, take_if_idle: Callable[[], Awaitable[None]]) -> Iterator[None]:
        """Say that who writes is a client, for the length of a block. ``take_if_idle`` ends that if it has done nothing for long."""
        self._lent[digest] = take_if_idle
        try:
            yield
        finally:
            del self._lent[digest]

    async def take_from_idle(self, digest: Digest) -> None:
        """Have a client that brings this in and does nothing let go of it."""
        take_if_idle = self._lent.get(digest)
        if take_if_idle is not None:
            await take_if_idle()

    @contextmanager
    def busy_directory(self, key: str) -> Iterator[None]:
        """Keep a directory of the ingest area from expiring, for the length of a block."""
        self._busy_directories.add(key)
        try:
            yield
        finally:
            self._busy_directories.discard(key)

    def busy_directories(self) -> tuple[str, ...]:
        """The directories of the ingest area that are kept from expiring."""
        return tuple(self._busy_directories)

    # -- throwing away ------------------------------------------------------------------------------------------------

    async def abort(self, digest: Digest) -> int:
        """Remove what has come so far of a digest; waits for who is writing. Returns the bytes that were freed."""
        async with self.writer(digest):
            return await trio.to_thread.run_sync(remove_tree, self.path(digest))

    async def expire(self, *, older_than_seconds: float) -> int:
        """Remove the ingests that nobody has written to for so long. Returns the bytes that were freed."""
        oldest = time.time() - older_than_seconds
        return sum([await self._expire(directory, oldest) for directory in children(self._layout.ingests)])

    async def _expire(self, directory: Path, oldest: float) -> int:
        if directory.name in self._busy_directories:
            return 0

        def expire() -> int:
            data = directory / "data"
            old = not data.exists() or data.stat().st_mtime <= oldest
            return remove_tree(directory) if old else 0

        # By its name, not by its record: one that is just being made has none yet.
        digest = _digest_of(directory.name)
        if digest is None:
            return await trio.to_thread.run_sync(expire)
        if digest in self._busy:
            return 0
        async with self.writer(digest):  # nobody begins it, or goes on with it, meanwhile
            return await trio.to_thread.run_sync(expire)


def ingest_key(digest: Digest) -> str:
    """The name of the directory in which content of this digest is taken in."""
    return f"{digest.algorithm}-{digest.encoded}"


def _digest_of(key: str) -> Digest | None:
    """The reverse of :func:`ingest_key`; None for another name."""
    algorithm, _dash, encoded = key.partition("-")
    try:
        return Digest(algorithm, encoded)
    except RossError:
        return None
