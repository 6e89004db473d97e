"""``ross ps``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

from attrs import evolve
from cyclopts import Parameter

from ross.cli import output
from ross.cli.session import with_engine
from ross.cli.template_values import Fields
from ross.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ross.client import Engine
    from ross.model.containers import ContainerInfo
    from ross.oci.digest import Digest

_COMMAND_WIDTH: Final = 20
_MOUNT_WIDTH: Final = 15
HEADINGS: Final = {
    "ID": "CONTAINER ID",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "LocalVolumes": "LOCAL VOLUMES",
}
"""Where they are not the names of the fields."""


class ContainerRow(Fields):
    """A container, under the names of ``docker ps --format``."""

    methods: ClassVar[Mapping[str, Callable[..., Any]]] = {"Label": lambda row, name: row.labels.get(name, "")}

    def __init__(self, fields: Mapping[str, Any], labels: Mapping[str, str]) -> None:
        super().__init__(fields)
        self.labels = labels


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
        Show what they have written, and how much that is with their images.
    no_trunc
        Print ids and commands in full.
    format
        table, json, jsonl, or a template such as '{{.ID}} {{.Names}}', with 'table ' before it for columns.
    """
    from ross.cli.parse import parse_container_filter

    if last < 0:
        raise InvalidArgument(f"--last takes a number of containers, not {last}")
    form = output.parse_format(format)
    size |= not isinstance(form, str) and form.asks_for("Size") and not quiet
    parsed, last = parse_container_filter(filter), 1 if latest else last
    patterns = [_pattern(text) for text in parsed.names]
    # Names are matched here: a pattern can take for ever, and the daemon is everybody's.
    wanted = evolve(parsed, names=(), all=all or last > 0, last=0 if patterns else last, sizes=size)

    async def body(engine: Engine) -> None:
        found = await engine.containers.list(wanted)
        if patterns:
            found = _named(found, patterns)[: last or None]
        if quiet:
            output.write("".join(f"{info.id if no_trunc else info.id[:12]}\n" for info in found))
            return
        if isinstance(form, str) and form != "table":
            output.write(output.records(found, form))
            return
        below = {one.manifest: one.unpacked_bytes for one in await engine.images.list()} if size else None
        rows = [_fields(info, below, no_trunc=no_trunc) for info in found]
        if not isinstance(form, str):
            output.write(output.rendered(form, rows, HEADINGS))
        else:
            keys = ("ID", "Image", "Command", "RunningFor", "Status", "Names", *(("Size",) if size else ()))
            headings = ("CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "NAMES", *(("SIZE",) if size else ()))
            output.write(output.table(headings, [[row[key] for key in keys] for row in rows]))

    with_engine(body)


def _named(infos: Iterable[ContainerInfo], patterns: Sequence[re.Pattern[str]]) -> tuple[ContainerInfo, ...]:
    """Those whose name, with or without a slash before it, one of the patterns finds something in."""
    return tuple(
        info for info in infos if any(one.search(info.name) or one.search(f"/{info.name}") for one in patterns)
    )


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise InvalidArgument(
            f"{text!r} is no pattern of names: {error}", hint="write name=web or name=^web$"
        ) from None


def _fields(info: ContainerInfo, below: Mapping[Digest, int] | None, *, no_trunc: bool) -> ContainerRow:
    """What a template may ask for; ``below`` is how large images are, where sizes are wanted."""
    cut = (lambda text, _width: text) if no_trunc else _cut
    mounts = [mount.source for mount in info.spec.mounts if mount.source]
    fields = {
        "ID": info.id if no_trunc else info.id[:12],
        "Image": info.image.removeprefix("docker.io/").removeprefix("library/"),
        "Command": f'"{cut(" ".join(info.command), _COMMAND_WIDTH)}"',
        "CreatedAt": output.moment(info.created_at),
        "RunningFor": f"{output.ago(info.created_at)} ago",
        "State": {"stopped": "exited"}.get(info.state.value, info.state.value),
        "Status": status(info),
        "Names": info.name,
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(info.spec.labels.items())),
        "Mounts": ",".join(cut(mount, _MOUNT_WIDTH) for mount in mounts),
        "LocalVolumes": "0",
        "Networks": info.spec.network.value,
        "Ports": "",
        "Size": _size(info, below) if below is not None else "",
    }
    return ContainerRow(fields, info.spec.labels)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _size(info: ContainerInfo, below: Mapping[Digest, int]) -> str:
    if info.written_bytes < 0:
        return "unknown"
    written, image = output.size(info.written_bytes), below.get(info.manifest)
    return f"{written} (virtual {output.size(image + info.written_bytes)})" if image is not None else written


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
