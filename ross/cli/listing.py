"""``ross ps``."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from attrs import evolve
from cyclopts import Parameter

from ross.cli import output
from ross.cli.session import with_engine
from ross.errors import InvalidArgument

if TYPE_CHECKING:
    from ross.client import Engine
    from ross.model.containers import ContainerInfo

_COMMAND_WIDTH = 20


def ps(
    *,
    all: Annotated[bool, Parameter(name=["--all", "-a"], negative=())] = False,  # noqa: A002 -- the flag's name
    filter: Annotated[tuple[str, ...], Parameter(name=["--filter", "-f"], negative=())] = (),  # noqa: A002 -- as above
    last: Annotated[int, Parameter(name=["--last", "-n"])] = 0,
    latest: Annotated[bool, Parameter(name=["--latest", "-l"], negative=())] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative=())] = False,
    size: Annotated[bool, Parameter(name=["--size", "-s"], negative=())] = False,
    no_trunc: Annotated[bool, Parameter(negative=())] = False,
    format: str = "table",  # noqa: A002 -- the flag's name
) -> None:
    """List containers.

    Parameters
    ----------
    all
        Also those that do not run.
    filter
        name=PATTERN (a regular expression), id=BEGINNING, status=STATE, exited=CODE, label=KEY[=VALUE], ancestor=IMAGE, before=CONTAINER,
        since=CONTAINER, health=STATE (starting, healthy, unhealthy or none) or volume=PATH, of either side of a mount. May be repeated.
    last
        The so many that were created last, whether they run or not.
    latest
        The one that was created last.
    quiet
        Print ids only.
    size
        Show what they have written.
    no_trunc
        Print ids and commands in full.
    format
        table, json, jsonl, or a template such as '{{.ID}} {{.Names}}', with 'table ' before it for columns.
    """
    from ross.cli.parse import parse_container_filter

    if last < 0:
        raise InvalidArgument(f"--last takes a number of containers, not {last}")
    form = output.parse_format(format)
    parsed, last = parse_container_filter(filter), 1 if latest else last
    patterns = [_pattern(text) for text in parsed.names]
    # Names are matched here: a pattern can take for ever, and the daemon is everybody's.
    wanted = evolve(parsed, names=(), all=all or last > 0, last=0 if patterns else last, sizes=size)

    async def body(engine: Engine) -> None:
        found = await engine.containers.list(wanted)
        if patterns:
            named = (
                info for info in found if any(one.search(info.name) or one.search(f"/{info.name}") for one in patterns)
            )
            found = tuple(named)[: last or None]
        if quiet:
            output.write("".join(f"{info.id if no_trunc else info.id[:12]}\n" for info in found))
        elif isinstance(form, str) and form != "table":
            output.write(output.records(found, form))
        elif not isinstance(form, str):
            output.write(output.rendered(form, [_fields(info, no_trunc=no_trunc) for info in found]))
        else:
            headings = ("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "NAMES", *(("SIZE",) if size else ()))
            output.write(output.table(headings, [_row(info, no_trunc=no_trunc, size=size) for info in found]))

    with_engine(body)


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise InvalidArgument(
            f"{text!r} is no pattern of names: {error}", hint="write name=web or name=^web$"
        ) from None


def _row(info: ContainerInfo, *, no_trunc: bool, size: bool) -> tuple[str, ...]:
    fields = _fields(info, no_trunc=no_trunc)
    row = tuple(fields[key] for key in ("ID", "Image", "Command", "RunningFor", "Status", "Names"))
    return (*row, fields["Size"] or "unknown") if size else row


def _fields(info: ContainerInfo, *, no_trunc: bool) -> dict[str, Any]:
    """What a template may ask for, under the names of ``docker ps --format``."""
    command = " ".join(info.command)
    if not no_trunc and len(command) > _COMMAND_WIDTH:
        command = command[: _COMMAND_WIDTH - 1] + "…"
    return {
        "ID": info.id if no_trunc else info.id[:12],
        "Image": info.image.removeprefix("docker.io/").removeprefix("library/"),
        "Command": f'"{command}"',
        "CreatedAt": datetime.fromtimestamp(info.created_at // 10**9, tz=UTC).isoformat(sep=" "),
        "RunningFor": f"{output.ago(info.created_at)} ago",
        "State": {"stopped": "exited"}.get(info.state.value, info.state.value),
        "Status": status(info),
        "Names": info.name,
        "Labels": ",".join(f"{key}={value}" for key, value in info.spec.labels.items()),
        "Mounts": ",".join(mount.source for mount in info.spec.mounts),
        "Networks": info.spec.network.value,
        "Size": output.size(info.written_bytes) if info.written_bytes >= 0 else "",
    }


def health(info: ContainerInfo) -> str:
    """What its checks say of a container that runs, behind a space; nothing without any."""
    if info.health is None:
        return ""
    state = info.health.state.value
    return f" (health: {state})" if state == "starting" else f" ({state})"


def status(info: ContainerInfo) -> str:
    """How it is, as people say it: ``Up 3 minutes``, ``Exited (0) 2 minutes ago``."""
    state = info.state.value
    if state in {"running", "paused", "stopping"}:
        text = f"Up {output.ago(info.started_at)}" + (
            health(info) if state == "running" else f" ({state.capitalize()})"
        )
    elif state == "restarting" and info.outcome is not None:
        text = f"Restarting ({info.outcome.exit_code}) {output.ago(info.outcome.finished_at)} ago"
    elif state == "stopped" and info.outcome is not None:
        text = f"Exited ({info.outcome.exit_code}) {output.ago(info.outcome.finished_at)} ago"
        if info.outcome.oom:
            text += " (out of memory)"
    else:
        return state.capitalize()  # why it could not be started is in inspect: State.Error
    return f"{text}; {info.error}" if info.error else text
