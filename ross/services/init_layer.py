"""The init layer: a read-only layer between the top layer of an image and the writable top of a container.

It owns the places where the runtime mounts something into every container: /dev, /proc, /sys and what is inside of them, and the generated
files in /etc. So whatever an image has there (a link that leads somewhere else, a fifo, a device, a file in a directory's place) is neither
followed nor opened, by us or by the runtime: an overlay shows the upper one of two things of different kinds, and /dev, /proc and /sys
are marked to hide what is below them.

/etc itself is merged with the image's if that is a directory, and replaces anything else: an image whose /etc is a link gets an
/etc with nothing in it but the generated files. The attributes of a merged directory are those of its topmost one, so the writable layer of
a container begins with an ``etc`` like the image's (:func:`make_etc`).

There is one for each root, the same for all containers. It is compared with what it must be when the daemon starts, name by name, and
made again if it is anything else.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from attrs import frozen

from ross.errors import RossError
from ross.linux.archive.whiteouts import OPAQUE_XATTR
from ross.linux.files import make_directory, remove_or_leave, write_atomic
from ross.oci.codec import read_record, write_record

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ross.layout import StateLayout

logger = logging.getLogger(__name__)

_VERSION: Final = 1
_DIRECTORIES: Final = (".", "dev", "dev/mqueue", "dev/pts", "dev/shm", "etc", "proc", "sys")
_FILES: Final = ("dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf")
_OPAQUE: Final = frozenset({"dev", "proc", "sys"})
_TIME_NS: Final = 0


@frozen(kw_only=True)
class InitLayerRecord:
    """Written before the layer: whose directory this is."""

    version: int
    created_at: int


def see_init_layer(layout: StateLayout) -> Path:
    """See that the layer is there and is what it must be. Returns its directory. Blocking; needs root.

    Raises:
        OSError: it cannot be made.
    """
    directory = layout.init_layer
    files = directory / "fs"
    if _is_recorded(directory) and _describe(files) == _wanted():
        return files
    if os.path.lexists(directory):
        logger.info("making the init layer again, which is not what it must be")
        make_directory(layout.trash)
        doomed = layout.trash / f"init-{secrets.token_hex(4)}"
        directory.rename(doomed)
        remove_or_leave(doomed)
    directory.mkdir(mode=0o700)
    record = InitLayerRecord(version=_VERSION, created_at=time.time_ns())
    write_atomic(directory / "metadata.json", write_record(record))
    _make(files)
    return files


def _is_recorded(directory: Path) -> bool:
    try:
        data = (directory / "metadata.json").read_bytes()
        return read_record(data, InitLayerRecord, what="record of the init layer").version == _VERSION
    except (OSError, RossError):
        return False


def _make(files: Path) -> None:
    for name in _DIRECTORIES:
        (files / name).mkdir(mode=0o755)
        if name in _OPAQUE:
            os.setxattr(files / name, OPAQUE_XATTR, b"y")
    for name in _FILES:
        os.close(os.open(files / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
    for name in (*_FILES, *reversed(_DIRECTORIES)):
        os.utime(files / name, ns=(_TIME_NS, _TIME_NS))


def _wanted() -> dict[str, tuple[object, ...]]:
    directories = {
        name: (stat.S_IFDIR | 0o755, os.geteuid(), os.getegid(), 0, name in _OPAQUE) for name in _DIRECTORIES
    }
    return {**directories, **{name: (stat.S_IFREG | 0o644, os.geteuid(), os.getegid(), 0, False) for name in _FILES}}


def _describe(files: Path) -> dict[str, tuple[object, ...]]:
    """What is there: mode, owner, size of a file, whether it is opaque."""
    found: dict[str, tuple[object, ...]] = {}
    with suppress(FileNotFoundError):
        paths = [files, *files.rglob("*")]
        for path in paths:
            entry = path.lstat()
            size = 0 if stat.S_ISDIR(entry.st_mode) else entry.st_size
            name = str(path.relative_to(files))
            found[name] = (entry.st_mode, entry.st_uid, entry.st_gid, size, _is_opaque(path))
    return found


def _is_opaque(path: Path) -> bool:
    try:
        return os.getxattr(path, OPAQUE_XATTR, follow_symlinks=False) == b"y"
    except OSError:
        return False


def make_etc(top: Path, layers: Iterable[Path]) -> None:
    """Make an ``etc`` in the directory ``top`` with the attributes of the image's, if its layers, top first, show a directory there."""
    found = _find_directory("etc", layers)
    if found is None:
        return
    fd = os.open(found, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        entry = os.fstat(fd)
        path = top / "etc"
        path.mkdir(mode=0o700)
        os.chown(path, entry.st_uid, entry.st_gid)
        path.chmod(stat.S_IMODE(entry.st_mode))
        for name in os.listxattr(fd):
            if not name.startswith("trusted.overlay."):
                with suppress(OSError):
                    os.setxattr(path, name, os.getxattr(fd, name))
        os.utime(path, ns=(entry.st_atime_ns, entry.st_mtime_ns))
    finally:
        os.close(fd)


def _find_directory(name: str, layers: Iterable[Path]) -> Path | None:
    """The topmost directory of this name directly below the top of a stack of layers; None if anything else is there, or nothing."""
    for layer in layers:
        with suppress(FileNotFoundError):
            return layer / name if stat.S_ISDIR((layer / name).lstat().st_mode) else None
        if _is_opaque(layer):
            return None
    return None
