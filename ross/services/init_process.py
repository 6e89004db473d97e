"""The first process of a container, as those see it who attach to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ross.errors import FailedPrecondition, NotFound, RossError
from ross.model.containers import AttachOptions, ContainerState, Outcome
from ross.model.logs import LogDriver
from ross.services.attachment import Attachment
from ross.shim.attach import Sink, resize
from ross.shim.spares import Spares
from ross.shim.state import ALIVE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from ross.services.running import RunnableContainer
    from ross.services.tracked import Ending
    from ross.shim.logfiles import LogFiles

_S = ContainerState


class InitProcess:
    """What a container's attachments are attached to, run after run."""

    def __init__(self, container: RunnableContainer) -> None:
        self.pending: set[Attachment] = set()
        self.attachments: set[Attachment] = set()
        self._starting: set[Attachment] = set()
        """Those that are connected for the start that is on its way."""
        self.spares = Spares()
        self._container = container

    @property
    def title(self) -> str:
        return f"container {self._container.record.name}"

    @property
    def monitor_directory(self) -> Path:
        return self._container.layout.bundle

    @property
    def log(self) -> LogFiles | None:
        kept = self._container.record.spec.log.driver is LogDriver.FILE
        return self._container.log_files if kept else None

    @property
    def has_terminal(self) -> bool:
        return self._container.record.spec.terminal

    @property
    def takes_input(self) -> bool:
        return self._container.record.spec.stdin_open or self.has_terminal

    def spawn(self, async_fn: Callable[[], Awaitable[None]], *, name: str) -> None:
        """Run something in the background."""
        self._container.spawn(async_fn, name=name)

    @property
    def ending(self) -> Ending:
        return self._container.ending

    async def wait_outcome(self) -> Outcome:
        """Return how its process has ended, when it has."""
        return await self._container.wait_stopped()

    async def signal(self, name: str) -> None:
        """Send a signal to it."""
        await self._container.signal(name)

    # -- attaching ----------------------------------------------------------------------------------------------------

    async def attach(self, options: AttachOptions, *, stdout: Sink | None, stderr: Sink | None) -> Attachment:
        """Connect to it; before the start: from the first byte on, once it starts.

        Raises:
            FailedPrecondition: its monitor does not answer, or does not have its streams; or to look on would end its input.
            NotFound: the container is being removed, or has been.
        """
        state = self._container.state
        if state in {_S.REMOVING, _S.REMOVED}:
            raise NotFound(f"the {self.title} has been removed")
        wanted = options.stdin or stdout is not None or stderr is not None
        if wanted and self._container.record.spec.log.driver is LogDriver.PASSTHROUGH:
            raise FailedPrecondition(
                f"the streams of the {self.title} are those of whoever started it",
                hint="it was created with --log-driver passthrough",
            )
        kept = self.has_terminal or self._container.record.spec.stdin_kept
        if wanted and self.log is None and self.takes_input and not options.stdin and not kept:
            raise FailedPrecondition(
                f"the {self.title} keeps no log to look on by, and its input ends when somebody who looks on lets go",
                hint="connect to its input too",
            )
        attachment = Attachment(self, options, stdout, stderr)
        self._container.publish("attach")
        (self.attachments if state in ALIVE else self.pending).add(attachment)
        try:
            if state in ALIVE:
                await attachment.connect(runs=True)
                if options.rows and options.columns and self.has_terminal:
                    await resize(self.monitor_directory, rows=options.rows, columns=options.columns)
            await trio.lowlevel.checkpoint_if_cancelled()  # whoever has gone meanwhile will not let go of it
        except BaseException:
            self.attachments.discard(attachment)
            await attachment.detach()  # noqa: ASYNC120 -- waits for nothing
            raise
        return attachment

    def detached(self) -> None:
        """Somebody has let go of it before its end."""
        self._container.publish("detach")

    def resized(self, *, rows: int, columns: int) -> None:
        """Its terminal has been given another size."""
        self._container.publish("resize", height=str(rows), width=str(columns))

    def console_size(self) -> tuple[int, int] | None:
        """Rows and columns as the last one of those wants them who wait for the start."""
        sizes = [
            (one.options.rows, one.options.columns) for one in self.pending if one.options.rows and one.options.columns
        ]
        return sizes[-1] if sizes else None

    async def connect_pending(self) -> None:
        """Connect those who wait for the start, which is about to come.

        Raises:
            RossError: the monitor is gone, or stopped.
        """
        for attachment in tuple(self.pending):
            await self._connect(attachment)

    async def started(self) -> None:
        """Connect those who came while it was being started. With the last of them it runs: no others wait from here on."""
        while self.pending:
            attachment = next(iter(self.pending))
            try:
                await self._connect(attachment, runs=True)
            except RossError as error:  # it has ended already, and its monitor with it
                attachment.fail(error)
        self._starting.clear()

    async def _connect(self, attachment: Attachment, *, runs: bool = False) -> None:
        self.pending.discard(attachment)
        self._starting.add(attachment)
        self.attachments.add(attachment)
        try:
            await attachment.connect(runs=runs)
        except BaseException:
            self.attachments.discard(attachment)
            raise

    def fail_pending(self, error: RossError) -> None:
        """Tell those who wait for the start that there is none, those who are connected already too."""
        for attachment in (*self.pending, *self._starting):
            attachment.fail(error)
        self.pending.clear()
        self._starting.clear()

    async def leave_stalled(self) -> None:
        """Let go of those who may have it wait: its monitor does not tell of its end before they have taken all of its output."""
        for attachment in tuple(self.attachments):
            if attachment.has_it_wait:
                await attachment.detach()

    async def all_finished(self) -> None:
        """Wait until everybody has read everything, or has let go."""
        for attachment in tuple(self.attachments):
            await attachment.finished()
