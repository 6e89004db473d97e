"""Mounting and unmounting overlays (mount(2), fsopen(2), filesystems/overlayfs.rst)."""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ross.linux.syscalls import attach_mount, libc
from ross.linux.trees import new_mount

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MS_RDONLY: Final = 1
_MS_BIND: Final = 1 << 12
_MS_REC: Final = 1 << 14
_MS_PRIVATE: Final = 1 << 18
_MNT_DETACH: Final = 2
_UMOUNT_NOFOLLOW: Final = 8
_PAGE: Final = 4096

MAX_LAYERS: Final = 500
"""How many lower directories an overlay can have (OVL_MAX_STACK in fs/overlayfs)."""
OVERLAY_OPTIONS: Final = (
    (
        "index",
        "off",
    ),  # an index would refuse a lower directory that was moved to another filesystem, and needs no NFS export here
    ("metacopy", "off"),  # a layer could otherwise claim another file's data by an attribute
    ("redirect_dir", "off"),  # the same for directories; renaming one answers EXDEV, and tools copy
)


def mount_overlay(target: Path, *, lower: Sequence[Path], upper: Path | None, work: Path | None) -> None:
    """Mount an overlay on ``target``, private to where it is.

    Args:
        target: An existing directory.
        lower: The read-only layers, top first; at least one.
        upper: Where writes go; None for a read-only mount.
        work: The overlay's own directory beside ``upper``, on the same filesystem.

    Raises:
        OSError: the kernel refused.
    """
    try:
        _mount_by_fsopen(target, lower, upper, work)
    except OSError as error:
        # ENOSYS: no such calls. EINVAL: they do not know `lowerdir+` (before 6.8).
        if error.errno not in {errno.ENOSYS, errno.EINVAL, errno.EPERM}:
            raise
        _mount_by_options(target, lower, upper, work)
    _mount(None, target, None, _MS_PRIVATE, None)


def _mount_by_fsopen(target: Path, lower: Sequence[Path], upper: Path | None, work: Path | None) -> None:
    options = [("source", "overlay"), *(("lowerdir+", os.fspath(path)) for path in lower)]
    if upper is not None and work is not None:
        options += [("upperdir", os.fspath(upper)), ("workdir", os.fspath(work))]
    mounted = new_mount("overlay", [*options, *OVERLAY_OPTIONS])
    try:
        attach_mount(mounted, target)
    finally:
        os.close(mounted)


def _mount_by_options(target: Path, lower: Sequence[Path], upper: Path | None, work: Path | None) -> None:
    """By one page of options. Directories stand in it as ``/proc/self/fd/N``: short, and without characters to escape."""
    with _opened([*lower, *(path for path in (upper, work) if path is not None)]) as fds:
        names = [f"/proc/self/fd/{fd}" for fd in fds]
        options = [f"lowerdir={':'.join(names[: len(lower)])}"]
        if upper is not None and work is not None:
            options += [f"upperdir={names[-2]}", f"workdir={names[-1]}"]
        options += [f"{key}={value}" for key, value in OVERLAY_OPTIONS]
        data = ",".join(options)
        if len(data) >= _PAGE:
            raise OSError(
                errno.E2BIG, "too many layers for this kernel's mount(2); Linux 6.8 takes more", os.fspath(target)
            )
        _mount("overlay", target, "overlay", 0 if upper is not None else _MS_RDONLY, data)


@contextmanager
def _opened(paths: Sequence[Path]) -> Iterator[list[int]]:
    fds: list[int] = []
    try:
        for path in paths:
            fds.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))  # noqa: PERF401 -- what is open must be known if one fails
        yield fds
    finally:
        for fd in fds:
            os.close(fd)


def _mount(source: str | None, target: Path, kind: str | None, flags: int, data: str | None) -> None:
    encoded = [text.encode() if text is not None else None for text in (source, kind, data)]
    if libc().mount(encoded[0], os.fsencode(target), encoded[1], ctypes.c_ulong(flags), encoded[2]) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), os.fspath(target))


def bind(source: Path, target: Path) -> None:
    """Mount what is at ``source`` on ``target`` too, without what is mounted below it; private to where it is.

    Raises:
        OSError: the kernel refused.
    """
    _mount(os.fspath(source), target, None, _MS_BIND, None)
    _mount(None, target, None, _MS_PRIVATE, None)


def part(target: Path) -> None:
    """Share what is mounted on ``target``, and all below, with nobody any more: what is unmounted there stays elsewhere.

    Where nothing is mounted, nothing is done.

    Raises:
        OSError: the kernel refused.
    """
    try:
        _mount(None, target, None, _MS_PRIVATE | _MS_REC, None)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOENT}:
            raise


def unmount(target: Path, *, detach: bool = True) -> bool:
    """Take down what is mounted on ``target``, all of it if several mounts are stacked. Never follows a link.

    Args:
        target: The mount point.
        detach: Succeed although something still uses it; it vanishes from the tree now, and for good when the last user ends.

    Returns:
        Whether anything was mounted.

    Raises:
        OSError: EBUSY without ``detach``, and what else umount2(2) knows.
    """
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if detach else 0)
    found = False
    while libc().umount2(os.fsencode(target), flags) == 0:
        found = True
    code = ctypes.get_errno()
    if code not in {errno.EINVAL, errno.ENOENT}:
        raise OSError(code, os.strerror(code), os.fspath(target))
    return found


def mounts_below(path: Path) -> tuple[Path, ...]:
    """The mount points at and below ``path`` in this process's mount namespace, deepest first (proc_pid_mountinfo(5))."""
    top = os.path.realpath(path)
    found = []
    with suppress(FileNotFoundError):
        for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
            point = os.fsdecode(line.split(b" ")[4].decode("unicode_escape").encode("latin-1"))
            if point == top or point.startswith(top + "/"):
                found.append(Path(point))
    return tuple(reversed(found))
