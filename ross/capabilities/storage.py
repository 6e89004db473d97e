"""``Storage``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ross.capabilities.progress import open_check_progress
from ross.model.storage import PruneOptions
from ross.wire.convert import from_wire, to_wire
from ross.wire.schema import schema
from ross.wire.serving import Served

if TYPE_CHECKING:
    from ross.services.storage import Storage


class StorageServer(Served, schema.Storage.Server):  # type: ignore[misc]  # the schema is loaded at run time
    """Looking after the root."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def usage_context(self, context: Any) -> None:
        context.results.usage = to_wire(await self._storage.usage.measure(items=context.params.items))

    async def check_context(self, context: Any) -> None:
        params = context.params
        repair = bool(params.repair)
        async with open_check_progress(params.progress if params._has("progress") else None) as report:  # noqa: SLF001
            checked = await self._storage.checker.check(repair=repair, progress=report)
        context.results.report = to_wire(checked)

    async def prune_context(self, context: Any) -> None:
        options = from_wire(PruneOptions, context.params.options)
        context.results.pruned = to_wire(await self._storage.pruner.prune(options))
