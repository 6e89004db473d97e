"""Snapshots on the disk: the directory of each, made, changed and taken apart so that a crash at any step can be put right.

A snapshot is ``snapshots/<name>/{metadata.json,fs,work}``, and complete once it has its record. What it is in memory, and who may do what
with it when, is the business of :mod:`ross.services.snapshotter`. All of this blocks.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
from typing import TYPE_CHECKING, Final

from ross.errors import RossError
from ross.linux.files import make_directory, remove_or_leave, remove_tree, sync_directory, write_atomic
from ross.linux.mount import mounts_below, unmount
from ross.linux.syscalls import exchange, syncfs
from ross.model.snapshots import SnapshotInfo, SnapshotKind
from ross.oci.codec import read_record, write_record
from ross.services.init_layer import make_etc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ross.layout import StateLayout

logger = logging.getLogger(__name__)

_PARTS: Final = frozenset({"metadata.json", "fs", "work"})


# -- at start-up ------------------------------------------------------------------------------------------------------


def recover_snapshots(layout: StateLayout) -> list[SnapshotInfo]:
    """What is there. What was begun is finished; what is half-made, and what no record names, is removed."""
    make_directory(layout.snapshots)
    mounted = mounts_below(layout.snapshots)
    for target in mounted:  # nothing of ours stays mounted here: containers are mounted in their bundles
        unmount(target)
    found = []
    for directory in tuple(layout.snapshots.iterdir()):
        if directory == empty_layer(layout):
            continue
        info = _recover_one(layout, directory)
        if info is None:
            logger.info("removing the snapshot %s, which is not complete", directory.name)
            remove_or_leave(set_aside(layout, directory.name))
        else:
            found.append(info)
    return found


def _recover_one(layout: StateLayout, directory: Path) -> SnapshotInfo | None:
    """The snapshot in a directory, if there is a complete one; what a crash has left undone of it is done."""
    info = _read(directory)
    if info is None:
        return None
    place = layout.snapshot(info.name)
    if directory != place:  # a commit that has come as far as its record
        if info.kind is not SnapshotKind.COMMITTED or place.exists():
            return None
        logger.info("finishing the commit of the snapshot %s", info.name)
        directory.rename(place)
        sync_directory(layout.snapshots)
    parts = _PARTS - {"work"} if info.kind is SnapshotKind.COMMITTED else _PARTS
    for path in tuple(place.iterdir()):
        if path.name not in parts:
            remove_or_leave(path)
    return info


def _read(directory: Path) -> SnapshotInfo | None:
    """The record of a complete snapshot."""
    try:
        info = read_record((directory / "metadata.json").read_bytes(), SnapshotInfo, what="snapshot record")
    except (OSError, RossError):
        return None
    if info.kind in {SnapshotKind.STAGED, SnapshotKind.UNKNOWN} or not (directory / "fs").is_dir():
        return None
    return info


# -- making -----------------------------------------------------------------------------------------------------------


def make_snapshot(
    layout: StateLayout,
    info: SnapshotInfo,
    *,
    like: Path | None = None,
    etc_below: Sequence[Path] | None = None,
    durable: bool,
) -> None:
    """Make the directory of a new snapshot; if that fails, nothing of it is left.

    Args:
        layout: Where.
        info: What it is.
        like: The directory whose owner and mode its own is to have.
        etc_below: The layers that it stands on, top first, if it is to begin with an ``etc`` like theirs.
        durable: Whether it is on the disk when this returns.
    """
    directory = layout.snapshot(info.name)
    make_directory(directory.parent)
    directory.mkdir(mode=0o700)
    try:
        files = directory / "fs"
        files.mkdir(mode=0o755)
        (directory / "work").mkdir(mode=0o700)
        if like is not None:
            found = like.stat()
            os.chown(files, found.st_uid, found.st_gid)
            files.chmod(stat.S_IMODE(found.st_mode))
        if etc_below is not None:
            make_etc(files, etc_below)
        # Last: what has no record is not complete, and a crash makes it go.
        write_metadata(layout, info, durable=durable)
        if durable:
            sync_directory(directory.parent)
    except BaseException:
        remove_tree(directory)
        raise


def write_metadata(layout: StateLayout, info: SnapshotInfo, *, durable: bool = True) -> None:
    """Write the record of a snapshot to its place, in one step."""
    write_atomic(layout.snapshot(info.name) / "metadata.json", write_record(info), sync=durable)


def empty_layer(layout: StateLayout) -> Path:
    """A directory with nothing in it, which stands in where an overlay needs one more."""
    path = layout.snapshots / "empty"
    path.mkdir(mode=0o755, exist_ok=True)
    return path


# -- changing ---------------------------------------------------------------------------------------------------------


def commit_directory(layout: StateLayout, name: str, committed: SnapshotInfo, *, durable: bool) -> None:
    """Make a snapshot the committed one that ``committed`` says, under the name that it has there."""
    directory, place = layout.snapshot(name), layout.snapshot(committed.name)
    write_atomic(directory / "metadata.json", write_record(committed), sync=durable)
    directory.rename(place)  # from the record on, start-up does the rest
    if durable:
        sync_directory(layout.snapshots)
    remove_tree(place / "work")


def exchange_files(layout: StateLayout, info: SnapshotInfo, staged: str) -> None:
    """Give a snapshot the files of a staged one, in one step, durably; the staged one gets those that it had."""
    directory = layout.snapshot(info.name)
    make_directory(directory / "fs")
    exchange(directory / "fs", layout.snapshot(staged) / "fs")
    write_metadata(layout, info)
    sync_directory(directory)


def sync_snapshots(layout: StateLayout) -> None:
    """Make the contents of all snapshots durable."""
    fd = os.open(layout.snapshots, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs(fd)
    finally:
        os.close(fd)


def set_aside(layout: StateLayout, name: str) -> Path:
    """Out of the way in one step; what a crash leaves of it there is removed at start-up. Returns where it is, to be removed."""
    make_directory(layout.trash)
    doomed = layout.trash / f"{name}-{secrets.token_hex(4)}"
    layout.snapshot(name).rename(doomed)
    return doomed
