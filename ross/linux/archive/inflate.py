"""The bytes of a layer, uncompressed and hashed, read ahead by a thread of their own.

gzip, zstd and plain tar are told apart by their first bytes, never by what a manifest says. Decompression and hashing release the GIL, so
they run beside the writing of files.
"""

from __future__ import annotations

import hashlib
import io
import os
import queue
import threading
import zlib
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

import zstandard
from isal import igzip, isal_zlib

from ross.errors import Corrupt, ResourceExhausted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ross.linux.archive.limits import ArchiveLimits

CHUNK_BYTES: Final = 1 << 20
_READ_AHEAD: Final = 4
_MAX_WINDOW: Final = 128 << 20
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_DAMAGE: Final = (EOFError, OSError, zlib.error, isal_zlib.error, zstandard.ZstdError)
_ZSTD_SKIPPABLE: Final = (b"\x2a\x4d\x18", 0x50)


class ArrivingFile(io.RawIOBase):
    """A file that is still being written, read as far as it has come: a reader waits for more, until the end has come."""

    def __init__(self, fd: int, *, size_bytes: int) -> None:
        """Read ``fd``, which stays its owner's; it will have ``size_bytes``."""
        super().__init__()
        self._fd = fd
        self._at = 0
        self._available = 0
        self._changed = threading.Condition()
        self.size_bytes = size_bytes

    def advance(self, available: int) -> None:
        """So many bytes are there now; from any thread."""
        with self._changed:
            self._available = min(max(available, self._available), self.size_bytes)
            self._changed.notify_all()

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """To an offset from the beginning."""
        if whence != os.SEEK_SET:
            raise io.UnsupportedOperation("an arriving file has no end yet")
        self._at = offset
        return offset

    def readinto(self, buffer: Any) -> int:
        """What is there, and at least one byte; 0 at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._at < self._available or self._available == self.size_bytes)
            count = min(len(buffer), self._available - self._at)
        done = os.preadv(self._fd, [memoryview(buffer)[:count]], self._at) if count else 0
        self._at += done
        return done


class LayerBytes:
    """An iterator over the uncompressed chunks of a layer. Use it as a context manager; it owns a thread."""

    def __init__(
        self,
        source: Path | ArrivingFile,
        *,
        limits: ArchiveLimits,
        algorithm: str = "sha256",
        progress: Callable[[int], None] = lambda _packed: None,
    ) -> None:
        """Begin to read ``source``.

        Args:
            source: The blob, or what will be it.
            limits: Bounds against bombs.
            algorithm: Of the digest.
            progress: Told how many bytes of the blob were read, from the thread.
        """
        self._source = source
        self._limits = limits
        self._hash = hashlib.new(algorithm)
        self._progress = progress
        self._packed_bytes = source.size_bytes if isinstance(source, ArrivingFile) else source.stat().st_size
        self.unpacked_bytes = 0
        self._chunks: queue.Queue[bytes | BaseException] = queue.Queue(_READ_AHEAD)
        self._closed = False
        self._ended = False
        self._thread = threading.Thread(target=self._read_ahead, name="inflate", daemon=True)

    def __enter__(self) -> LayerBytes:
        self._thread.start()
        return self

    def __exit__(self, *_details: object) -> None:
        self._closed = True
        while self._thread.is_alive():  # it may be waiting for room
            try:
                self._chunks.get(timeout=0.05)
            except queue.Empty:
                continue
        self._thread.join()

    def next_chunk(self) -> bytes:
        """The next chunk; empty at the end, and from then on.

        Raises:
            Corrupt: the compressed data is damaged or truncated.
            ResourceExhausted: it unpacks to more than it may.
        """
        if self._ended:
            return b""
        chunk = self._chunks.get()
        if isinstance(chunk, BaseException):
            raise chunk
        self._ended = not chunk
        return chunk

    def hexdigest(self) -> str:
        """The digest of everything; complete once :meth:`next_chunk` has returned the empty chunk."""
        return self._hash.hexdigest()

    def _read_ahead(self) -> None:
        try:
            source = self._source
            opened = nullcontext(source) if isinstance(source, ArrivingFile) else source.open("rb", buffering=0)
            with opened as file, _decoder(file) as stream:
                while chunk := stream.read(CHUNK_BYTES):
                    if self._closed:
                        return
                    self.unpacked_bytes += len(chunk)
                    self._check_size()
                    self._hash.update(chunk)
                    self._progress(file.tell())
                    self._chunks.put(chunk)
            self._chunks.put(b"")
        except _DAMAGE as error:  # type: ignore[misc]  # isal's stubs call its exception class an instance
            self._put_last(Corrupt(f"the layer's compressed data is damaged: {error}"))
        except BaseException as error:  # noqa: ASYNC103, BLE001 -- raised again by the reader
            self._put_last(error)

    def _put_last(self, error: BaseException) -> None:
        while not self._closed:
            try:
                self._chunks.put(error, timeout=0.5)
            except queue.Full:
                continue
            return

    def _check_size(self) -> None:
        limits = self._limits
        if self.unpacked_bytes > limits.unpacked_bytes:
            raise ResourceExhausted(f"the layer unpacks to more than {limits.unpacked_bytes} bytes, which is refused")
        if self.unpacked_bytes > max(limits.ratio_from_bytes, limits.ratio * self._packed_bytes):
            raise ResourceExhausted(
                f"the layer unpacks to more than {limits.ratio} times its {self._packed_bytes} bytes, which is refused"
            )


def _decoder(file: Any) -> Any:
    head = b""
    while len(head) < 4 and (more := file.read(4 - len(head))):
        head += more
    file.seek(0)
    if head.startswith(_GZIP):
        return igzip.IGzipFile(fileobj=file, mode="rb")  # type: ignore[no-untyped-call]
    if head == _ZSTD or (head[1:] == _ZSTD_SKIPPABLE[0] and head[0] & 0xF0 == _ZSTD_SKIPPABLE[1]):
        decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        return decompressor.stream_reader(file, read_size=CHUNK_BYTES, read_across_frames=True, closefd=False)
    return _Plain(file)


class _Plain:
    """A file that was not compressed, as a context manager that leaves closing to its owner."""

    def __init__(self, file: Any) -> None:
        self.read = file.read

    def __enter__(self) -> _Plain:
        return self

    def __exit__(self, *_details: object) -> None:
        return
