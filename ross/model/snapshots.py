"""Snapshots: what root filesystems are made of."""

from __future__ import annotations

import stat
from enum import Enum
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

if TYPE_CHECKING:
    import os


class SnapshotKind(Enum):
    """What a snapshot is for."""

    UNKNOWN = "unknown"
    ACTIVE = "active"
    """Writable: the top of a container, or of whatever a client builds."""
    COMMITTED = "committed"
    """A layer; never changes, and others may stand on it."""
    VIEW = "view"
    """Reads a committed one, which stays as long as the view does."""
    STAGED = "staged"
    """A layer that is being unpacked. Does not outlive its daemon."""


class SnapshotOwner(Enum):
    """Who keeps a snapshot."""

    UNKNOWN = "unknown"
    NOBODY = "nobody"
    """It stays as long as an image has it, a client holds the image, or another snapshot stands on it."""
    CONTAINER = "container"
    """The container whose id is its name."""
    CLIENT = "client"
    """It stays until a client removes it."""


@frozen(kw_only=True)
class SnapshotInfo:
    """A snapshot; also its record on disk."""

    name: str
    kind: SnapshotKind
    parent: str | None
    created_at: int
    updated_at: int = 0
    """When its labels last changed; 0: never."""
    owner: SnapshotOwner = SnapshotOwner.NOBODY
    labels: dict[str, str] = field(factory=dict)
    size_bytes: int = 0
    """Of its files' contents, for a committed one; 0 for others, which change."""


@frozen(kw_only=True)
class SnapshotFilter:
    """Which snapshots a list holds: those for which all of this is true."""

    name_prefix: str = ""
    kind: SnapshotKind = SnapshotKind.UNKNOWN
    """Unknown: any."""
    parent: str = ""
    """Empty: any."""
    labels: tuple[str, ...] = ()
    """Each ``key=value``, or ``key`` for a label of any value."""


@frozen(kw_only=True)
class SnapshotUsage:
    """What a snapshot takes of the disk by itself, without those below."""

    size_bytes: int
    """Of blocks that are allocated; what is linked several times counts once."""
    inodes: int


@frozen(kw_only=True)
class SnapshotMount:
    """How a snapshot is mounted: the directories of an overlay, below the engine's root."""

    lower: tuple[str, ...]
    """The layers that are only read, top first; at least two, or one with an upper one."""
    upper: str = ""
    """Where writes go; empty for what cannot be written to."""
    work: str = ""
    """The overlay's own directory beside the upper one."""
    options: tuple[str, ...] = ()
    """What the overlay is to be mounted with, besides."""


class ChangeKind(Enum):
    """How two snapshots differ in a path."""

    UNKNOWN = "unknown"
    ADDED = "added"
    MODIFIED = "modified"
    """Its content, attributes or kind are others; or something inside of it was added, modified or deleted."""
    DELETED = "deleted"
    """With everything inside of it."""


class FileKind(Enum):
    """What a name in a directory denotes."""

    UNKNOWN = "unknown"
    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    """A symbolic one."""
    FIFO = "fifo"
    SOCKET = "socket"
    CHARACTER_DEVICE = "characterDevice"
    BLOCK_DEVICE = "blockDevice"

    @classmethod
    def of(cls, found: os.stat_result) -> FileKind:
        """Of what somebody has looked at."""
        return _KINDS.get(stat.S_IFMT(found.st_mode), cls.UNKNOWN)


_KINDS: Final = {
    stat.S_IFREG: FileKind.FILE,
    stat.S_IFDIR: FileKind.DIRECTORY,
    stat.S_IFLNK: FileKind.LINK,
    stat.S_IFIFO: FileKind.FIFO,
    stat.S_IFSOCK: FileKind.SOCKET,
    stat.S_IFCHR: FileKind.CHARACTER_DEVICE,
    stat.S_IFBLK: FileKind.BLOCK_DEVICE,
}


@frozen(kw_only=True)
class SnapshotChange:
    """One difference between two snapshots."""

    change: ChangeKind
    path: bytes
    """Absolute. As the kernel has it: most likely UTF-8, and not always."""
    kind: FileKind
    """Of what is there now; for what was deleted, of what was there."""

    @property
    def text(self) -> str:
        """The path for people; what is not UTF-8 is replaced."""
        return self.path.decode(errors="replace")
