"""Reading tar: ustar, pax (POSIX.1-2001) and GNU headers, into entries that are still hostile data.

Everything that is read is bounded and checked for form; whether a name is safe to use is for ``apply`` to decide, which does not trust it.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING, Final
from zlib import adler32

from attrs import define

from ross.errors import Corrupt, ResourceExhausted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ross.linux.archive.limits import ArchiveLimits

BLOCK: Final = 512
_ZEROS: Final = bytes(BLOCK)
_XATTR: Final = b"SCHILY.xattr."
_ZERO: Final = ord("0")
_NEWLINE: Final = ord("\n")
_ADLER_MODULUS: Final = 65521
_NUMBERS: Final = re.compile(
    rb"([0-7]{7})[\0 ]([0-7]{7})[\0 ]([0-7]{7})[\0 ]([0-7]{11})[\0 ]([0-7]{11})[\0 ]([0-7]{6})\0 "
)
"""Mode, owner, group, size, time and checksum, as nearly every writer has them."""
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
    """Entries of a stream of chunks. An entry's content must be read, or skipped by going on, before the next entry.

    A layer of small files spends its time here and in ``apply``: the common forms are read without a detour, and every other one, honest
    or not, by the strict functions below.
    """

    def __init__(self, next_chunk: Callable[[], bytes], *, limits: ArchiveLimits) -> None:
        """Read from ``next_chunk``, which returns the empty chunk at the end."""
        self._next_chunk = next_chunk
        self._limits = limits
        self._chunk = b""
        self._view = memoryview(b"")
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
        if self._left or self._padding:
            self._skip_content()
        extended: dict[bytes, bytes] = {}
        while True:
            end = self._at + BLOCK
            if end <= len(self._chunk):
                header = self._chunk[self._at : end]
                self._at = end
            else:
                header = self._take(BLOCK, at_end=True)
            if not header or (not header[0] and header == _ZEROS):
                self._drain()
                raise StopIteration
            match = _NUMBERS.match(header, 100)
            fields = match.groups() if match is not None else _uncommon_numbers(header)
            size, checksum = int(fields[3], 8), int(fields[5], 8)
            # Adler-32's lower half is 1 + the sum of the bytes, modulo 65521: the header's checksum, at the speed of C.
            if adler32(header[156:], adler32(header[:148])) & 0xFFFF != (checksum - 8 * 32 + 1) % _ADLER_MODULUS:
                raise Corrupt("the layer is not a tar archive, or is damaged: a header's checksum is wrong")
            if size < 0:  # it would lead back to what was read already, again and again
                raise Corrupt(f"the layer's archive has an entry of the negative size {size}")
            kind = header[156:157]
            if kind in _EXTENDING:
                self._extend(kind, size, extended)
                continue
            if kind == _VOLUME_LABEL:
                continue
            self.entries += 1
            if self.entries > self._limits.entries:
                raise ResourceExhausted(f"the layer has more than {self._limits.entries} entries, which is refused")
            mode, uid, gid, _size, mtime, _checksum = fields
            entry = Entry(b"", _FILE, int(mode, 8) & 0o7777, int(uid, 8), int(gid, 8), int(mtime, 8) * 10**9, size)
            self._complete(entry, header, kind, {**self._global, **extended} if self._global else extended)
            return entry

    def piece(self) -> memoryview:
        """Some of what is left of the current entry's content, empty at its end; good until the next call."""
        if not self._left:
            return _NOTHING
        at = self._at
        if at == len(self._chunk):
            self._refill()
            at = 0
        piece = self._view[at : at + self._left]
        self._at = at + len(piece)
        self._left -= len(piece)
        return piece

    def content(self) -> Iterator[memoryview]:
        """What is left of the current entry's content, in pieces that are valid until the next one is asked for."""
        while piece := self.piece():
            yield piece

    def _complete(self, entry: Entry, header: bytes, kind: bytes, pax: dict[bytes, bytes]) -> None:
        name = entry.name = pax.get(b"path") or _name(header)
        if pax and not pax.keys() <= _PLAIN_KEYS:
            if any(key.startswith(b"GNU.sparse") for key in pax):
                raise _sparse(name)
            entry.xattrs = self._xattrs(pax, name)
        found = _TYPES.get(kind)
        if found is None:
            raise (
                _sparse(name)
                if kind == b"S"
                else Corrupt(f"the layer's entry {show(name)} has the unknown type {kind!r}")
            )
        if kind == b"\0" and name.endswith(b"/"):
            found = EntryType.DIRECTORY  # how tar before ustar wrote one
        entry.type = found
        if pax:
            _overrule(entry, pax)
        if not (0 <= entry.uid < _NO_ID and 0 <= entry.gid < _NO_ID):
            raise Corrupt(
                f"the layer's entry {show(name)} has the owner {entry.uid}:{entry.gid}, which is no user or group id"
            )
        if found is not _FILE and found is not EntryType.DIRECTORY:
            _add_target(entry, header, pax)
        if len(name) > self._limits.path_bytes or b"\0" in name or len(entry.link) > self._limits.path_bytes:
            self._refuse_path(name, entry.link)
        # Only a file has content; whatever size another type claims, nothing follows it (as Go's reader has it).
        if found is _FILE:
            self._left = entry.size
            self._padding = -entry.size % BLOCK

    def _refuse_path(self, name: bytes, link: bytes) -> None:
        for path in (name, link):
            if len(path) > self._limits.path_bytes:
                raise Corrupt(f"the layer's entry {show(path)} has a path of {len(path)} bytes")
            if b"\0" in path:
                raise Corrupt(f"the layer's entry {show(path)} has a zero byte in its path")

    def _xattrs(self, pax: dict[bytes, bytes], name: bytes) -> dict[bytes, bytes] | None:
        found = {key[len(_XATTR) :]: value for key, value in pax.items() if key.startswith(_XATTR)}
        if any(len(value) > self._limits.xattr_bytes or b"\0" in key for key, value in found.items()):
            raise Corrupt(f"the layer's entry {show(name)} has an extended attribute that no filesystem takes")
        return found or None

    def _extend(self, kind: bytes, size: int, extended: dict[bytes, bytes]) -> None:
        if size > self._limits.extended_header_bytes:
            raise ResourceExhausted(f"the layer has an extended header of {size} bytes, which is refused")
        data = self._take(size + -size % BLOCK)[:size]
        if kind == b"L":
            extended[b"path"] = data.split(b"\0", 1)[0]
        elif kind == b"K":
            extended[b"linkpath"] = data.split(b"\0", 1)[0]
        else:
            target = self._global if kind == b"g" else extended
            first = not target
            _read_records(data, target)
            if not first and sum(map(len, (*target, *target.values()))) > self._limits.extended_header_bytes:
                raise ResourceExhausted("the layer's extended headers are larger than they may be")
            if len(self._global) > self._limits.global_records:
                raise ResourceExhausted(f"the layer has more than {self._limits.global_records} global header records")

    def _skip_content(self) -> None:
        while self.piece():
            pass
        end = self._at + self._padding
        if end <= len(self._chunk):
            self._at = end
        else:
            self._take(self._padding)
        self._padding = 0

    def _take(self, size: int, *, at_end: bool = False) -> bytes:
        """Exactly so many bytes; nothing, if ``at_end`` and there are no more."""
        at = self._at
        end = at + size
        if end <= len(self._chunk):
            self._at = end
            return self._chunk[at:end]
        parts = [self._chunk[at:]]
        missing = size - len(parts[0])
        self._at = len(self._chunk)
        while missing:
            chunk = self._next_chunk()
            if not chunk:
                if at_end and missing == size:
                    return b""
                raise Corrupt("the layer's archive is truncated")
            self._use(chunk)
            self._at = min(missing, len(chunk))
            parts.append(chunk[: self._at])
            missing -= self._at
        return b"".join(parts)

    def _refill(self) -> None:
        chunk = self._next_chunk()
        if not chunk:
            raise Corrupt("the layer's archive is truncated")
        self._use(chunk)

    def _use(self, chunk: bytes) -> None:
        self._chunk = chunk
        self._view = memoryview(chunk)
        self._at = 0

    def _drain(self) -> None:
        """Read what is behind the end of the archive: the digest covers it."""
        while self._next_chunk():
            pass


_EXTENDING: Final = frozenset({b"x", b"g", b"L", b"K"})
_PLAIN_KEYS: Final = frozenset({
    b"path", b"linkpath", b"size", b"uid", b"gid", b"mtime", b"atime", b"ctime", b"uname", b"gname", b"comment",
})  # fmt: skip
_FILE: Final = EntryType.FILE
_NOTHING: Final = memoryview(b"")
_NO_ID: Final = (1 << 32) - 1
_FIELDS: Final = ((100, 108), (108, 116), (116, 124), (124, 136), (136, 148), (148, 156))


def show(name: bytes) -> str:
    """A hostile name as it may stand in a message."""
    return repr(name[:120].decode(errors="backslashreplace"))


def _sparse(name: bytes) -> Corrupt:
    return Corrupt(f"the layer's entry {show(name)} is a sparse file, a form that layers may not use")


def _uncommon_numbers(header: bytes) -> list[str]:
    """Mode, owner, group, size, time and checksum, in octal."""
    return [f"{_number(header[start:end]):o}" for start, end in _FIELDS]


def _overrule(entry: Entry, pax: dict[bytes, bytes]) -> None:
    """Let an extended header have its way."""
    name = entry.name
    for key, value in pax.items():
        if key == b"mtime":
            entry.mtime_ns = _time(value, name)
        elif key == b"size":
            entry.size = _decimal(value, name)
        elif key == b"uid":
            entry.uid = _decimal(value, name)
        elif key == b"gid":
            entry.gid = _decimal(value, name)


def _add_target(entry: Entry, header: bytes, pax: dict[bytes, bytes]) -> None:
    """What a link points to, or which device it is."""
    if entry.type is EntryType.HARD_LINK or entry.type is EntryType.SYMLINK:
        entry.link = pax.get(b"linkpath") or header[157:257].split(b"\0", 1)[0]
        if b"\0" in entry.link:
            raise Corrupt(f"the layer's entry {show(entry.link)} has a zero byte in its path")
    elif entry.type is not EntryType.FIFO:
        entry.major, entry.minor = _number(header[329:337]), _number(header[337:345])


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


def _decimal(text: bytes, name: bytes) -> int:
    if not text.isdigit() or len(text) > 18:
        raise Corrupt(f"the layer's entry {show(name)} has a malformed number in its extended header")
    return int(text)


def _time(text: bytes, name: bytes) -> int:
    whole, _point, fraction = text.partition(b".")
    if whole.isdigit() and len(whole) <= 11 and (fraction.isdigit() or not fraction):
        nanoseconds = int(whole) * 10**9 + int((fraction + b"000000000")[:9])
        if nanoseconds < _MAX_INT:
            return nanoseconds
    match = _DECIMAL.match(text)
    if match is None:
        raise Corrupt(f"the layer's entry {show(name)} has a malformed time in its extended header")
    nanoseconds = int(match[2]) * 10**9 + int(((match[3] or b"") + b"0" * 9)[:9])
    if nanoseconds >= _MAX_INT:
        raise Corrupt(f"the layer's entry {show(name)} has a time that is out of range")
    return -nanoseconds if match[1] else nanoseconds


def _read_records(data: bytes, into: dict[bytes, bytes]) -> None:
    """The ``length key=value`` records of a pax header."""
    at, size = 0, len(data)
    while at < size:
        space = data.find(b" ", at, at + 11)
        digits = data[at:space] if space > at else b""
        end = at + int(digits) if digits.isdigit() and digits[0] != _ZERO else 0
        equals = data.find(b"=", space, end)
        if end > size or equals <= space + 1 or data[end - 1] != _NEWLINE:
            raise Corrupt("the layer's archive has a malformed extended header")
        into[data[space + 1 : equals]] = data[equals + 1 : end - 1]
        at = end
