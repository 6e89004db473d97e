"""Snapshots: directories that stack up to a root filesystem.

A *committed* snapshot is one layer and never changes; those of images are named by the chain ID of all layers up to it (``sha256-<hex>``).
An *active* one is writable: the top of a container, named by the container's id, or what a client builds. A *view* reads a committed one.
A *staged* one is a layer that is being unpacked, and becomes committed. Each lives in ``snapshots/<name>/{metadata.json,fs,work}``; its
record is written before the rest and says who owns it. What has no record that names it is removed at start-up, as is everything staged;
what has one is removed by its owner, or by the collector if nobody is. Mounting stacks them by overlay; between the writable top of a
container and its image goes the init layer (:mod:`ross.services.init_layer`).

What clients may do with all this is the business of :mod:`ross.services.snapshots`.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import stat
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio
from attrs import evolve

from ross.errors import AlreadyExists, FailedPrecondition, NotFound, RossError
from ross.linux.files import make_directory, remove_tree, sync_directory, write_atomic
from ross.linux.idmap import mount_mapped_overlay
from ross.linux.mount import MAX_LAYERS, OVERLAY_OPTIONS, mount_overlay, mounts_below, unmount
from ross.linux.syscalls import exchange, syncfs
from ross.model.snapshots import SnapshotInfo, SnapshotKind, SnapshotMount, SnapshotOwner
from ross.oci.codec import read_record, write_record
from ross.services.init_layer import make_etc, see_init_layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ross.layout import StateLayout
    from ross.linux.idmap import Ids
    from ross.oci.digest import Digest

logger = logging.getLogger(__name__)

_PARTS = frozenset({"metadata.json", "fs", "work"})


def committed_name(chain_id: Digest) -> str:
    """The name of the snapshot that holds these layers."""
    return f"{chain_id.algorithm}-{chain_id.encoded}"


class Snapshotter:
    """The snapshots. What exists is known from memory; the disk is read once, at :meth:`recover`.

    What takes its time is done in a thread, while the names in question stand in ``_busy``: nobody else changes these meanwhile.
    """

    def __init__(self, layout: StateLayout) -> None:
        self._layout = layout
        self._known: dict[str, SnapshotInfo] = {}
        self._busy: set[str] = set()
        self._init: Path | None = None

    async def recover(self) -> None:
        """Read what is there; finish what was begun, remove what is half-made, and what no record names. Once, before anything else."""
        await trio.to_thread.run_sync(self._recover)

    def _recover(self) -> None:
        make_directory(self._layout.snapshots)
        mounted = mounts_below(self._layout.snapshots)
        for target in mounted:  # nothing of ours stays mounted here: containers are mounted in their bundles
            unmount(target)
        for directory in tuple(self._layout.snapshots.iterdir()):
            if directory == self._empty():
                continue
            info = self._recover_one(directory)
            if info is None:
                logger.info("removing the snapshot %s, which is not complete", directory.name)
                self._take_apart(directory)
            else:
                self._known[info.name] = info
        for info in tuple(self._known.values()):
            if info.parent is not None and info.parent not in self._known:
                logger.error("the snapshot %s lacks its parent %s", info.name, info.parent)

    async def see_init_layer(self) -> None:
        """See that the init layer is what it must be; made anew if it is not. Done at the first mount of a container by the latest."""
        await trio.to_thread.run_sync(self._init_layer)

    def _init_layer(self) -> Path:
        if self._init is None:
            self._init = see_init_layer(self._layout)
        return self._init

    def _recover_one(self, directory: Path) -> SnapshotInfo | None:
        """The snapshot in a directory, if there is a complete one; what a crash has left undone of it is done."""
        info = _read(directory)
        if info is None:
            return None
        place = self._layout.snapshot(info.name)
        if directory != place:  # a commit that has come as far as its record
            if info.kind is not SnapshotKind.COMMITTED or place.exists():
                return None
            logger.info("finishing the commit of the snapshot %s", info.name)
            directory.rename(place)
            sync_directory(self._layout.snapshots)
        parts = _PARTS - {"work"} if info.kind is SnapshotKind.COMMITTED else _PARTS
        for path in tuple(place.iterdir()):
            if path.name not in parts:
                remove_tree(path)
        return info

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

    def is_changing(self, name: str) -> bool:
        """Whether somebody is changing it right now."""
        return name in self._busy

    def files(self, name: str) -> Path:
        """The directory with its own files."""
        return self._layout.snapshot(name) / "fs"

    def layers(self, name: str | None) -> tuple[Path, ...]:
        """The directories of a snapshot and all below it, top first. A view has none of its own, unless it stands on nothing."""
        found = []
        while name is not None:
            info = self.get(name)
            if info.kind is not SnapshotKind.VIEW or info.parent is None:
                found.append(self.files(name))
            name = info.parent
        return tuple(found)

    # -- making -------------------------------------------------------------------------------------------------------

    async def prepare(
        self,
        name: str,
        *,
        parent: str | None,
        owner: SnapshotOwner = SnapshotOwner.CONTAINER,
        labels: Mapping[str, str] | None = None,
    ) -> SnapshotInfo:
        """Make an active snapshot on top of a committed one, or of nothing.

        The record of a container's is not waited for to reach the disk: the container is recorded, and can have it made again.

        Raises:
            AlreadyExists: the name is taken.
            NotFound: there is no such parent.
            FailedPrecondition: the parent is not committed.
        """
        info = self._new(name, SnapshotKind.ACTIVE, parent, owner, labels)
        await self._add(info)
        return info

    async def view(
        self, name: str, *, parent: str | None, owner: SnapshotOwner, labels: Mapping[str, str] | None = None
    ) -> SnapshotInfo:
        """Make a snapshot that reads a committed one, and keeps it.

        Raises:
            AlreadyExists: the name is taken.
            NotFound: there is no such parent.
            FailedPrecondition: the parent is not committed.
        """
        info = self._new(name, SnapshotKind.VIEW, parent, owner, labels)
        await self._add(info)
        return info

    def _new(
        self,
        name: str,
        kind: SnapshotKind,
        parent: str | None,
        owner: SnapshotOwner,
        labels: Mapping[str, str] | None,
    ) -> SnapshotInfo:
        self._check_free(name)
        if parent is not None and self.get(parent).kind is not SnapshotKind.COMMITTED:
            raise FailedPrecondition(
                f"the snapshot {parent} is {self.get(parent).kind.value}: nothing can stand on it",
                hint="commit it first",
            )
        return SnapshotInfo(
            name=name, kind=kind, parent=parent, owner=owner, labels=dict(labels or {}), created_at=time.time_ns()
        )

    def _check_free(self, name: str) -> None:
        if name in self._known or name in self._busy:
            raise AlreadyExists(f"the snapshot {name} exists")

    async def _add(self, info: SnapshotInfo) -> None:
        """Make what is new. It is known from here on, so that its parent stays."""
        like = self.files(info.parent) if info.parent is not None else None
        self._known[info.name] = info
        try:
            if info.owner is SnapshotOwner.CLIENT:
                with self._changing(info.name), trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self._make, info, like, True)
            else:
                self._make(info, like, False)
        except BaseException:
            del self._known[info.name]
            raise
        await trio.lowlevel.checkpoint_if_cancelled()

    def _make(self, info: SnapshotInfo, like: Path | None, durable: bool) -> None:
        directory = self._layout.snapshot(info.name)
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
            if info.owner is SnapshotOwner.CONTAINER:
                make_etc(files, self.layers(info.parent))
            # Last: what has no record is not complete, and a crash makes it go.
            write_atomic(directory / "metadata.json", write_record(info), sync=durable)
            if durable:
                sync_directory(directory.parent)
        except BaseException:
            remove_tree(directory)
            raise

    @contextmanager
    def _changing(self, *names: str) -> Iterator[None]:
        """Nobody else changes these meanwhile."""
        for name in names:
            if name in self._busy:
                raise FailedPrecondition(f"the snapshot {name} is being changed by somebody else", hint="try again")
        self._busy.update(names)
        try:
            yield
        finally:
            self._busy.difference_update(names)

    async def stage(self) -> SnapshotInfo:
        """Make a place to unpack a layer into."""
        await trio.lowlevel.checkpoint()  # before, not behind: who is cancelled there would not learn the name
        info = SnapshotInfo(
            name=f"unpack-{secrets.token_hex(8)}", kind=SnapshotKind.STAGED, parent=None, created_at=time.time_ns()
        )
        self._make(info, None, False)
        self._known[info.name] = info
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
        if parent is not None:
            self.get(parent)
        info = self.get(staged)
        await self._become(
            info, evolve(info, name=name, kind=SnapshotKind.COMMITTED, parent=parent, size_bytes=size_bytes), durable
        )

    async def commit_active(
        self, name: str, target: str, *, size_bytes: int, labels: Mapping[str, str]
    ) -> SnapshotInfo:
        """Make an active snapshot a committed one, which nobody may have mounted any more. Its contents must be durable: see :meth:`sync`.

        Raises:
            AlreadyExists: the name is taken.
            NotFound: there is no such snapshot.
            FailedPrecondition: it is not active.
        """
        info = self.get(name)
        if info.kind is not SnapshotKind.ACTIVE:
            raise FailedPrecondition(f"the snapshot {name} is {info.kind.value}: only an active one can be committed")
        committed = evolve(
            info, name=target, kind=SnapshotKind.COMMITTED, size_bytes=size_bytes, labels=dict(labels), updated_at=0
        )
        await self._become(info, committed, True)
        return committed

    async def _become(self, info: SnapshotInfo, committed: SnapshotInfo, durable: bool) -> None:
        self._check_free(committed.name)
        with self._changing(info.name, committed.name), trio.CancelScope(shield=True):
            self._known[info.name] = evolve(info, parent=committed.parent)  # which stays from here on
            try:
                await trio.to_thread.run_sync(self._commit, info.name, committed, durable)
            except BaseException:
                self._known[info.name] = info
                raise
            del self._known[info.name]
            self._known[committed.name] = committed

    def _commit(self, name: str, committed: SnapshotInfo, durable: bool) -> None:
        directory, place = self._layout.snapshot(name), self._layout.snapshot(committed.name)
        write_atomic(directory / "metadata.json", write_record(committed), sync=durable)
        directory.rename(place)  # from the record on, start-up does the rest
        if durable:
            sync_directory(self._layout.snapshots)
        remove_tree(place / "work")

    async def update(self, name: str, *, labels: Mapping[str, str]) -> SnapshotInfo:
        """Give a snapshot other labels.

        Raises:
            NotFound: there is no such snapshot.
            FailedPrecondition: somebody else is changing it.
        """
        info = evolve(self.get(name), labels=dict(labels), updated_at=time.time_ns())
        record = self._layout.snapshot(name) / "metadata.json"
        with self._changing(name), trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(write_atomic, record, write_record(info))
            self._known[name] = info
        return info

    async def exchange(self, name: str, staged: str, *, allow: Callable[[], None]) -> None:
        """Give a committed snapshot the files of a staged one, in one step; the staged one gets those that it had.

        Args:
            name: The committed one.
            staged: The staged one.
            allow: Asked last, with no wait behind it; raises if somebody uses the files.

        Raises:
            NotFound: one of them does not exist.
            FailedPrecondition: somebody else is changing it.
            OSError: it could not be done, and nothing was.
        """
        info = self.get(name)
        self.get(staged)
        with self._changing(name, staged):
            await self.sync()
            allow()
            make_directory(self.files(name))
            exchange(self.files(name), self.files(staged))
            write_atomic(self._layout.snapshot(name) / "metadata.json", write_record(info))
            sync_directory(self._layout.snapshot(name))

    async def remove(self, name: str) -> int:
        """Remove a snapshot; missing is fine. Returns the bytes that were freed.

        Raises:
            FailedPrecondition: another snapshot stands on it, or somebody is changing it.
        """
        if name not in self._known:
            return 0
        child = next((info.name for info in self._known.values() if info.parent == name), None)
        if child is not None:
            raise FailedPrecondition(f"the snapshot {name} is in use by the snapshot {child}")
        if name in self._busy:
            raise FailedPrecondition(f"the snapshot {name} is being changed by somebody else", hint="try again")
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

    async def mount(self, name: str, target: Path, *, ids: Ids | None = None) -> None:
        """Mount a snapshot and all below it on ``target``, which is made if it is missing: writable if it is active.

        With ``ids`` its files have other owners there; what is written is stored with the owners that a mount without them has.

        Raises:
            NotFound: there is no such snapshot.
            FailedPrecondition: the kernel refused, or there are too many layers.
        """
        self.mount_now(name, target, ids=ids)
        await trio.lowlevel.checkpoint()

    def mount_now(self, name: str, target: Path, *, ids: Ids | None = None) -> None:
        """What :meth:`mount` does, in one step."""
        lower, upper, work = self._directories(name)
        make_directory(target)
        try:
            if ids is None:
                mount_overlay(target, lower=lower, upper=upper, work=work)
            else:
                mount_mapped_overlay(target, lower=lower, upper=upper, work=work, ids=ids)
        except OSError as error:
            if ids is not None and error.errno == errno.EINVAL:
                raise FailedPrecondition(
                    f"the files of {name} cannot be given other owners: the kernel, or the filesystem of {self._layout.root}, maps no ids",
                    hint="Linux 5.19 and later do, with ext4, xfs or btrfs; or leave out --userns",
                ) from error
            raise FailedPrecondition(
                f"the snapshot {name} cannot be mounted: {error.strerror}",
                hint="ross doctor checks whether this host can",
            ) from error

    def mounts(self, name: str) -> SnapshotMount:
        """How a snapshot is mounted.

        Raises:
            NotFound: there is no such snapshot.
            FailedPrecondition: it has more layers than can be mounted.
        """
        lower, upper, work = self._directories(name)
        return SnapshotMount(
            lower=tuple(str(path) for path in lower),
            upper=str(upper) if upper is not None else "",
            work=str(work) if work is not None else "",
            options=tuple(f"{key}={value}" for key, value in OVERLAY_OPTIONS),
        )

    def _directories(self, name: str) -> tuple[tuple[Path, ...], Path | None, Path | None]:
        """What an overlay is made of: the lower ones, top first, the upper one, its work."""
        info = self.get(name)
        lower = self.layers(name)
        upper = work = None
        if info.kind is SnapshotKind.ACTIVE:
            upper, work, lower = lower[0], self._layout.snapshot(name) / "work", lower[1:]
            if info.owner is SnapshotOwner.CONTAINER:
                lower = (self._init_layer(), *lower)
        if len(lower) + (upper is not None) < 2:  # an overlay needs two: an image may have one layer, or none
            lower = (*lower, self._empty())
        if len(lower) > MAX_LAYERS:
            raise FailedPrecondition(
                f"the snapshot {name} has {len(lower)} layers below it, more than the {MAX_LAYERS} that can be mounted",
                hint="put the contents of several layers into one",
            )
        return lower, upper, work

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
    if info.kind in {SnapshotKind.STAGED, SnapshotKind.UNKNOWN} or not (directory / "fs").is_dir():
        return None
    return info
