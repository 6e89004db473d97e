"""How two stacks of overlay layers differ, as they would be seen when they are mounted; without mounting them.

Both are walked together from the top directory down. A part of the tree that both have from the very same layers is not entered, so that
comparing a stack with the one below it reads little more than what the top layer holds. Names that a layer takes away (devices 0:0) and
directories that hide what is below them (``trusted.overlay.opaque``) are respected. Everything in a layer is somebody else's: it is opened
by descriptor, no link is followed, and only regular files are read.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen

from ross.errors import FailedPrecondition
from ross.linux.archive.tar import show
from ross.linux.archive.whiteouts import OPAQUE_XATTR, is_whiteout
from ross.linux.openat2 import Resolve, openat2
from ross.model.snapshots import ChangeKind, FileKind, SnapshotChange

if TYPE_CHECKING:
    from pathlib import Path

_BENEATH: Final = Resolve.BENEATH | Resolve.NO_SYMLINKS | Resolve.NO_MAGICLINKS
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY
_CHUNK: Final = 1 << 20


@frozen
class _Layer:
    """A layer's own directory. Two are the same if they are the same directory."""

    fd: int = field(eq=False)
    identity: tuple[int, int]


@define
class _Seen:
    """A name as a stack shows it."""

    layers: list[_Layer]
    """Where it is: the first is what counts; of a directory, all that are merged into it."""
    is_directory: bool
    open: bool
    """Whether a directory of this name in the next layer is merged into it."""


@define
class _Node:
    """A directory to compare."""

    path: bytes
    old: Sequence[_Layer]
    new: Sequence[_Layer]
    above: _Node | None
    told: bool
    """Whether it was reported itself."""


def changes(
    old: Sequence[Path], new: Sequence[Path], *, checkpoint: Callable[[], None] = lambda: None
) -> Generator[SnapshotChange, None, None]:
    """What ``new`` has other than ``old``: each directory before what is inside of it.

    A name is modified if its kind, owner, permissions, attributes, device number, link target, content or (but for a directory) time of
    modification is another; a directory also if anything inside of it is.

    Args:
        old: Directories of layers, top first; none for an empty tree.
        new: The same.
        checkpoint: Called often; may raise to end it.

    Raises:
        FailedPrecondition: directories are nested deeper than a path can say.
        OSError: a directory cannot be read.
    """
    with ExitStack() as stack:
        before, after = ([_open_layer(path, stack) for path in paths] for paths in (old, new))
        waiting = [_Node(b"", before, after, None, told=True)]
        while waiting:
            checkpoint()
            node = waiting.pop()
            with _Directory(node.path, node.old) as one, _Directory(node.path, node.new) as other:
                inside: list[_Node] = []
                for change in _compare(node, one, other, inside, checkpoint):
                    yield from _untold(node)
                    yield change
            waiting.extend(reversed(inside))


def _open_layer(path: Path, stack: ExitStack) -> _Layer:
    fd = os.open(path, _DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    stack.callback(os.close, fd)
    found = os.fstat(fd)
    return _Layer(fd, (found.st_dev, found.st_ino))


def _untold(node: _Node) -> list[SnapshotChange]:
    """The directories above a change that were not reported yet, outermost first."""
    found: list[SnapshotChange] = []
    above: _Node | None = node
    while above is not None and not above.told:
        above.told = True
        found.append(SnapshotChange(change=ChangeKind.MODIFIED, path=above.path, kind=FileKind.DIRECTORY))
        above = above.above
    return found[::-1]


class _Directory:
    """A directory as a stack shows it, open for the length of a block."""

    def __init__(self, path: bytes, layers: Sequence[_Layer]) -> None:
        self._fds: dict[_Layer, int] = {}
        self.names: dict[bytes, _Seen] = {}
        try:
            self._open(path, layers)
        except BaseException:
            self.close()
            raise

    def _open(self, path: bytes, layers: Sequence[_Layer]) -> None:
        for layer in layers:
            try:
                fd = openat2(layer.fd, path.removeprefix(b"/") or b".", _DIRECTORY, resolve=_BENEATH)
            except OSError as error:
                if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
                    continue  # it was there a moment ago
                if error.errno == errno.ENAMETOOLONG:
                    raise FailedPrecondition(
                        f"directories below {show(path)} are nested deeper than a path can say, and no list can name them"
                    ) from None
                raise
            self._fds[layer] = fd
            self._read(layer, fd)
            if _is_opaque(fd):
                break

    def _read(self, layer: _Layer, fd: int) -> None:
        merged = set()
        with os.scandir(fd) as entries:
            for entry in entries:
                name = os.fsencode(entry.name)
                is_directory = entry.is_dir(follow_symlinks=False)
                seen = self.names.get(name)
                if seen is None:
                    plain = is_directory or entry.is_file(follow_symlinks=False) or entry.is_symlink()
                    gone = not plain and _is_gone(entry)
                    self.names[name] = _Seen([] if gone else [layer], is_directory, is_directory)
                elif seen.open and is_directory:
                    seen.layers.append(layer)
                else:
                    seen.open = False
                merged.add(name)

    def __enter__(self) -> _Directory:
        return self

    def __exit__(self, *_details: object) -> None:
        self.close()

    def close(self) -> None:
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()

    def parent(self, seen: _Seen) -> int:
        """The directory in which a name counts."""
        return self._fds[seen.layers[0]]

    def get(self, name: bytes) -> _Seen | None:
        seen = self.names.get(name)
        return seen if seen is not None and seen.layers else None

    def lstat(self, name: bytes, seen: _Seen) -> os.stat_result | None:
        with suppress(FileNotFoundError):
            return os.lstat(name, dir_fd=self.parent(seen))
        return None


def _is_gone(entry: os.DirEntry[str]) -> bool:
    try:
        return is_whiteout(entry.stat(follow_symlinks=False))
    except FileNotFoundError:
        return True


def _is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, OPAQUE_XATTR) == b"y"
    except OSError:
        return False


def _compare(
    node: _Node, old: _Directory, new: _Directory, inside: list[_Node], checkpoint: Callable[[], None]
) -> Iterator[SnapshotChange]:
    """Compare the names of a directory; what is to be compared inside of them goes to ``inside``."""
    for name in sorted({*old.names, *new.names}):
        before, after = old.get(name), new.get(name)
        if before == after:  # the same layers, so the same thing; or it is in neither
            continue
        was = old.lstat(name, before) if before is not None else None
        now = new.lstat(name, after) if after is not None else None
        path = node.path + b"/" + name
        change = None
        if now is None:
            if was is not None:
                yield SnapshotChange(change=ChangeKind.DELETED, path=path, kind=FileKind.of(was))
            continue
        if was is None:
            change = ChangeKind.ADDED
        elif _differ(was, now) or _contents_differ(name, (old, before), (new, after), was, checkpoint):
            change = ChangeKind.MODIFIED
        if change is not None:
            yield SnapshotChange(change=change, path=path, kind=FileKind.of(now))
        if after is not None and stat.S_ISDIR(now.st_mode):
            stays = before is not None and was is not None and stat.S_ISDIR(was.st_mode)
            lower = before.layers if before is not None and stays else ()
            inside.append(_Node(path, lower, after.layers, node, told=change is not None))


def _differ(was: os.stat_result, now: os.stat_result) -> bool:
    if (was.st_mode, was.st_uid, was.st_gid) != (now.st_mode, now.st_uid, now.st_gid):
        return True
    if stat.S_ISDIR(now.st_mode):  # whose time says no more than that something inside was added or deleted
        return False
    if (stat.S_ISCHR(now.st_mode) or stat.S_ISBLK(now.st_mode)) and was.st_rdev != now.st_rdev:
        return True
    return (was.st_mtime_ns, was.st_size) != (now.st_mtime_ns, now.st_size)


def _contents_differ(
    name: bytes,
    old: tuple[_Directory, _Seen | None],
    new: tuple[_Directory, _Seen | None],
    found: os.stat_result,
    checkpoint: Callable[[], None],
) -> bool:
    """Whether what looks the same from outside has other attributes or another content."""
    parents = [directory.parent(seen) for directory, seen in (old, new) if seen is not None]
    try:
        one, other = (_attributes(parent, name) for parent in parents)
        if one != other:
            return True
        if stat.S_ISLNK(found.st_mode):
            one_target, other_target = (os.readlink(name, dir_fd=parent) for parent in parents)
            return one_target != other_target
        return stat.S_ISREG(found.st_mode) and not _same_bytes(name, parents, checkpoint)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ELOOP, errno.ENXIO}:  # something else has taken its place just now
            return True
        raise


def _attributes(parent: int, name: bytes) -> dict[str, bytes]:
    path = b"/proc/self/fd/%d/%s" % (parent, name)
    found: dict[str, bytes] = {}
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise
        return found
    for attribute in names:
        if not attribute.startswith("trusted.overlay."):
            with suppress(OSError):
                found[attribute] = os.getxattr(path, attribute, follow_symlinks=False)
    return found


def _same_bytes(name: bytes, parents: Sequence[int], checkpoint: Callable[[], None]) -> bool:
    with ExitStack() as stack:
        fds = []
        for parent in parents:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fds.append(os.open(name, flags, dir_fd=parent))
            stack.callback(os.close, fds[-1])
        if not all(stat.S_ISREG(os.fstat(fd).st_mode) for fd in fds):
            return False
        while True:
            checkpoint()
            one, other = (os.read(fd, _CHUNK) for fd in fds)
            if one != other:
                return False
            if not one:
                return True
