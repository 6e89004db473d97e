"""One program that is executed in a container beside its first process: begun, watched, signalled and attached to, until its end.

It has a record and a monitor of its own, as a container has, so that it is found again after our death; both are gone when it has ended.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import trio
from attrs import frozen

from ross.errors import FailedPrecondition, RossError, Unavailable
from ross.linux.files import make_directory, remove_tree, write_atomic
from ross.linux.pidfd import open_pidfd, send_signal
from ross.model.containers import AttachOptions, Outcome
from ross.model.execs import ExecInfo, ExecOptions, GonePolicy
from ross.nursery.restart import RestartPolicy, supervise
from ross.oci.codec import write_record
from ross.services.attachment import Attachment
from ross.services.launcher import gone
from ross.services.tracked import Ending
from ross.shim.attach import Sink, resize
from ross.shim.exec_monitor import Executed
from ross.shim.exec_process import Surroundings, exec_process
from ross.shim.signals import parse_signal
from ross.shim.spares import Spares

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from ross.layout import ExecLayout
    from ross.services.containers import Parts
    from ross.services.running import RunnableContainer
    from ross.shim.handed import Handed
    from ross.shim.logfiles import LogFiles

logger = logging.getLogger(__name__)

_LAUNCH_SECONDS: Final = 30.0
_HUP_SECONDS: Final = 5.0
"""How long what was sent SIGHUP has to end before it is killed."""
_LOST_EXIT_CODE: Final = 255


@frozen(kw_only=True)
class ExecRecord:
    """What is kept of an exec while it runs."""

    id: str
    container: str
    options: ExecOptions
    started_at: int


class Exec:
    """One exec. Made by :class:`~ross.services.execs.Execs`."""

    def __init__(self, parts: Parts, container: RunnableContainer, record: ExecRecord) -> None:
        self.record = record
        self.layout: ExecLayout = parts.runtime_layout.exec(record.id)
        self.pending: set[Attachment] = set()
        self.attachments: set[Attachment] = set()
        self.spares = Spares()
        self.ended = trio.Event()
        """Set when its process has ended and nothing of it is left."""
        self._parts = parts
        self._container = container
        self._running = Executed(process=None, monitor=None)
        self._begun = trio.Event()
        """Set when it runs, or could not be executed; others find it before."""
        self.ending = Ending()
        """Set when its outcome is known."""
        self._holders = 0
        self.failed = False
        """It could not be executed, and never ran."""
        self.listed = True
        """Others see it."""

    # -- what can be attached to --------------------------------------------------------------------------------------

    @property
    def title(self) -> str:
        return f"exec {self.record.id[:12]} of the container {self._container.record.name}"

    @property
    def monitor_directory(self) -> Path:
        return self.layout.directory

    @property
    def log(self) -> LogFiles | None:
        return None

    @property
    def has_terminal(self) -> bool:
        return self.record.options.terminal

    @property
    def takes_input(self) -> bool:
        return self.record.options.stdin or self.record.options.terminal

    def spawn(self, async_fn: Callable[[], Awaitable[None]], *, name: str) -> None:
        """Run something in the background."""
        self._container.spawn(async_fn, name=name)

    def has_ended(self) -> bool:
        """Whether its process has ended."""
        return self.ending.is_set()

    async def wait_outcome(self) -> Outcome:
        """Return how it has ended, when it has. Its container's end is its own."""
        result = await self.ending.wait()
        assert result is not None  # noqa: S101 -- whatever happened, it has ended somehow
        return result

    async def signal(self, name: str) -> None:
        """Send a signal to its process.

        Raises:
            InvalidArgument: it is no signal.
            FailedPrecondition: it has ended.
        """
        number = parse_signal(name)
        await self._begun.wait()
        if self.has_ended():
            raise FailedPrecondition(f"the {self.title} has ended: there is no process to signal")
        self._send(number)

    async def wait(self) -> Outcome:
        """Return how it has ended, when it has."""
        return await self.wait_outcome()

    async def resize(self, *, rows: int, columns: int) -> None:
        """Change the size of its terminal.

        Raises:
            FailedPrecondition: it has none.
        """
        if not self.has_terminal:
            raise FailedPrecondition(f"the {self.title} has no terminal")
        await self._begun.wait()
        await resize(self.layout.directory, rows=rows, columns=columns)
        self.resized(rows=rows, columns=columns)

    # -- events -------------------------------------------------------------------------------------------------------

    def publish(
        self, action: Literal["exec_create", "exec_start", "exec_die", "exec_detach", "resize"], **attributes: str
    ) -> None:
        """Tell that something has happened to it; never what it executes, which may have a secret in it."""
        if self.listed:
            self._container.publish(action, execID=self.record.id, **attributes)

    def detached(self) -> None:
        """Somebody has let go of it before its end."""
        self.publish("exec_detach")

    def resized(self, *, rows: int, columns: int) -> None:
        """Its terminal has been given another size."""
        self.publish("resize", height=str(rows), width=str(columns))

    def _end(self, result: Outcome) -> None:
        if self.ending.is_set():
            return  # the watch was begun again behind this
        self.ending.set(result)
        self.publish("exec_die", exitCode=str(result.exit_code))

    # -- its life -----------------------------------------------------------------------------------------------------

    @property
    def info(self) -> ExecInfo:
        """What is known now; never waits."""
        options, process = self.record.options, self._running.process
        return ExecInfo(
            id=self.record.id,
            args=options.args,
            user=options.user,
            working_dir=options.working_dir,
            terminal=options.terminal,
            stdin=options.stdin,
            privileged=options.privileged,
            when_gone=options.when_gone,
            pid=process.pid if process is not None and not self.has_ended() else 0,
            started_at=self.record.started_at,
            outcome=self.ending.outcome,
        )

    async def launch(self, around: Surroundings, *, handed: Handed) -> None:
        """Execute it: the record first, then a monitor, and from then on a task that watches.

        Raises:
            FailedPrecondition: it cannot be executed; for a program that is missing ``reason`` says so.
            Unavailable: the runtime hangs.
        """
        options = self.record.options
        self.publish("exec_create")
        try:
            process = await trio.to_thread.run_sync(exec_process, options, around)
            await trio.to_thread.run_sync(self._write_record)
            with trio.move_on_after(_LAUNCH_SECONDS) as scope:
                self._running = await self._parts.exec_monitor.launch(
                    self.record.container,
                    self.layout,
                    process,
                    stdin=options.stdin,
                    handed=handed,
                    connect=self._connect,
                )
            await trio.lowlevel.checkpoint_if_cancelled()  # whoever has gone meanwhile will not let go of it
            if scope.cancelled_caught:
                raise Unavailable(
                    f"the runtime did not execute anything in the container {self._container.record.name} in "
                    f"{_LAUNCH_SECONDS:g} s, and was ended",
                    hint="is the container frozen?",
                )
        except BaseException as error:
            with trio.CancelScope(shield=True):
                await self._parts.exec_monitor.abandon(self.layout)
            self.failed = True
            self._end(Outcome(exit_code=_LOST_EXIT_CODE, error="it could not be executed", finished_at=time.time_ns()))
            self.ended.set()
            self._begun.set()
            for attachment in (*self.pending, *self.attachments):
                self.pending.discard(attachment)
                attachment.fail(error if isinstance(error, RossError) else FailedPrecondition(str(error)))
            raise
        self.publish("exec_start")
        self.watch()

    def _write_record(self) -> None:
        make_directory(self.layout.directory)
        write_atomic(self.layout.record, write_record(self.record), sync=False)  # it is of no use after a reboot

    async def _connect(self) -> None:
        for attachment in tuple(self.pending):
            self.pending.discard(attachment)
            self.attachments.add(attachment)
            await attachment.connect(accepted=False)

    def adopt(self) -> None:
        """Take over what an earlier daemon has begun. Whoever held it is gone."""
        monitor = self._parts.exec_monitor
        self._running = Executed(
            process=monitor.process_of(self.layout),
            monitor=monitor.monitor_of(self.layout) or monitor.find_monitor(self.layout),
        )
        logger.info("adopting the %s", self.title)
        self.watch()
        self._left_alone()

    def watch(self) -> None:
        """Begin to watch it."""
        self._begun.set()

        def failed(error: Exception, pause: float) -> None:
            logger.error("watching the %s failed; again in %.1f s", self.title, pause, exc_info=error)

        async def watched() -> None:
            await supervise(self._watch, policy=RestartPolicy(), on_failure=failed)

        self.spawn(watched, name=f"exec {self.record.id[:12]}")

    async def _watch(self) -> None:
        running, monitor = self._running, self._parts.exec_monitor
        if running.monitor is not None:
            await gone(running.monitor)
        found = monitor.exit_of(self.record.container, self.layout)
        if found is not None:
            number = found.status - 128 if found.status - 128 in signal.valid_signals() else 0
            result = Outcome(exit_code=found.status, signal=number, finished_at=found.finished_at)
        else:  # the monitor was killed, or its daemon before there was one
            process = running.process or monitor.process_of(self.layout)
            if process is not None:
                await gone(process)
            error = "its monitor was killed, so its exit code is not known"
            result = Outcome(exit_code=_LOST_EXIT_CODE, error=error, finished_at=time.time_ns())
        self._end(result)
        await trio.to_thread.run_sync(remove_tree, self.layout.directory)
        self.ended.set()

    # -- its holders --------------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Count one more who holds it."""
        self._holders += 1

    async def let_go(self) -> None:
        """Count one less; without any it goes the way it was declared to."""
        self._holders -= 1
        if self._holders == 0:
            self._left_alone()
        await trio.lowlevel.checkpoint()

    def _left_alone(self) -> None:
        policy = self.record.options.when_gone
        if policy is not GonePolicy.LEAVE and not self.has_ended():
            self.spawn(partial(self._end_it, policy), name=f"end of the {self.title}")

    async def _end_it(self, policy: GonePolicy) -> None:
        if policy is GonePolicy.HUP:
            self._send(signal.SIGHUP, group=True)
            with trio.move_on_after(_HUP_SECONDS):
                await self.ending.wait()
        if not self.has_ended() and self._holders <= 0:
            self._send(signal.SIGKILL, group=True)

    def _send(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the process, or to all of its group, which it leads; to one that ends just now: nothing happens."""
        process = self._running.process or self._parts.exec_monitor.process_of(self.layout)
        fd = open_pidfd(process) if process is not None else None
        if process is None or fd is None:
            return
        try:
            if group and os.getpgid(process.pid) == process.pid:
                os.killpg(process.pid, number)
            else:
                send_signal(fd, number)
        except ProcessLookupError:
            return
        finally:
            os.close(fd)

    # -- being connected ----------------------------------------------------------------------------------------------

    async def attach(self, options: AttachOptions, *, stdout: Sink | None, stderr: Sink | None) -> Attachment:
        """Connect to it while it runs: from now on.

        Raises:
            FailedPrecondition: it has ended, or has its streams from whoever began it.
        """
        await self._begun.wait()
        if self.has_ended() or self.record.options.stdio:
            why = "has ended" if self.has_ended() else "was given its streams when it was begun"
            raise FailedPrecondition(f"the {self.title} {why}: there is nothing to attach to")
        attachment = Attachment(self, options, stdout, stderr)
        self.attachments.add(attachment)
        try:
            await attachment.connect(runs=True)
            await trio.lowlevel.checkpoint_if_cancelled()  # whoever has gone meanwhile will not let go of it
        except BaseException:
            self.attachments.discard(attachment)
            await attachment.detach()  # noqa: ASYNC120 -- waits for nothing
            raise
        return attachment
