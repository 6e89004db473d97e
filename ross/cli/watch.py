"""Containers that are looked at again and again, each measured by a task of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from ross.errors import FailedPrecondition, NotFound
from ross.model.containers import ContainerFilter, ContainerState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ross.client import Container, Engine
    from ross.model.containers import ContainerInfo
    from ross.model.stats import ContainerStats

ALIVE: Final = frozenset({ContainerState.RUNNING, ContainerState.PAUSED, ContainerState.STOPPING})


class Row:
    """One container, and the last two samples of it."""

    def __init__(self, container: Container, info: ContainerInfo) -> None:
        self.container = container
        self.info = info
        self.sample: ContainerStats | None = None
        self.processors: float | None = None
        self.followed = False
        self.measured = trio.Event()
        """Set when there are two samples, or will be none."""

    @property
    def alive(self) -> bool:
        return self.info.state in ALIVE

    async def follow(self, interval: float) -> None:
        """Take its samples as they come, until it has stopped."""
        try:
            async with self.container.stats(interval=interval) as samples:
                async for sample in samples:
                    if self.sample is not None:
                        self.processors = sample.processors_since(self.sample)
                        self.measured.set()
                    self.sample = sample
        except (FailedPrecondition, NotFound):
            pass  # it has just ended
        finally:
            self.sample = self.processors = None
            self.followed = False
            self.measured.set()


class Watch:
    """The containers that are shown, each followed by a task of its own: none waits for another."""

    def __init__(self, engine: Engine, names: Sequence[str], nursery: trio.Nursery, *, all: bool) -> None:  # noqa: A002
        self.all = all
        """Also those that do not run."""
        self._engine = engine
        self._names = names
        self._nursery = nursery
        self._by_id: dict[str, Row] = {}

    @property
    def rows(self) -> list[Row]:
        return list(self._by_id.values())

    async def look(self, interval: float) -> None:
        """See which containers there are, and follow those that run.

        Raises:
            NotFound: one that was named is not there.
        """
        found = await self._named() if self._names else await self._listed()
        self._by_id = {row.info.id: row for row in found}
        for row in found:
            if row.alive and not row.followed:
                row.followed, row.measured = True, trio.Event()
                self._nursery.start_soon(row.follow, interval)

    async def measured(self) -> None:
        """Wait until all that run are measured."""
        for row in self.rows:
            if row.followed:
                await row.measured.wait()

    async def _named(self) -> list[Row]:
        if not self._by_id:
            found = [await self._engine.containers.get(name) for name in self._names]
            return [self._row(one, await one.info()) for one in found]
        return [self._row(row.container, await row.container.info()) for row in self.rows]

    async def _listed(self) -> list[Row]:
        infos = await self._engine.containers.list(ContainerFilter(all=self.all))
        return [self._row(self._engine.containers.get(info.id).now, info) for info in infos]

    def _row(self, container: Container, info: ContainerInfo) -> Row:
        row = self._by_id.get(info.id) or Row(container, info)
        row.info = info
        return row
