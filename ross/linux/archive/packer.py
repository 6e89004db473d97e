"""Packing a tree into tar while it is read: in bounded memory, and the same bytes for the same tree.

What is packed may be somebody else's, who changes it meanwhile. Every name is opened as itself (``O_PATH``, never following) and looked at
before it is opened to be read, so that no link leads anywhere, and no device or fifo is ever opened. A directory that has become something
else, and a name that is gone, are left out. Sockets are left out too: tar has no form for them.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, Final

from attrs import frozen

from ross.errors import FailedPrecondition
from ross.linux.archive.pack import BLOCK, END, padding
from ross.linux.archive.tar import show
from ross.linux.archive.whiteouts import OPAQUE_MARKER, OPAQUE_XATTR, WHITEOUT_PREFIX, is_whiteout
from ross.linux.openat2 import Resolve, openat2
from ross.linux.statfs import is_kernels_own

CHUNK_BYTES: Final = 256 << 10
_BENEATH: Final = Resolve.BENEATH | Resolve.NO_SYMLINKS | Resolve.NO_MAGICLINKS
_ITSELF: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
_XATTRS: Final = ("user.", "security.capability", "system.posix_acl_")
"""What is packed of the attributes: those that Ross, as others, also unpacks."""
_MAX_OCTAL_7: Final = 0o7777777
_MAX_OCTAL_11: Final = 0o77777777777
_KINDS: Final = {
    stat.S_IFREG: b"0",
    stat.S_IFLNK: b"2",
    stat.S_IFCHR: b"3",
    stat.S_IFBLK: b"4",
    stat.S_IFDIR: b"5",
    stat.S_IFIFO: b"6",
}
_HARD_LINK: Final = b"1"
_ZEROS: Final = bytes(CHUNK_BYTES)


Owner = tuple[int, int]
"""User and group."""


def pack(
    fd: int,
    name: bytes,
    *,
    as_layer: bool = False,
    checkpoint: Callable[[], None] = lambda: None,
    map_owner: Callable[[Owner], Owner] | None = None,
) -> Generator[bytes, None, None]:
    """The tar of one thing and all that is inside of it, in chunks of some size.

    Args:
        fd: What is packed; opened by ``O_PATH``, or a directory opened in any way. Stays the caller's.
        name: What it is called in the archive; ``.`` for a directory whose contents stand at its top.
        as_layer: It is the upper directory of an overlay: what that says is taken away is told as layers tell it.
        checkpoint: Called often; may raise to end it.
        map_owner: Whom an owner is told to be; None: who it is.

    Raises:
        FailedPrecondition: something of it has no place in such an archive.
        OSError: something cannot be read.
    """
    return _gathered(_Packer(as_layer, checkpoint, map_owner).pack(fd, name))


def _gathered(pieces: Iterator[bytes]) -> Generator[bytes, None, None]:
    """The same bytes in chunks that are worth handing on."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= CHUNK_BYTES:
            yield b"".join(waiting)
            waiting.clear()
            size = 0
    yield b"".join([*waiting, END])


@frozen
class _Directory:
    """A directory that is to be packed: its path below the top one, its name in the archive, the filesystem it is found in."""

    path: bytes
    name: bytes
    device: int


class _Packer:
    def __init__(
        self, as_layer: bool, checkpoint: Callable[[], None], map_owner: Callable[[Owner], Owner] | None
    ) -> None:
        self._as_layer = as_layer
        self._checkpoint = checkpoint
        self._map_owner = map_owner
        self._linked: dict[tuple[int, int], bytes] = {}
        """What has several names: the first under which it was packed."""

    def _header(self, name: bytes, found: os.stat_result, kind: bytes, **more: Any) -> bytes:
        owner = found.st_uid, found.st_gid
        return _header(name, found, kind, owner=owner if self._map_owner is None else self._map_owner(owner), **more)

    def pack(self, fd: int, name: bytes) -> Iterator[bytes]:
        found = os.fstat(fd)
        if not stat.S_ISDIR(found.st_mode):
            yield from self._entry(fd, found, name)
            return
        waiting = [_Directory(b"", b"" if name == b"." else name, found.st_dev)]
        while waiting:
            directory = waiting.pop()
            opened = self._open(fd, directory)
            if opened is None:
                continue
            inside: list[_Directory] = []
            try:
                yield from self._directory(opened, directory, inside)
            finally:
                os.close(opened)
            waiting.extend(reversed(inside))

    def _open(self, top: int, directory: _Directory) -> int | None:
        self._checkpoint()
        try:
            return openat2(top, directory.path or b".", os.O_RDONLY | os.O_DIRECTORY, resolve=_BENEATH)
        except OSError as error:
            if error.errno in _GONE and directory.path:
                return None
            if error.errno == errno.ENAMETOOLONG:
                raise FailedPrecondition(
                    f"directories below {show(directory.name)} are nested deeper than a path can say, and no archive can hold them"
                ) from None
            raise

    def _directory(self, fd: int, directory: _Directory, inside: list[_Directory]) -> Iterator[bytes]:
        """A directory and what is in it, but for the directories in it, which go to ``inside``."""
        found = os.fstat(fd)
        yield self._header(directory.name + b"/" if directory.name else b"./", found, b"5", xattrs=_xattrs(fd))
        if found.st_dev != directory.device and is_kernels_own(fd):
            return
        prefix = directory.name + b"/" if directory.name else b""
        if self._as_layer and _is_opaque(fd):
            yield _mark(prefix + OPAQUE_MARKER)
        with os.scandir(fd) as entries:
            names = sorted(os.fsencode(entry.name) for entry in entries)
        for name in names:
            with _itself(fd, name) as child:
                if child is None:
                    continue
                status = os.fstat(child)
                if stat.S_ISDIR(status.st_mode):
                    path = directory.path + b"/" + name if directory.path else name
                    self._check_name(prefix, name)
                    inside.append(_Directory(path, prefix + name, found.st_dev))
                elif self._as_layer and is_whiteout(status):
                    yield _mark(prefix + WHITEOUT_PREFIX + name)
                else:
                    self._check_name(prefix, name)
                    yield from self._entry(child, status, prefix + name)

    def _check_name(self, prefix: bytes, name: bytes) -> None:
        if self._as_layer and name.startswith(WHITEOUT_PREFIX):
            raise FailedPrecondition(
                f"the file {show(prefix + name)} cannot be kept in a layer, where such a name means that another is deleted",
                hint="remove or rename it",
            )

    def _entry(self, fd: int, found: os.stat_result, name: bytes) -> Iterator[bytes]:
        """What is no directory."""
        kind = _KINDS.get(stat.S_IFMT(found.st_mode))
        if kind is None:
            return
        if found.st_nlink > 1:
            first = self._linked.setdefault((found.st_dev, found.st_ino), name)
            if first != name:
                yield self._header(name, found, _HARD_LINK, link=first)
                return
        if kind == b"2":
            yield self._header(name, found, kind, link=os.readlink(b"", dir_fd=fd))
        elif kind == b"0":
            yield self._header(name, found, kind, size=found.st_size, xattrs=_xattrs(fd))
            yield from self._content(fd, found)
        else:
            yield self._header(name, found, kind)

    def _content(self, fd: int, found: os.stat_result) -> Iterator[bytes]:
        """The bytes of a file, as many as its header has promised; holes are not read."""
        self._checkpoint()
        if not found.st_size:
            return
        # By the descriptor: it is this very file that is opened now, whatever its name denotes meanwhile.
        opened = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            sparse = found.st_blocks * 512 < found.st_size
            at = 0
            while at < found.st_size:
                self._checkpoint()
                upto = found.st_size
                if sparse and (data := _next_data(opened, at)) != at:
                    hole = min(upto, data) - at
                    yield _ZEROS[: min(hole, CHUNK_BYTES)]
                    at += min(hole, CHUNK_BYTES)
                    continue
                piece = os.pread(opened, min(CHUNK_BYTES, upto - at), at)
                if not piece:  # it was cut short meanwhile
                    piece = _ZEROS[: min(CHUNK_BYTES, upto - at)]
                yield piece
                at += len(piece)
        finally:
            os.close(opened)
        yield padding(found.st_size)


def _next_data(fd: int, at: int) -> int:
    """Where data goes on; far behind the end if there is none any more."""
    try:
        return os.lseek(fd, at, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return 1 << 62
        return at  # this filesystem cannot tell


@contextmanager
def _itself(parent: int, name: bytes) -> Iterator[int | None]:
    try:
        fd = os.open(name, _ITSELF, dir_fd=parent)
    except FileNotFoundError:
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _xattrs(fd: int) -> dict[str, bytes]:
    path = f"/proc/self/fd/{fd}"
    try:
        names = os.listxattr(path)
    except OSError:
        return {}  # of a filesystem that has none
    found = {}
    for name in sorted(names):
        if name.startswith(_XATTRS) and not name.startswith("user.overlay."):
            try:
                found[name] = os.getxattr(path, name)
            except OSError:
                continue  # it was taken away just now
    return found


def _is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(f"/proc/self/fd/{fd}", OPAQUE_XATTR) == b"y"
    except OSError:
        return False


# -- headers ------------------------------------------------------------------------------------------------------------


def _mark(name: bytes) -> bytes:
    """An empty file whose name says something."""
    extended = _extended({b"path": name}) if len(name) > 100 else b""
    return extended + _block(name[:100], 0o644, 0, 0, 0, 0, b"0", b"", (0, 0))


def _header(
    name: bytes,
    found: os.stat_result,
    kind: bytes,
    *,
    owner: Owner,
    size: int = 0,
    link: bytes = b"",
    xattrs: dict[str, bytes] | None = None,
) -> bytes:
    """The header of an entry, behind an extended one where something does not fit (POSIX.1-2001, pax)."""
    pax: dict[bytes, bytes] = {}
    if len(name) > 100:
        pax[b"path"] = name
    if len(link) > 100:
        pax[b"linkpath"] = link
    numbers = (
        (b"uid", owner[0], _MAX_OCTAL_7),
        (b"gid", owner[1], _MAX_OCTAL_7),
        (b"size", size, _MAX_OCTAL_11),
    )
    pax.update({key: b"%d" % value for key, value, most in numbers if value > most})
    seconds, fraction = divmod(found.st_mtime_ns, 10**9)
    if fraction or not 0 <= seconds <= _MAX_OCTAL_11:
        pax[b"mtime"] = _time(found.st_mtime_ns)
    for key_text, data in (xattrs or {}).items():
        pax[b"SCHILY.xattr." + os.fsencode(key_text)] = data
    device = (0, 0)
    if kind in {b"3", b"4"}:
        device = (os.major(found.st_rdev), os.minor(found.st_rdev))
    block = _block(
        name[:100],
        stat.S_IMODE(found.st_mode),
        owner[0] if owner[0] <= _MAX_OCTAL_7 else 0,
        owner[1] if owner[1] <= _MAX_OCTAL_7 else 0,
        size if size <= _MAX_OCTAL_11 else 0,
        min(max(seconds, 0), _MAX_OCTAL_11),
        kind,
        link[:100],
        device,
    )
    return _extended(pax) + block if pax else block


def _block(
    name: bytes, mode: int, uid: int, gid: int, size: int, mtime: int, kind: bytes, link: bytes, device: tuple[int, int]
) -> bytes:
    head = b"%s%07o\0%07o\0%07o\0%011o\0%011o\0" % (name.ljust(100, b"\0"), mode, uid, gid, size, mtime)
    tail = b"%s%sustar\00000%s%07o\0%07o\0" % (kind, link.ljust(100, b"\0"), bytes(64), *device)
    checksum = sum(head) + sum(tail) + 8 * 32
    return (head + b"%06o\0 " % checksum + tail).ljust(BLOCK, b"\0")


def _extended(pax: dict[bytes, bytes]) -> bytes:
    for key in (b"path", b"linkpath"):
        if key in pax:
            try:
                pax[key].decode()
            except UnicodeDecodeError:
                pax = {b"hdrcharset": b"BINARY", **pax}
                break
    data = b"".join(_record(key, value) for key, value in pax.items())
    return _block(b"PaxHeaders/entry", 0o644, 0, 0, len(data), 0, b"x", b"", (0, 0)) + data + padding(len(data))


def _record(key: bytes, value: bytes) -> bytes:
    """``length key=value``, where the length counts itself."""
    rest = b" %s=%s\n" % (key, value)
    size = len(rest)
    while len(b"%d" % size) + len(rest) != size:
        size = len(b"%d" % size) + len(rest)
    return b"%d" % size + rest


def _time(nanoseconds: int) -> bytes:
    sign = "-" if nanoseconds < 0 else ""
    seconds, fraction = divmod(abs(nanoseconds), 10**9)
    return f"{sign}{seconds}.{fraction:09d}".rstrip("0").rstrip(".").encode()
