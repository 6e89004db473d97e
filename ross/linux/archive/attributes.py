"""What entries of a layer say of the files they make: owner, mode, extended attributes, time.

A file gets them while it is written, which is ``apply``'s own business; here is what everything else gets.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from attrs import define

from ross.errors import ResourceExhausted
from ross.linux.archive.checks import explained
from ross.linux.archive.tar import Entry, EntryType
from ross.linux.openat2 import Resolve, openat2

if TYPE_CHECKING:
    from ross.linux.archive.limits import ArchiveLimits

_KEPT_XATTRS: Final = (b"user.", b"security.capability", b"system.posix_acl_")
"""Attributes that an image may set. Those of the overlay itself (trusted.overlay, user.overlay) would forge its metadata."""
_OWN: Final = Resolve.IN_ROOT | Resolve.NO_MAGICLINKS | Resolve.NO_XDEV | Resolve.NO_SYMLINKS
_NOTE_BYTES: Final = 500
"""What a directory's entry takes beside its names and attributes, about."""


@define
class _Noted:
    """What a directory's entry says."""

    entry: Entry
    inode: int
    """Of what was made then; if something else is there at the end, the entry does not mean it."""


class DirectoryAttributes:
    """What entries say of directories, until all is written: what is made in them would inherit some of it, and change the time."""

    def __init__(self, limits: ArchiveLimits) -> None:
        self._noted: dict[bytes, _Noted] = {}
        self._noted_bytes = 0
        self._limit_bytes = limits.noted_bytes

    def note_root(self, entry: Entry, inode: int) -> None:
        """Keep what is said of the layer's own directory, for which there is always room."""
        self._noted[b""] = _Noted(entry, inode)

    def note(self, path: bytes, entry: Entry, inode: int) -> None:
        """Keep what is said of the directory that has this resolved path in the layer.

        Raises:
            ResourceExhausted: there is no room in memory.
        """
        xattrs = sum(len(name) + len(value) for name, value in (entry.xattrs or {}).items())
        self._noted_bytes += len(path) + len(entry.name) + xattrs + _NOTE_BYTES
        if self._noted_bytes > self._limit_bytes:
            raise ResourceExhausted("the layer has more directories than Ross keeps in memory, which is refused")
        self._noted[path] = _Noted(entry, inode)

    def give(self, root_fd: int) -> None:
        """Give all of them what was said.

        Raises:
            Corrupt: one cannot have it.
            ResourceExhausted: the disk is full.
        """
        for path, noted in self._noted.items():
            try:
                fd = openat2(root_fd, path or b".", os.O_RDONLY | os.O_DIRECTORY, resolve=_OWN)
            except OSError as error:
                if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                    continue  # a later entry has taken it away, or its place
                raise
            entry = noted.entry
            try:
                if os.fstat(fd).st_ino != noted.inode:
                    continue
                if entry.uid or entry.gid:
                    os.fchown(fd, entry.uid, entry.gid)
                os.fchmod(fd, entry.mode)
                give_xattrs(fd, entry)
                os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
            except OSError as error:
                raise explained(entry, error) from error
            finally:
                os.close(fd)


def give_by_name(parent: int, base: bytes, entry: Entry) -> None:
    """To what has no descriptor: links, devices, fifos. Never followed."""
    if entry.uid or entry.gid:
        os.chown(base, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
    if entry.type is not EntryType.SYMLINK:
        os.chmod(base, entry.mode, dir_fd=parent)  # it is no link: we have just made it
    os.utime(base, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)


def give_xattrs(fd: int, entry: Entry) -> None:
    """Of those that the entry has, the ones that an image may set, and the filesystem knows."""
    for name, value in (entry.xattrs or {}).items():
        if name.startswith(_KEPT_XATTRS) and not name.startswith(b"user.overlay."):
            try:
                os.setxattr(fd, name, value)
            except OSError as error:
                if error.errno != errno.ENOTSUP:
                    raise
