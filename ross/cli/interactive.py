"""Being connected to a process: our input to its, its output to ours, the terminal's size, signals, and letting go."""

from __future__ import annotations

import errno
import os
import signal
import sys
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final, Protocol

import trio

from ross.cli.errors import BROKEN_PIPE, INTERRUPTED, Exit
from ross.cli.keys import DetachKeys, Manner
from ross.cli.output import is_lost, unwritten, write_all
from ross.errors import RossError, Unavailable
from ross.linux.terminal import is_terminal, raw_mode, window_size

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from ross.client import Container, Process
    from ross.client.processes import PaceName, Write
    from ross.model.containers import Outcome

_READ_BYTES: Final = 64 << 10
_OUR_OWN: Final = frozenset({
    *("SIGKILL", "SIGSTOP", "SIGCHLD", "SIGPIPE", "SIGURG", "SIGWINCH"),
    *("SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCONT"),  # a shell's about its jobs
    *("SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGSEGV", "SIGSYS", "SIGSTKFLT"),  # faults of ours
})
"""Signals that mean this process."""
_FORWARDED: Final = tuple(number for number in signal.valid_signals() if getattr(number, "name", "") not in _OUR_OWN)
_INSISTING: Final = 3
"""So many interrupts, and we end although the container does not."""


class Signalled(Protocol):
    """What takes signals."""

    async def signal(self, name: str) -> None:
        """Send it a signal."""


class Running(Signalled, Protocol):
    """What runs, and ends."""

    async def wait(self) -> Outcome:
        """Wait until it has ended."""


class Output:
    """What becomes of what we write to our output."""

    def __init__(self) -> None:
        self.lost: list[OSError] = []
        """Why something that was wanted could not be written."""
        self.unread = trio.Event()
        """Nobody reads it any more."""


class Attached:
    """The connection, while it lasts."""

    def __init__(self, process: Running, output: Output | None = None) -> None:
        self._process = process
        self._output = output or Output()
        self._left = trio.Event()
        self.detached = False
        """The user has let go; the container goes on."""

    def detach(self) -> None:
        """Let go."""
        self.detached = True
        self._left.set()

    async def wait(self) -> Outcome | None:
        """The container's outcome; None if the user has let go.

        Raises:
            FailedPrecondition: it has ended, and not all that it has written could be written to our output.
            Exit: nobody reads our output any more; it goes on.
        """
        result: Outcome | None = None
        problem: RossError | None = None
        async with trio.open_nursery() as nursery:

            async def ended() -> None:
                nonlocal result, problem
                try:
                    result = await self._process.wait()
                except RossError as error:
                    problem = error
                nursery.cancel_scope.cancel()

            async def unread() -> None:
                await self._output.unread.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(ended)
            nursery.start_soon(unread)
            await self._left.wait()
            nursery.cancel_scope.cancel()
        if problem is not None:
            raise problem
        for error in self._output.lost:
            raise unwritten(error)
        if result is None and not self.detached:
            raise Exit(BROKEN_PIPE)
        return result


class Open(Protocol):
    """Opens the connection."""

    async def __call__(
        self, *, stdin: bool, stdout: Write | None, stderr: Write | None, rows: int, columns: int
    ) -> Process:
        """Open it."""


@asynccontextmanager
async def connected(open_process: Open, *, stdin: bool, terminal: bool, manner: Manner) -> AsyncIterator[Attached]:
    """Be connected to a process for the length of a block. What the block raises is raised as it is."""
    size_fd = next((fd for fd in (1, 0, 2) if is_terminal(fd)), None) if terminal else None
    rows, columns = window_size(size_fd) if size_fd is not None else (0, 0)
    output = Output()
    process = await open_process(
        stdin=stdin,
        stdout=_writer(1, output) if 1 in manner.outputs else None,
        stderr=_writer(2, output) if 2 in manner.outputs and not terminal else None,
        rows=rows,
        columns=columns,
    )
    attached = Attached(process, output)
    raw = terminal and stdin and is_terminal(0)
    problem: Exception | None = None
    async with trio.open_nursery() as nursery:
        with ExitStack() as stack:
            if raw:
                stack.enter_context(raw_mode(0))
            if size_fd is not None:
                nursery.start_soon(_follow_size, process, size_fd, (rows, columns))
            if manner.sig_proxy:
                nursery.start_soon(forward_signals, process)
            if stdin:
                nursery.start_soon(_forward_input, process, attached, DetachKeys(manner.keys if raw else b""))
            try:
                yield attached
            except Exception as error:  # noqa: BLE001 -- raised again below, outside the nursery, which would wrap it
                problem = error
            nursery.cancel_scope.cancel()
    if problem is not None:
        raise problem


def attach(
    container: Container, *, stdin: bool, terminal: bool, manner: Manner, pace: PaceName = "block", tail: int = 0
) -> AbstractAsyncContextManager[Attached]:
    """Be connected to a container's first process for the length of a block."""

    async def open_process(
        *, stdin: bool, stdout: Write | None, stderr: Write | None, rows: int, columns: int
    ) -> Process:
        return await container.attach(
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            rows=rows,
            columns=columns,
            pace=pace,
            tail=tail,
            on_gap=_tell_gap,
        )

    return connected(open_process, stdin=stdin, terminal=terminal, manner=manner)


async def _tell_gap(lost_bytes: int) -> None:
    sys.stderr.write(f"[{f'{lost_bytes} bytes' if lost_bytes else 'some'} of output are missing here]\n")
    sys.stderr.flush()


def _writer(fd: int, output: Output) -> Callable[[bytes], Awaitable[None]]:
    async def write(data: bytes) -> None:
        # In a thread: a reader of ours that stalls must not keep us from hearing signals.
        try:
            await trio.to_thread.run_sync(write_all, fd, data, abandon_on_cancel=True)
        except OSError as error:
            if is_lost(error):
                output.lost.append(error)
            elif error.errno == errno.EPIPE:
                output.unread.set()
            raise Unavailable("nobody reads this any more") from error

    return write


async def _follow_size(process: Process, fd: int, known: tuple[int, int]) -> None:
    with trio.open_signal_receiver(signal.SIGWINCH) as signals:
        if window_size(fd) != known:  # since it was looked at, there was nobody to hear of it
            os.kill(os.getpid(), signal.SIGWINCH)
        async for _number in signals:
            rows, columns = window_size(fd)
            try:
                await process.resize(rows=rows, columns=columns)
            except RossError:
                return  # it has ended


async def on_our_streams(
    begin: Callable[[Sequence[int]], Awaitable[Running]], *, stdin: bool, sig_proxy: bool = True
) -> Outcome | None:
    """Hand our own descriptors to what begins, where they are pipes: then no byte of it comes through here."""
    from ross.cli.streams import open_streams

    problem: Exception | None = None
    outcome: Outcome | None = None
    async with open_streams(stdin=stdin) as streams, trio.open_nursery() as nursery:
        early = _Early()
        if sig_proxy:  # before it begins: what it prints first may be what somebody waits for to send a signal
            await nursery.start(forward_signals, early)
        try:
            running = await begin(streams.theirs)
            streams.begin()
            await early.begun(running)
            outcome = await Attached(running).wait()
            await streams.finish()
            for error in streams.lost:
                raise unwritten(error)
        except Exception as error:  # noqa: BLE001 -- raised again below, outside the nursery, which would wrap it
            problem = error
        nursery.cancel_scope.cancel()
    if problem is not None:
        raise problem
    return outcome


class _Early:
    """Keeps the signals that come before there is anything to hand them to."""

    def __init__(self) -> None:
        self._running: Running | None = None
        self._kept: list[str] = []

    async def begun(self, running: Running) -> None:
        """Hand on what was kept, and from now on what comes."""
        self._running = running
        for name in self._kept:
            with suppress(RossError):  # it has ended
                await running.signal(name)

    async def signal(self, name: str) -> None:
        """Hand a signal on, or keep it."""
        if self._running is None:
            self._kept.append(name)
        else:
            await self._running.signal(name)


async def forward_signals(process: Signalled, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """Hand on what signals we are sent, from the start of this task on; whoever insists on an interrupt ends us."""
    interrupts = 0
    with trio.open_signal_receiver(*_FORWARDED) as signals:
        task_status.started()
        async for number in signals:
            interrupts += number in {signal.SIGINT, signal.SIGTERM}
            if interrupts >= _INSISTING:
                raise Exit(INTERRUPTED)
            try:
                await process.signal(str(int(number)))
            except RossError:
                continue  # not started yet, or ended just now


async def _forward_input(process: Process, attached: Attached, keys: DetachKeys) -> None:
    try:
        while data := await _read_input():
            data, leaving = keys.filter(data)
            if leaving:
                attached.detach()
                return
            if data:
                await process.write(data)
        await process.close_stdin()
    except RossError:
        return  # it takes no more; its outcome says why


async def _read_input() -> bytes:
    """Some input; empty at its end."""
    try:
        await trio.lowlevel.wait_readable(0)
    except OSError:  # a regular file is always readable, and cannot be waited for (epoll(7): EPERM)
        return await trio.to_thread.run_sync(os.read, 0, _READ_BYTES)
    try:
        return os.read(0, _READ_BYTES)
    except BlockingIOError:
        return await _read_input()
    except OSError:  # a terminal that is gone
        return b""
