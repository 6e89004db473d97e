"""Files and directories that survive a crash, and trees that are removed without being led astray."""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import stat
import time
from typing import TYPE_CHECKING, Final

from ross.linux.descent import HELD, Descent

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

logger = logging.getLogger(__name__)

_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}\.new")
_REALTIME_COARSE: Final = 5
"""A clock of clock_gettime(2) for which Python has no name."""


def no_space(error: OSError) -> bool:
    """Whether something failed because the disk, or a quota on it, is full."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


def write_atomic(
    path: Path,
    data: bytes,
    *,
    mode: int = 0o600,
    sync: bool = True,
    put: Callable[[Path, Path], object] | None = None,
) -> None:
    """Replace ``path`` by ``data`` in one step: after a crash either the old content is there or the new, never a part.

    Args:
        path: In a directory that exists.
        data: The whole content.
        mode: Permission bits of the new file, exactly.
        sync: Wait for the disk. Without it a power failure may bring the old content back, or an empty file.
        put: The last step, from the new file's path to the old one's, in the place of renaming it.

    Raises:
        OSError: the old content is still there.
    """
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        try:
            os.fchmod(fd, mode)
            write_all(fd, data)
            if sync:
                os.fdatasync(fd)
        finally:
            os.close(fd)
        if put is None:
            fresh.rename(path)
        else:
            put(fresh, path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    if sync:
        sync_directory(path.parent)


def is_unfinished(path: Path) -> bool:
    """Whether this is what :func:`write_atomic` leaves behind if its process is killed in the middle of it."""
    return _UNFINISHED.fullmatch(path.name) is not None


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write everything, however many writes it takes."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(path: Path, *, mode: int = 0o700) -> None:
    """Make a directory and its parents, each with ``mode`` if it is new."""
    if path.is_dir():
        return
    if path.parent != path:
        make_directory(path.parent, mode=mode)
    try:
        path.mkdir(mode=mode)
    except FileExistsError:
        if not path.is_dir():
            raise


def children(directory: Path) -> list[Path]:
    """What is in a directory, by name; nothing if there is none."""
    try:
        return sorted(directory.iterdir())
    except FileNotFoundError:
        return []


_DIRECTORIES_AT_A_TIME = 1000


def remove_tree(path: Path) -> int:
    """Remove a file or a whole tree. Never follows a link, never enters another filesystem; missing is fine.

    Walks by file descriptor and by hand, so that neither a renamed directory nor a deep one leads it out or down; with few descriptors.

    Returns:
        The bytes that were allocated to what is gone.

    Raises:
        OSError: something could not be removed, such as a mount point (EBUSY); what went before is gone.
    """
    try:
        parent = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        return remove_entry(parent, path.name)
    finally:
        os.close(parent)


def remove_or_leave(path: Path) -> int:
    """Remove as :func:`remove_tree` does; what cannot be removed is logged and left: it is nobody's, and must keep nobody from his work.

    Returns:
        The bytes that were allocated to what is gone; 0 if something is left.
    """
    try:
        return remove_tree(path)
    except OSError as error:
        logger.error("%s cannot be removed, and is left: %s", path, error)
        return 0


def remove_entry(parent: int, name: str) -> int:
    """Remove what has this name in a directory, as :func:`remove_tree` does. Returns the bytes that were allocated to it."""
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return 0
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(name, dir_fd=parent)
        return found.st_blocks * 512 if found.st_nlink == 1 else 0
    freed = _empty(parent, name, found.st_dev)
    os.rmdir(name, dir_fd=parent)
    return freed + found.st_blocks * 512


def _empty(parent: int, name: str, device: int) -> int:
    """Remove what is in a directory, depth first. What was noted high above is noted anew on the way back: it would fill the memory."""
    freed = 0
    names, noted = list[str](), [list[str]()]
    with Descent(parent, name) as here:
        while True:
            if not noted[-1]:
                freed += _remove_files(here.fd, noted[-1])
            if noted[-1]:
                names.append(noted[-1].pop())
                noted.append([])
                if len(noted) > HELD:
                    noted[-1 - HELD].clear()
                here.enter(names[-1])
                if os.fstat(here.fd).st_dev != device:
                    raise OSError(errno.EBUSY, "another filesystem is mounted here", names[-1])
                continue
            if not names:
                return freed
            here.leave()
            noted.pop()
            os.rmdir(names.pop(), dir_fd=here.fd)


def _remove_files(fd: int, directories: list[str]) -> int:
    """Remove what is no directory, and note some of what is: not each on its own, since a directory is read from its beginning."""
    freed = 0
    with os.scandir(fd) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
                if len(directories) == _DIRECTORIES_AT_A_TIME:
                    break
                continue
            found = entry.stat(follow_symlinks=False)
            os.unlink(entry.name, dir_fd=fd)
            freed += found.st_blocks * 512 if found.st_nlink == 1 else 0
    return freed


def time_of_files() -> int:
    """Nanoseconds since the epoch, by the clock that stamps files: some milliseconds behind the usual one, and so never later than what is
    written next."""
    return time.clock_gettime_ns(_REALTIME_COARSE)
