"""What of a layer needs the layers below: done when it takes its place on top of them.

- A directory that entries imply without carrying it takes the attributes it has below. If it is a link below, the entries belong where
  that link leads, as they would for an engine that unpacks into the merged tree.
- A hard link to a file of a lower layer copies that file up first, as writing to it would.
- A whiteout of what no lower layer has is taken away: where an overlay has nothing to merge, it would show as a name that leads to nothing.

``below`` is a directory in which the merged lower layers can be seen: a mounted overlay, or the only lower layer itself.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ross.errors import Corrupt, ResourceExhausted
from ross.linux.archive.tar import show
from ross.linux.archive.whiteouts import OPAQUE_XATTR, is_whiteout
from ross.linux.descent import Descent
from ross.linux.files import remove_entry
from ross.linux.openat2 import Resolve, lstat, openat2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ross.linux.archive.applied import Applied

_INSIDE: Final = Resolve.IN_ROOT | Resolve.NO_MAGICLINKS | Resolve.NO_XDEV
_OWN: Final = _INSIDE | Resolve.NO_SYMLINKS
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY
_MAX_STEPS: Final = 50_000_000
"""How often one may look at a name. Each link of a lower layer that entries go through takes a look at all of them."""


def settle_alone(root: Path, applied: Applied) -> None:
    """Settle a layer that has nothing below.

    Raises:
        Corrupt: it has hard links to what does not exist.
    """
    if not applied.root_carried:
        root.chmod(0o755)
    for path, target in applied.pending_links.items():
        raise _dangling(path, target)
    own = os.open(root, _DIRECTORY | os.O_CLOEXEC)
    try:
        for path in applied.whiteouts:
            _take_away(own, path)
    finally:
        os.close(own)


def settle(root: Path, below: Path, applied: Applied, *, max_steps: int = _MAX_STEPS) -> None:
    """Settle a layer.

    Args:
        root: The layer's own directory.
        below: Where the merged lower layers are seen.
        applied: What is left to settle.
        max_steps: How much work that may be.

    Raises:
        Corrupt: a hard link's target does not exist below either, or a part of a path is no directory there.
        ResourceExhausted: the disk is full, or the layer goes through too many links of the layers below.
    """
    own = os.open(root, _DIRECTORY | os.O_CLOEXEC)
    lower = os.open(below, _DIRECTORY | os.O_CLOEXEC)
    try:
        if not applied.root_carried:
            _copy_attributes(lower, own)
        _Settler(own, lower, root_opaque=applied.root_opaque).run(applied, max_steps=max_steps)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise ResourceExhausted(
                f"the layer does not fit: {error.strerror}", hint="free some space, for example with: ross rmi IMAGE"
            ) from error
        raise Corrupt(f"the layer does not fit the layers under it: {error.strerror}") from error
    finally:
        os.close(own)
        os.close(lower)


class _Settler:
    def __init__(self, own: int, lower: int, *, root_opaque: bool) -> None:
        self._own = own
        self._lower = lower
        self._opaque: dict[bytes, bool] = {b"": root_opaque}
        """Whether a directory is opaque, or below one that is."""

    def run(self, applied: Applied, *, max_steps: int) -> None:
        # Sorted so that the last one is a parent of those before it, never a child.
        waiting = sorted(applied.implied, reverse=True)
        links, whiteouts = list(applied.pending_links.items()), list(applied.whiteouts)
        while waiting:
            path = waiting.pop()
            moved = self._settle_directory(path)
            if moved is not None:
                max_steps -= len(waiting) + len(links) + len(whiteouts)
                if max_steps < 0:
                    raise ResourceExhausted(
                        "the layer goes through too many links of the layers under it, which is refused"
                    )
                # What is there already under the new name has an entry, or waits under it.
                waiting = [
                    new
                    for old in waiting
                    if (new := _moved(old, path, moved)) == old or lstat(self._own, new, resolve=_OWN) is None
                ]
                links = [(_moved(link, path, moved), target) for link, target in links]
                whiteouts = [_moved(name, path, moved) for name in whiteouts]
                if self._move(path, moved):
                    applied.root_opaque |= moved == b"."
                    self._opaque = {b"": applied.root_opaque}
        for path, target in links:
            self._link(path, target)
        for path in whiteouts:
            if self._cut_off(path) or lstat(self._lower, path, resolve=_INSIDE) is None:
                _take_away(self._own, path)
        if applied.root_opaque:
            self._hide_all()

    def _settle_directory(self, path: bytes) -> bytes | None:
        """Give an implied directory its attributes; if it is a link below, return where that leads."""
        try:
            own = openat2(self._own, path, _DIRECTORY, resolve=_OWN)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                return None  # a later entry has taken its place
            raise
        try:
            found = lstat(self._lower, path, resolve=_INSIDE)
            if found is None or is_whiteout(found) or self._cut_off(path):
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

    def _cut_off(self, path: bytes) -> bool:
        """Whether a directory above is opaque: then nothing of the lower layers is seen under this name."""
        parent = path.rpartition(b"/")[0]
        unknown = []
        while (found := self._opaque.get(parent)) is None:
            unknown.append(parent)
            parent = parent.rpartition(b"/")[0]
        for directory in reversed(unknown):
            found = self._opaque[directory] = found or self._is_opaque(directory)
        return found

    def _hide_all(self) -> None:
        """Take away all that is below: an overlay does not look whether the root of a layer is opaque."""
        with _same_time(self._own):
            with os.scandir(self._lower) as entries:
                names = [entry.name for entry in entries]
            for name in names:
                found = lstat(self._own, os.fsencode(name), resolve=_OWN)
                if found is None:
                    os.mknod(name, stat.S_IFCHR, 0, dir_fd=self._own)
                elif stat.S_ISDIR(found.st_mode):
                    fd = os.open(name, _DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._own)
                    try:
                        os.setxattr(fd, OPAQUE_XATTR, b"y")
                    finally:
                        os.close(fd)

    def _is_opaque(self, path: bytes) -> bool:
        try:
            fd = openat2(self._own, path, _DIRECTORY, resolve=_OWN)
        except OSError:
            return False
        try:
            return os.getxattr(fd, OPAQUE_XATTR) == b"y"
        except OSError:
            return False
        finally:
            os.close(fd)

    def _where(self, path: bytes) -> bytes:
        """Where a link of the lower layers leads, as a path without links."""
        try:
            return _resolved(self._lower, path)
        except OSError as error:
            raise Corrupt(f"the layer has entries below the link {show(path)}, which leads to no directory") from error

    def _move(self, path: bytes, target: bytes) -> bool:
        """Move what is in one directory of the layer into another, which is made where it is missing.

        Returns:
            Whether the other is opaque by it: what hides all that is below a link hides what is where the link leads.
        """
        opaque = self._is_opaque(path)
        source = openat2(self._own, path, _DIRECTORY, resolve=_OWN)
        try:
            destination = self._make_like_below(target)
            try:
                with _same_time(destination):
                    _merge(source, destination)
                if opaque and target != b".":
                    os.setxattr(destination, OPAQUE_XATTR, b"y")
            finally:
                os.close(destination)
        finally:
            os.close(source)
        parent, _slash, base = path.rpartition(b"/")
        fd = openat2(self._own, parent or b".", _DIRECTORY, resolve=_OWN)
        try:
            with _same_time(fd):
                os.rmdir(base, dir_fd=fd)
        finally:
            os.close(fd)
        return opaque

    def _make_like_below(self, path: bytes) -> int:
        """A directory of the layer, made with all its parents where they are missing, each like the one below."""
        fd = os.dup(self._own)
        done: list[bytes] = []
        for name in path.split(b"/") if path != b"." else []:
            done.append(name)
            made = True
            try:
                with _same_time(fd):
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
        to = self._make_like_below(_resolved(self._own, parent))
        try:
            source = self._parent_of_target(path, target, target_parent)
            try:
                with _same_time(source), _same_time(to):
                    self._copy_up(source, target, target_base, path)
                    remove_entry(to, os.fsdecode(base))
                    os.link(target_base, base, src_dir_fd=source, dst_dir_fd=to, follow_symlinks=False)
            finally:
                os.close(source)
        finally:
            os.close(to)

    def _parent_of_target(self, path: bytes, target: bytes, parent: bytes) -> int:
        """The directory, in this layer, where a link's target is or is to be copied up."""
        if lstat(self._own, target, resolve=_INSIDE) is not None:
            return openat2(self._own, parent or b".", _DIRECTORY, resolve=_INSIDE)
        try:
            resolved = _resolved(self._lower, parent)
        except OSError:
            raise _dangling(path, target) from None
        if self._cut_off(b"/".join([resolved.removeprefix(b"."), b""]).lstrip(b"/") + target.rpartition(b"/")[2]):
            raise _dangling(path, target)
        return self._make_like_below(resolved)

    def _copy_up(self, parent: int, target: bytes, base: bytes, path: bytes) -> None:
        """Bring a regular file of the lower layers into this one, unless it is there."""
        with suppress(FileNotFoundError):
            if not is_whiteout(os.stat(base, dir_fd=parent, follow_symlinks=False)):
                return
            raise Corrupt(f"the layer's entry {show(path)} is a hard link to {show(target)}, which the layer removes")
        try:
            source = openat2(self._lower, target, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW, resolve=_INSIDE)
        except OSError as error:
            raise _dangling(path, target) from error
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


def _dangling(path: bytes, target: bytes) -> Corrupt:
    return Corrupt(f"the layer's entry {show(path)} is a hard link to {show(target)}, which does not exist")


def _resolved(top: int, path: bytes) -> bytes:
    """Where a path leads below ``top``, as a path without links; ``.`` for the top itself."""
    fd = openat2(top, path or b".", os.O_PATH | os.O_DIRECTORY, resolve=_INSIDE)
    try:
        above, found = (Path(f"/proc/self/fd/{number}").readlink() for number in (top, fd))
        return os.fsencode(found.relative_to(above))
    finally:
        os.close(fd)


def _take_away(top: int, path: bytes) -> None:
    """Remove a whiteout, if it still is one."""
    parent, _slash, base = path.rpartition(b"/")
    try:
        fd = openat2(top, parent or b".", _DIRECTORY, resolve=_INSIDE)
    except OSError:
        return  # a later entry has taken the directory's place
    try:
        with suppress(FileNotFoundError):
            if is_whiteout(os.stat(base, dir_fd=fd, follow_symlinks=False)):
                with _same_time(fd):
                    os.unlink(base, dir_fd=fd)
    finally:
        os.close(fd)


@contextmanager
def _same_time(directory: int) -> Iterator[None]:
    """What is done in a directory does not change its time, which is an entry's or that of the layers below."""
    found = os.fstat(directory)
    yield
    os.utime(directory, ns=(found.st_atime_ns, found.st_mtime_ns))


def _moved(path: bytes, source: bytes, target: bytes) -> bytes:
    if path == source or path.startswith(source + b"/"):
        return (target + path[len(source) :]).removeprefix(b"./")
    return path


def _merge(source: int, destination: int) -> None:
    """Move what is in one directory into another, and into its directories what is in those of the same names."""
    with Descent(source, ".") as ours, Descent(destination, ".") as theirs:
        names, waiting = list[str](), [_move_names(ours.fd, theirs.fd)]
        while True:
            if waiting[-1]:
                names.append(waiting[-1].pop())
                ours.enter(names[-1])
                theirs.enter(names[-1])
                waiting.append(_move_names(ours.fd, theirs.fd))
                continue
            if not names:
                return
            waiting.pop()
            ours.leave()
            theirs.leave()
            os.rmdir(names.pop(), dir_fd=ours.fd)


def _move_names(source: int, destination: int) -> list[str]:
    """Move what can be moved as a whole. Returns the directories that are there already."""
    there = []
    for name in os.listdir(source):
        try:
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=destination)
            continue
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR}:
                raise
        if _both_directories(name, source, destination):
            there.append(name)
        else:
            remove_entry(destination, name)
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=destination)
    return there


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
