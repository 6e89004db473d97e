"""``ross exec``, ``attach`` and ``top``: what runs in a container, and being connected to it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ross.cli import output
from ross.cli.flags.exec import ExecFlags
from ross.cli.keys import DETACH_KEYS, Manner, parse_detach_keys
from ross.cli.output import Format
from ross.cli.session import with_engine
from ross.cli.streams import preserved
from ross.errors import FailedPrecondition, InvalidArgument, RossError
from ross.linux.terminal import is_terminal
from ross.model.containers import ContainerState

if TYPE_CHECKING:
    from ross.client import Engine, Exec
    from ross.model.containers import Outcome

Begin = Callable[..., Coroutine[Any, Any, "Exec"]]


def exec_(
    container: str,
    /,
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
    flags: ExecFlags | None = None,
) -> int:
    """Execute a command in a running container; ends with the command's exit code.

    Parameters
    ----------
    container
        Its name or id.
    command
        The program and its arguments.
    """
    wanted = flags or ExecFlags()
    if not command:
        raise InvalidArgument("there is nothing to execute", hint=f"write: ross exec {container} COMMAND")
    if wanted.tty and wanted.interactive and not wanted.detach and not is_terminal(0):
        raise InvalidArgument("the input is no terminal, which -it wants", hint="use -i alone to pipe something in")
    manner = Manner(keys=parse_detach_keys(wanted.detach_keys))
    options = wanted.options()
    fds = preserved(wanted.preserve_fds)

    async def body(engine: Engine) -> int:
        begin = partial(engine.containers.get(container).now.open_exec, command, fds=fds, **options)
        if wanted.detach:
            await begin()
            return 0
        if wanted.tty:
            return _code(await _on_terminal(begin, stdin=wanted.interactive, manner=manner))
        return _code(await _on_pipes(begin, stdin=wanted.interactive))

    return with_engine(body)


async def _on_terminal(begin: Begin, *, stdin: bool, manner: Manner) -> Outcome | None:
    from ross.cli.interactive import connected

    async with connected(begin, stdin=stdin, terminal=True, manner=manner) as attached:
        return await attached.wait()


async def _on_pipes(begin: Begin, *, stdin: bool) -> Outcome | None:
    from ross.cli.interactive import on_our_streams

    return await on_our_streams(lambda stdio: begin(stdio=stdio), stdin=stdin)


def _code(outcome: Outcome | None) -> int:
    if outcome is None:  # the user has let go
        return 0
    if outcome.error:
        raise RossError(f"the command ended, but {outcome.error}")
    return outcome.exit_code


def attach(
    container: str,
    /,
    *,
    no_stdin: Annotated[bool, Parameter(negative=())] = False,
    sig_proxy: bool = True,
    detach_keys: str = DETACH_KEYS,
    tail: Annotated[int, Parameter(name=["--tail", "-n"])] = 0,
    pace: Literal["log", "drop", "block"] = "log",
) -> int:
    """Be connected to a running container; ends with its exit code, unless you let go.

    Parameters
    ----------
    container
        Its name or id.
    no_stdin
        Do not connect its input to ours.
    sig_proxy
        Hand the signals that we are sent on to it; on a terminal the keys do that.
    detach_keys
        What is typed to let go of it: keys with commas between them, each a character or ctrl-CHARACTER; nothing for no such keys.
    tail
        Begin with the last so many lines of its log; -1: with all of it.
    pace
        While our output is slow: log reads on in the container's log, drop leaves something out and says how much, block lets it wait.
    """
    from ross.cli.interactive import attach as attach_to

    manner = Manner(keys=parse_detach_keys(detach_keys), sig_proxy=sig_proxy)

    async def body(engine: Engine) -> int:
        found = await engine.containers.get(container)
        info = await found.info()
        if info.state not in {ContainerState.RUNNING, ContainerState.STOPPING}:
            raise FailedPrecondition(
                f"the container {info.name} is {info.state.value}: there is nothing to be connected to",
                hint=f"start it and be connected: ross start -a {info.name}",
            )
        spec = info.spec
        stdin = (spec.stdin_open or spec.terminal) and not no_stdin
        async with attach_to(
            found, stdin=stdin, terminal=spec.terminal, manner=manner, pace=pace, tail=tail
        ) as attached:
            outcome = await attached.wait()
        return outcome.exit_code if outcome is not None else 0

    return with_engine(body)


def top(
    container: str | None = None,
    /,
    *columns: Annotated[str, Parameter(allow_leading_hyphen=True)],
    format: Format = "table",  # noqa: A002 -- the flag's name
) -> None:
    """Show what runs in a container, as the host sees it; without one, all containers on the whole screen.

    Parameters
    ----------
    container
        Its name or id.
    columns
        As ps has them: -ef, aux, or -o and names, such as -o pid,args. In the place of -ef.
    format
        table, json or jsonl.
    """

    if container is None:
        from ross.cli.live import show_live

        if format != "table":
            raise InvalidArgument(
                f"--format {format} goes with a container", hint="name one, or see: ross stats --format"
            )
        show_live()
        return

    async def body(engine: Engine) -> None:
        found = await engine.containers.get(container).now.top(" ".join(columns))
        if format == "table":
            output.write(output.table(found.titles, (row.values for row in found.rows)))
            return
        named = [dict(zip(found.titles, row.values, strict=True)) for row in found.rows]
        output.write(output.records(named, format))

    with_engine(body)
