"""One blob on its way into the content store: written, hashed, verified, and moved to its place."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio
from attrs import frozen

from ross.errors import Corrupt, ResourceExhausted
from ross.linux.files import make_directory, remove_tree, sync_directory, write_all, write_atomic
from ross.oci.codec import write_record
from ross.oci.digest import Digest
from ross.services.space import NO_SPACE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from hashlib import _Hash
    from pathlib import Path

    from ross.services.space import Promise
    from ross.services.store import ContentStore

_THREAD_FROM_BYTES: Final = 64 << 10
"""Less than this is hashed and written inline: a thread would cost more."""


@frozen(kw_only=True)
class BlobInfo:
    """Content that is in the store."""

    digest: Digest
    size_bytes: int


@frozen(kw_only=True)
class IngestRecord:
    """What an ingest is to become; on disk before the first byte of it."""

    digest: Digest
    size_bytes: int
    created_at: int


class Ingest:
    """Content on its way. Made by :meth:`ContentStore.ingest`."""

    def __init__(self, store: ContentStore, directory: Path, record: IngestRecord) -> None:
        self._store = store
        self._directory = directory
        self._record = record
        self._fd = -1
        self._hash: _Hash = hashlib.new(record.digest.algorithm)
        self.offset = 0
        """The bytes that are there, and hashed."""
        self.committed = False
        self.corrupt = False
        self._promise: Promise | None = None

    @property
    def digest(self) -> Digest:
        """What it is to become."""
        return self._record.digest

    @property
    def path(self) -> Path:
        """Where it is written, until it gets to its place."""
        return self._directory / "data"

    def open(self) -> None:
        """Open or make the data, and hash what is there from an earlier attempt. Blocking, in a thread: until that is cancelled."""
        make_directory(self._directory)
        record = self._directory / "metadata.json"
        if not record.exists():
            try:
                # Not waited for: what a power failure leaves without a record is removed.
                write_atomic(record, write_record(self._record), sync=False)
            except OSError:
                remove_tree(self._directory)  # or nobody would know what for it is, nor go on with it
                raise
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(self._directory / "data", flags, 0o600)
        while chunk := os.read(self._fd, 1 << 20):
            trio.from_thread.check_cancelled()
            self._hash.update(chunk)
            self.offset += len(chunk)
        if self.offset > self._record.size_bytes:
            self._truncate()

    @contextmanager
    def promised(self) -> Iterator[None]:
        """Have room for what is missing, for the length of a block.

        Raises:
            ResourceExhausted: there is none, beside all that is on its way.
        """
        digest = self._record.digest
        with self._store.space.promise(self._missing_bytes, what=f"{digest.algorithm}:{digest.short}") as self._promise:
            yield
        self._promise = None

    @property
    def _missing_bytes(self) -> int:
        return self._record.size_bytes - self.offset

    def close(self) -> None:
        """Close the data; what is not committed stays, except what was found to be wrong."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self.corrupt:
            remove_tree(self._directory)

    def _truncate(self) -> None:
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._hash = hashlib.new(self._record.digest.algorithm)
        self._moved_to(0)

    def _moved_to(self, offset: int) -> None:
        self.offset = offset
        if self._promise is not None:
            self._promise.left_bytes = self._missing_bytes

    async def restart(self) -> None:
        """Throw away what is there and begin at 0."""
        self._truncate()
        await trio.lowlevel.checkpoint()

    async def write(self, data: bytes | memoryview) -> None:
        """Append.

        Raises:
            Corrupt: that is more than was promised; the ingest is thrown away.
            ResourceExhausted: the disk is full; what is there is kept.
        """
        if self.offset + len(data) > self._record.size_bytes:
            self.corrupt = True
            raise Corrupt(
                f"the content of {self._record.digest} is longer than the {self._record.size_bytes} bytes announced"
            )
        if len(data) < _THREAD_FROM_BYTES:
            self._append(data)
            await trio.lowlevel.checkpoint()
        else:
            await trio.to_thread.run_sync(self._append, data)

    def _append(self, data: bytes | memoryview) -> None:
        if self._promise is not None:
            self._promise.check(len(data))
        try:
            write_all(self._fd, data)
        except OSError as error:
            os.ftruncate(self._fd, self.offset)
            os.lseek(self._fd, self.offset, os.SEEK_SET)
            if error.errno in NO_SPACE:
                raise ResourceExhausted(
                    f"no space is left for {self._record.digest} in {self._directory.parent}",
                    hint="free some, for example with: ross rmi IMAGE",
                ) from None
            raise
        self._hash.update(data)
        self._moved_to(self.offset + len(data))

    async def commit(self, *, durable: bool = True) -> None:
        """Verify size and digest, make the content durable, and move it to its place.

        Args:
            durable: Wait for the disk; without it whoever calls has said what is to come (see ``ross.services.pending``).

        Raises:
            Corrupt: it is not what its digest promises; it is thrown away.
        """
        record = self._record
        found = Digest(record.digest.algorithm, self._hash.hexdigest())
        if self.offset != record.size_bytes or found != record.digest:
            self.corrupt = True
            raise Corrupt(
                f"content that should be {record.digest} with {record.size_bytes} bytes is {found} with {self.offset} bytes",
                hint="the registry or something on the way to it serves wrong content; try again, or another registry",
            )
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._move, durable)
        self.committed = True

    def replace(self, path: Path, *, durable: bool) -> None:
        """Become what is in ``path``, which has the right digest and size, and commit it. Blocking."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        os.close(self._fd)
        self._fd = fd
        path.rename(self._directory / "data")
        self._move(durable)
        self.committed = True

    def _move(self, durable: bool) -> None:
        if durable:
            os.fsync(self._fd)
        target = self._store.layout.blob(self._record.digest)
        make_directory(target.parent)
        (self._directory / "data").rename(target)
        if durable:
            sync_directory(target.parent)
        remove_tree(self._directory)
        self._store.add(BlobInfo(digest=self._record.digest, size_bytes=self._record.size_bytes))
