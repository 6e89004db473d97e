"""A directory as the reference model has one: every name with every attribute."""

from __future__ import annotations

import os
import stat
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Final

from attrs import evolve

from tests.support.layer_model import Kind, Node, Path

if TYPE_CHECKING:
    from collections.abc import Mapping

_KINDS: Final = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFCHR: Kind.CHARACTER,
    stat.S_IFBLK: Kind.BLOCK,
    stat.S_IFDIR: Kind.DIRECTORY,
    stat.S_IFIFO: Kind.FIFO,
}


def read_tree(root: FilePath) -> dict[Path, Node]:
    """Everything below and including ``root``; links are not followed."""
    found: dict[Path, Node] = {}
    names: dict[int, set[Path]] = {}
    waiting: list[Path] = [()]
    while waiting:
        path = waiting.pop()
        # By descriptors, one directory after the other: a path of many long names is longer than the kernel takes at once.
        directory = _open(root, path)
        try:
            if not path:
                found[()] = _node(directory, b".")
            with os.scandir(directory) as entries:
                names_here = [os.fsencode(entry.name) for entry in entries]
            for name in names_here:
                inner = (*path, name)
                found[inner] = node = _node(directory, name)
                if node.kind is Kind.DIRECTORY:
                    waiting.append(inner)
                else:
                    inode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_ino
                    names.setdefault(inode, set()).add(inner)
        finally:
            os.close(directory)
    for shared in names.values():
        if len(shared) > 1:
            for path in shared:
                found[path] = evolve(found[path], names=frozenset(shared))
    return found


def _open(root: FilePath, path: Path) -> int:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for name in path:
        inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
        os.close(fd)
        fd = inner
    return fd


def _node(directory: int, name: bytes) -> Node:
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    kind = _KINDS[stat.S_IFMT(status.st_mode)]
    here = f"/proc/self/fd/{directory}/".encode() + name
    device = kind in {Kind.CHARACTER, Kind.BLOCK}
    return Node(
        kind=kind,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime_ns=status.st_mtime_ns,
        data=FilePath(os.fsdecode(here)).read_bytes() if kind is Kind.FILE else b"",
        link=os.readlink(name, dir_fd=directory) if kind is Kind.SYMLINK else b"",
        device=(os.major(status.st_rdev), os.minor(status.st_rdev)) if device else (0, 0),
        xattrs={
            os.fsencode(key): os.getxattr(here, key, follow_symlinks=False)
            for key in os.listxattr(here, follow_symlinks=False)
        },
    )


def differences(expected: Mapping[Path, Node], found: Mapping[Path, Node]) -> list[str]:
    """What is not as it should be, in words; a time that nobody says is any time."""
    wrong = []
    for path in sorted({*expected, *found}):
        name = b"/".join(path) or b"(root)"
        want, have = expected.get(path), found.get(path)
        if want is None or have is None:
            wrong.append(f"{name!r} is {'missing' if have is None else 'too many'}: {want or have}")
            continue
        if want.mtime_ns is None:
            have = evolve(have, mtime_ns=None)
        wrong += [
            f"{name!r}: {field} is {getattr(have, field)!r}, should be {getattr(want, field)!r}"
            for field in ("kind", "mode", "uid", "gid", "mtime_ns", "data", "link", "device", "xattrs", "names")
            if getattr(want, field) != getattr(have, field)
        ]
    return wrong
