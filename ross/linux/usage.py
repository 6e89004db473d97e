"""What files and directories occupy on their disk, as du(1) counts it: allocated blocks, each inode once, one filesystem."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from ross.linux.descent import Descent

if TYPE_CHECKING:
    from collections.abc import Callable

_GONE: Final = (FileNotFoundError, NotADirectoryError)


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
        """What something in a directory occupies, with all that is below it. Never follows a link.

        Raises:
            OSError: some of it cannot be read, or was moved meanwhile.
        """
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return 0
        total = self.own(found)
        if not stat.S_ISDIR(found.st_mode) or found.st_dev != self._device:
            return total
        try:
            here = Descent(parent, name)
        except _GONE:
            return total
        with here:
            size, inside = self._directory(here.fd)
            total += size
            waiting = [inside]
            while waiting:
                if waiting[-1]:
                    try:
                        here.enter(waiting[-1].pop())
                    except _GONE:
                        continue
                    size, inside = self._directory(here.fd)
                    total += size
                    waiting.append(inside)
                else:
                    waiting.pop()
                    if waiting:
                        here.leave()
        return total

    def _directory(self, fd: int) -> tuple[int, list[str]]:
        """What the entries of a directory occupy, without what is below them; and which of them are directories."""
        self._checkpoint()
        directories: list[str] = []
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
        return total, directories
