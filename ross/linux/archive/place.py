"""Putting what an archive holds into a tree that is there already, and that others may be changing meanwhile.

Other than a layer, which is applied to an empty directory of its own, this meets what exists: a file takes the place of a file in one step,
a directory is merged with a directory, and nothing takes the place of something of the other kind. Whoever wrote the archive may be
hostile, and so may be whoever owns the tree: all is done by descriptor and by single names. No entry leads out of the destination, and no
directory that is swapped for a link at any moment leads out of the tree.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from attrs import define, field, frozen

from ross.errors import Corrupt, FailedPrecondition, ResourceExhausted, RossError
from ross.linux.archive.limits import ArchiveLimits
from ross.linux.archive.stream import NextChunk, speaking_of_archives, uncompressed
from ross.linux.archive.tar import Entry, EntryType, TarReader, show
from ross.linux.files import no_space, write_all
from ross.linux.openat2 import Resolve, openat2
from ross.linux.statfs import is_kernels_own

LIMITS: Final = ArchiveLimits(unpacked_bytes=1 << 62, ratio=1 << 20, entries=1 << 24)
"""What is copied may be as large as the disk; it is never held in memory."""
_PATH: Final = os.O_PATH | os.O_DIRECTORY
_STRICT: Final = Resolve.BENEATH | Resolve.NO_SYMLINKS | Resolve.NO_MAGICLINKS
_IN_ROOT: Final = Resolve.IN_ROOT | Resolve.NO_MAGICLINKS
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT_XATTRS: Final = (b"user.", b"security.capability", b"system.posix_acl_")
_NO_XATTRS: Final = frozenset({errno.ENOTSUP, errno.EPERM, errno.EACCES})
_ZEROS: Final = bytes(64 << 10)
_FORMATS: Final = {
    EntryType.CHARACTER: stat.S_IFCHR,
    EntryType.BLOCK: stat.S_IFBLK,
    EntryType.FIFO: stat.S_IFIFO,
}


@frozen(kw_only=True)
class Root:
    """The tree in which links on the way to an entry are followed, none of them out of it."""

    fd: int
    path: bytes
    """Of the destination in it."""


@frozen(kw_only=True)
class Placing:
    """How an archive is to be placed."""

    owner: tuple[int, int] | None = None
    """Who gets everything; absent: whom the archive says."""
    privileged: bool = True
    """Make devices, and keep the bits that let a program run as somebody else."""
    root: Root | None = None
    """Absent: no link is followed on the way to an entry."""
    hidden: frozenset[tuple[bytes, ...]] = frozenset()
    """Places, by the parts of their paths below the destination, that something else is mounted on whenever it matters."""
    map_owner: Callable[[tuple[int, int]], tuple[int, int]] | None = None
    """Who that is where it is placed, whom the archive says; absent: the same. May raise."""
    name: bytes = b""
    """The only name at the top that the archive may have; empty: any."""


@define
class Placed:
    """What was placed."""

    entries: int = 0
    size_bytes: int = 0
    left_out: list[bytes] = field(factory=list)
    """Devices that were not made."""


def place(next_chunk: NextChunk, destination: int, how: Placing) -> Placed:
    """Place an archive, which may be compressed, in the directory that ``destination`` is open on.

    Args:
        next_chunk: Its bytes; the empty chunk at the end.
        destination: Stays the caller's.
        how: As what.

    Raises:
        Corrupt: the archive is damaged, or an entry is not what an entry may be. What came before is there.
        FailedPrecondition: an entry cannot take the place that it is meant for.
        ResourceExhausted: the disk is full.
    """
    with speaking_of_archives(), _Placer(destination, how) as placer:
        reader = TarReader(uncompressed(next_chunk, limits=LIMITS), limits=LIMITS)
        for entry in reader:
            placer.add(entry, reader)
        placer.finish()
        return placer.placed


@frozen
class _Made:
    """A directory that was made, and gets its attributes when all is in it."""

    entry: Entry
    components: tuple[bytes, ...]
    inode: int


class _Placer:
    def __init__(self, destination: int, how: Placing) -> None:
        self._destination = destination
        self._how = how
        self._device = os.fstat(destination).st_dev
        self._made: list[_Made] = []
        self._head: tuple[bytes, ...] | None = None
        self._parent = -1
        """The directory of the last entry: the next one is most likely in it too."""
        self.placed = Placed()

    def __enter__(self) -> _Placer:
        return self

    def __exit__(self, *_details: object) -> None:
        self._forget()

    def _forget(self) -> None:
        if self._parent >= 0:
            os.close(self._parent)
        self._parent, self._head = -1, None

    def add(self, entry: Entry, reader: TarReader) -> None:
        components = self._components(entry.name)
        if not components:
            if entry.type is not EntryType.DIRECTORY:
                raise Corrupt(f"the layer's entry for its top is a {entry.type.value}, not a directory")
            return  # the destination stays as it is
        try:
            self._check_seen(components, entry)
            parent = self._directory(components[:-1])
            self._add(parent, components, entry, reader)
        except OSError as error:
            raise _explained(entry, error) from error
        self.placed.entries += 1

    def _components(self, name: bytes) -> tuple[bytes, ...]:
        parts = tuple(part for part in name.split(b"/") if part not in {b"", b"."})
        if b".." in parts:
            raise Corrupt(f"the layer's entry {show(name)} leads out of its directory by '..', which is refused")
        if self._how.name and parts[:1] != (self._how.name,):
            raise Corrupt(f"the layer's entry {show(name)} is not what was asked for, {show(self._how.name)}")
        return parts

    def _check_seen(self, components: tuple[bytes, ...], entry: Entry) -> None:
        hidden = self._how.hidden
        if hidden and any(components[: index + 1] in hidden for index in range(len(components))):
            if entry.type is EntryType.DIRECTORY and components in hidden:
                return  # which is there already
            raise FailedPrecondition(
                f"{show(entry.name)} would be hidden by a mount, which is there only while the container runs",
                hint="start it first, or copy to where the mount comes from",
            )

    def _add(self, parent: int, components: tuple[bytes, ...], entry: Entry, reader: TarReader) -> None:
        base = components[-1]
        _check_place(parent, base, entry)
        if entry.type is EntryType.DIRECTORY:
            with suppress(FileExistsError):
                os.mkdir(base, 0o700, dir_fd=parent)
                inode = os.stat(base, dir_fd=parent, follow_symlinks=False).st_ino
                self._made.append(_Made(entry, components, inode))
        elif entry.type is EntryType.FILE:
            self._file(parent, base, entry, reader)
        elif entry.type is EntryType.HARD_LINK:
            self._hard_link(parent, base, entry)
        elif entry.type is EntryType.SYMLINK:
            with _in_place(parent, base) as fresh:
                os.symlink(entry.link, fresh, dir_fd=parent)
                os.chown(fresh, *self._owner(entry), dir_fd=parent, follow_symlinks=False)
                os.utime(fresh, ns=_times(entry), dir_fd=parent, follow_symlinks=False)
        else:
            self._special(parent, base, entry)

    # -- kinds --------------------------------------------------------------------------------------------------------

    def _file(self, parent: int, base: bytes, entry: Entry, reader: TarReader) -> None:
        with _in_place(parent, base) as fresh:
            fd = os.open(fresh, _NEW_FILE, 0o600, dir_fd=parent)
            try:
                while piece := reader.piece():
                    _write_sparsely(fd, piece)
                os.ftruncate(fd, entry.size)
                self._attributes(fd, entry)
            finally:
                os.close(fd)
        self.placed.size_bytes += entry.size

    def _special(self, parent: int, base: bytes, entry: Entry) -> None:
        if entry.type is not EntryType.FIFO and not self._how.privileged:
            self.placed.left_out.append(entry.name)
            return
        device = os.makedev(entry.major, entry.minor) if entry.type is not EntryType.FIFO else 0
        with _in_place(parent, base) as fresh:
            os.mknod(fresh, _FORMATS[entry.type] | 0o600, device, dir_fd=parent)
            fd = os.open(fresh, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:  # by descriptor: what has its name now may be a link
                path = f"/proc/self/fd/{fd}"
                if stat.S_IFMT(os.fstat(fd).st_mode) != _FORMATS[entry.type]:
                    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
                os.chown(path, *self._owner(entry))
                os.chmod(path, self._mode(entry))  # noqa: PTH101 -- by descriptor
                os.utime(path, ns=_times(entry))
            finally:
                os.close(fd)

    def _hard_link(self, parent: int, base: bytes, entry: Entry) -> None:
        target = self._components(entry.link)
        if not target:
            raise Corrupt(f"the layer's entry {show(entry.name)} is a hard link to its top")
        above = self._open(target[:-1])
        try:
            found = os.stat(target[-1], dir_fd=above, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                raise Corrupt(f"the layer's entry {show(entry.name)} is a hard link to a directory")
            with suppress(FileNotFoundError):
                there = os.stat(base, dir_fd=parent, follow_symlinks=False)
                if (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino):
                    return
            with _in_place(parent, base) as fresh:
                os.link(target[-1], fresh, src_dir_fd=above, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(above)

    # -- attributes ---------------------------------------------------------------------------------------------------

    def _owner(self, entry: Entry) -> tuple[int, int]:
        if self._how.owner is not None:
            return self._how.owner
        said = entry.uid, entry.gid
        return self._how.map_owner(said) if self._how.map_owner is not None else said

    def _mode(self, entry: Entry) -> int:
        sticky = stat.S_ISVTX if entry.type is EntryType.DIRECTORY else 0
        return entry.mode if self._how.privileged else entry.mode & (0o777 | sticky)

    def _attributes(self, fd: int, entry: Entry) -> None:
        os.fchown(fd, *self._owner(entry))
        os.fchmod(fd, self._mode(entry))  # behind the owner, whose change takes setuid away
        for name, value in (entry.xattrs or {}).items():
            kept = name.startswith(_KEPT_XATTRS) and not name.startswith(b"user.overlay.")
            if kept and (self._how.privileged or name.startswith(b"user.")):
                try:
                    os.setxattr(fd, name, value)
                except OSError as error:
                    if error.errno not in _NO_XATTRS:
                        raise
        os.utime(fd, ns=_times(entry))

    def finish(self) -> None:
        """Give the new directories what their entries say, now that nothing changes their times any more."""
        self._forget()
        for made in reversed(self._made):
            try:
                above = self._open(made.components[:-1])
                try:
                    fd = os.open(
                        made.components[-1],
                        os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC,
                        dir_fd=above,
                    )
                finally:
                    os.close(above)
                try:
                    if os.fstat(fd).st_ino == made.inode:
                        self._attributes(fd, made.entry)
                finally:
                    os.close(fd)
            except OSError as error:
                if error.errno not in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:  # somebody took it away meanwhile
                    raise _explained(made.entry, error) from error

    # -- names --------------------------------------------------------------------------------------------------------

    def _directory(self, components: tuple[bytes, ...]) -> int:
        """A directory, made where it is missing. Stays ours."""
        if components == self._head:
            return self._parent
        self._forget()
        try:
            self._parent = self._open(components)
        except FileNotFoundError:
            self._parent = self._make(components)
        if os.fstat(self._parent).st_dev != self._device and is_kernels_own(self._parent):
            raise OSError(errno.EPERM, "it is in a filesystem of the kernel's own")
        self._head = components
        return self._parent

    def _open(self, components: tuple[bytes, ...]) -> int:
        path = b"/".join(components)
        try:
            return openat2(self._destination, path or b".", _PATH, resolve=_STRICT)
        except OSError as error:
            root = self._how.root
            if error.errno not in {errno.ELOOP, errno.EXDEV} or root is None:
                raise
            return openat2(root.fd, root.path + b"/" + path, _PATH, resolve=_IN_ROOT)

    def _make(self, components: tuple[bytes, ...]) -> int:
        how = self._how
        owner = how.owner or (how.map_owner((0, 0)) if how.map_owner is not None else (os.geteuid(), os.getegid()))
        at = os.dup(self._destination)
        try:
            for index, name in enumerate(components):
                try:
                    inner = self._open(components[: index + 1])
                except FileNotFoundError:
                    os.mkdir(name, 0o755, dir_fd=at)
                    os.chown(name, *owner, dir_fd=at, follow_symlinks=False)
                    inner = os.open(name, _PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
                os.close(at)
                at = inner
        except BaseException:
            os.close(at)
            raise
        return at


def _check_place(parent: int, base: bytes, entry: Entry) -> None:
    """Nothing takes the place of something of the other kind, as with Docker; nor of a mount.

    In another mount namespace than ours the kernel would let a mount point be replaced, and take the mount away.
    """
    try:
        there = os.stat(base, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    if entry.type is not EntryType.DIRECTORY:
        flags = os.O_PATH | os.O_NOFOLLOW
        try:
            os.close(openat2(parent, base, flags, resolve=Resolve.BENEATH | Resolve.NO_XDEV | Resolve.NO_MAGICLINKS))
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise OSError(errno.EBUSY, "it is a mount") from None
            raise
    if stat.S_ISDIR(there.st_mode) != (entry.type is EntryType.DIRECTORY):
        what, other = (
            ("a directory", "a non-directory") if entry.type is EntryType.DIRECTORY else ("a file", "a directory")
        )
        raise FailedPrecondition(f"{show(entry.name)} is {what}, and cannot take the place of {other}")


@contextmanager
def _in_place(parent: int, base: bytes) -> Iterator[bytes]:
    """A name to make something under, which then takes its place in one step."""
    fresh = b".ross-%s" % secrets.token_hex(6).encode()
    try:
        yield fresh
        os.rename(fresh, base, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        with suppress(OSError):
            os.unlink(fresh, dir_fd=parent)
        raise


def _write_sparsely(fd: int, piece: memoryview) -> None:
    """What is all zeros becomes a hole."""
    for start in range(0, len(piece), len(_ZEROS)):
        part = piece[start : start + len(_ZEROS)]
        if part == _ZEROS[: len(part)]:
            os.lseek(fd, len(part), os.SEEK_CUR)
        else:
            write_all(fd, part)


def _times(entry: Entry) -> tuple[int, int]:
    return (entry.mtime_ns, entry.mtime_ns)


def _explained(entry: Entry, error: OSError) -> RossError:
    what = f"{show(entry.name)} ({entry.type.value}) cannot be made"
    if no_space(error):
        return ResourceExhausted(f"{what}: {error.strerror}", hint="free some space")
    hints = {
        errno.EBUSY: "something is mounted there; copy to where it comes from",
        errno.EROFS: "it is mounted read-only",
        errno.EPERM: "only root can make devices, and give files to others",
    }
    return FailedPrecondition(f"{what}: {error.strerror}", hint=hints.get(error.errno or 0))
