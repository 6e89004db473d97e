"""Tar, byte by byte: what :mod:`tarfile` would not write, such as names that are no UTF-8, nanoseconds before 1970, and any owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import frozen

from tests.support.layer_model import Kind, TarEntry

if TYPE_CHECKING:
    from collections.abc import Iterable

BLOCK: Final = 512
END: Final = bytes(2 * BLOCK)
SECOND: Final = 10**9


@frozen(kw_only=True)
class Form:
    """How an entry is written."""

    gnu: bool = False
    """GNU's long names and base-256 numbers, and whole seconds; else pax."""
    prefix: bytes = b""
    """In front of the name: ``./``, ``/``."""
    slash: bool = True
    """Behind the name of a directory."""


def write_tar(entries: Iterable[tuple[TarEntry, Form]]) -> bytes:
    """A whole archive."""
    return b"".join(write_entry(entry, form) for entry, form in entries) + END


def write_entry(entry: TarEntry, form: Form) -> bytes:
    """The headers and the content of one entry."""
    name = form.prefix + b"/".join(entry.path)
    if not name:
        name = b"./"
    elif entry.kind is Kind.DIRECTORY and form.slash and entry.path:
        name += b"/"
    head = _gnu(name, entry) if form.gnu else _pax(name, entry)
    return head + entry.data + bytes(-len(entry.data) % BLOCK)


def _gnu(name: bytes, entry: TarEntry) -> bytes:
    extended = b""
    for kind, value in ((b"L", name), (b"K", entry.link)):
        if len(value) > 100:
            extended += header(b"././@LongLink", kind, size=len(value) + 1) + _padded(value + b"\0")
    seconds = entry.mtime_ns // SECOND
    return extended + _header_of(name, entry, seconds, magic=b"ustar  \0")


def _pax(name: bytes, entry: TarEntry) -> bytes:
    records: dict[bytes, bytes] = {}
    if len(name) > 100 or not name.isascii():
        records[b"path"] = name
    if len(entry.link) > 100 or not entry.link.isascii():
        records[b"linkpath"] = entry.link
    for key, owner in ((b"uid", entry.uid), (b"gid", entry.gid)):
        if owner >= 1 << 21:
            records[key] = b"%d" % owner
    seconds, nanoseconds = divmod(abs(entry.mtime_ns), SECOND)
    if entry.mtime_ns < 0 or nanoseconds or seconds >= 1 << 33:
        sign = b"-" if entry.mtime_ns < 0 else b""
        records[b"mtime"] = b"%s%d.%09d" % (sign, seconds, nanoseconds)
    for key, value in entry.xattrs.items():
        records[b"SCHILY.xattr." + key] = value
    extended = b""
    if records:
        data = b"".join(record(key, value) for key, value in records.items())
        extended = header(b"PaxHeaders/x", b"x", size=len(data)) + _padded(data)
    return extended + _header_of(name, entry, max(entry.mtime_ns // SECOND, 0), magic=b"ustar\00000")


def record(key: bytes, value: bytes) -> bytes:
    """One ``length key=value`` line of a pax header."""
    length = len(key) + len(value) + 3
    length += len(str(length + len(str(length))))
    return b"%d %s=%s\n" % (length, key, value)


def _header_of(name: bytes, entry: TarEntry, seconds: int, *, magic: bytes) -> bytes:
    return header(
        name[:100], entry.kind.value, size=len(entry.data), mode=entry.mode, uid=entry.uid, gid=entry.gid,
        seconds=seconds, link=entry.link[:100], device=entry.device, magic=magic,
    )  # fmt: skip


def header(
    name: bytes, kind: bytes, *, size: int = 0, mode: int = 0o644, uid: int = 0, gid: int = 0, seconds: int = 0,
    link: bytes = b"", device: tuple[int, int] = (0, 0), magic: bytes = b"ustar\00000",
) -> bytes:  # fmt: skip
    """One block, with numbers as octal where that is enough and as base-256 where it is not."""
    block = bytearray(BLOCK)
    fields = (
        (0, name), (100, number(mode, 8)), (108, number(uid, 8)), (116, number(gid, 8)), (124, number(size, 12)),
        (136, number(seconds, 12)), (156, kind), (157, link), (257, magic), (329, number(device[0], 8)), (337, number(device[1], 8)),
    )  # fmt: skip
    for at, value in fields:
        block[at : at + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def number(value: int, width: int) -> bytes:
    """A number in a header's field."""
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    encoded = bytearray((value % (1 << 8 * width)).to_bytes(width, "big"))
    encoded[0] |= 0x80
    return bytes(encoded)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)
