"""``ross logs``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from ross.cli import output
from ross.cli.parse import parse_time
from ross.cli.session import with_engine
from ross.errors import InvalidArgument

if TYPE_CHECKING:
    from ross.client import Container, Engine
    from ross.model.logs import LogOptions


def logs(
    container: str,
    /,
    *,
    follow: Annotated[bool, Parameter(name=["--follow", "-f"], negative=())] = False,
    tail: Annotated[str, Parameter(name=["--tail", "-n"])] = "all",
    since: str = "",
    until: str = "",
    timestamps: Annotated[bool, Parameter(name=["--timestamps", "-t"], negative=())] = False,
    stream: Literal["all", "stdout", "stderr"] = "all",
    stdout: Annotated[bool, Parameter(negative=())] = False,
    stderr: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Print a container's log: its output on ours, its error output on our error output.

    Parameters
    ----------
    container
        Name or id.
    follow
        Go on until it has stopped.
    tail
        The last so many lines of what the rest asks for, or all.
    since
        From this time on: 2026-01-31T12:00:00Z, seconds since the epoch, or how long ago, as 10m or 1h30m.
    until
        Up to this time, in the same forms.
    timestamps
        Print the time before each line.
    stream
        stdout or stderr alone.
    stdout
        The same as --stream stdout; with --stderr, all.
    stderr
        The same as --stream stderr.
    """
    from ross.model.logs import LogOptions

    if stream != "all" and (stdout or stderr):
        raise InvalidArgument("--stream is given together with --stdout or --stderr", hint="leave one of them out")
    options = LogOptions(
        follow=follow,
        tail=_lines(tail),
        since=parse_time(since) if since else 0,
        until=parse_time(until) if until else 0,
        stdout=stream == "stdout" or stdout or (stream == "all" and not stderr),
        stderr=stream == "stderr" or stderr or (stream == "all" and not stdout),
    )

    async def body(engine: Engine) -> None:
        await _print(await engine.containers.get(container), options, timestamps=timestamps)

    with_engine(body)


async def _print(container: Container, options: LogOptions, *, timestamps: bool) -> None:
    from ross.model.records import Printer, Stream

    printer = Printer(timestamps=timestamps)
    async with container.log_chunks(options) as chunks:
        async for chunk in chunks:
            if chunk.gap:
                output.write_bytes(2, b"ross: some of the log is gone: it made place for newer output\n")
            for source, text in printer.feed(chunk.records):
                output.write_bytes(2 if source is Stream.STDERR else 1, text)


def _lines(text: str) -> int:
    if text in {"all", "-1"}:
        return -1
    if not text.isdigit():
        raise InvalidArgument(f"--tail takes a number of lines or 'all', not {text!r}")
    return int(text)
