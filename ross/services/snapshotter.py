"""Snapshots: directories that stack up to a root filesystem.

A *committed* snapshot is one layer and never changes; those of images are named by the chain ID of all layers up to it (``sha256-<hex>``).
An *active* one is writable: the top of a container, named by the container's id, or what a client builds. A *view* reads a committed one.
A *staged* one is a layer that is being unpacked, and becomes committed. Its record says who owns it: what no record names is removed at
start-up, as is everything staged; what has one is removed by its owner, or by the collector if nobody is. Mounting stacks them by overlay
(:mod:`ross.services.snapshot_mounts`); between the writable top of a container and its image goes the init layer
(:mod:`ross.services.init_layer`).

What there is, and who is changing it, is kept here; how it is on the disk, in :mod:`ross.services.snapshot_directories`.
What clients may do with all this is the business of :mod:`ross.services.snapshots`.
"""

from __future__ import annotations

import logging
import secrets
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio
from attrs import evolve

from ross.errors import AlreadyExists, FailedPrecondition, NotFound
from ross.linux.files import remove_or_leave
from ross.model.snapshots import SnapshotInfo, SnapshotKind, SnapshotOwner
from ross.services.init_layer import see_init_layer
from ross.services.snapshot_directories import (
    commit_directory,
    exchange_files,
    make_snapshot,
    recover_snapshots,
    set_aside,
    sync_snapshots,
    write_metadata,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ross.layout import StateLayout
    from ross.oci.digest import Digest

logger = logging.getLogger(__name__)

_REMOVING_THREADS: Final = 8


def committed_name(chain_id: Digest) -> str:
    """The name of the snapshot that holds these layers."""
    return f"{chain_id.algorithm}-{chain_id.encoded}"


class Snapshotter:
    """The snapshots. What exists is known from memory; the disk is read once, at :meth:`recover`.

    What takes its time is done in a thread, while the names in question stand in ``_busy``: nobody else changes these meanwhile.
    """

    def __init__(self, layout: StateLayout) -> None:
        self.layout = layout
        self._known: dict[str, SnapshotInfo] = {}
        self._busy: set[str] = set()
        self._removing = trio.CapacityLimiter(_REMOVING_THREADS)
        """Threads of its own: who has filled a snapshot with a million files has nobody but removals wait for them."""
        self._init: Path | None = None

    async def recover(self) -> None:
        """Read what is there; finish what was begun, remove what is half-made, and what no record names. Once, before anything else."""
        found = await trio.to_thread.run_sync(recover_snapshots, self.layout)
        self._known.update((info.name, info) for info in found)
        for info in found:
            if info.parent is not None and info.parent not in self._known:
                logger.error("the snapshot %s lacks its parent %s", info.name, info.parent)

    async def see_init_layer(self) -> None:
        """See that the init layer is what it must be; made anew if it is not. Done at the first mount of a container by the latest."""
        await trio.to_thread.run_sync(self.init_layer)

    def init_layer(self) -> Path:
        """The directory of the init layer. Blocks until it is what it must be."""
        if self._init is None:
            self._init = see_init_layer(self.layout)
        return self._init

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
        return self.layout.snapshot(name) / "fs"

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
                    await trio.to_thread.run_sync(lambda: make_snapshot(self.layout, info, like=like, durable=True))
            else:
                etc_below = self.layers(info.parent) if info.owner is SnapshotOwner.CONTAINER else None
                make_snapshot(self.layout, info, like=like, etc_below=etc_below, durable=False)
        except BaseException:
            del self._known[info.name]
            raise
        await trio.lowlevel.checkpoint_if_cancelled()

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
        make_snapshot(self.layout, info, durable=False)
        self._known[info.name] = info
        return info

    async def sync(self) -> None:
        """Make the contents of all snapshots durable."""
        await trio.to_thread.run_sync(sync_snapshots, self.layout)

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
                await trio.to_thread.run_sync(
                    lambda: commit_directory(self.layout, info.name, committed, durable=durable)
                )
            except BaseException:
                self._known[info.name] = info
                raise
            del self._known[info.name]
            self._known[committed.name] = committed

    async def update(self, name: str, *, labels: Mapping[str, str]) -> SnapshotInfo:
        """Give a snapshot other labels.

        Raises:
            NotFound: there is no such snapshot.
            FailedPrecondition: somebody else is changing it.
        """
        info = evolve(self.get(name), labels=dict(labels), updated_at=time.time_ns())
        with self._changing(name), trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(write_metadata, self.layout, info)
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
            exchange_files(self.layout, info, staged)

    async def remove(self, name: str) -> int:
        """Remove a snapshot; missing is fine. Returns the bytes that were freed. What of it cannot be removed is left in the trash.

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
        doomed = set_aside(self.layout, name)
        del self._known[name]
        freed = 0
        with trio.CancelScope(shield=True):
            freed += await trio.to_thread.run_sync(remove_or_leave, doomed, limiter=self._removing)
        return freed
