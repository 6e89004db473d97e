"""``Snapshots``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ross.capabilities.pages import Pages, SnapshotPagesServer
from ross.errors import Denied
from ross.model.snapshots import SnapshotChange, SnapshotFilter, SnapshotInfo
from ross.wire.convert import from_wire, to_wire
from ross.wire.schema import schema
from ross.wire.serving import Served

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ross.services.snapshots import Snapshots

_PAGES: Final[Pages[SnapshotInfo]] = Pages("snapshots", SnapshotPagesServer)


class SnapshotsServer(Served, schema.Snapshots.Server):  # type: ignore[misc]  # the schema is loaded at run time
    """The snapshots, for one connection."""

    def __init__(self, snapshots: Snapshots, *, for_root: bool) -> None:
        self._snapshots = snapshots
        self._for_root = for_root

    async def stat_context(self, context: Any) -> None:
        context.results.snapshot = to_wire(self._snapshots.stat(context.params.name))

    async def list_context(self, context: Any) -> None:
        params = context.params
        wanted = from_wire(SnapshotFilter, params.filter) if params._has("filter") else SnapshotFilter()  # noqa: SLF001 -- pycapnp's way to ask for a null pointer
        _PAGES.answer(context.results, self._snapshots.list(wanted))

    async def prepare_context(self, context: Any) -> None:
        params = context.params
        info = await self._snapshots.prepare(params.name, parent=params.parent, labels=_labels(params.labels))
        context.results.snapshot = to_wire(info)

    async def view_context(self, context: Any) -> None:
        params = context.params
        info = await self._snapshots.view(params.name, parent=params.parent, labels=_labels(params.labels))
        context.results.snapshot = to_wire(info)

    async def commit_context(self, context: Any) -> None:
        params = context.params
        info = await self._snapshots.commit(params.name, params.target, labels=_labels(params.labels))
        context.results.snapshot = to_wire(info)

    async def remove_context(self, context: Any) -> None:
        context.results.freedBytes = await self._snapshots.remove(context.params.name)

    async def update_context(self, context: Any) -> None:
        params = context.params
        info = await self._snapshots.update(params.name, labels=_labels(params.labels), forget=tuple(params.forget))
        context.results.snapshot = to_wire(info)

    async def usage_context(self, context: Any) -> None:
        context.results.usage = to_wire(await self._snapshots.usage(context.params.name))

    async def mounts_context(self, context: Any) -> None:
        if not self._for_root:
            raise Denied("how a snapshot is mounted is told to root only", hint="run this as root")
        context.results.mount = to_wire(self._snapshots.mounts(context.params.name))

    async def diff_context(self, context: Any) -> None:
        params, sink = context.params, context.params.sink

        async def write(found: Sequence[SnapshotChange]) -> None:
            await sink.write(changes=[to_wire(change) for change in found])

        await self._snapshots.diff(params.name, base=params.base, write=write)


def _labels(pairs: Any) -> dict[str, str]:
    return {pair.key: pair.value for pair in pairs}
