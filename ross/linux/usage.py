"""What files and directories occupy on their disk, as du(1) counts it: allocated blocks, each inode once, one filesystem."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Meter:
    """Adds up trees. A file with several names counts where it is met first. What vanishes meanwhile counts nothing."""

    def __init__(self, device: int, *, checkpoint: Callable[[], None]) -> None:
        """Of what is on ``device``; ``checkpoint`` is called for each directory, and may raise."""
        self._device = device
        self._checkpoint = checkpoint
        self._seen: set[int] = set()
        self.inodes = 0
        """How many there are, so far."""
        self.content_bytes = 0
        """What regular files say that they hold, so far; holes included."""

    def own(self, found: os.stat_result) -> int:
        """What one inode occupies; 0 the second time, and for what is on another filesystem."""
        if found.st_dev != self._device:
            return 0
        if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
            if found.st_ino in self._seen:
                return 0
            self._seen.add(found.st_ino)
        self.inodes += 1
        self.content_bytes += found.st_size if stat.S_ISREG(found.st_mode) else 0
        return found.st_blocks * 512

    def tree(self, parent: int, name: str) -> int:
        """What something in a directory occupies, with all that is below it. Never follows a link."""
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return 0
        total = self.own(found)
        if not stat.S_ISDIR(found.st_mode) or found.st_dev != self._device:
            return total
        levels: list[tuple[int, Iterator[str]]] = []
        try:
            total += self._enter(levels, parent, name)
            while levels:
                fd, inside = levels[-1]
                below = next(inside, None)
                if below is not None:
                    total += self._enter(levels, fd, below)
                else:
                    os.close(fd)
                    levels.pop()
        finally:
            for fd, _inside in levels:
                os.close(fd)
        return total

    def _enter(self, levels: list[tuple[int, Iterator[str]]], parent: int, name: str) -> int:
        """Begin with a directory, one level deeper. Returns what its entries occupy, without what is below them."""
        self._checkpoint()
        try:
            fd = os.open(name, _DIRECTORY, dir_fd=parent)
        except (FileNotFoundError, NotADirectoryError):
            return 0
        directories: list[str] = []
        levels.append((fd, iter(directories)))
        total = 0
        with os.scandir(fd) as entries:
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                total += self.own(found)
                if stat.S_ISDIR(found.st_mode) and found.st_dev == self._device:
                    directories.append(entry.name)
        return total
