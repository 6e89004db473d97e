"""Applying one layer to a directory of its own, as an overlay's lower directory.

Path-safe by construction: every parent directory is opened by openat2 with the layer's directory as root, so that links and ``..`` of a
hostile archive are resolved inside it; the last component is then used by name alone, never followed. Nothing is ever done by path.

A layer needs no parent to be applied. Its whiteouts become those of an overlay (``whiteouts``). Two things do need what is below, and are
noted for ``settle``: directories that entries imply without carrying them, and hard links to files that are not of this layer.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from ross.errors import Corrupt
from ross.linux.archive.applied import Applied, Unsettled
from ross.linux.archive.attributes import DirectoryAttributes, give_by_name, give_xattrs
from ross.linux.archive.checks import checked_device, checked_parts, explained
from ross.linux.archive.parents import NO_NAMES, Parents, path_inside
from ross.linux.archive.tar import Entry, EntryType, TarReader, show
from ross.linux.archive.whiteouts import AUFS_PREFIX, OPAQUE_MARKER, WHITEOUT_PREFIX, is_whiteout, make_opaque
from ross.linux.files import write_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from ross.linux.archive.inflate import LayerBytes
    from ross.linux.archive.limits import ArchiveLimits

T = TypeVar("T")

_FILE: Final = EntryType.FILE
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FORMATS: Final = {
    EntryType.CHARACTER: stat.S_IFCHR,
    EntryType.BLOCK: stat.S_IFBLK,
    EntryType.FIFO: stat.S_IFIFO,
}


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
        self._unsettled = Unsettled(self.applied, limit_bytes=limits.unsettled_bytes)
        self._parents = Parents(self.root_fd, self._unsettled)
        self._known = self._parents.known  # looked into at each entry: one step less
        self._directories = DirectoryAttributes(limits)
        self._masked = _umask() | 0o7000
        """The bits that a new file does not get, or not for certain."""

    def __enter__(self) -> LayerWriter:
        return self

    def __exit__(self, *_details: object) -> None:
        self._parents.close()
        os.close(self.root_fd)

    def apply(self, reader: TarReader) -> Applied:
        """Apply all entries.

        Raises:
            Corrupt: the archive is damaged, or an entry is not what an entry may be.
            ResourceExhausted: a limit was reached, or the disk is full.
        """
        parents = self._parents
        for entry in reader:
            if parents.retired:
                parents.close_retired()
            try:
                self._apply(entry, reader)
            except OSError as error:
                raise explained(entry, error) from error
        self.applied.entries = reader.entries
        self._directories.give(self.root_fd)
        return self.applied

    def _apply(self, entry: Entry, reader: TarReader) -> None:
        head, _slash, base = entry.name.rpartition(b"/")
        parent = self._known.get(head)
        if parent is None or base in NO_NAMES or base.startswith(WHITEOUT_PREFIX):
            components = checked_parts(entry.name)
            if not components:
                self._apply_root(entry)
                return
            *above, last = components
            if last != base:  # it ends with a slash, or so
                head, base = b"/".join(above), last
            if base.startswith(WHITEOUT_PREFIX):
                self._whiteout(self._parents.get(head, above), base, entry)
                return
            parent = self._parents.get(head, above)
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
                give_by_name(parent, base, entry)
            case _:
                device = checked_device(entry)
                if entry.type is EntryType.CHARACTER and not device:
                    self._forged_whiteout(parent, base)
                    return
                mode = entry.mode | _FORMATS[entry.type]
                self._make(parent, base, lambda: os.mknod(base, mode, device, dir_fd=parent))
                give_by_name(parent, base, entry)

    def _apply_root(self, entry: Entry) -> None:
        if entry.type is not EntryType.DIRECTORY:
            raise Corrupt(f"the layer's entry for its root is a {entry.type.value}, not a directory")
        self.applied.root_carried = True
        self._directories.note_root(entry, os.fstat(self.root_fd).st_ino)

    def _file(self, parent: int, base: bytes, entry: Entry, reader: TarReader) -> None:
        mode = entry.mode
        try:
            fd = os.open(base, _NEW_FILE, mode & 0o777, dir_fd=parent)
        except FileExistsError:
            self._parents.clear(parent, base)
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
                give_xattrs(fd, entry)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _directory(self, parent: int, base: bytes, entry: Entry) -> None:
        path = path_inside(self.root_fd, parent, base)
        try:
            os.mkdir(base, 0o700, dir_fd=parent)
        except FileExistsError:
            found = os.stat(base, dir_fd=parent, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                self._parents.clear(parent, base)
                os.mkdir(base, 0o700, dir_fd=parent)
                make_opaque(parent, base)  # what it replaces took away first what is below
        inode = os.stat(base, dir_fd=parent, follow_symlinks=False).st_ino
        self.applied.implied.discard(path)
        self._directories.note(path, entry, inode)

    def _hard_link(self, parent: int, base: bytes, entry: Entry) -> None:
        path, components = b"/".join(checked_parts(entry.name)), checked_parts(entry.link)
        if not components:
            raise Corrupt(f"the layer's entry {show(entry.name)} is a hard link to its root")
        target = b"/".join(components)
        head = entry.link.rpartition(b"/")[0]
        try:
            target_parent = self._known.get(head) if components[-1] == entry.link[len(head) :].lstrip(b"/") else None
            if target_parent is None:
                target_parent = self._parents.open_for_now(components[:-1])
            found = os.stat(components[-1], dir_fd=target_parent, follow_symlinks=False)
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTDIR}:
                raise
            self._unsettled.link(path_inside(self.root_fd, parent, base), target)
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
        path = path_inside(self.root_fd, parent, base)
        if base == OPAQUE_MARKER:
            self.applied.root_opaque = self.applied.root_opaque or path == base
            make_opaque(parent, b".")
            return
        if base.startswith(AUFS_PREFIX):
            return  # aufs keeps its own books in such files; they mean nothing to an overlay
        hidden = base[len(WHITEOUT_PREFIX) :]
        if hidden in {b"", b".", b".."}:
            raise Corrupt(f"the layer's whiteout {show(entry.name)} names {hidden.decode()!r}, which is refused")
        self._unsettled.whiteout(path, path[: -len(base)] + hidden)
        try:
            os.mknod(hidden, stat.S_IFCHR, 0, dir_fd=parent)
        except FileExistsError:
            # This layer has the name itself: the whiteout means what is below only.
            if stat.S_ISDIR(os.stat(hidden, dir_fd=parent, follow_symlinks=False).st_mode):
                make_opaque(parent, hidden)

    def _forged_whiteout(self, parent: int, base: bytes) -> None:
        """The device 0:0, as archives of an overlay's own directories have it. It is what it looks like: a whiteout.

        So it is for every engine that unpacks to an overlay, since they make what the entry says. Where nothing is below it is taken
        away; left, it would be a name that leads to nothing.
        """
        path = path_inside(self.root_fd, parent, base)
        self._unsettled.whiteout(path, path)
        self._make(parent, base, lambda: os.mknod(base, stat.S_IFCHR, 0, dir_fd=parent))

    def _make(self, parent: int, base: bytes, make: Callable[[], T]) -> T:
        """Make something new under a name, in the place of whatever this layer had there before."""
        try:
            return make()
        except FileExistsError:
            self._parents.clear(parent, base)
            return make()


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


def _umask() -> int:
    """Of this process; reading it by umask(2) would change it for other threads."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o777
