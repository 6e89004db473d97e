"""What an entry of a layer may be: its path, its device; and the error for one that cannot be made."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from ross.errors import Corrupt, ResourceExhausted
from ross.linux.archive.tar import show

if TYPE_CHECKING:
    from ross.linux.archive.tar import Entry

_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


def checked_parts(name: bytes) -> list[bytes]:
    """The parts of an entry's path. An absolute path is taken below the root, as every engine does.

    Raises:
        Corrupt: it has ``..`` in it, which no honest archive needs.
    """
    parts = [part for part in name.split(b"/") if part not in {b"", b"."}]
    if b".." in parts:
        raise Corrupt(f"the layer's entry {show(name)} leads out of its directory by '..', which is refused")
    return parts


def checked_device(entry: Entry) -> int:
    """The number of an entry's device. The kernel has 12 bits for its major part and 20 for its minor one, and drops what is above.

    Raises:
        Corrupt: the entry's numbers are not such; without the upper bits they could be those of a whiteout.
    """
    if not 0 <= entry.major < 1 << 12 or not 0 <= entry.minor < 1 << 20:
        raise Corrupt(
            f"the layer's entry {show(entry.name)} is the device {entry.major}:{entry.minor}, which cannot be"
        )
    return os.makedev(entry.major, entry.minor)


def explained(entry: Entry, error: OSError) -> Exception:
    """The error for an entry that the kernel does not let us make."""
    what = f"the layer's entry {show(entry.name)} ({entry.type.value})"
    if error.errno in _NO_SPACE:
        return ResourceExhausted(
            f"{what} does not fit: {error.strerror}", hint="free some space, for example with: ross rmi IMAGE"
        )
    return Corrupt(f"{what} cannot be made: {error.strerror}")
