"""Reading tar: ustar, pax (POSIX.1-2001) and GNU headers, into entries that are still hostile data.

Everything that is read is bounded and checked for form; whether a name is safe to use is for ``apply`` to decide, which does not trust it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from attrs import define

from ross.errors import Corrupt, ResourceExhausted

if TYPE_CHECKING:
    from ross.linux.archive.limits import ArchiveLimits

BLOCK: Final = 512
_ZEROS: Final = bytes(BLOCK)
_XATTR: Final = b"SCHILY.xattr."
_RECORD_LENGTH: Final = re.compile(rb"([1-9][0-9]{0,9}) ")
_NUMBER: Final = re.compile(rb"[ \0]*([0-7]*)[ \0]*\Z")
_DECIMAL: Final = re.compile(rb"(-?)([0-9]{1,18})(?:\.([0-9]*))?\Z")
_MAX_INT: Final = 1 << 62


class EntryType(enum.Enum):
    """What an entry makes."""

    FILE = "file"
    HARD_LINK = "hard link"
    SYMLINK = "symbolic link"
    CHARACTER = "character device"
    BLOCK = "block device"
    DIRECTORY = "directory"
    FIFO = "fifo"


_TYPES: Final = {
    b"0": EntryType.FILE,
    b"\0": EntryType.FILE,
    b"7": EntryType.FILE,
    b"1": EntryType.HARD_LINK,
    b"2": EntryType.SYMLINK,
    b"3": EntryType.CHARACTER,
    b"4": EntryType.BLOCK,
    b"5": EntryType.DIRECTORY,
    b"6": EntryType.FIFO,
}
_VOLUME_LABEL: Final = b"V"


@define(slots=True)
class Entry:
    """One member of the archive."""

    name: bytes
    type: EntryType
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int = 0
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: dict[bytes, bytes] | None = None


class TarReader:
    """Entries of a stream of chunks. An entry's content must be read, or skipped by going on, before the next entry."""

    def __init__(self, next_chunk: Callable[[], bytes], *, limits: ArchiveLimits) -> None:
        """Read from ``next_chunk``, which returns the empty chunk at the end."""
        self._next_chunk = next_chunk
        self._limits = limits
        self._chunk = memoryview(b"")
        self._at = 0
        self._left = 0
        self._padding = 0
        self._global: dict[bytes, bytes] = {}
        self.entries = 0

    def __iter__(self) -> Iterator[Entry]:
        return self

    def __next__(self) -> Entry:
        """The next entry.

        Raises:
            Corrupt: the archive is damaged, or uses a form that is not supported.
            ResourceExhausted: it has more entries, or larger headers, than it may.
        """
        self._skip_content()
        extended: dict[bytes, bytes] = {}
        while True:
            header = self._take(BLOCK, at_end=True)
            if not header or header == _ZEROS:
                self._drain()
                raise StopIteration
            kind = header[156:157]
            _verify_checksum(header)
            if kind in b"xgLK" and kind:
                self._extend(kind, _size(header), extended)
                continue
            if kind == _VOLUME_LABEL:
                continue
            self.entries += 1
            if self.entries > self._limits.entries:
                raise ResourceExhausted(f"the layer has more than {self._limits.entries} entries, which is refused")
            return self._entry(header, kind, extended)

    def content(self) -> Iterator[memoryview]:
        """What is left of the current entry's content, in pieces that are valid until the next one is asked for."""
        while self._left:
            if self._at == len(self._chunk):
                self._refill()
            piece = self._chunk[self._at : self._at + self._left]
            self._at += len(piece)
            self._left -= len(piece)
            yield piece

    def _entry(self, header: bytes, kind: bytes, extended: dict[bytes, bytes]) -> Entry:
        pax = {**self._global, **extended} if self._global else extended
        name = pax.get(b"path") or _name(header)
        if any(key.startswith(b"GNU.sparse") for key in pax) or kind == b"S":
            raise Corrupt(f"the layer's entry {show(name)} is a sparse file, a form that layers may not use")
        found = _TYPES.get(kind)
        if found is None:
            raise Corrupt(f"the layer's entry {show(name)} has the unknown type {kind!r}")
        if found is EntryType.FILE and kind == b"\0" and name.endswith(b"/"):
            found = EntryType.DIRECTORY  # how tar before ustar wrote one
        size = _decimal(pax[b"size"], name) if b"size" in pax else _size(header)
        link = (pax.get(b"linkpath") or header[157:257].split(b"\0", 1)[0]) if found in _LINKS else b""
        for path in (name, link):
            if len(path) > self._limits.path_bytes:
                raise Corrupt(f"the layer's entry {show(path)} has a path of {len(path)} bytes")
            if b"\0" in path:
                raise Corrupt(f"the layer's entry {show(path)} has a zero byte in its path")
        # Only a file has content; whatever size another type claims, nothing follows it (as Go's reader has it).
        self._left = size if found is EntryType.FILE else 0
        self._padding = -self._left % BLOCK
        return Entry(
            name=name,
            type=found,
            mode=_number(header[100:108]) & 0o7777,
            uid=_id(pax, b"uid", header[108:116], name),
            gid=_id(pax, b"gid", header[116:124], name),
            mtime_ns=_time(pax[b"mtime"], name) if b"mtime" in pax else _number(header[136:148]) * 10**9,
            size=size,
            link=link,
            major=_number(header[329:337]) if found in _DEVICES else 0,
            minor=_number(header[337:345]) if found in _DEVICES else 0,
            xattrs=self._xattrs(pax, name),
        )

    def _xattrs(self, pax: dict[bytes, bytes], name: bytes) -> dict[bytes, bytes] | None:
        found = {key[len(_XATTR) :]: value for key, value in pax.items() if key.startswith(_XATTR)}
        if any(len(value) > self._limits.xattr_bytes or b"\0" in key for key, value in found.items()):
            raise Corrupt(f"the layer's entry {show(name)} has an extended attribute that no filesystem takes")
        return found or None

    def _extend(self, kind: bytes, size: int, extended: dict[bytes, bytes]) -> None:
        if size > self._limits.extended_header_bytes:
            raise ResourceExhausted(f"the layer has an extended header of {size} bytes, which is refused")
        data = self._take(size)
        self._take(-size % BLOCK)
        if kind == b"L":
            extended[b"path"] = data.split(b"\0", 1)[0]
        elif kind == b"K":
            extended[b"linkpath"] = data.split(b"\0", 1)[0]
        else:
            target = self._global if kind == b"g" else extended
            target.update(_records(data))
            if sum(map(len, target.values())) > self._limits.extended_header_bytes:
                raise ResourceExhausted("the layer's extended headers are larger than they may be")

    def _skip_content(self) -> None:
        for _piece in self.content():
            pass
        self._take(self._padding)
        self._padding = 0

    def _take(self, size: int, *, at_end: bool = False) -> bytes:
        """Exactly so many bytes; nothing, if ``at_end`` and there are no more."""
        if len(self._chunk) - self._at >= size:
            taken = bytes(self._chunk[self._at : self._at + size])
            self._at += size
            return taken
        parts = [bytes(self._chunk[self._at :])]
        missing = size - len(parts[0])
        self._at = len(self._chunk)
        while missing:
            chunk = self._next_chunk()
            if not chunk:
                if at_end and missing == size:
                    return b""
                raise Corrupt("the layer's archive is truncated")
            self._chunk = memoryview(chunk)
            self._at = min(missing, len(chunk))
            parts.append(bytes(self._chunk[: self._at]))
            missing -= self._at
        return b"".join(parts)

    def _refill(self) -> None:
        chunk = self._next_chunk()
        if not chunk:
            raise Corrupt("the layer's archive is truncated")
        self._chunk = memoryview(chunk)
        self._at = 0

    def _drain(self) -> None:
        """Read what is behind the end of the archive: the digest covers it."""
        while self._next_chunk():
            pass


_LINKS: Final = frozenset({EntryType.HARD_LINK, EntryType.SYMLINK})
_DEVICES: Final = frozenset({EntryType.CHARACTER, EntryType.BLOCK})


def show(name: bytes) -> str:
    """A hostile name as it may stand in a message."""
    return repr(name[:120].decode(errors="backslashreplace"))


def _verify_checksum(header: bytes) -> None:
    expected = _number(header[148:156])
    if sum(header) - sum(header[148:156]) + 8 * 32 != expected:
        raise Corrupt("the layer is not a tar archive, or is damaged: a header's checksum is wrong")


def _name(header: bytes) -> bytes:
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0":
        prefix = header[345:500].split(b"\0", 1)[0]
        if prefix:
            return prefix + b"/" + name
    return name


def _number(field: bytes) -> int:
    """An octal number, or GNU's base-256 form of it."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=False) & ~(0x80 << (8 * (len(field) - 1)))
        if field[0] & 0x40:  # negative: only times are, and none that we keep
            value -= 1 << (8 * len(field) - 1)
        if not -_MAX_INT < value < _MAX_INT:
            raise Corrupt("the layer's archive has a number that is out of range")
        return value
    match = _NUMBER.match(field)
    if match is None:
        raise Corrupt(f"the layer's archive has the malformed number {field!r}")
    return int(match[1] or b"0", 8)


def _size(header: bytes) -> int:
    """How much follows. A negative size would lead back to what was read already, again and again."""
    size = _number(header[124:136])
    if size < 0:
        raise Corrupt(f"the layer's archive has an entry of the negative size {size}")
    return size


def _decimal(text: bytes, name: bytes) -> int:
    if not text.isdigit() or len(text) > 18:
        raise Corrupt(f"the layer's entry {show(name)} has a malformed number in its extended header")
    return int(text)


def _id(pax: dict[bytes, bytes], key: bytes, field: bytes, name: bytes) -> int:
    value = _decimal(pax[key], name) if key in pax else _number(field)
    if not 0 <= value < (1 << 32) - 1:
        raise Corrupt(f"the layer's entry {show(name)} has the owner {value}, which is no user or group id")
    return value


def _time(text: bytes, name: bytes) -> int:
    match = _DECIMAL.match(text)
    if match is None:
        raise Corrupt(f"the layer's entry {show(name)} has a malformed time in its extended header")
    nanoseconds = int(match[2]) * 10**9 + int(((match[3] or b"") + b"0" * 9)[:9])
    if nanoseconds >= _MAX_INT:
        raise Corrupt(f"the layer's entry {show(name)} has a time that is out of range")
    return -nanoseconds if match[1] else nanoseconds


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The ``length key=value`` records of a pax header."""
    at = 0
    while at < len(data):
        match = _RECORD_LENGTH.match(data, at)
        end = at + int(match[1]) if match else 0
        if match is None or end > len(data) or end <= match.end() or data[end - 1 : end] != b"\n":
            raise Corrupt("the layer's archive has a malformed extended header")
        key, equals, value = data[match.end() : end - 1].partition(b"=")
        if not equals or not key:
            raise Corrupt("the layer's archive has a malformed extended header")
        yield key, value
        at = end
