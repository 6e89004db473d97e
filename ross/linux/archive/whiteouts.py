"""How it is said that something is gone: by names in a layer's archive (image-spec, "Whiteouts"), by devices and attributes in an overlay.

An archive has ``.wh.NAME`` for a name that is taken away, and ``.wh..wh..opq`` in a directory of which nothing below is left. An overlay
has a 0:0 device, and an attribute of the directory (overlayfs.rst, "whiteouts and opaque directories").
"""

from __future__ import annotations

import os
import stat
from typing import Final

WHITEOUT_PREFIX: Final = b".wh."
AUFS_PREFIX: Final = b".wh..wh."
OPAQUE_MARKER: Final = b".wh..wh..opq"
OPAQUE_XATTR: Final = "trusted.overlay.opaque"


def is_whiteout(found: os.stat_result) -> bool:
    """Whether this is the overlay's mark for a name that the layer takes away."""
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def make_opaque(parent: int, name: bytes) -> None:
    """Mark a directory so that nothing below shows through it."""
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        os.setxattr(fd, OPAQUE_XATTR, b"y")
    finally:
        os.close(fd)
