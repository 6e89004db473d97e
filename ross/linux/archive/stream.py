"""An archive that arrives as a stream of chunks, possibly compressed as a whole: uncompressed, bounded, and never on disk.

:mod:`~ross.linux.archive.inflate` reads a blob from a file, ahead, in a thread of its own; this reads what cannot be read ahead, in the
thread of whoever asks. gzip and zstd are told by their first bytes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import zstandard
from isal import igzip, isal_zlib

from ross.errors import Corrupt, InvalidArgument, ResourceExhausted, RossError

if TYPE_CHECKING:
    from ross.linux.archive.limits import ArchiveLimits

NextChunk = Callable[[], bytes]
"""Returns the next chunk; the empty one at the end, and from then on."""

CHUNK_BYTES: Final = 256 << 10
_MAX_WINDOW: Final = 128 << 20
_HEAD: Final = 6
_DAMAGE: Final = (EOFError, zlib.error, isal_zlib.error, zstandard.ZstdError, igzip.BadGzipFile)
_FOREIGN: Final = {
    b"\xfd7zXZ\0": ("xz", "xz -dc"),
    b"BZh": ("bzip2", "bzip2 -dc"),
    b"\x04\x22\x4d\x18": ("lz4", "lz4 -dc"),
    b"PK\x03\x04": ("zip", None),
}


def refuse_foreign(head: bytes) -> None:
    """Say what it is that begins like this, if it is something that Ross does not read.

    Raises:
        InvalidArgument: it is.
    """
    for magic, (name, program) in _FOREIGN.items():
        if head.startswith(magic):
            raise InvalidArgument(
                f"the archive is in the form of {name}, which Ross does not read",
                hint=f"unpack it on the way: {program} FILE | ross ..." if program else "it must be a tar",
            )


def uncompressed(next_chunk: NextChunk, *, limits: ArchiveLimits) -> NextChunk:
    """The same stream, uncompressed if it is compressed.

    Raises:
        InvalidArgument: it is compressed in a way that Ross does not read.
        Corrupt: when read, the compressed data is damaged.
        ResourceExhausted: when read, it unpacks to more than it may.
    """
    source = _Source(next_chunk)
    head = source.peek(_HEAD)
    refuse_foreign(head)
    if head.startswith(b"\x1f\x8b"):
        return _Bounded(igzip.IGzipFile(fileobj=source, mode="rb"), source, limits).next_chunk  # type: ignore[no-untyped-call]
    if head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50):
        decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        stream = decompressor.stream_reader(source, read_size=CHUNK_BYTES, read_across_frames=True, closefd=False)  # type: ignore[arg-type]  # it only reads
        return _Bounded(stream, source, limits).next_chunk
    return source.next_chunk


class _Source:
    """The chunks, as what a decompressor reads from."""

    def __init__(self, next_chunk: NextChunk) -> None:
        self._next_chunk = next_chunk
        self._left = b""
        self.packed_bytes = 0

    def peek(self, size: int) -> bytes:
        while len(self._left) < size:
            chunk = self._next_chunk()
            if not chunk:
                break
            self.packed_bytes += len(chunk)
            self._left += chunk
        return self._left[:size]

    def next_chunk(self) -> bytes:
        if self._left:
            chunk, self._left = self._left, b""
            return chunk
        chunk = self._next_chunk()
        self.packed_bytes += len(chunk)
        return chunk

    def read(self, size: int = -1) -> bytes:
        """At most so many bytes; fewer where a chunk ends."""
        chunk = self.next_chunk()
        if 0 <= size < len(chunk):
            self._left = chunk[size:]
            chunk = chunk[:size]
        return chunk

    def readinto(self, buffer: memoryview) -> int:
        """The same, into a buffer."""
        chunk = self.read(len(buffer))
        buffer[: len(chunk)] = chunk
        return len(chunk)


class _Bounded:
    """What a decompressor yields, within the limits."""

    def __init__(self, stream: Any, source: _Source, limits: ArchiveLimits) -> None:
        self._stream = stream
        self._source = source
        self._limits = limits
        self._unpacked = 0

    def next_chunk(self) -> bytes:
        try:
            chunk: bytes = self._stream.read(CHUNK_BYTES)
        except _DAMAGE as error:  # type: ignore[misc]  # isal's stubs call its exception class an instance
            raise Corrupt(f"the archive's compressed data is damaged: {error}") from None
        self._unpacked += len(chunk)
        limits = self._limits
        if self._unpacked > limits.unpacked_bytes:
            raise ResourceExhausted(f"the archive unpacks to more than {limits.unpacked_bytes} bytes, which is refused")
        if self._unpacked > max(limits.ratio_from_bytes, limits.ratio * self._source.packed_bytes):
            raise ResourceExhausted(f"the archive unpacks to more than {limits.ratio} times its size, which is refused")
        return chunk


@contextmanager
def speaking_of_archives() -> Iterator[None]:
    """The tar reader speaks of layers; what is read in this block is none."""
    try:
        yield
    except RossError as error:
        message = error.message.replace("the layer's archive", "the archive").replace("the layer", "the archive")
        raise type(error)(message, hint=error.hint, **error.facts) from None
