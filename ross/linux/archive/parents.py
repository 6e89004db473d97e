"""The directories that a layer's entries are made in: each found once inside of the layer, made where it is missing, and kept open.

Each is opened by openat2 with the layer's directory as root, so that links and ``..`` of a hostile archive are resolved inside it.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ross.linux.archive.whiteouts import is_whiteout, make_opaque
from ross.linux.files import remove_entry
from ross.linux.openat2 import Resolve, openat2

if TYPE_CHECKING:
    from ross.linux.archive.applied import Unsettled

NO_NAMES: Final = frozenset({b"", b".", b".."})
"""What a path may have between its slashes and is not the name of anything."""
_INSIDE: Final = Resolve.IN_ROOT | Resolve.NO_MAGICLINKS | Resolve.NO_XDEV
_OWN: Final = _INSIDE | Resolve.NO_SYMLINKS
_PATH: Final = os.O_PATH | os.O_DIRECTORY
_CACHED_DIRECTORIES: Final = 256
_MAX_LINKS: Final = 40


class Parents:
    """Open directories of one layer. Their descriptors stay ours, and are good for the entry that is being applied."""

    def __init__(self, root_fd: int, unsettled: Unsettled) -> None:
        """``root_fd`` is the layer's own directory, and stays the caller's. What is made on the way is noted as ``unsettled``."""
        self.known: dict[bytes, int] = {}
        """By their names as entries have them, each checked and opened once. The same dictionary all the time, to be read by the caller."""
        self.retired: list[int] = []
        """What is to be closed before the next entry: the current one may be using some."""
        self._root_fd = root_fd
        self._unsettled = unsettled

    def get(self, head: bytes, components: list[bytes]) -> int:
        """A descriptor of the directory that these components lead to, made where it is missing.

        ``head`` is how the entry spells it: under that name it is known from now on.
        """
        found = self.known.get(head)
        if found is not None:
            return found
        fd = self._child(head)
        if fd is None:
            try:
                fd = self._open(components)
            except (FileNotFoundError, NotADirectoryError):  # the latter where a whiteout is
                fd = self._make(components)
        if len(self.known) >= _CACHED_DIRECTORIES:
            self._forget()
        self.known[head] = fd
        return fd

    def open_for_now(self, components: list[bytes]) -> int:
        """A descriptor of a directory that is there, for the current entry only."""
        fd = self._open(components)
        self.retired.append(fd)
        return fd

    def clear(self, parent: int, base: bytes) -> None:
        """Take away what an entry replaces. Directories that are open may be among it."""
        self._forget()
        remove_entry(parent, os.fsdecode(base))

    def close_retired(self) -> None:
        """Close what no entry uses any more. Between two entries."""
        while self.retired:
            os.close(self.retired.pop())

    def close(self) -> None:
        """Close them all."""
        self._forget()
        self.close_retired()

    def _forget(self) -> None:
        self.retired.extend(self.known.values())
        self.known.clear()

    def _child(self, head: bytes) -> int | None:
        """A real directory in one that is known: the short way to it."""
        above, _slash, name = head.rpartition(b"/")
        parent = self.known.get(above)
        if parent is None or name in NO_NAMES:
            return None
        try:
            return os.open(name, _PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _open(self, components: list[bytes]) -> int:
        return openat2(self._root_fd, b"/".join(components) or b".", _PATH, resolve=_INSIDE)

    def _make(self, components: list[bytes]) -> int:
        """Make what is missing on the way, following links inside the layer as the kernel would: also dangling ones."""
        waiting = list(reversed(components))
        resolved: list[bytes] = []
        links = 0
        while waiting:
            name = waiting.pop()
            if name in {b"", b"."}:
                continue
            if name == b"..":
                del resolved[-1:]
                continue
            here = b"/".join(resolved)
            parent = openat2(self._root_fd, here or b".", _PATH, resolve=_OWN)
            try:
                found = _stat(parent, name)
                if found is None or is_whiteout(found):
                    self._make_implied(parent, name, whiteout=found is not None)
                    if found is None:  # else what is below, and its attributes, are gone
                        self._unsettled.directory(b"/".join([*resolved, name]))
                elif stat.S_ISLNK(found.st_mode):
                    links += 1
                    if links > _MAX_LINKS:
                        raise OSError(errno.ELOOP, "too many links on the way", name)
                    target = os.readlink(name, dir_fd=parent)
                    if target.startswith(b"/"):
                        resolved.clear()
                    waiting.extend(reversed(target.split(b"/")))
                    continue
                elif not stat.S_ISDIR(found.st_mode):
                    raise OSError(errno.ENOTDIR, "a part of the path is no directory", name)
            finally:
                os.close(parent)
            resolved.append(name)
        return openat2(self._root_fd, b"/".join(resolved) or b".", _PATH, resolve=_OWN)

    def _make_implied(self, parent: int, name: bytes, *, whiteout: bool) -> None:
        if whiteout:
            self.clear(parent, name)
        os.mkdir(name, 0o755, dir_fd=parent)
        if whiteout:
            make_opaque(parent, name)


def path_inside(root_fd: int, parent: int, base: bytes) -> bytes:
    """The name, below a root, of what is in an open directory; without links: an entry may have come by one."""
    top, above = (os.fsencode(Path(f"/proc/self/fd/{fd}").readlink()) for fd in (root_fd, parent))
    return (above[len(top) :] + b"/" + base)[1:]


def _stat(parent: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
