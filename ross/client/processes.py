"""What runs in a container: its first process as an attachment sees it, and programs that are executed beside it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from attrs import frozen

from ross.client.background import background
from ross.client.connection import answer
from ross.client.keywords import check_options, command_words, env_entries
from ross.errors import Cancelled, FailedPrecondition, InvalidArgument, RossError, Unavailable
from ross.model.containers import AttachOptions, Outcome, Pace
from ross.model.execs import ExecInfo, ExecOptions, GonePolicy
from ross.wire.bytestream import ByteStreamServer, ByteStreamSink
from ross.wire.convert import from_wire, to_wire

if TYPE_CHECKING:
    from ross.client.connection import Session
    from ross.client.remote import Remote

Write = Callable[[bytes], Awaitable[None]]
Gap = Callable[[int], Awaitable[None]]
PaceName = Literal["log", "drop", "block"]

_INPUT_BYTES = 256 << 10


class ProcessOptions(TypedDict, total=False):
    """What executing takes beside the command; each as the flag of ``ross exec`` with the same name."""

    env: Mapping[str, str] | Sequence[str]
    workdir: str
    user: str
    terminal: bool
    privileged: bool
    rows: int
    columns: int
    when_gone: Literal["hup", "kill", "leave"]
    """``hup``, ``kill`` or ``leave``: what becomes of it when nobody holds it any more."""


@frozen(kw_only=True)
class Completed:
    """What has run to its end: a container, or what was executed in one."""

    outcome: Outcome
    stdout: bytes
    stderr: bytes
    truncated: bool = False
    """There was more output than was asked for."""


class Process:
    """An attachment to a process. Dropping it detaches, and ends nothing."""

    def __init__(self, capability: Remote, stdin: Remote | None, outputs: Outputs | None = None) -> None:
        self._capability = capability
        self._stdin = ByteStreamSink(stdin) if stdin is not None else None
        self._outputs = outputs

    async def wait(self) -> Outcome:
        """Wait until the process has ended and all of its output was delivered.

        Raises:
            Exception: what ``stdout`` or ``stderr`` has raised, which has got nothing since; but for a :class:`~ross.errors.RossError`, by
                which they say that they take no more.
        """
        outcome = from_wire(Outcome, (await answer(self._capability.wait())).outcome)
        if self._outputs is not None and self._outputs.problems:
            raise self._outputs.problems[0]
        return outcome

    async def signal(self, name: str) -> None:
        """Send a signal, by name or number.

        Raises:
            FailedPrecondition: it does not run.
        """
        await answer(self._capability.signal(signal=name))

    async def resize(self, *, rows: int, columns: int) -> None:
        """Change the size of its terminal.

        Raises:
            FailedPrecondition: it has none.
        """
        await answer(self._capability.resize(rows=rows, columns=columns))

    async def write(self, data: bytes) -> None:
        """Write to its input; returns when there is room for more.

        Raises:
            FailedPrecondition: its input is not open.
        """
        await self._input.write(data)

    async def close_stdin(self) -> None:
        """Let it read the end of its input.

        Raises:
            FailedPrecondition: its input is not open.
        """
        await self._input.done()

    @property
    def _input(self) -> ByteStreamSink:
        if self._stdin is None:
            raise FailedPrecondition(
                "there is no connection to the input of this program", hint="attach to it, with stdin=True"
            )
        return self._stdin


class Exec(Process):
    """A program that is executed in a container. When nobody holds one of these any more, it goes as it was declared to."""

    async def info(self) -> ExecInfo:
        """What is known of it now; never waits for it."""
        return from_wire(ExecInfo, (await answer(self._capability.info())).info)

    async def attach(
        self,
        *,
        stdin: bool = False,
        stdout: Write | None = None,
        stderr: Write | None = None,
        pace: PaceName = "block",
        on_gap: Gap | None = None,
    ) -> Process:
        """Connect to it from now on; see :meth:`ross.client.containers.Container.attach`."""
        options = AttachOptions(
            stdin=stdin, stdout=stdout is not None, stderr=stderr is not None, pace=parse_pace(pace)
        )
        outputs = Outputs(stdout, stderr, on_gap)
        attached = await answer(self._capability.attach(options=to_wire(options), **outputs.sinks))
        hold = self._capability.hold
        return Process(hold(attached.process), hold(attached.stdin), outputs)


async def open_exec(
    session: Session,
    container: Any,
    args: Sequence[str],
    options: ProcessOptions,
    *,
    stdin: bool,
    stdout: Write | None,
    stderr: Write | None,
    stdio: Sequence[int] = (),
    fds: Sequence[int] = (),
) -> Exec:
    """Execute a program; see :meth:`ross.client.containers.Container.open_exec`."""
    wanted = make_exec(args, options, stdin=stdin)
    fields = to_wire(wanted)
    if stdio or fds:
        sent = session.send_fds([*stdio, *fds])
        fields |= {"stdio": sent[: len(stdio)], "fds": sent[len(stdio) :]}
    outputs = Outputs(stdout, stderr, None)
    answered = await answer(container.exec(options=fields, **outputs.sinks))
    return Exec(session.hold(answered.exec), session.hold(answered.stdin), outputs)


async def run_exec(
    session: Session,
    container: Any,
    args: Sequence[str],
    options: ProcessOptions,
    *,
    input: bytes,  # noqa: A002 -- subprocess and Trio call it so
    max_output_bytes: int,
) -> Completed:
    """Execute a program to its end; see :meth:`ross.client.containers.Container.exec`."""
    outputs = (_Bounded(max_output_bytes), _Bounded(max_output_bytes))
    executed = await open_exec(
        session,
        container,
        args,
        {"when_gone": "kill", **options},
        stdin=bool(input),
        stdout=outputs[0].write,
        stderr=outputs[1].write,
    )

    async def feed() -> None:
        try:
            for start in range(0, len(input), _INPUT_BYTES):
                await executed.write(input[start : start + _INPUT_BYTES])
            await executed.close_stdin()
        except RossError:
            return  # it takes no more; its outcome says why

    async with background() as tasks:
        if input:
            tasks.start_soon(feed)
        outcome = await executed.wait()
    return Completed(
        outcome=outcome,
        stdout=bytes(outputs[0].data),
        stderr=bytes(outputs[1].data),
        truncated=outputs[0].truncated or outputs[1].truncated,
    )


class _Bounded:
    """Takes so many bytes, and refuses more: the daemon then sends none."""

    def __init__(self, limit: int) -> None:
        self.data = bytearray()
        self.truncated = False
        self._limit = limit

    async def write(self, data: bytes) -> None:
        room = self._limit - len(self.data)
        self.data += data[:room]
        if len(data) > room:
            self.truncated = True
            raise Unavailable("that is enough")


def make_exec(args: Sequence[str], options: ProcessOptions, *, stdin: bool) -> ExecOptions:
    """The options that these keywords mean.

    Raises:
        InvalidArgument: an option is not one, or its value is not.
    """
    check_options(options, ProcessOptions)
    policy = options.get("when_gone", "hup")
    if policy not in {member.value for member in GonePolicy} - {"unknown"}:
        raise InvalidArgument(f"{policy!r} is no policy", hint="the policies are hup, kill and leave")
    return ExecOptions(
        args=command_words(args),
        env=env_entries(options.get("env", ())),
        user=options.get("user", ""),
        working_dir=options.get("workdir", ""),
        terminal=options.get("terminal", False),
        stdin=stdin,
        privileged=options.get("privileged", False),
        rows=options.get("rows", 0),
        columns=options.get("columns", 0),
        when_gone=GonePolicy(policy),
    )


def parse_pace(text: str) -> Pace:
    """``log``, ``drop`` or ``block``.

    Raises:
        InvalidArgument: it is none of them.
    """
    if text not in {member.value for member in Pace} - {"unknown"}:
        raise InvalidArgument(f"{text!r} is no pace", hint="the paces are log, drop and block")
    return Pace(text)


class Outputs:
    """What takes the output. What the program's functions raise is nothing to the daemon, and is kept for the program."""

    def __init__(self, stdout: Write | None, stderr: Write | None, on_gap: Gap | None) -> None:
        self.problems: list[Exception] = []
        self.sinks = {
            name: ByteStreamServer(self._keeping(write), done=_done, gap=on_gap)
            for name, write in (("stdout", stdout), ("stderr", stderr))
            if write is not None
        }
        """As parameters of a call."""

    def _keeping(self, write: Write) -> Write:
        async def keeping(data: bytes) -> None:
            try:
                await write(data)
            except RossError:
                raise
            except Exception as error:  # noqa: BLE001 -- raised again where the process is waited for
                self.problems.append(error)
                raise Cancelled("nobody reads this any more") from None

        return keeping


async def _done() -> None:
    """The output's end is known from the process's end."""
