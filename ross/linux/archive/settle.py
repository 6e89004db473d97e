"""What of a layer needs the layers below: done when it takes its place on top of them.

- A directory that entries imply without carrying it takes the attributes it has below. If it is a link below, the entries belong where
  that link leads, as they would for an engine that unpacks into the merged tree.
- A hard link to a file of a lower layer copies that file up first, as writing to it would.

``below`` is a directory in which the merged lower layers can be seen: a mounted overlay, or the only lower layer itself.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from ross.errors import Corrupt
from ross.linux.archive.apply import Applied, is_whiteout
from ross.linux.archive.tar import show
from ross.linux.files import remove_entry
from ross.linux.openat2 import Resolve, openat2

_INSIDE: Final = Resolve.IN_ROOT | Resolve.NO_MAGICLINKS | Resolve.NO_XDEV
_OWN: Final = _INSIDE | Resolve.NO_SYMLINKS
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY


def settle_alone(root: Path, applied: Applied) -> None:
    """Settle a layer that has nothing below.

    Raises:
        Corrupt: it has hard links to what does not exist.
    """
    if not applied.root_carried:
        root.chmod(0o755)
    for path, target in applied.pending_links.items():
        raise Corrupt(f"the layer's entry {show(path)} is a hard link to {show(target)}, which does not exist")


def settle(root: Path, below: Path, applied: Applied) -> None:
    """Settle a layer.

    Args:
        root: The layer's own directory.
        below: Where the merged lower layers are seen.
        applied: What is left to settle.

    Raises:
        Corrupt: a hard link's target does not exist below either, or a part of a path is no directory there.
    """
    own = os.open(root, _DIRECTORY | os.O_CLOEXEC)
    lower = os.open(below, _DIRECTORY | os.O_CLOEXEC)
    try:
        if not applied.root_carried:
            _copy_attributes(lower, own)
        _Settler(own, lower).run(applied)
    finally:
        os.close(own)
        os.close(lower)


class _Settler:
    def __init__(self, own: int, lower: int) -> None:
        self._own = own
        self._lower = lower

    def run(self, applied: Applied) -> None:
        waiting = sorted(
            applied.implied, reverse=True
        )  # so that the last one is a parent of those before it, never a child
        while waiting:
            path = waiting.pop()
            moved = self._settle_directory(path)
            if moved is not None:
                self._move(path, moved)
                waiting = [_moved(other, path, moved) for other in waiting]
        for path, target in applied.pending_links.items():
            self._link(path, target)

    def _settle_directory(self, path: bytes) -> bytes | None:
        """Give an implied directory its attributes; if it is a link below, return where that leads."""
        try:
            own = openat2(self._own, path, _DIRECTORY, resolve=_OWN)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                return None  # a later entry has taken its place
            raise
        try:
            found = self._lstat_below(path)
            if found is None or is_whiteout(found):
                return None
            if stat.S_ISLNK(found.st_mode):
                return self._where(path)
            if not stat.S_ISDIR(found.st_mode):
                raise Corrupt(f"the layer has entries below {show(path)}, which is no directory in the layers under it")
            lower = openat2(self._lower, path, _DIRECTORY, resolve=_INSIDE)
            try:
                _copy_attributes(lower, own)
            finally:
                os.close(lower)
        finally:
            os.close(own)
        return None

    def _lstat_below(self, path: bytes) -> os.stat_result | None:
        try:
            fd = openat2(self._lower, path, os.O_PATH | os.O_NOFOLLOW, resolve=_INSIDE)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR}:
                return None
            raise
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def _where(self, path: bytes) -> bytes:
        """Where a link of the lower layers leads, as a path without links."""
        try:
            fd = openat2(self._lower, path, os.O_PATH | os.O_DIRECTORY, resolve=_INSIDE)
        except OSError as error:
            raise Corrupt(f"the layer has entries below the link {show(path)}, which leads to no directory") from error
        try:
            top, found = (Path(f"/proc/self/fd/{number}").readlink() for number in (self._lower, fd))
            return os.fsencode(found.relative_to(top))
        finally:
            os.close(fd)

    def _move(self, path: bytes, target: bytes) -> None:
        """Move what is in one directory of the layer into another, which is made where it is missing."""
        source = openat2(self._own, path, _DIRECTORY, resolve=_OWN)
        try:
            destination = self._make_like_below(target)
            try:
                _merge(source, destination)
            finally:
                os.close(destination)
        finally:
            os.close(source)
        parent, _slash, base = path.rpartition(b"/")
        fd = openat2(self._own, parent or b".", _DIRECTORY, resolve=_OWN)
        try:
            os.rmdir(base, dir_fd=fd)
        finally:
            os.close(fd)

    def _make_like_below(self, path: bytes) -> int:
        """A directory of the layer, made with all its parents where they are missing, each like the one below."""
        fd = os.dup(self._own)
        done: list[bytes] = []
        for name in path.split(b"/") if path != b"." else []:
            done.append(name)
            made = True
            try:
                os.mkdir(name, 0o755, dir_fd=fd)
            except FileExistsError:
                made = False
            try:
                child = os.open(name, _DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            finally:
                os.close(fd)
            fd = child
            if made:
                with suppress(FileNotFoundError):
                    lower = openat2(self._lower, b"/".join(done), _DIRECTORY, resolve=_INSIDE)
                    try:
                        _copy_attributes(lower, fd)
                    finally:
                        os.close(lower)
        return fd

    def _link(self, path: bytes, target: bytes) -> None:
        parent, _slash, base = path.rpartition(b"/")
        target_parent, _slash, target_base = target.rpartition(b"/")
        to = self._make_like_below(parent or b".")
        try:
            source = self._make_like_below(target_parent or b".")
            try:
                self._copy_up(source, target, target_base, path)
                remove_entry(to, os.fsdecode(base))
                os.link(target_base, base, src_dir_fd=source, dst_dir_fd=to, follow_symlinks=False)
            finally:
                os.close(source)
        finally:
            os.close(to)

    def _copy_up(self, parent: int, target: bytes, base: bytes, path: bytes) -> None:
        """Bring a regular file of the lower layers into this one, unless it is there."""
        with suppress(FileNotFoundError):
            if not is_whiteout(os.stat(base, dir_fd=parent, follow_symlinks=False)):
                return
            raise Corrupt(f"the layer's entry {show(path)} is a hard link to {show(target)}, which the layer removes")
        try:
            source = openat2(self._lower, target, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW, resolve=_INSIDE)
        except OSError as error:
            raise Corrupt(
                f"the layer's entry {show(path)} is a hard link to {show(target)}, which does not exist"
            ) from error
        try:
            found = os.fstat(source)
            if not stat.S_ISREG(found.st_mode):
                raise Corrupt(
                    f"the layer's entry {show(path)} is a hard link to {show(target)}, which is no regular file"
                )
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            copy = os.open(base, flags, 0o600, dir_fd=parent)
            try:
                left = found.st_size
                while left:
                    left -= os.sendfile(copy, source, None, min(left, 1 << 30))
                _copy_attributes(source, copy)
            finally:
                os.close(copy)
        finally:
            os.close(source)


def _moved(path: bytes, source: bytes, target: bytes) -> bytes:
    if path == source or path.startswith(source + b"/"):
        return (target + path[len(source) :]).removeprefix(b"./")
    return path


def _merge(source: int, destination: int) -> None:
    for name in os.listdir(source):
        try:
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=destination)
            continue
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR}:
                raise
        flags = _DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        if _both_directories(name, source, destination):
            inner, outer = os.open(name, flags, dir_fd=source), os.open(name, flags, dir_fd=destination)
            try:
                _merge(inner, outer)
            finally:
                os.close(inner)
                os.close(outer)
            os.rmdir(name, dir_fd=source)
        else:
            remove_entry(destination, name)
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=destination)


def _both_directories(name: str, *parents: int) -> bool:
    return all(stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode) for fd in parents)


def _copy_attributes(source: int, target: int) -> None:
    found = os.fstat(source)
    os.fchown(target, found.st_uid, found.st_gid)
    os.fchmod(target, stat.S_IMODE(found.st_mode))
    for name in os.listxattr(source):
        if not name.startswith("trusted.overlay."):
            with suppress(OSError):
                os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
