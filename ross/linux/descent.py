"""Going down a tree of directories and up again, however deep it is, with a bounded number of descriptors.

The tree may be somebody's who made it so deep that no path leads to its end, and who moves directories about meanwhile. Down leads a single
name, which is never followed; up leads ``..``, which is believed only where it is the very directory that was left. So nothing leads out of
the tree: who meets a directory that was moved is told so, and goes no further.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from attrs import define

HELD: Final = 32
"""How many directories are open at a time: the lowest ones."""
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@define
class _Level:
    """A directory on the way: open, or known again by its device and inode."""

    fd: int
    identity: tuple[int, int] = (0, 0)


class Descent:
    """A place in a tree of directories. Must be closed; use it as a context manager."""

    def __init__(self, parent: int, name: str | bytes) -> None:
        """Begin in a directory that has this name in ``parent``; ``.`` for that itself.

        Raises:
            OSError: it is no directory, or cannot be opened.
        """
        self._levels = [_Level(os.open(name, _DIRECTORY, dir_fd=parent))]

    def __enter__(self) -> Descent:
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()

    @property
    def fd(self) -> int:
        """The directory where we are; stays ours, and is good until the next step."""
        return self._levels[-1].fd

    @property
    def depth(self) -> int:
        """How far down we are; 0 where we began."""
        return len(self._levels) - 1

    def enter(self, name: str | bytes) -> None:
        """Go down into a directory.

        Raises:
            OSError: there is none of this name; we are where we were.
        """
        self._levels.append(_Level(os.open(name, _DIRECTORY, dir_fd=self.fd)))
        if len(self._levels) > HELD:
            upper = self._levels[-HELD - 1]
            if upper.fd >= 0:
                upper.identity = _identity(upper.fd)
                os.close(upper.fd)
                upper.fd = -1

    def leave(self) -> None:
        """Go up to where the last :meth:`enter` was.

        Raises:
            OSError: the way up leads elsewhere (ESTALE): somebody has moved the directory that we are in, and we stay in it.
        """
        upper = self._levels[-2]
        if upper.fd < 0:
            fd = os.open("..", _DIRECTORY, dir_fd=self.fd)
            if _identity(fd) != upper.identity:
                os.close(fd)
                raise OSError(errno.ESTALE, "a directory was moved while it was looked through")
            upper.fd = fd
        os.close(self._levels.pop().fd)

    def close(self) -> None:
        """Let go of everything."""
        for level in self._levels:
            if level.fd >= 0:
                os.close(level.fd)
        self._levels.clear()


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino
