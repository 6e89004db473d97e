"""``ross stats``: what containers use, once or on and on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import trio
from cyclopts import Parameter

from ross.cli import output
from ross.cli.session import with_engine
from ross.errors import FailedPrecondition, NotFound
from ross.linux.terminal import is_terminal
from ross.model.containers import ContainerFilter, ContainerState
from ross.model.stats import ContainerStats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ross.client import Container, Engine
    from ross.model.containers import ContainerInfo

_HEADINGS: Final = ("CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS")
_FIELDS: Final = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
_ALIVE: Final = frozenset({ContainerState.RUNNING, ContainerState.PAUSED, ContainerState.STOPPING})
_NOT_SEEN: Final = "--"
_TICK_SECONDS: Final = 1.0
_ONCE_SECONDS: Final = 0.5
"""Between the two samples that tell what a container does just now."""
_CLEAR: Final = "\x1b[H\x1b[J"


def stats(
    *container: str,
    all: Annotated[bool, Parameter(name=["--all", "-a"], negative=())] = False,  # noqa: A002 -- the flag's name
    no_stream: Annotated[bool, Parameter(negative=())] = False,
    no_trunc: Annotated[bool, Parameter(negative=())] = False,
    format: str = "table",  # noqa: A002 -- as above
) -> None:
    """Show what containers use of processors, memory and disks, again each second.

    Parameters
    ----------
    container
        Names or ids; all that run, if none is given.
    all
        Also those that do not run.
    no_stream
        Only once.
    no_trunc
        Print ids in full.
    format
        table, json, jsonl, or a template such as '{{.Name}} {{.CPUPerc}}', with 'table ' before it for columns.
    """
    form = output.parse_format(format)

    async def body(engine: Engine) -> None:
        async with trio.open_nursery() as nursery:
            watch = _Watch(engine, container, nursery, all=all)
            await watch.look(_ONCE_SECONDS if no_stream else _TICK_SECONDS)
            await watch.measured()
            redraw = form == "table" and not no_stream and is_terminal(1)
            while True:
                text = _shown(watch.rows, form, no_trunc=no_trunc)
                output.write(f"{_CLEAR}{text}" if redraw else text)
                if no_stream:
                    break
                await trio.sleep(_TICK_SECONDS)
                await watch.look(_TICK_SECONDS)
            nursery.cancel_scope.cancel()

    with_engine(body)


class _Row:
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
        return self.info.state in _ALIVE

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


class _Watch:
    """The containers that are shown, each followed by a task of its own: none waits for another."""

    def __init__(self, engine: Engine, names: Sequence[str], nursery: trio.Nursery, *, all: bool) -> None:  # noqa: A002
        self._engine = engine
        self._names = names
        self._nursery = nursery
        self._all = all
        self._by_id: dict[str, _Row] = {}

    @property
    def rows(self) -> list[_Row]:
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

    async def _named(self) -> list[_Row]:
        if not self._by_id:
            found = [await self._engine.containers.get(name) for name in self._names]
            return [self._row(one, await one.info()) for one in found]
        return [self._row(row.container, await row.container.info()) for row in self.rows]

    async def _listed(self) -> list[_Row]:
        infos = await self._engine.containers.list(ContainerFilter(all=self._all))
        return [self._row(self._engine.containers.get(info.id).now, info) for info in infos]

    def _row(self, container: Container, info: ContainerInfo) -> _Row:
        row = self._by_id.get(info.id) or _Row(container, info)
        row.info = info
        return row


def _shown(rows: Sequence[_Row], form: Any, *, no_trunc: bool) -> str:
    if form in {"json", "jsonl"}:
        return output.records([_plain(row) for row in rows], form)
    fields = [_fields(row, no_trunc=no_trunc) for row in rows]
    if form == "table":
        return output.table(_HEADINGS, [[one[key] for key in _FIELDS] for one in fields])
    return output.rendered(form, fields)


def _plain(row: _Row) -> dict[str, Any]:
    """For programs: numbers as they are counted, and null for what is not known."""
    from ross.oci.codec import to_plain

    known: Any = to_plain(row.sample) if row.sample is not None else {}
    return {
        "id": row.info.id,
        "name": row.info.name,
        "state": row.info.state.value,
        "cpu_percent": round(100 * row.processors, 2) if row.processors is not None else None,
        "memory_percent": round(100 * row.sample.memory_share, 2) if row.sample is not None else None,
        **known,
    }


def _fields(row: _Row, *, no_trunc: bool) -> dict[str, str]:
    """What a template may ask for, under the names of ``docker stats --format``."""
    sample = row.sample if row.alive else ContainerStats(sampled_at=0, elapsed_ns=0)
    processors = row.processors if row.alive else 0.0
    known = {"CPUPerc": _NOT_SEEN, "MemUsage": f"{_NOT_SEEN} / {_NOT_SEEN}", "MemPerc": _NOT_SEEN, "PIDs": _NOT_SEEN}
    known["BlockIO"] = known["MemUsage"]
    if sample is not None:
        memory, io = sample.memory, sample.io
        known = {
            "CPUPerc": f"{100 * processors:.2f}%" if processors is not None else _NOT_SEEN,
            "MemUsage": f"{output.binary_size(memory.used_bytes)} / {output.binary_size(memory.limit_bytes)}",
            "MemPerc": f"{100 * sample.memory_share:.2f}%",
            "BlockIO": f"{output.size(io.read_bytes)} / {output.size(io.written_bytes)}",
            "PIDs": str(sample.pids.count),
        }
    identity = row.info.id if no_trunc else row.info.id[:12]
    return {"ID": identity, "Container": identity, "Name": row.info.name, "NetIO": _NOT_SEEN, **known}
