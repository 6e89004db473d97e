"""``ross stats``: what containers use, once or on and on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import trio
from cyclopts import Parameter

from ross.cli import output
from ross.cli.session import with_engine
from ross.cli.watch import Watch
from ross.linux.terminal import is_terminal
from ross.model.stats import ContainerStats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ross.cli.watch import Row
    from ross.client import Engine

_HEADINGS: Final = ("CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS")
_FIELDS: Final = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
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
            watch = Watch(engine, container, nursery, all=all)
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


def _shown(rows: Sequence[Row], form: Any, *, no_trunc: bool) -> str:
    if form in {"json", "jsonl"}:
        return output.records([_plain(row) for row in rows], form)
    fields = [_fields(row, no_trunc=no_trunc) for row in rows]
    if form == "table":
        return output.table(_HEADINGS, [[one[key] for key in _FIELDS] for one in fields])
    return output.rendered(form, fields, dict(zip(_FIELDS, _HEADINGS, strict=True)))


def _plain(row: Row) -> dict[str, Any]:
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


def _fields(row: Row, *, no_trunc: bool) -> dict[str, str]:
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
