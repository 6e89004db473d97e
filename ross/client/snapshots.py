"""Snapshots: building on the layers of images, and looking into what containers and clients have made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ross.client.connection import all_of, answer
from ross.client.receive import ChangeReceiver, receiving
from ross.model.snapshots import (
    SnapshotChange,
    SnapshotFilter,
    SnapshotInfo,
    SnapshotKind,
    SnapshotMount,
    SnapshotUsage,
)
from ross.wire.convert import from_wire, to_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager


class Snapshots:
    """The snapshots of a daemon. Those that are made here stay until they are removed here."""

    def __init__(self, capability: Any) -> None:
        self._capability = capability  # called with parameters by position: pycapnp has a parameter ``name`` of its own

    async def stat(self, name: str) -> SnapshotInfo:
        """What is known of one.

        Raises:
            NotFound: there is none of this name.
        """
        return _info(await answer(self._capability.stat(name)))

    async def list(
        self,
        *,
        prefix: str = "",
        kind: SnapshotKind | None = None,
        parent: str | None = None,
        labels: Sequence[str] = (),
    ) -> tuple[SnapshotInfo, ...]:
        """Those for which all of this is true, by name.

        Args:
            prefix: What their names begin with.
            kind: Of this kind; of any if absent.
            parent: On top of this one; of any if absent.
            labels: Each ``key=value``, or ``key`` for a label of any value.
        """
        wanted = SnapshotFilter(
            name_prefix=prefix, kind=kind or SnapshotKind.UNKNOWN, parent=parent or "", labels=tuple(labels)
        )
        return await all_of(self._capability.list(filter=to_wire(wanted)), SnapshotInfo, "snapshots")

    async def prepare(
        self, name: str, *, parent: str | None = None, labels: Mapping[str, str] | None = None
    ) -> SnapshotInfo:
        """Make one to write into, on top of a committed one, or of nothing.

        Raises:
            InvalidArgument: the name or a label is not allowed.
            AlreadyExists: the name is taken.
            NotFound: there is no such parent.
            FailedPrecondition: the parent is not committed.
        """
        return await self._made(self._capability.prepare, name, parent, labels)

    async def view(
        self, name: str, *, parent: str | None = None, labels: Mapping[str, str] | None = None
    ) -> SnapshotInfo:
        """Make one that only reads a committed one, and keeps it.

        Raises:
            As :meth:`prepare`.
        """
        return await self._made(self._capability.view, name, parent, labels)

    async def _made(self, method: Any, name: str, parent: str | None, labels: Mapping[str, str] | None) -> SnapshotInfo:
        return _info(await answer(method(name, parent or "", _pairs(labels))))

    async def commit(self, name: str, target: str, *, labels: Mapping[str, str] | None = None) -> SnapshotInfo:
        """Make an active one a committed one, with another name and labels; unmount it first.

        Raises:
            InvalidArgument: the new name or a label is not allowed.
            AlreadyExists: the new name is taken.
            NotFound: there is no such snapshot.
            FailedPrecondition: it is not active, or belongs to a container.
        """
        return _info(await answer(self._capability.commit(name, target, _pairs(labels))))

    async def remove(self, name: str) -> int:
        """Remove one; unmount it first. Returns the bytes that were freed.

        Raises:
            NotFound: there is none of this name.
            FailedPrecondition: another stands on it, or it belongs to an image or a container.
        """
        return int((await answer(self._capability.remove(name))).freedBytes)

    async def update(
        self, name: str, *, labels: Mapping[str, str] | None = None, forget: Sequence[str] = ()
    ) -> SnapshotInfo:
        """Set labels, and take away those named by ``forget``; others stay.

        Raises:
            InvalidArgument: a label is not allowed.
            NotFound: there is none of this name.
        """
        return _info(await answer(self._capability.update(name, _pairs(labels), list(forget))))

    async def usage(self, name: str) -> SnapshotUsage:
        """What it takes of the disk by itself, without those below.

        Raises:
            NotFound: there is none of this name.
        """
        return from_wire(SnapshotUsage, (await answer(self._capability.usage(name))).usage)

    async def mounts(self, name: str) -> SnapshotMount:
        """How it is to be mounted.

        Raises:
            Denied: you are not root.
            NotFound: there is none of this name.
            FailedPrecondition: it has more layers than can be mounted.
        """
        return from_wire(SnapshotMount, (await answer(self._capability.mounts(name))).mount)

    def diff(self, name: str, *, base: str | None = None) -> AbstractAsyncContextManager[AsyncIterator[SnapshotChange]]:
        """What one has other than another, or than its parent: ``async with snapshots.diff(name) as changes: async for change in ...``

        Each directory comes before what is inside of it.

        Raises:
            NotFound: in the iteration, there is no such snapshot.
        """
        return receiving(lambda sink: self._capability.diff(name, base or "", sink), ChangeReceiver)


def _info(answered: Any) -> SnapshotInfo:
    return from_wire(SnapshotInfo, answered.snapshot)


def _pairs(labels: Mapping[str, str] | None) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in (labels or {}).items()]
