"""Archives that arrive in pieces: uncompressed whatever they are, and bounded."""

from __future__ import annotations

import bz2
import gzip
import lzma
from typing import TYPE_CHECKING

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ross.errors import Corrupt, InvalidArgument, ResourceExhausted
from ross.linux.archive.limits import ArchiveLimits
from ross.linux.archive.pack import END, file_header, padding
from ross.linux.archive.stream import NextChunk, uncompressed
from ross.linux.archive.tar import TarReader

if TYPE_CHECKING:
    from collections.abc import Callable

DATA = bytes(range(256)) * 80 + bytes(30_000)
PACK: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "two gzip members": lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:]),
    "zstd": zstandard.compress,
    "two zstd frames": lambda data: zstandard.compress(data[:1000]) + zstandard.compress(data[1000:]),
}


def chunks_of(data: bytes, size: int) -> NextChunk:
    pieces = iter([data[at : at + size] for at in range(0, len(data), size)])
    return lambda: next(pieces, b"")


def read_all(next_chunk: NextChunk) -> bytes:
    return b"".join(iter(next_chunk, b""))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(PACK)), st.integers(1, 5000))
def test_any_compression_in_any_pieces(kind: str, size: int) -> None:
    packed = PACK[kind](DATA)
    assert read_all(uncompressed(chunks_of(packed, size), limits=ArchiveLimits())) == DATA


def test_nothing_at_all() -> None:
    assert read_all(uncompressed(chunks_of(b"", 1), limits=ArchiveLimits())) == b""


def test_damage_is_told() -> None:
    packed = bytearray(gzip.compress(DATA))
    with pytest.raises(Corrupt, match="damaged"):
        read_all(uncompressed(chunks_of(bytes(packed[:-6]), 1000), limits=ArchiveLimits()))
    packed[200] ^= 255
    with pytest.raises(Corrupt, match="damaged"):
        read_all(uncompressed(chunks_of(bytes(packed), 1000), limits=ArchiveLimits()))


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_bombs_are_refused(pack: Callable[[bytes], bytes]) -> None:
    packed = pack(bytes(40 << 20))
    with pytest.raises(ResourceExhausted, match="100 times"):
        limits = ArchiveLimits(ratio=100, ratio_from_bytes=1 << 20)
        read_all(uncompressed(chunks_of(packed, 1000), limits=limits))
    with pytest.raises(ResourceExhausted, match="more than 1048576 bytes"):
        read_all(uncompressed(chunks_of(packed, 1000), limits=ArchiveLimits(unpacked_bytes=1 << 20)))


@pytest.mark.parametrize("pack", [lzma.compress, bz2.compress])
def test_what_is_not_read_is_called_by_its_name(pack: Callable[[bytes], bytes]) -> None:
    with pytest.raises(InvalidArgument, match="in the form of"):
        uncompressed(chunks_of(pack(DATA), 1), limits=ArchiveLimits())


@pytest.mark.parametrize("size", [0, 511, 512, 9 << 30])
def test_headers_are_read_back(size: int) -> None:
    name = "blobs/sha512/" + "a" * 128
    reader = TarReader(chunks_of(file_header(name, size) + bytes(min(size, 512)) + END, 512), limits=ArchiveLimits())
    entry = next(reader)
    assert (entry.name.decode(), entry.size, entry.mtime_ns, entry.uid) == (name, size, 0, 0)
    assert (size + len(padding(size))) % 512 == 0
