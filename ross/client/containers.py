"""Containers: references to them, and to their processes."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Unpack

import anyio

from ross.client.connection import Pending, all_of, answer
from ross.client.files import Files
from ross.client.limits import LimitOptions, changed_limits
from ross.client.processes import (
    Completed,
    Exec,
    Gap,
    Outputs,
    PaceName,
    Process,
    ProcessOptions,
    Write,
    open_exec,
    parse_pace,
    run_exec,
)
from ross.client.receive import LogReceiver, StatsReceiver, receiving
from ross.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from ross.model.checkpoints import CheckpointOptions, RestoreOptions
from ross.model.containers import (
    AttachOptions,
    ContainerFilter,
    ContainerInfo,
    ContainerUpdate,
    Outcome,
    RestartPolicy,
    WaitCondition,
)
from ross.model.execs import ExecInfo, ProcessTable
from ross.model.files import CommitOptions
from ross.model.logs import LogChunk, LogOptions
from ross.model.records import LogEntry, entries
from ross.wire.convert import from_wire, to_wire

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from ross.client.connection import Session
    from ross.client.images import Image
    from ross.model.stats import ContainerStats

_LOG_CHUNKS: Final = 4


class Container:
    """A reference to one container. No method takes an id: this is the container, as long as it exists."""

    def __init__(self, session: Session, capability: Any) -> None:
        self._session = session
        self._capability = capability

    def shared_over(self, session: Session) -> Any:
        """What is handed over where another container is to share something with this one.

        Raises:
            InvalidArgument: this one came by another connection.
        """
        if session is not self._session:
            raise InvalidArgument(
                "a container of one connection was handed over on another one", hint="get it by name on that one"
            )
        return self._capability.capability

    async def info(self) -> ContainerInfo:
        """What is known of it now; never waits for it."""
        return from_wire(ContainerInfo, (await answer(self._capability.info())).info)

    def start(self, *, stdio: Sequence[int] = (), fds: Sequence[int] = ()) -> Pending[None]:
        """Start it; returns when its process runs.

        Args:
            stdio: Three descriptors of ours, pipes or /dev/null, that its process gets as its streams, as they are; where its log driver
                is passthrough.
            fds: Descriptors of ours, no directories, that its process has from 3 on. Not when it is started again by itself. A pipe's other
                end reads its end when the container has ended, whatever its process closes.

        Raises:
            InvalidArgument: it takes no streams, or not these.
            FailedPrecondition: it runs already, or cannot be run; for a missing program ``reason`` says so.
        """
        sent = self._session.send_fds([*stdio, *fds]) if stdio or fds else []
        return Pending(self._capability.start(stdio=sent[: len(stdio)], fds=sent[len(stdio) :]), _nothing)

    async def wait(self, condition: WaitCondition = WaitCondition.NOT_RUNNING) -> Outcome:
        """Wait until it has stopped: at once if it has; or for another condition.

        Raises:
            NotFound: it was removed before it had run.
        """
        return from_wire(Outcome, (await answer(self._capability.wait(condition=condition.value))).outcome)

    async def stop(self, *, signal: str = "", timeout: int = -1) -> None:
        """Ask it to stop, wait, and end it.

        Args:
            signal: What to ask with; what the container's spec or its image say if empty.
            timeout: Seconds before SIGKILL; what the spec says if negative.
        """
        await answer(self._capability.stop(signal=signal, graceSeconds=timeout))

    async def kill(self, signal: str = "KILL") -> None:
        """Send a signal to its first process.

        Raises:
            FailedPrecondition: it does not run.
        """
        await answer(self._capability.signal(signal=signal))

    async def pause(self) -> None:
        """Freeze its processes.

        Raises:
            FailedPrecondition: it does not run.
        """
        await answer(self._capability.pause())

    async def resume(self) -> None:
        """Let its processes go on.

        Raises:
            FailedPrecondition: it is not paused.
        """
        await answer(self._capability.resume())

    async def restart(self, *, signal: str = "", timeout: int = -1) -> None:
        """Stop it, as :meth:`stop` does, and start it; one that does not run is only started.

        Raises:
            FailedPrecondition: it cannot be started.
        """
        await answer(self._capability.restart(signal=signal, graceSeconds=timeout))

    async def checkpoint(
        self,
        *,
        keep: bool = False,
        leave_running: bool = False,
        tcp_established: bool = False,
        file_locks: bool = False,
    ) -> None:
        """Write its processes to files on the engine's host, in the place of its last checkpoint, and end them. Cancelled, it goes on.

        Args:
            keep: Keep the log of CRIU too.
            leave_running: Let it go on.
            tcp_established: Take established connections of TCP too.
            file_locks: Take locks of files too.

        Raises:
            FailedPrecondition: it does not run, or CRIU is not there or cannot take it; it goes on as it was.
        """
        options = CheckpointOptions(
            keep=keep, leave_running=leave_running, tcp_established=tcp_established, file_locks=file_locks
        )
        await answer(self._capability.checkpoint(options=to_wire(options)))

    async def restore(self, *, keep: bool = False, tcp_established: bool = False, file_locks: bool = False) -> None:
        """Let it go on from its checkpoint; returns when it runs.

        Args:
            keep: Keep the checkpoint, to restore from it again, and the log of CRIU.
            tcp_established: Restore connections of TCP, where there are some.
            file_locks: Restore locks of files, where there are some.

        Raises:
            FailedPrecondition: it runs, has no checkpoint, or CRIU cannot restore it; it is then as it was.
        """
        options = RestoreOptions(keep=keep, tcp_established=tcp_established, file_locks=file_locks)
        await answer(self._capability.restore(options=to_wire(options)))

    async def rename(self, name: str) -> None:
        """Give it another name.

        Raises:
            AlreadyExists: another container has it.
            InvalidArgument: it is no name.
        """
        await answer(self._capability.rename(name))

    async def update(self, *, restart: RestartPolicy | None = None, **limits: Unpack[LimitOptions]) -> None:
        """Change its limits, at once if it runs, and its restart policy: ``await container.update(memory=512 << 20)``.

        Args:
            restart: Its policy from now on.
            limits: What is given is changed; -1 takes a limit away. See :class:`~ross.client.limits.LimitOptions`.

        Raises:
            InvalidArgument: a limit is not allowed.
            FailedPrecondition: the kernel does not allow it now.
        """
        wanted = ContainerUpdate(limits=changed_limits(limits), restart=restart)
        await answer(self._capability.update(update=to_wire(wanted)))

    async def attach(
        self,
        *,
        stdin: bool = False,
        stdout: Write | None = None,
        stderr: Write | None = None,
        rows: int = 0,
        columns: int = 0,
        pace: PaceName = "log",
        tail: int = 0,
        since: int = 0,
        on_gap: Gap | None = None,
    ) -> Process:
        """Connect to its first process; before the start: from the first byte on. Several may be connected at once.

        Args:
            stdin: Whether its input is wanted.
            stdout: Takes its output. Everything, with a terminal.
            stderr: Takes its error output.
            rows: The terminal's size, to begin with; with ``columns``.
            columns: See ``rows``.
            pace: What happens while ``stdout`` or ``stderr`` is slow to return. ``log``: nothing, what they take is read from the log.
                ``drop``: they miss some, and ``on_gap`` is told. ``block``: the process waits.
            tail: With ``log``: begin with the last so many lines that are there already; -1: with all.
            since: With ``log``: begin with what is not older than this, in nanoseconds since the epoch.
            on_gap: Told how many bytes are missing, with ``drop``; with ``log``, where a reader was so slow that the log had to make
                place for newer output, told 0, since nobody has counted them. Without it the attachment then fails.
        """
        options = AttachOptions(
            stdin=stdin,
            stdout=stdout is not None,
            stderr=stderr is not None,
            rows=rows,
            columns=columns,
            pace=parse_pace(pace),
            tail=tail,
            since=since,
        )
        outputs = Outputs(stdout, stderr, on_gap)
        attached = await answer(self._capability.attach(options=to_wire(options), **outputs.sinks))
        return Process(self._session.hold(attached.process), self._session.hold(attached.stdin), outputs)

    async def exec(
        self,
        args: Sequence[str],
        *,
        input: bytes = b"",  # noqa: A002 -- subprocess and Trio call it so
        max_output_bytes: int = 16 << 20,
        **options: Unpack[ProcessOptions],
    ) -> Completed:
        """Execute a program in it, to its end: ``(await web.exec(["uname", "-a"])).stdout``. Cancelled, the program is killed.

        Args:
            args: The program and its arguments.
            input: Its input.
            max_output_bytes: How much of each output is kept; the rest is dropped, and the result says so.
            options: As the flags of ``ross exec``.

        Raises:
            FailedPrecondition: it does not run, or the program cannot be executed; for a missing one ``reason`` says so.
        """
        return await run_exec(
            self._session, self._capability, args, options, input=input, max_output_bytes=max_output_bytes
        )

    async def open_exec(
        self,
        args: Sequence[str],
        *,
        stdin: bool = False,
        stdout: Write | None = None,
        stderr: Write | None = None,
        stdio: Sequence[int] = (),
        fds: Sequence[int] = (),
        **options: Unpack[ProcessOptions],
    ) -> Exec:
        """Execute a program in it, and return when it runs.

        Args:
            args: The program and its arguments.
            stdin: Whether its input is wanted.
            stdout: Takes its output; returning late slows it down. Everything, with a terminal.
            stderr: Takes its error output.
            stdio: Three descriptors of ours, pipes or /dev/null, that it gets as they are, in the place of the above.
            fds: Descriptors of ours, no directories, that it has from 3 on.
            options: As the flags of ``ross exec``.

        Raises:
            FailedPrecondition: the container does not run, or the program cannot be executed; for a missing one ``reason`` says so.
        """
        return await open_exec(
            self._session,
            self._capability,
            args,
            options,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            stdio=stdio,
            fds=fds,
        )

    async def execs(self) -> tuple[tuple[ExecInfo, Exec], ...]:
        """What is executed in it, and the last ones that have ended; also what was begun before the daemon was started."""
        found = (await answer(self._capability.execs())).execs
        return tuple((from_wire(ExecInfo, one.info), Exec(self._session.hold(one.exec), None)) for one in found)

    async def top(self, columns: str = "") -> ProcessTable:
        """What runs in it, as the host sees it.

        Args:
            columns: As ``ps`` has them: ``-ef``, ``aux``, or ``-o pid,args``.

        Raises:
            FailedPrecondition: it does not run.
        """
        return from_wire(ProcessTable, (await answer(self._capability.top(columns=columns))).processes)

    def stats(self, *, interval: float = 1.0) -> AbstractAsyncContextManager[AsyncIterator[ContainerStats]]:
        """What it uses, at once and then so often: ``async with container.stats() as samples: async for sample in samples: ...``

        Ends when it has stopped for good. Use ``sample.processors_since(earlier)`` for what it did in between.

        Args:
            interval: Seconds between two samples; 0: only one.

        Raises:
            FailedPrecondition: it does not run.
            InvalidArgument: that is too often.
        """
        milliseconds = round(interval * 1000)
        if milliseconds < 0:
            raise InvalidArgument("an interval cannot be negative")
        return receiving(
            lambda sink: self._capability.stats(intervalMs=milliseconds, sink=sink), StatsReceiver, buffered=0
        )

    async def sample(self) -> ContainerStats:
        """What it uses now.

        Raises:
            FailedPrecondition: it does not run.
        """
        async with self.stats(interval=0) as samples:
            async for sample in samples:
                return sample
        raise FailedPrecondition("the container ended before it could be measured")

    @asynccontextmanager
    async def logs(
        self,
        *,
        follow: bool = False,
        tail: int = -1,
        since: int = 0,
        until: int = 0,
        stdout: bool = True,
        stderr: bool = True,
        after: int = 0,
    ) -> AsyncIterator[AsyncIterator[LogEntry]]:
        """Its log: ``async with container.logs(follow=True) as entries: async for entry in entries: ...``

        Args:
            follow: Go on until it has stopped.
            tail: The last so many lines, of those that the rest asks for; all if negative.
            since: From this time on, in nanoseconds since the epoch.
            until: To this time; 0 for no end.
            stdout: Include its output.
            stderr: Include its error output.
            after: Only what comes behind the entry with this position: whoever was disconnected goes on exactly there.

        Raises:
            FailedPrecondition: in the iteration: it keeps no log.
            InvalidArgument: in the iteration: the position is none of this log.
        """
        wanted = LogOptions(
            follow=follow, tail=tail, since=since, until=until, stdout=stdout, stderr=stderr, after=after
        )
        async with self.log_chunks(wanted) as chunks, aclosing(_entries(chunks)) as found:
            yield found

    def log_chunks(self, options: LogOptions) -> AbstractAsyncContextManager[AsyncIterator[LogChunk]]:
        """Its log as it is kept, in large pieces, for those who have much of it to go through; see ``ross.model.records``."""
        return receiving(
            lambda sink: self._capability.logs(options=to_wire(options), sink=sink), LogReceiver, buffered=_LOG_CHUNKS
        )

    @property
    def files(self) -> Files:
        """Its files: ``await container.files.stat("/etc/passwd")``."""
        return Files(self._capability)

    async def commit(
        self,
        name: str = "",
        *,
        author: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        pause: bool = True,
    ) -> Image:
        """Make an image of what it is now: its image, and what it has changed as one layer more.

        Args:
            name: Of the image; it is kept by its digest if empty.
            author: Stands in the image.
            message: Stands in its history.
            changes: Instructions of a Dockerfile that change its config: ``CMD ["/bin/sh"]``.
            pause: Let nothing in it run while its files are read.

        Raises:
            InvalidArgument: the name or a change is none.
            FailedPrecondition: it has files that no layer can hold, or it cannot be paused.
        """
        from ross.client.images import Image

        options = CommitOptions(name=name, author=author, message=message, changes=tuple(changes), pause=pause)
        return Image(self._session, self._session.hold((await answer(self._capability.commit(to_wire(options)))).image))

    async def remove(self, *, force: bool = False) -> None:
        """Remove it and all that is its own; with ``force`` also if it runs.

        Raises:
            FailedPrecondition: it runs.
        """
        await answer(self._capability.remove(force=force))

    async def discard(self, *, seconds: float = 90.0) -> None:
        """Remove it, running or not, there or not, and although the caller is being cancelled: for so long, at most.

        Raises:
            Unavailable: the daemon did not answer in time; it may remove it yet.
        """
        with anyio.move_on_after(seconds, shield=True) as scope, suppress(NotFound):
            await self.remove(force=True)
        if scope.cancelled_caught:
            raise Unavailable(f"the daemon did not remove the container within {seconds:g} s; it may do so yet")


class Containers:
    """The containers of a daemon, by name."""

    def __init__(self, session: Session, capability: Any) -> None:
        self._session = session
        self._capability = capability

    def get(self, name: str) -> Pending[Container]:
        """A container, by name, id or a unique beginning of one.

        Raises:
            NotFound: there is none.
        """
        call = self._capability.get(name)
        return Pending(call, lambda answered: Container(self._session, self._session.hold(answered.container)))

    async def list(
        self,
        wanted: ContainerFilter | None = None,
        *,
        all: bool = False,  # noqa: A002 -- as the CLI's flag
    ) -> tuple[ContainerInfo, ...]:
        """The containers that run; with ``all`` every one; with a filter those that fit it. The newest first.

        Raises:
            NotFound: there is no such container as the filter's ``before`` or ``since`` says.
        """
        chosen = to_wire(wanted or ContainerFilter(all=all))
        return await all_of(self._capability.list(filter=chosen), ContainerInfo, "containers")


async def _entries(chunks: AsyncIterator[LogChunk]) -> AsyncGenerator[LogEntry, None]:
    async for chunk in chunks:
        for entry in entries(chunk):
            yield entry


def _nothing(_answered: Any) -> None:
    return None
