"""Snapshots: directories that stack up to a root filesystem.

A *committed* snapshot is one unpacked layer, named by the chain ID of all layers up to it (``sha256-<hex>``); it never changes. An *active*
one is the writable top of a container, named by the container's id. A *staged* one is a layer that is being unpacked, and becomes
committed. Each lives in ``snapshots/<name>/{metadata.json,fs,work}``; the record is written before the rest, and what has no record that
names it is removed at start-up, as is everything staged. Mounting stacks them by overlay.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
import time
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from attrs import evolve, frozen

from ross.errors import AlreadyExists, FailedPrecondition, NotFound, RossError
from ross.linux.files import make_directory, remove_tree, sync_directory, write_atomic
from ross.linux.mount import mount_overlay, mounts_below, unmount
from ross.linux.syscalls import syncfs
from ross.oci.codec import read_record, write_record

if TYPE_CHECKING:
    from ross.layout import StateLayout
    from ross.oci.digest import Digest

logger = logging.getLogger(__name__)


class SnapshotKind(Enum):
    """What a snapshot is for."""

    ACTIVE = "active"
    COMMITTED = "committed"
    STAGED = "staged"


@frozen(kw_only=True)
class SnapshotInfo:
    """A snapshot; also its record on disk."""

    name: str
    kind: SnapshotKind
    parent: str | None
    created_at: int
    size_bytes: int = 0
    """Of its files' contents, for a committed one; 0 for others, which change."""


def committed_name(chain_id: Digest) -> str:
    """The name of the snapshot that holds these layers."""
    return f"{chain_id.algorithm}-{chain_id.encoded}"


class Snapshotter:
    """The snapshots. What exists is known from memory; the disk is read once, at :meth:`recover`."""

    def __init__(self, layout: StateLayout) -> None:
        self._layout = layout
        self._known: dict[str, SnapshotInfo] = {}

    async def recover(self) -> None:
        """Read what is there; remove what is half-made, and what no record names. Once, before anything else."""
        await trio.to_thread.run_sync(self._recover)

    def _recover(self) -> None:
        make_directory(self._layout.snapshots)
        mounted = mounts_below(self._layout.snapshots)
        for target in mounted:  # nothing of ours stays mounted here: containers are mounted in their bundles
            unmount(target)
        for directory in tuple(self._layout.snapshots.iterdir()):
            if directory == self._empty():
                continue
            info = _read(directory)
            if info is None:
                logger.info("removing the snapshot %s, which is not complete", directory.name)
                self._take_apart(directory)
            else:
                self._known[info.name] = info
        for info in tuple(self._known.values()):
            if info.parent is not None and info.parent not in self._known:
                logger.error("the snapshot %s lacks its parent %s", info.name, info.parent)

    # -- looking ------------------------------------------------------------------------------------------------------

    def find(self, name: str) -> SnapshotInfo | None:
        """The snapshot, if it is there."""
        return self._known.get(name)

    def list(self) -> tuple[SnapshotInfo, ...]:
        """All of them, in no order."""
        return tuple(self._known.values())

    def get(self, name: str) -> SnapshotInfo:
        """The snapshot.

        Raises:
            NotFound: there is none of this name.
        """
        info = self._known.get(name)
        if info is None:
            raise NotFound(f"the snapshot {name} does not exist")
        return info

    def files(self, name: str) -> Path:
        """The directory with its own files."""
        return self._layout.snapshot(name) / "fs"

    def layers(self, name: str | None) -> tuple[Path, ...]:
        """The directories of a snapshot and all below it, top first."""
        found = []
        while name is not None:
            info = self.get(name)
            found.append(self.files(name))
            name = info.parent
        return tuple(found)

    # -- making -------------------------------------------------------------------------------------------------------

    async def prepare(self, name: str, *, parent: str | None) -> None:
        """Make an active snapshot on top of a committed one, or of nothing.

        Its record is not waited for to reach the disk: the container that owns it is recorded, and can have it made again.

        Raises:
            AlreadyExists: the name is taken.
            NotFound: there is no such parent.
        """
        if name in self._known:
            raise AlreadyExists(f"the snapshot {name} exists")
        top = self.files(self.get(parent).name) if parent is not None else None
        info = SnapshotInfo(name=name, kind=SnapshotKind.ACTIVE, parent=parent, created_at=time.time_ns())
        self._make(info, like=top)
        await trio.lowlevel.checkpoint()

    def _make(self, info: SnapshotInfo, *, like: Path | None) -> None:
        directory = self._layout.snapshot(info.name)
        make_directory(directory.parent)
        directory.mkdir(mode=0o700)
        try:
            write_atomic(directory / "metadata.json", write_record(info), sync=False)
            files = directory / "fs"
            files.mkdir(mode=0o755)
            (directory / "work").mkdir(mode=0o700)
            if like is not None:
                found = like.stat()
                os.chown(files, found.st_uid, found.st_gid)
                files.chmod(stat.S_IMODE(found.st_mode))
        except BaseException:
            remove_tree(directory)
            raise
        self._known[info.name] = info

    async def stage(self) -> SnapshotInfo:
        """Make a place to unpack a layer into."""
        await trio.lowlevel.checkpoint()  # before, not behind: who is cancelled there would not learn the name
        info = SnapshotInfo(
            name=f"unpack-{secrets.token_hex(8)}", kind=SnapshotKind.STAGED, parent=None, created_at=time.time_ns()
        )
        self._make(info, like=None)
        return info

    async def sync(self) -> None:
        """Make the contents of all snapshots durable."""

        def sync() -> None:
            fd = os.open(self._layout.snapshots, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                syncfs(fd)
            finally:
                os.close(fd)

        await trio.to_thread.run_sync(sync)

    async def commit(
        self, staged: str, name: str, *, parent: str | None, size_bytes: int, durable: bool = True
    ) -> None:
        """Make a staged snapshot a committed one. Its contents must be durable (see :meth:`sync`), unless ``durable`` is false and
        whoever calls has said what is to come (see ``ross.services.pending``).

        Raises:
            AlreadyExists: the name is taken.
            NotFound: there is no such staged snapshot, or parent.
        """
        if name in self._known:
            raise AlreadyExists(f"the snapshot {name} exists")
        if parent is not None:
            self.get(parent)
        info = evolve(self.get(staged), name=name, kind=SnapshotKind.COMMITTED, parent=parent, size_bytes=size_bytes)
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._commit, staged, info, durable)
        del self._known[staged]
        self._known[name] = info

    def _commit(self, staged: str, info: SnapshotInfo, durable: bool) -> None:
        directory = self._layout.snapshot(staged)
        remove_tree(directory / "work")
        write_atomic(directory / "metadata.json", write_record(info), sync=durable)
        directory.rename(self._layout.snapshot(info.name))
        if durable:
            sync_directory(self._layout.snapshots)

    async def remove(self, name: str) -> int:
        """Remove a snapshot; missing is fine. Returns the bytes that were freed.

        Raises:
            FailedPrecondition: another snapshot stands on it.
        """
        if name not in self._known:
            return 0
        child = next((info.name for info in self._known.values() if info.parent == name), None)
        if child is not None:
            raise FailedPrecondition(f"the snapshot {name} is in use by the snapshot {child}")
        # Out of the books and out of its place in one step: a pull may commit it anew at once.
        doomed = self._set_aside(self._layout.snapshot(name))
        del self._known[name]
        freed = 0
        with trio.CancelScope(shield=True):
            freed += await trio.to_thread.run_sync(remove_tree, doomed)
        return freed

    def _set_aside(self, directory: Path) -> Path:
        """Out of the way in one step; what a crash leaves of it there is removed at start-up."""
        make_directory(self._layout.trash)
        doomed = self._layout.trash / f"{directory.name}-{secrets.token_hex(4)}"
        directory.rename(doomed)
        return doomed

    def _take_apart(self, directory: Path) -> int:
        return remove_tree(self._set_aside(directory))

    # -- mounting -----------------------------------------------------------------------------------------------------

    async def mount(self, name: str, target: Path) -> None:
        """Mount a snapshot and all below it on ``target``, which is made if it is missing: writable if it is active.

        Raises:
            NotFound: there is no such snapshot.
            FailedPrecondition: the kernel refused.
        """
        self.mount_now(name, target)
        await trio.lowlevel.checkpoint()

    def mount_now(self, name: str, target: Path) -> None:
        """What :meth:`mount` does, in one step."""
        info = self.get(name)
        lower = [*self.layers(name)]
        upper = work = None
        if info.kind is SnapshotKind.ACTIVE:
            upper, work = lower.pop(0), self._layout.snapshot(name) / "work"
        if len(lower) + (upper is not None) < 2:  # an overlay needs two: an image may have one layer, or none
            lower.append(self._empty())
        make_directory(target)
        try:
            mount_overlay(target, lower=lower, upper=upper, work=work)
        except OSError as error:
            raise FailedPrecondition(
                f"the snapshot {name} cannot be mounted: {error.strerror}",
                hint="ross doctor checks whether this host can",
            ) from error

    def _empty(self) -> Path:
        path = self._layout.snapshots / "empty"
        path.mkdir(mode=0o755, exist_ok=True)
        return path

    async def unmount(self, target: Path) -> None:
        """Unmount whatever is mounted on ``target``; nothing is fine."""
        unmount(target)
        await trio.lowlevel.checkpoint()


def _read(directory: Path) -> SnapshotInfo | None:
    """The record of a complete snapshot."""
    try:
        info = read_record((directory / "metadata.json").read_bytes(), SnapshotInfo, what="snapshot record")
    except (OSError, RossError):
        return None
    if info.name != directory.name or info.kind is SnapshotKind.STAGED or not (directory / "fs").is_dir():
        return None
    return info
