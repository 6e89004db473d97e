"""Being connected to a container: our input to its, its output to ours, the terminal's size, signals, and letting go by ctrl-p ctrl-q."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from ross.cli.errors import INTERRUPTED, Exit
from ross.cli.output import write_bytes
from ross.errors import RossError
from ross.linux.terminal import is_terminal, raw_mode, window_size

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ross.client import Container, Process
    from ross.model.containers import Outcome

_READ_BYTES: Final = 64 << 10
DETACH_KEYS: Final = b"\x10\x11"
"""ctrl-p ctrl-q."""
_FORWARDED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_INSISTING: Final = 3
"""So many interrupts, and we end although the container does not."""


class Attached:
    """The connection, while it lasts."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._left = trio.Event()
        self.detached = False
        """The user has let go; the container goes on."""

    def detach(self) -> None:
        """Let go."""
        self.detached = True
        self._left.set()

    async def wait(self) -> Outcome | None:
        """The container's outcome; None if the user has let go."""
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

            nursery.start_soon(ended)
            await self._left.wait()
            nursery.cancel_scope.cancel()
        if problem is not None:
            raise problem
        return result


@asynccontextmanager
async def attach(container: Container, *, stdin: bool, terminal: bool) -> AsyncIterator[Attached]:
    """Connect to a container for the length of a block. What the block raises is raised as it is."""
    size_fd = next((fd for fd in (1, 0, 2) if is_terminal(fd)), None) if terminal else None
    rows, columns = window_size(size_fd) if size_fd is not None else (0, 0)
    process = await container.attach(
        stdin=stdin, stdout=_writer(1), stderr=None if terminal else _writer(2), rows=rows, columns=columns
    )
    attached = Attached(process)
    raw = terminal and stdin and is_terminal(0)
    problem: Exception | None = None
    async with trio.open_nursery() as nursery:
        with ExitStack() as stack:
            if raw:
                stack.enter_context(raw_mode(0))
            if size_fd is not None:
                nursery.start_soon(_follow_size, process, size_fd)
            nursery.start_soon(_forward_signals, process)
            if stdin:
                nursery.start_soon(_forward_input, process, attached, raw)
            try:
                yield attached
            except Exception as error:  # noqa: BLE001 -- raised again below, outside the nursery, which would wrap it
                problem = error
            nursery.cancel_scope.cancel()
    if problem is not None:
        raise problem


def _writer(fd: int) -> Callable[[bytes], Awaitable[None]]:
    async def write(data: bytes) -> None:
        # In a thread: a reader of ours that stalls must not keep us from hearing signals.
        await trio.to_thread.run_sync(write_bytes, fd, data, abandon_on_cancel=True)

    return write


async def _follow_size(process: Process, fd: int) -> None:
    with trio.open_signal_receiver(signal.SIGWINCH) as signals:
        async for _number in signals:
            rows, columns = window_size(fd)
            try:
                await process.resize(rows=rows, columns=columns)
            except RossError:
                return  # it has ended


async def _forward_signals(process: Process) -> None:
    interrupts = 0
    with trio.open_signal_receiver(*_FORWARDED) as signals:
        async for number in signals:
            interrupts += number in {signal.SIGINT, signal.SIGTERM}
            if interrupts >= _INSISTING:
                raise Exit(INTERRUPTED)
            try:
                await process.signal(str(int(number)))
            except RossError:
                continue  # not started yet, or ended just now


async def _forward_input(process: Process, attached: Attached, raw: bool) -> None:
    keys = DetachKeys()
    try:
        while data := await _read_input():
            if raw:
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


class DetachKeys:
    """Finds the detach keys in what is typed, also when they come one by one."""

    def __init__(self) -> None:
        self._held = b""

    def filter(self, data: bytes) -> tuple[bytes, bool]:
        """What is to be passed on, and whether the keys were typed."""
        data = self._held + data
        self._held = b""
        found = data.find(DETACH_KEYS)
        if found >= 0:
            return data[:found], True
        if data.endswith(DETACH_KEYS[:1]):
            data, self._held = data[:-1], DETACH_KEYS[:1]
        return data, False
