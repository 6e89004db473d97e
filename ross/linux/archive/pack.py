"""Writing tar: headers for members that are the same whoever writes them, and whenever."""

from __future__ import annotations

import tarfile
from typing import Final

BLOCK: Final = 512
END: Final = bytes(2 * BLOCK)


def file_header(name: str, size: int) -> bytes:
    """The header of a file: owned by root, of the year 1970."""
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    return info.tobuf(tarfile.PAX_FORMAT)


def directory_header(name: str) -> bytes:
    """The header of a directory."""
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    info.mode = 0o755
    return info.tobuf(tarfile.PAX_FORMAT)


def padding(size: int) -> bytes:
    """What follows so many bytes of content."""
    return bytes(-size % BLOCK)
