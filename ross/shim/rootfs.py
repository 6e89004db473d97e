"""Looking into a mounted root filesystem, and making mount points in it. Everything in there is somebody else's.

All access is by descriptor, resolved with the root filesystem as root: no link in it leads outside.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ross.linux.fsids import acting_as
from ross.linux.openat2 import Resolve, lstat, openat2

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator
    from pathlib import Path

_INSIDE: Final = Resolve.IN_ROOT | Resolve.NO_MAGICLINKS
_MAX_LINKS: Final = 40


class Rootfs:
    """A mounted root filesystem. Made by :func:`open_rootfs`."""

    def __init__(self, fd: int, *, root: tuple[int, int] = (0, 0)) -> None:
        """``root`` is the user and group of the host that its root is."""
        self._fd = fd
        self._root = root

    def read(self, path: str, *, limit: int) -> bytes | None:
        """At most ``limit`` bytes of a regular file; None if there is none there. Never blocks on a fifo or device."""
        try:
            fd = openat2(self._fd, path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY, resolve=_INSIDE)
        except OSError:
            return None
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return None
            parts = []
            while limit > 0 and (part := os.read(fd, limit)):
                parts.append(part)
                limit -= len(part)
            return b"".join(parts)
        finally:
            os.close(fd)

    def stat(self, path: str) -> os.stat_result | None:
        """What a path leads to, links followed inside; None if to nothing."""
        try:
            fd = openat2(self._fd, path, os.O_PATH, resolve=_INSIDE)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EXDEV, errno.EINVAL}:
                return None
            raise
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def stat_itself(self, path: str) -> os.stat_result | None:
        """What is at a path; None if there is nothing, or a link on the way. A link at its end is what is there."""
        return lstat(self._fd, path, resolve=_INSIDE | Resolve.NO_SYMLINKS)

    def make_directory(self, path: str, *, mode: int = 0o755) -> str:
        """See that a path leads to a directory, making what is missing.

        Returns:
            Where it leads, as an absolute path without links.

        Raises:
            OSError: a part of it is something else (ENOTDIR), or links lead in circles (ELOOP).
        """
        resolved = self._walk(path, lambda parent, name: _make_directory(parent, name, mode, self._root))
        os.close(self._directory(resolved))
        return "/" + "/".join(resolved)

    def set_mode(self, path: str, mode: int) -> None:
        """Give a directory these permission bits; ``path`` is one without links, as :meth:`make_directory` returns it."""
        fd = self._directory([part for part in path.split("/") if part])
        try:
            os.fchmod(fd, mode)
        finally:
            os.close(fd)

    def locate(self, path: str, *, covered: Container[str] = ()) -> str:
        """Where a path leads, as an absolute path without links; parts that are not there stay as they are written, and so do those below
        ``covered`` places, on which something else is to be mounted."""
        try:
            return "/" + "/".join(self._walk(path, None, covered))
        except OSError:
            return path

    def open(self, path: str) -> int:
        """A descriptor of what a path leads to, links followed inside, which can be neither read nor written (O_PATH).

        Raises:
            OSError: there is nothing, or a link that leads nowhere.
        """
        return openat2(self._fd, path.lstrip("/") or ".", os.O_PATH | os.O_CLOEXEC, resolve=_INSIDE)

    def make_file(self, path: str) -> None:
        """See that a path leads to something that is no directory, making an empty file if there is nothing; links are followed inside.

        Raises:
            OSError: it leads to a directory (EISDIR), or cannot be made.
        """
        for _link in range(_MAX_LINKS):
            head, _slash, base = path.rstrip("/").rpartition("/")
            directory = self._directory(
                self._walk(head or "/", lambda parent, name: _make_directory(parent, name, 0o755, self._root))
            )
            try:
                found = _lstat(directory, base)
                if found is None:
                    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                    os.close(os.open(base, flags, 0o644, dir_fd=directory))
                    return
                if stat.S_ISDIR(found.st_mode):
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
                if not stat.S_ISLNK(found.st_mode):
                    return
                target = os.readlink(base, dir_fd=directory)
                path = target if target.startswith("/") else f"{head}/{target}"
            finally:
                os.close(directory)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)

    def _walk(self, path: str, make: Callable[[int, str], None] | None, covered: Container[str] = ()) -> list[str]:
        """The directories that a path leads through in the end; ``make`` makes those that are missing, by parent and name."""
        waiting = [part for part in reversed(path.split("/")) if part not in {"", "."}]
        resolved: list[str] = []
        links = 0
        while waiting:
            name = waiting.pop()
            if name == "..":
                del resolved[-1:]
                continue
            parent = self._directory(resolved)
            try:
                found = _lstat(parent, name)
                if found is not None and stat.S_ISLNK(found.st_mode):
                    links += 1
                    if links > _MAX_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                    target = os.readlink(name, dir_fd=parent)
                    if target.startswith("/"):
                        resolved.clear()
                    waiting.extend(part for part in reversed(target.split("/")) if part not in {"", "."})
                    continue
                if found is None or not stat.S_ISDIR(found.st_mode):
                    if make is None:
                        return [*resolved, name, *reversed(waiting)]
                    if found is None:
                        make(parent, name)
                    else:
                        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            finally:
                os.close(parent)
            resolved.append(name)
            if "/" + "/".join(resolved) in covered:
                return [*resolved, *reversed(waiting)]
        return resolved

    def _directory(self, parts: list[str]) -> int:
        path = "/".join(parts) or "."
        return openat2(self._fd, path, os.O_RDONLY | os.O_DIRECTORY, resolve=_INSIDE | Resolve.NO_SYMLINKS)


@contextmanager
def open_rootfs(path: Path, *, root: tuple[int, int] = (0, 0)) -> Iterator[Rootfs]:
    """A mounted root filesystem, for the length of a block, which makes what it makes there as its ``root``."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        with acting_as(*root):
            yield Rootfs(fd, root=root)
    finally:
        os.close(fd)


def _make_directory(parent: int, name: str, mode: int, owner: tuple[int, int]) -> None:
    os.mkdir(name, mode, dir_fd=parent)
    os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)


def _lstat(parent: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
