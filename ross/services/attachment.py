"""A client's connection to the first process of a container."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ross.errors import FailedPrecondition, RossError
from ross.shim.attach import AttachStream, Sink, connect, resize

if TYPE_CHECKING:
    from ross.model.containers import AttachOptions, Outcome
    from ross.services.container import Container
    from ross.services.tracked import Ending


class Attachment:
    """One attachment. Made before the start, it waits for it, so that nothing is missed."""

    def __init__(self, container: Container, options: AttachOptions, stdout: Sink | None, stderr: Sink | None) -> None:
        self.options = options
        self._container = container
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

    async def connect(self) -> None:
        """Connect now; the output flows from here on."""
        if self._detached:
            return
        self._ending = self._container.ending
        self._stream = await connect(self._container.layout.bundle)
        if self._input_closed:
            self._stream.close_input()
        self._connected.set()
        self._container.spawn(self._pump, name=f"attachment of {self._container.id[:12]}")

    async def _pump(self) -> None:
        assert self._stream is not None  # noqa: S101 -- only started with one
        try:
            with self._pumping:
                await self._stream.pump(stdout=self._stdout, stderr=self._stderr)
        finally:
            self._stream.close()
            self._container.attachments.discard(self)
            self._finished.set()

    def fail(self, error: RossError) -> None:
        """The start that this waited for has failed."""
        self._failure = error
        self._connected.set()
        self._finished.set()

    async def finished(self) -> None:
        """Wait until everything went to the sinks, or the attachment was let go of."""
        await self._finished.wait()

    async def wait(self) -> Outcome:
        """Wait until the process has ended and all of its output went to the sinks, or they failed.

        Raises:
            RossError: the start failed.
        """
        await self._finished.wait()
        if self._failure is not None:
            raise self._failure
        result = await self._ending.wait() if self._ending is not None else None
        return result or await self._container.wait_stopped()

    async def signal(self, name: str) -> None:
        """Send a signal to the process."""
        await self._container.signal(name)

    async def resize(self, *, rows: int, columns: int) -> None:
        """Change the size of the terminal.

        Raises:
            FailedPrecondition: there is none.
        """
        if not self._container.record.spec.terminal:
            raise FailedPrecondition(f"the container {self._container.record.name} has no terminal")
        await self._connected.wait()
        resize(self._container.layout.bundle, rows=rows, columns=columns)

    async def write_stdin(self, data: bytes) -> None:
        """Write to the process's input; waits for the start, and for room.

        Raises:
            FailedPrecondition: it has none, or takes no more.
        """
        spec = self._container.record.spec
        if not self.options.stdin or not (spec.stdin_open or spec.terminal):
            raise FailedPrecondition(
                f"the input of the container {self._container.record.name} is not open", hint="create it with -i"
            )
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
        """Let go; nothing of the container ends."""
        self._detached = True
        self._pumping.cancel()  # it may be waiting for a sink that takes nothing
        self._container.pending.discard(self)
        self._finished.set()
        if self._stream is not None:
            self._stream.close()
        await trio.lowlevel.checkpoint()
