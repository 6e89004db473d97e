"""Looking after the root of a daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ross.client.connection import answer
from ross.model.storage import CheckProgress, CheckReport, DiskUsage, Pruned, PruneOptions
from ross.wire.convert import from_wire, to_wire
from ross.wire.schema import schema
from ross.wire.serving import Served

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class CheckReceiver(Served, schema.CheckSink.Server):  # type: ignore[misc]  # the schema is loaded at run time
    """Hands a check's progress to a function."""

    def __init__(self, report: Callable[[CheckProgress], None]) -> None:
        self._report = report

    async def update_context(self, context: Any) -> None:
        self._report(from_wire(CheckProgress, context.params.progress))


class Storage:
    """What a daemon keeps on its disk."""

    def __init__(self, capability: Any) -> None:
        self._capability = capability

    async def usage(self, *, items: bool = False) -> DiskUsage:
        """What everything below the root occupies; with ``items`` also thing by thing."""
        return from_wire(DiskUsage, (await answer(self._capability.usage(items=items))).usage)

    async def check(
        self, *, repair: bool = False, on_progress: Callable[[CheckProgress], None] | None = None
    ) -> CheckReport:
        """Hash all content again and compare all unpacked layers with it. Cancelled, it stops at once.

        Args:
            repair: Put right what can be.
            on_progress: Told how far it has come.
        """
        arguments: dict[str, Any] = {"repair": repair}
        if on_progress is not None:
            arguments["progress"] = CheckReceiver(on_progress)
        return from_wire(CheckReport, (await answer(self._capability.check(**arguments))).report)

    async def prune(
        self,
        *,
        containers: bool = True,
        images: bool = True,
        all: bool = False,  # noqa: A002 -- as the CLI's flag
        until: int = 0,
        labels: Sequence[str] = (),
        without_labels: Sequence[str] = (),
    ) -> Pruned:
        """Remove what nobody uses.

        Args:
            containers: Containers that do not run.
            images: What no name and no container leads to, and what is left of downloads.
            all: With ``images``: also named images that no container is made of.
            until: Only what was made before this time, in nanoseconds since the epoch.
            labels: Only what has all of these, ``key`` or ``key=value``.
            without_labels: Only what has none of these.
        """
        options = PruneOptions(
            containers=containers,
            images=images,
            all=all,
            until=until,
            labels=tuple(labels),
            without_labels=tuple(without_labels),
        )
        return from_wire(Pruned, (await answer(self._capability.prune(options=to_wire(options)))).pruned)
