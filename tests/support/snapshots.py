"""Snapshots as the contract suite uses them: the daemon's service in this process, or a client's view of a real daemon."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Protocol

import ross
from ross.layout import StateLayout
from ross.linux.mount import mount_overlay, unmount
from ross.model.snapshots import (
    SnapshotChange,
    SnapshotFilter,
    SnapshotInfo,
    SnapshotKind,
    SnapshotMount,
    SnapshotUsage,
)
from ross.services.snapshots import Snapshots
from ross.services.snapshotter import Snapshotter

Labels = Mapping[str, str]


class SnapshotsUnderTest(Protocol):
    """What the service and the client have in common."""

    async def stat(self, name: str) -> SnapshotInfo: ...
    async def list(
        self,
        *,
        prefix: str = "",
        kind: SnapshotKind | None = None,
        parent: str | None = None,
        labels: Sequence[str] = (),
    ) -> tuple[SnapshotInfo, ...]: ...
    async def prepare(self, name: str, *, parent: str = "", labels: Labels | None = None) -> SnapshotInfo: ...
    async def view(self, name: str, *, parent: str = "", labels: Labels | None = None) -> SnapshotInfo: ...
    async def commit(self, name: str, target: str, *, labels: Labels | None = None) -> SnapshotInfo: ...
    async def remove(self, name: str) -> int: ...
    async def update(self, name: str, *, labels: Labels | None = None, forget: Sequence[str] = ()) -> SnapshotInfo: ...
    async def usage(self, name: str) -> SnapshotUsage: ...
    async def mounts(self, name: str) -> SnapshotMount: ...
    async def changes(self, name: str, *, base: str = "") -> tuple[SnapshotChange, ...]: ...


class OfService:
    """The service, with what it answers at once as coroutines too."""

    def __init__(self, service: Snapshots) -> None:
        self._service = service
        self.prepare, self.view, self.commit = service.prepare, service.view, service.commit
        self.remove, self.update, self.usage = service.remove, service.update, service.usage

    async def stat(self, name: str) -> SnapshotInfo:
        return self._service.stat(name)

    async def list(
        self,
        *,
        prefix: str = "",
        kind: SnapshotKind | None = None,
        parent: str | None = None,
        labels: Sequence[str] = (),
    ) -> tuple[SnapshotInfo, ...]:
        kind = kind or SnapshotKind.UNKNOWN
        wanted = SnapshotFilter(name_prefix=prefix, kind=kind, parent=parent or "", labels=tuple(labels))
        return self._service.list(wanted)

    async def mounts(self, name: str) -> SnapshotMount:
        return self._service.mounts(name)

    async def changes(self, name: str, *, base: str = "") -> tuple[SnapshotChange, ...]:
        found: list[SnapshotChange] = []

        async def write(batch: Sequence[SnapshotChange]) -> None:
            found.extend(batch)

        await self._service.diff(name, base=base, write=write)
        return tuple(found)


class OfClient:
    """The client library's."""

    def __init__(self, client: ross.Snapshots) -> None:
        self._client = client
        self.stat, self.list, self.usage, self.mounts = client.stat, client.list, client.usage, client.mounts
        self.prepare, self.view, self.commit = client.prepare, client.view, client.commit
        self.remove, self.update = client.remove, client.update

    async def changes(self, name: str, *, base: str = "") -> tuple[SnapshotChange, ...]:
        async with self._client.diff(name, base=base or None) as found:
            return tuple([change async for change in found])


@asynccontextmanager
async def open_service(root: Path) -> AsyncIterator[SnapshotsUnderTest]:
    snapshotter = Snapshotter(StateLayout(root=root))
    await snapshotter.recover()
    yield OfService(Snapshots(snapshotter))


@asynccontextmanager
async def open_client(socket: Path) -> AsyncIterator[SnapshotsUnderTest]:
    async with ross.connect(socket) as engine:
        yield OfClient(engine.snapshots)


async def clear(snapshots: SnapshotsUnderTest, *, prefix: str) -> None:
    """Remove all whose names begin so, those that stand on others first."""
    while found := await snapshots.list(prefix=prefix):
        parents = {info.parent for info in found}
        for info in found:
            if info.name not in parents:
                await snapshots.remove(info.name)


@contextmanager
def mounted(how: SnapshotMount) -> Iterator[Path]:
    """Mount as the description says, for the length of a block."""
    upper, work = (Path(path) if path else None for path in (how.upper, how.work))
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory)
        mount_overlay(target, lower=[Path(path) for path in how.lower], upper=upper, work=work)
        try:
            yield target
        finally:
            unmount(target)
