"""What is mounted in a container."""

from __future__ import annotations

from enum import Enum
from typing import Final

from attrs import frozen

PROPAGATIONS: Final = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})
MOUNT_OPTIONS: Final = frozenset({"nosuid", "suid", "nodev", "dev", "noexec", "exec", "noatime"})


class MountKind(Enum):
    """What is mounted."""

    UNKNOWN = "unknown"
    BIND = "bind"
    """A directory or file of the host."""
    TMPFS = "tmpfs"
    """An empty filesystem in memory, gone when the container stops."""
    IMAGE = "image"
    """The files of an image, which cannot be written. The image stays as long as the container does."""


class Recursion(Enum):
    """What becomes of the mounts below a directory of the host."""

    UNKNOWN = "unknown"
    ENABLED = "enabled"
    """They are seen too, and cannot be written if the mount cannot, where the kernel is able to see to that."""
    DISABLED = "disabled"
    """They are not seen."""
    WRITABLE = "writable"
    """They are seen, and may be written where the host may, also if the mount cannot."""
    READONLY = "readonly"
    """They are seen, and cannot be written; an error where the kernel is not able to see to that."""


@frozen(kw_only=True)
class Mount:
    """Something that the container sees at a place."""

    kind: MountKind = MountKind.BIND
    source: str = ""
    """On the host; of a tmpfs empty; of an image its name, digest or id, as it was when the container was created."""
    target: str
    read_only: bool = False
    propagation: str = "rprivate"
    recursion: Recursion = Recursion.ENABLED
    options: tuple[str, ...] = ()
    """``nosuid``, ``nodev``, ``noexec``, ``noatime``, or the opposite of the first three. A tmpfs has these three unless it is told
    otherwise."""
    relabel: bool = False
    """The container's label of SELinux is wanted on the files; nothing is done where the host has no SELinux."""
    idmap: bool = False
    """The files belong to the container's users as they belong to the host's of the same numbers; of one with users of its own only."""
    subpath: str = ""
    """Of an image: which directory or file of it; empty: all. Links in it lead nowhere out of the image."""
    size_bytes: int = 0
    """Of a tmpfs; 0: half of the host's memory."""
    mode: int = 0
    """Permission bits of a tmpfs. 0: those of the directory that is there, else 1777."""
