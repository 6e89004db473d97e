"""A client's connection to a process: the first one of a container, or one that is executed in it."""

from __future__ import annotations

from contextlib import aclosing, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import trio

from ross.errors import FailedPrecondition, RossError, Unavailable
from ross.model.containers import Pace
from ross.model.logs import LogOptions
from ross.model.records import Printer, Stream
from ross.services.pacing import Dropping
from ross.shim.attach import AttachStream, Sink, connect, resize
from ross.shim.logs import find_begin, read_log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from ross.model.containers import AttachOptions, Outcome
    from ross.services.tracked import Ending
    from ross.shim.logfiles import LogFiles
    from ross.shim.logs import LogBegin
    from ross.shim.spares import Spares


_HELD_UP_SECONDS: Final = 1.0
_UNKNOWN_BYTES: Final = 0
"""In a gap: nobody has counted them."""


class Attachable(Protocol):
    """What can be attached to."""

    pending: set[Attachment]
    """Those that wait for its start."""
    attachments: set[Attachment]
    """Those that are connected."""
    spares: Spares
    """What those that were connected have left."""

    @property
    def title(self) -> str:
        """What it is, for messages."""

    @property
    def monitor_directory(self) -> Path:
        """Where its monitor has its attach socket and its control fifo."""

    @property
    def log(self) -> LogFiles | None:
        """Where its output is kept, if it is."""

    @property
    def has_terminal(self) -> bool:
        """Whether it runs on a terminal."""

    @property
    def takes_input(self) -> bool:
        """Whether its input is open to be written to."""

    def spawn(self, async_fn: Callable[[], Awaitable[None]], *, name: str) -> None:
        """Run something in the background."""

    @property
    def ending(self) -> Ending:
        """The end of what runs, or is about to."""

    async def wait_outcome(self) -> Outcome:
        """Return how its process has ended, when it has."""

    async def signal(self, name: str) -> None:
        """Send a signal to its process."""

    def detached(self) -> None:
        """Somebody has let go of it before its end."""

    def resized(self, *, rows: int, columns: int) -> None:
        """Its terminal has been given another size."""


class Attachment:
    """One attachment. Made before the start, it waits for it, so that nothing is missed."""

    def __init__(self, target: Attachable, options: AttachOptions, stdout: Sink | None, stderr: Sink | None) -> None:
        self.options = options
        self._target = target
        self._stdout = stdout if options.stdout else None
        self._stderr = stderr if options.stderr else None
        self._stream: AttachStream | None = None
        self._connected = trio.Event()
        self._finished = trio.Event()
        self._failure: RossError | None = None
        self._detached = False
        self._pumping = trio.CancelScope()
        self._input_closed = False
        self._ending: Ending | None = None
        # The monitor closes the process's input when anybody hangs up: who only looks on does not connect to it.
        looks_on = target.takes_input and not target.has_terminal and not options.stdin
        # Without a log there is nothing to be behind in: who wants to read it lets the process wait.
        self._log = target.log if options.pace in {Pace.LOG, Pace.UNKNOWN} or looks_on else None

    @property
    def has_it_wait(self) -> bool:
        """Whether the process waits while its sinks take nothing."""
        return self._log is None and self.options.pace is not Pace.DROP

    async def connect(self, *, accepted: bool = True, runs: bool = False) -> None:
        """Connect now; the output flows from here on.

        Args:
            accepted: Wait until the monitor has taken the connection. That of an exec takes one only after the beginning.
            runs: The process has begun. Another attachment may then have the monitor wait, and is not waited for.

        Raises:
            FailedPrecondition: it does not listen.
            Unavailable: it is stopped.
        """
        if self._detached:
            self._target.attachments.discard(self)
            return
        self._ending = self._target.ending
        if not (self._stdout or self._stderr or self.options.stdin):  # only the end is waited for
            self._connected.set()
            self._target.attachments.discard(self)
            self._finished.set()
            return
        begin = None
        if self._log is not None and not self.options.since:
            begin = await trio.to_thread.run_sync(find_begin, self._log, LogOptions(tail=self.options.tail))
        if self._log is None or self.options.stdin:
            self._stream = await self._connection(accepted=accepted, runs=runs)
            if self._input_closed:
                self._stream.close_input()
        self._connected.set()

        async def pump() -> None:
            await self._pump(begin)

        self._target.spawn(pump, name=f"attachment of {self._target.title}")

    async def _connection(self, *, accepted: bool, runs: bool) -> AttachStream:
        stream = await self._target.spares.take() or await connect(self._target.monitor_directory)
        try:
            if accepted:
                await self._accepted(stream, runs=runs)
        except BaseException:
            stream.close()
            raise
        return stream

    async def _accepted(self, stream: AttachStream, *, runs: bool) -> None:
        others = self._target.attachments - {self}
        if not (runs and any(one.has_it_wait for one in others)):
            await stream.accepted()
            return
        with suppress(Unavailable):
            await stream.accepted(seconds=_HELD_UP_SECONDS)

    async def _pump(self, begin: LogBegin | None) -> None:
        try:
            with self._pumping:
                if self._log is not None:
                    await self._follow(self._log, begin)
                elif self._stream is not None and self.options.pace is Pace.DROP:
                    await self._drop(self._stream)
                elif self._stream is not None:
                    await self._stream.pump(stdout=self._stdout, stderr=self._stderr)
        finally:
            self._leave()
            self._target.attachments.discard(self)
            self._finished.set()

    def _leave(self) -> None:
        """Let go of the monitor. Where to hang up on it would not end the process's input, the connection is left to the next."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        target = self._target
        ends_input = self.options.stdin and target.takes_input and not target.has_terminal
        if not self._pumping.cancelled_caught or self._input_closed or ends_input:
            stream.close()
            return
        target.spares.keep(stream, partial(target.spawn, name=f"spare connection to {target.title}"))

    async def _drop(self, stream: AttachStream) -> None:
        """Never let the monitor wait; what a sink cannot take is left out."""
        async with trio.open_nursery() as nursery:
            sinks = [Dropping(sink) if sink is not None else None for sink in (self._stdout, self._stderr)]
            for sink in sinks:
                if sink is not None:
                    nursery.start_soon(sink.run)
            await stream.pump(stdout=sinks[0], stderr=sinks[1])
            for sink in sinks:
                if sink is not None:
                    sink.end()

    async def _follow(self, log: LogFiles, begin: LogBegin | None) -> None:
        """Read the log. What comes by the socket, which is there for the input, is in it already."""
        async with trio.open_nursery() as nursery:
            if self._stream is not None:
                nursery.start_soon(_discard, self._stream)
            sinks = {Stream.STDOUT: self._stdout, Stream.STDERR: self._stderr}
            options = LogOptions(
                follow=True,
                since=self.options.since,
                stdout=self._stdout is not None,
                stderr=self._stderr is not None,
            )
            ending = self._target.ending if self._ending is None else self._ending
            chunks = read_log(
                log,
                options,
                ended=ending.is_set,
                wait_ended=ending.wait,
                begin=begin,
                end=lambda: ending.log_end,  # or a slow reader would go on with what the next run has written
            )
            printer = Printer()
            async with aclosing(chunks):
                async for chunk in chunks:
                    if chunk.gap:
                        await self._tell_gap(sinks)
                    await _hand_on(printer.feed(chunk.records), sinks)
                    if not any(sinks.values()):
                        break
            for sink in sinks.values():
                if sink is not None:
                    with suppress(RossError):
                        await sink.done()

    async def _tell_gap(self, sinks: dict[Stream, Sink | None]) -> None:
        """The log has made place for newer output before it was read. Who needs every byte gets no more, and is told why."""
        for stream, sink in sinks.items():
            if sink is not None:
                try:
                    await sink.gap(_UNKNOWN_BYTES)
                except RossError:
                    sinks[stream] = None
                    self._failure = FailedPrecondition(
                        f"some output of the {self._target.title} made place in its log for newer before it was read",
                        hint="read faster, or create it with --log-opt max-size=-1",
                    )

    def fail(self, error: RossError) -> None:
        """The start that this waited for has failed."""
        self._failure = error
        self._pumping.cancel()  # the log will be that of the next one
        self._connected.set()
        self._finished.set()

    async def finished(self) -> None:
        """Wait until everything went to the sinks, or the attachment was let go of."""
        await self._finished.wait()

    async def wait(self) -> Outcome:
        """Wait until the process has ended and all of its output went to the sinks, or they failed.

        Raises:
            RossError: the start failed, or some of the output was gone before it was read.
        """
        await self._finished.wait()
        if self._failure is not None:
            raise self._failure
        result = await self._ending.wait() if self._ending is not None else None
        return result or await self._target.wait_outcome()

    async def signal(self, name: str) -> None:
        """Send a signal to the process."""
        await self._target.signal(name)

    async def resize(self, *, rows: int, columns: int) -> None:
        """Change the size of the terminal.

        Raises:
            FailedPrecondition: there is none.
        """
        if not self._target.has_terminal:
            raise FailedPrecondition(f"the {self._target.title} has no terminal")
        await self._connected.wait()
        await resize(self._target.monitor_directory, rows=rows, columns=columns)
        self._target.resized(rows=rows, columns=columns)

    async def write_stdin(self, data: bytes) -> None:
        """Write to the process's input; waits for the start, and for room.

        Raises:
            FailedPrecondition: it has none, or takes no more.
        """
        if not self.options.stdin or not self._target.takes_input or self._detached:
            raise FailedPrecondition(f"the input of the {self._target.title} is not open", hint="create it with -i")
        await self._connected.wait()
        if self._stream is not None:
            await self._stream.write(data)

    async def close_stdin(self) -> None:
        """Let the process read the end of its input."""
        self._input_closed = True
        if self._stream is not None and self.options.stdin:
            self._stream.close_input()
        await trio.lowlevel.checkpoint()

    async def detach(self) -> None:
        """Let go; nothing of the process ends."""
        self._detached = True
        self._pumping.cancel()  # it may be waiting for a sink that takes nothing
        self._target.pending.discard(self)
        if not self._finished.is_set():
            self._finished.set()
            self._target.detached()
        await trio.lowlevel.checkpoint()


async def _discard(stream: AttachStream) -> None:
    await stream.pump(stdout=None, stderr=None)


async def _hand_on(output: list[tuple[Stream, bytes]], sinks: dict[Stream, Sink | None]) -> None:
    """Give output to the sinks. A sink that fails is left out from then on."""
    for stream, data in output:
        sink = sinks.get(stream)
        if sink is not None:
            try:
                await sink.write(data)
            except RossError:
                sinks[stream] = None
