"""Two directory trees, compared in everything that a layer can say: names, types, modes, owners, sizes, times, links, attributes, content.

Both sides are walked by descriptor, and no link is followed.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from ross.linux.descent import Descent

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK_BYTES: Final = 1 << 20
_MAX_DIFFERENCES: Final = 10
_FACTS: Final = (("st_mode", "mode"), ("st_uid", "owner"), ("st_gid", "group"), ("st_rdev", "device"))


def compare_trees(
    actual: Path, wanted: Path, *, checkpoint: Callable[[], None], directory_times: bool = True
) -> Sequence[str]:
    """What differs, a line each, and at most some.

    Args:
        actual: One directory.
        wanted: What it should be like.
        checkpoint: Called for each directory and each chunk; may raise.
        directory_times: Whether directories must have the same times of change.

    Raises:
        OSError: one of them cannot be read.
    """
    comparison = _Comparison(checkpoint, directory_times=directory_times)
    parents = os.open(actual.parent, _DIRECTORY), os.open(wanted.parent, _DIRECTORY)
    try:
        comparison.run(parents, (actual.name, wanted.name))
    finally:
        for fd in parents:
            os.close(fd)
    return comparison.found


class _Comparison:
    def __init__(self, checkpoint: Callable[[], None], *, directory_times: bool) -> None:
        self.found: list[str] = []
        self._checkpoint = checkpoint
        self._directory_times = directory_times
        self._names_of_one_file: tuple[dict[int, int], dict[int, int]] = ({}, {})
        """Of files with several names: the inode on the other side, in both directions."""
        self._levels: list[tuple[str, list[str]]] = []
        """The directories on the way to where we are: path, and the directories in them that are left."""

    def run(self, parents: tuple[int, int], names: tuple[str, str]) -> None:
        """Compare two directories with all that is below them."""
        left, right = (os.stat(name, dir_fd=fd, follow_symlinks=False) for fd, name in zip(parents, names, strict=True))
        self._facts("/", left, right)
        self._attributes("/", *(f"/proc/self/fd/{fd}/{name}" for fd, name in zip(parents, names, strict=True)))
        with Descent(parents[0], names[0]) as one, Descent(parents[1], names[1]) as other:
            self._directory(one.fd, other.fd, "")
            while len(self.found) < _MAX_DIFFERENCES:
                path, left_over = self._levels[-1]
                if left_over:
                    name = left_over.pop()
                    one.enter(name)
                    other.enter(name)
                    self._directory(one.fd, other.fd, f"{path}/{name}")
                    continue
                self._levels.pop()
                if not self._levels:
                    return
                one.leave()
                other.leave()

    def _directory(self, left: int, right: int, path: str) -> None:
        self._checkpoint()
        directories: list[str] = []
        self._levels.append((path, directories))
        ours, theirs = _entries(left), _entries(right)
        for name in sorted(ours.keys() | theirs.keys()):
            here = f"{path}/{name}"
            if name not in ours or name not in theirs:
                self._differ(here, "is missing" if name not in ours else "should not be there")
                continue
            self._entry(here, name, (left, right), ours[name], theirs[name])
            if stat.S_ISDIR(ours[name].st_mode) and stat.S_ISDIR(theirs[name].st_mode):
                directories.append(name)

    def _entry(
        self, path: str, name: str, parents: tuple[int, int], left: os.stat_result, right: os.stat_result
    ) -> None:
        if not self._facts(path, left, right):
            return
        self._attributes(path, *(f"/proc/self/fd/{fd}/{name}" for fd in parents))
        if stat.S_ISLNK(left.st_mode):
            targets = [os.readlink(name, dir_fd=fd) for fd in parents]
            if targets[0] != targets[1]:
                self._differ(path, f"leads to {targets[0]!r}, not to {targets[1]!r}")
        elif stat.S_ISREG(left.st_mode) and self._is_new(path, left, right):
            same = left.st_size != right.st_size or self._same_content(name, parents)  # another size was told of
            if not same:
                self._differ(path, "has other content")

    def _facts(self, path: str, left: os.stat_result, right: os.stat_result) -> bool:
        """Compare what stat tells. Returns whether it makes sense to look further."""
        if stat.S_IFMT(left.st_mode) != stat.S_IFMT(right.st_mode):
            self._differ(path, "is of another type")
            return False
        for field, word in _FACTS:
            found, wanted = getattr(left, field), getattr(right, field)
            if found != wanted:
                form = oct if field == "st_mode" else str
                self._differ(path, f"has the {word} {form(found)}, not {form(wanted)}")
        directory = stat.S_ISDIR(left.st_mode)
        if not directory and left.st_size != right.st_size:
            self._differ(path, f"has {left.st_size} bytes, not {right.st_size}")
        whiteout = stat.S_ISCHR(left.st_mode) and left.st_rdev == 0  # says nothing but that something is gone
        if left.st_mtime_ns != right.st_mtime_ns and not whiteout and (self._directory_times or not directory):
            self._differ(path, "has another time of change")
        return True

    def _is_new(self, path: str, left: os.stat_result, right: os.stat_result) -> bool:
        """Whether a file was not met by another name. Those that are one file here must be one there."""
        if left.st_nlink == 1 and right.st_nlink == 1:
            return True
        ours, theirs = self._names_of_one_file
        if left.st_ino not in ours and right.st_ino not in theirs:
            ours[left.st_ino], theirs[right.st_ino] = right.st_ino, left.st_ino
            return True
        if ours.get(left.st_ino) != right.st_ino or theirs.get(right.st_ino) != left.st_ino:
            self._differ(path, "is not a name of the same file as it should be")
        return False

    def _attributes(self, path: str, left: str, right: str) -> None:
        found, wanted = _xattrs(left), _xattrs(right)
        for name in sorted(found.keys() | wanted.keys()):
            if found.get(name) != wanted.get(name):
                self._differ(path, f"differs in the attribute {name}")

    def _same_content(self, name: str, parents: tuple[int, int]) -> bool:
        fds: list[int] = []
        try:
            fds.extend(os.open(name, _FILE, dir_fd=fd) for fd in parents)
            while True:
                self._checkpoint()
                left, right = (os.read(fd, _CHUNK_BYTES) for fd in fds)
                if left != right:
                    return False
                if not left:
                    return True
        finally:
            for fd in fds:
                os.close(fd)

    def _differ(self, path: str, what: str) -> None:
        if len(self.found) < _MAX_DIFFERENCES:
            printable = os.fsencode(path).decode(errors="replace")
            self.found.append(f"{printable} {what}")


def _entries(fd: int) -> dict[str, os.stat_result]:
    with os.scandir(fd) as entries:
        return {entry.name: entry.stat(follow_symlinks=False) for entry in entries}


def _xattrs(path: str) -> dict[str, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}
