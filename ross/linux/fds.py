"""File descriptors: to close them for certain, and what those are that others have handed to us."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_NULL: Final = os.makedev(1, 3)


def close_all(fds: Iterable[int]) -> None:
    """Close them; each is closed whatever happens to the others."""
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            continue


def is_plain_pipe(fd: int) -> bool:
    """Whether it is a pipe without a name, or the null device: what can be given away without giving away anything else.

    A runtime changes the owner of what it is given for a process's streams, so a file or a terminal is not given to it.
    """
    found = os.fstat(fd)
    if stat.S_ISCHR(found.st_mode):
        return found.st_rdev == _NULL
    return stat.S_ISFIFO(found.st_mode) and str(Path(f"/proc/self/fd/{fd}").readlink()).startswith("pipe:")


def is_path_only(fd: int) -> bool:
    """Whether it names a file without having it opened (open(2), ``O_PATH``)."""
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_PATH)


@contextmanager
def held(fd: int) -> Iterator[int]:
    """A descriptor, closed at the end of a block."""
    try:
        yield fd
    finally:
        os.close(fd)
