"""Applying one layer to a directory of its own, as an overlay's lower directory.

Path-safe by construction: every parent directory is opened by openat2 with the layer's directory as root, so that links and ``..`` of a
hostile archive are resolved inside it; the last component is then used by name alone, never followed. Nothing is ever done by path.

A layer needs no parent to be applied. Whiteouts become 0:0 devices and opaque directories an attribute (overlayfs.rst, "whiteouts and
opaque directories"). Two things do need what is below, and are noted for ``settle``: directories that entries imply without carrying
them, and hard links to files that are not of this layer.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import define, field

from ross.errors import Corrupt, ResourceExhausted
from ross.linux.archive.tar import Entry, EntryType, TarReader, show
from ross.linux.files import remove_entry, write_all
from ross.linux.openat2 import Resolve, openat2

if TYPE_CHECKING:
    from collections.abc import Callable

    from ross.linux.archive.inflate import LayerBytes
    from ross.linux.archive.limits import ArchiveLimits

T = TypeVar("T")

WHITEOUT_PREFIX: Final = b".wh."
_AUFS_PREFIX: Final = b".wh..wh."
OPAQUE_MARKER: Final = b".wh..wh..opq"
OPAQUE_XATTR: Final = "trusted.overlay.opaque"
_INSIDE: Final = Resolve.IN_ROOT | Resolve.NO_MAGICLINKS | Resolve.NO_XDEV
_PATH: Final = os.O_PATH | os.O_DIRECTORY
_CACHED_DIRECTORIES: Final = 256
_FILE: Final = EntryType.FILE
_NO_NAMES: Final = frozenset({b"", b".", b".."})
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LINKS: Final = 40
_KEPT_XATTRS: Final = (b"user.", b"security.capability", b"system.posix_acl_")
"""Attributes that an image may set. Those of the overlay itself (trusted.overlay, user.overlay) would forge its metadata."""
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_NOTE_BYTES: Final = 500
"""What a directory's entry takes beside its names and attributes, about."""
_NAME_BYTES: Final = 64
"""The same for a name that is left to settle."""


@define
class Applied:
    """What was applied, and what is left to settle."""

    entries: int = 0
    size_bytes: int = 0
    root_carried: bool = False
    """The archive has an entry for its own root."""
    implied: set[bytes] = field(factory=set)
    """Directories, by their resolved path in the layer, that entries need and that have no entry."""
    pending_links: dict[bytes, bytes] = field(factory=dict)
    """Hard links to what is not in this layer: their path, and that of their target."""
    whiteouts: set[bytes] = field(factory=set)
    """Names that the layer takes away, whether or not a lower one has them."""
    root_opaque: bool = False
    """Nothing of the layers below is left."""

    @property
    def settled(self) -> bool:
        """Nothing is left to settle, whatever is below."""
        return self.root_carried and not (self.implied or self.pending_links or self.whiteouts or self.root_opaque)


@define
class _Directory:
    """A directory that has an entry: it gets what the entry says when all is written."""

    entry: Entry
    inode: int
    """Of what was made then; if something else is there at the end, the entry does not mean it."""


class LayerWriter:
    """Applies entries below a directory.

    A layer of small files spends its time here: what comes again and again, a file in a directory that is known, takes the short way,
    with as few system calls as give it all its attributes.
    """

    def __init__(self, root: Path | int, *, limits: ArchiveLimits) -> None:
        """Apply to ``root``, which exists and is empty: a path, or a descriptor that stays the caller's."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
        self.root_fd = os.open(".", flags, dir_fd=root) if isinstance(root, int) else os.open(root, flags)
        self.applied = Applied()
        self._limits = limits
        self._noted_bytes = 0
        self._unsettled_bytes = 0
        self._known: dict[bytes, int] = {}
        """Directories by their names as entries have them, each checked and opened once."""
        self._retired: list[int] = []
        self._directories: dict[bytes, _Directory] = {}
        self._masked = _umask() | 0o7000
        """The bits that a new file does not get, or not for certain."""

    def __enter__(self) -> LayerWriter:
        return self

    def __exit__(self, *_details: object) -> None:
        self._forget_directories()
        self._close_retired()
        os.close(self.root_fd)

    def apply(self, reader: TarReader) -> Applied:
        """Apply all entries.

        Raises:
            Corrupt: the archive is damaged, or an entry is not what an entry may be.
            ResourceExhausted: a limit was reached, or the disk is full.
        """
        for entry in reader:
            if self._retired:
                self._close_retired()
            try:
                self._apply(entry, reader)
            except OSError as error:
                raise _explained(entry, error) from error
        self.applied.entries = reader.entries
        self._finish_directories()
        return self.applied

    def _apply(self, entry: Entry, reader: TarReader) -> None:
        head, _slash, base = entry.name.rpartition(b"/")
        parent = self._known.get(head)
        if parent is None or base in _NO_NAMES or base.startswith(WHITEOUT_PREFIX):
            components = _components(entry.name)
            if not components:
                self._apply_root(entry)
                return
            *parents, last = components
            if last != base:  # it ends with a slash, or so
                head, base = b"/".join(parents), last
            if base.startswith(WHITEOUT_PREFIX):
                self._whiteout(self._parent(head, parents), base, entry)
                return
            parent = self._parent(head, parents)
        if entry.type is _FILE:
            self._file(parent, base, entry, reader)
        else:
            self._other(parent, base, entry)

    # -- kinds of entries ---------------------------------------------------------------------------------------------

    def _other(self, parent: int, base: bytes, entry: Entry) -> None:
        match entry.type:
            case EntryType.DIRECTORY:
                self._directory(parent, base, entry)
            case EntryType.HARD_LINK:
                self._hard_link(parent, base, entry)
            case EntryType.SYMLINK:
                self._make(parent, base, lambda: os.symlink(entry.link, base, dir_fd=parent))
                self._attributes(parent, base, entry)
            case _:
                device = _device(entry)
                if entry.type is EntryType.CHARACTER and not device:
                    self._forged_whiteout(parent, base)
                    return
                mode = entry.mode | _FORMATS[entry.type]
                self._make(parent, base, lambda: os.mknod(base, mode, device, dir_fd=parent))
                self._attributes(parent, base, entry)

    def _apply_root(self, entry: Entry) -> None:
        if entry.type is not EntryType.DIRECTORY:
            raise Corrupt(f"the layer's entry for its root is a {entry.type.value}, not a directory")
        self.applied.root_carried = True
        self._directories[b""] = _Directory(entry, os.fstat(self.root_fd).st_ino)

    def _file(self, parent: int, base: bytes, entry: Entry, reader: TarReader) -> None:
        mode = entry.mode
        try:
            fd = os.open(base, _NEW_FILE, mode & 0o777, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, base)
            fd = os.open(base, _NEW_FILE, mode & 0o777, dir_fd=parent)
        try:
            if entry.size:
                while piece := reader.piece():
                    written = os.write(fd, piece)
                    if written != len(piece):
                        write_all(fd, piece[written:])
                self.applied.size_bytes += entry.size
            if entry.uid or entry.gid:
                os.fchown(fd, entry.uid, entry.gid)
            if mode & self._masked:
                os.fchmod(fd, mode)  # behind the owner, whose change would take setuid away
            if entry.xattrs:
                self._set_xattrs(fd, entry)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _directory(self, parent: int, base: bytes, entry: Entry) -> None:
        path = self._path(parent, base)
        try:
            os.mkdir(base, 0o700, dir_fd=parent)
        except FileExistsError:
            found = os.stat(base, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                self._clear(parent, base)
                os.mkdir(base, 0o700, dir_fd=parent)
                _make_opaque(parent, base)  # what it replaces took away first what is below
        inode = os.stat(base, dir_fd=parent, follow_symlinks=False).st_ino
        self.applied.implied.discard(path)
        self._note(path, entry)
        self._directories[path] = _Directory(entry, inode)

    def _hard_link(self, parent: int, base: bytes, entry: Entry) -> None:
        path, components = b"/".join(_components(entry.name)), _components(entry.link)
        if not components:
            raise Corrupt(f"the layer's entry {show(entry.name)} is a hard link to its root")
        target = b"/".join(components)
        head = entry.link.rpartition(b"/")[0]
        try:
            target_parent = self._known.get(head) if components[-1] == entry.link[len(head) :].lstrip(b"/") else None
            if target_parent is None:
                target_parent = self._open(components[:-1])
                self._retired.append(target_parent)  # closed before the next entry
            found = os.stat(components[-1], dir_fd=target_parent, follow_symlinks=False)
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTDIR}:
                raise
            link = self._path(parent, base)
            self._leave_to_settle(link, target)
            self.applied.pending_links[link] = target
            return
        if stat.S_ISDIR(found.st_mode) or is_whiteout(found):
            raise Corrupt(
                f"the layer's entry {show(entry.name)} is a hard link to {show(entry.link)}, which is no file"
            )
        if path != target:
            self._make(
                parent,
                base,
                lambda: os.link(
                    components[-1], base, src_dir_fd=target_parent, dst_dir_fd=parent, follow_symlinks=False
                ),
            )

    def _whiteout(self, parent: int, base: bytes, entry: Entry) -> None:
        path = self._path(parent, base)
        if base == OPAQUE_MARKER:
            self.applied.root_opaque = self.applied.root_opaque or path == base
            _make_opaque(parent, b".")
            return
        if base.startswith(_AUFS_PREFIX):
            return  # aufs keeps its own books in such files; they mean nothing to an overlay
        hidden = base[len(WHITEOUT_PREFIX) :]
        if hidden in {b"", b".", b".."}:
            raise Corrupt(f"the layer's whiteout {show(entry.name)} names {hidden.decode()!r}, which is refused")
        self._leave_to_settle(path)
        self.applied.whiteouts.add(path[: -len(base)] + hidden)
        try:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:
            # This layer has the name itself: the whiteout means what is below only.
            if stat.S_ISDIR(os.stat(hidden, dir_fd=parent, follow_symlinks=False).st_mode):
                _make_opaque(parent, hidden)

    def _forged_whiteout(self, parent: int, base: bytes) -> None:
        """The device 0:0, as archives of an overlay's own directories have it. It is what it looks like: a whiteout.

        So it is for every engine that unpacks to an overlay, since they make what the entry says. Where nothing is below it is taken
        away; left, it would be a name that leads to nothing.
        """
        path = self._path(parent, base)
        self._leave_to_settle(path)
        self._make(parent, base, lambda: os.mknod(base, stat.S_IFCHR, 0, dir_fd=parent))
        self.applied.whiteouts.add(path)

    # -- attributes ---------------------------------------------------------------------------------------------------

    def _attributes(self, parent: int, base: bytes, entry: Entry) -> None:
        """Of what has no descriptor: links, devices, fifos. By name, never followed."""
        if entry.uid or entry.gid:
            os.chown(base, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.type is not EntryType.SYMLINK:
            os.chmod(base, entry.mode, dir_fd=parent)  # it is no link: we have just made it
        os.utime(base, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)

    def _set_xattrs(self, fd: int, entry: Entry) -> None:
        for name, value in (entry.xattrs or {}).items():
            if name.startswith(_KEPT_XATTRS) and not name.startswith(b"user.overlay."):
                try:
                    os.setxattr(fd, name, value)
                except OSError as error:
                    if error.errno != errno.ENOTSUP:
                        raise

    def _finish_directories(self) -> None:
        """Give directories what their entries say: only now, since what is made in them would inherit some of it, and change the time."""
        for path, directory in self._directories.items():
            try:
                fd = openat2(
                    self.root_fd, path or b".", os.O_RDONLY | os.O_DIRECTORY, resolve=_INSIDE | Resolve.NO_SYMLINKS
                )
            except OSError as error:
                if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                    continue  # a later entry has taken it away, or its place
                raise
            entry = directory.entry
            try:
                if os.fstat(fd).st_ino != directory.inode:
                    continue
                if entry.uid or entry.gid:
                    os.fchown(fd, entry.uid, entry.gid)
                os.fchmod(fd, entry.mode)
                self._set_xattrs(fd, entry)
                os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
            except OSError as error:
                raise _explained(entry, error) from error
            finally:
                os.close(fd)

    # -- what is kept in memory ---------------------------------------------------------------------------------------

    def _note(self, path: bytes, entry: Entry) -> None:
        """Keep an entry until the end, if there is room."""
        xattrs = sum(len(name) + len(value) for name, value in (entry.xattrs or {}).items())
        self._noted_bytes += len(path) + len(entry.name) + xattrs + _NOTE_BYTES
        if self._noted_bytes > self._limits.noted_bytes:
            raise ResourceExhausted("the layer has more directories than Ross keeps in memory, which is refused")

    def _leave_to_settle(self, *names: bytes) -> None:
        self._unsettled_bytes += sum(map(len, names)) + _NAME_BYTES
        if self._unsettled_bytes > self._limits.unsettled_bytes:
            raise ResourceExhausted(
                "the layer has more whiteouts, links to other layers and directories without an entry than Ross keeps in memory, "
                "which is refused"
            )

    # -- names --------------------------------------------------------------------------------------------------------

    def _make(self, parent: int, base: bytes, make: Callable[[], T]) -> T:
        """Make something new under a name, in the place of whatever this layer had there before."""
        try:
            return make()
        except FileExistsError:
            self._clear(parent, base)
            return make()

    def _clear(self, parent: int, base: bytes) -> None:
        """Take away what an entry replaces. Directories that are open may be among it."""
        self._forget_directories()
        remove_entry(parent, os.fsdecode(base))

    def _parent(self, head: bytes, components: list[bytes]) -> int:
        """A descriptor of the directory that these components lead to, made where it is missing. Stays ours.

        ``head`` is how the entry spells it: under that name it is known from now on.
        """
        found = self._known.get(head)
        if found is not None:
            return found
        fd = self._child(head)
        if fd is None:
            try:
                fd = self._open(components)
            except (FileNotFoundError, NotADirectoryError):  # the latter where a whiteout is
                fd = self._make_parents(components)
        if len(self._known) >= _CACHED_DIRECTORIES:
            self._forget_directories()
        self._known[head] = fd
        return fd

    def _child(self, head: bytes) -> int | None:
        """A real directory in one that is known: the short way to it."""
        above, _slash, name = head.rpartition(b"/")
        parent = self._known.get(above)
        if parent is None or name in _NO_NAMES:
            return None
        try:
            return os.open(name, _PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _path(self, parent: int, base: bytes) -> bytes:
        """The name of what is in an open directory, without links: an entry may have come by one."""
        top, above = (os.fsencode(Path(f"/proc/self/fd/{fd}").readlink()) for fd in (self.root_fd, parent))
        return (above[len(top) :] + b"/" + base)[1:]

    def _open(self, components: list[bytes]) -> int:
        return openat2(self.root_fd, b"/".join(components) or b".", _PATH, resolve=_INSIDE)

    def _make_parents(self, components: list[bytes]) -> int:
        """Make what is missing on the way, following links inside the layer as the kernel would: also dangling ones."""
        waiting = list(reversed(components))
        resolved: list[bytes] = []
        links = 0
        while waiting:
            name = waiting.pop()
            if name in {b"", b"."}:
                continue
            if name == b"..":
                del resolved[-1:]
                continue
            here = b"/".join(resolved)
            parent = openat2(self.root_fd, here or b".", _PATH, resolve=_INSIDE | Resolve.NO_SYMLINKS)
            try:
                found = _stat(parent, name)
                if found is None or is_whiteout(found):
                    self._make_implied(parent, name, whiteout=found is not None)
                    if found is None:  # else what is below, and its attributes, are gone
                        implied = b"/".join([*resolved, name])
                        self._leave_to_settle(implied)
                        self.applied.implied.add(implied)
                elif stat.S_ISLNK(found.st_mode):
                    links += 1
                    if links > _MAX_LINKS:
                        raise OSError(errno.ELOOP, "too many links on the way", name)
                    target = os.readlink(name, dir_fd=parent)
                    if target.startswith(b"/"):
                        resolved.clear()
                    waiting.extend(reversed(target.split(b"/")))
                    continue
                elif not stat.S_ISDIR(found.st_mode):
                    raise OSError(errno.ENOTDIR, "a part of the path is no directory", name)
            finally:
                os.close(parent)
            resolved.append(name)
        return openat2(self.root_fd, b"/".join(resolved) or b".", _PATH, resolve=_INSIDE | Resolve.NO_SYMLINKS)

    def _make_implied(self, parent: int, name: bytes, *, whiteout: bool) -> None:
        if whiteout:
            self._clear(parent, name)
        os.mkdir(name, 0o755, dir_fd=parent)
        if whiteout:
            _make_opaque(parent, name)

    def _forget_directories(self) -> None:
        """Let go of the cached descriptors. They are closed before the next entry: the current one may be using some."""
        self._retired.extend(self._known.values())
        self._known.clear()

    def _close_retired(self) -> None:
        while self._retired:
            os.close(self._retired.pop())


_FORMATS: Final = {
    EntryType.CHARACTER: stat.S_IFCHR,
    EntryType.BLOCK: stat.S_IFBLK,
    EntryType.FIFO: stat.S_IFIFO,
}


def apply_layer(
    source: LayerBytes, root: Path | int, *, limits: ArchiveLimits, checkpoint: Callable[[], None] = lambda: None
) -> Applied:
    """Apply a whole layer to ``root``, an empty directory.

    Args:
        source: The layer's bytes.
        root: Where to; a path, or a descriptor.
        limits: What the archive may make us do.
        checkpoint: Called before each chunk of the archive; raises to stop.

    Raises:
        Corrupt: the layer is damaged, or not what a layer may be.
        ResourceExhausted: a limit was reached, or the disk is full.
    """

    def next_chunk() -> bytes:
        checkpoint()
        return source.next_chunk()

    with LayerWriter(root, limits=limits) as writer:
        return writer.apply(TarReader(next_chunk, limits=limits))


def _components(name: bytes) -> list[bytes]:
    """The parts of an entry's path. An absolute path is taken below the root, as every engine does.

    Raises:
        Corrupt: it has ``..`` in it, which no honest archive needs.
    """
    parts = [part for part in name.split(b"/") if part not in {b"", b"."}]
    if b".." in parts:
        raise Corrupt(f"the layer's entry {show(name)} leads out of its directory by '..', which is refused")
    return parts


def _device(entry: Entry) -> int:
    """The kernel has 12 bits for a device's major number and 20 for its minor one, and drops what is above.

    Raises:
        Corrupt: the entry's numbers are not such; without the upper bits they could be those of a whiteout.
    """
    if not 0 <= entry.major < 1 << 12 or not 0 <= entry.minor < 1 << 20:
        raise Corrupt(
            f"the layer's entry {show(entry.name)} is the device {entry.major}:{entry.minor}, which cannot be"
        )
    return os.makedev(entry.major, entry.minor)


def _stat(parent: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _make_opaque(parent: int, name: bytes) -> None:
    """Mark a directory so that nothing below shows through it."""
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.setxattr(fd, OPAQUE_XATTR, b"y")
    finally:
        os.close(fd)


def _umask() -> int:
    """Of this process; reading it by umask(2) would change it for other threads."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o777


def is_whiteout(found: os.stat_result) -> bool:
    """Whether this is the overlay's mark for a name that the layer takes away."""
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _explained(entry: Entry, error: OSError) -> Exception:
    what = f"the layer's entry {show(entry.name)} ({entry.type.value})"
    if error.errno in _NO_SPACE:
        return ResourceExhausted(
            f"{what} does not fit: {error.strerror}", hint="free some space, for example with: ross rmi IMAGE"
        )
    return Corrupt(f"{what} cannot be made: {error.strerror}")
