"""One container: its state, the operations on it, and the task that watches its process.

States follow ``ross.shim.state``. What changes a container (start, stop, remove) runs in a task of its own, to its end, whether or not
the caller stays; so none of them is ever half done. They take turns by ``_turn``. Between a check of the state and its change there is
no await.
"""

from __future__ import annotations

import logging
import math
import os
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

import outcome
import trio
from attrs import evolve

from ross.errors import FailedPrecondition, NotFound, RossError
from ross.linux.files import remove_tree
from ross.linux.pidfd import open_pidfd, send_signal
from ross.model.containers import AttachOptions, ContainerInfo, ContainerState, Outcome
from ross.nursery.restart import RestartPolicy, supervise
from ross.services.attachment import Attachment
from ross.services.launcher import Launcher, gone
from ross.services.records import Run, boot_id
from ross.shim.attach import Sink, resize
from ross.shim.logs import read_log
from ross.shim.signals import parse_signal, signal_name
from ross.shim.state import check_transition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from ross.model.logs import LogEntry, LogOptions
    from ross.services.containers import Parts
    from ross.services.images import Image
    from ross.services.records import ContainerRecord
    from ross.shim.monitor import Launched

logger = logging.getLogger(__name__)

_S = ContainerState
_ATTACHED_SECONDS: Final = 5.0
"""How long a container that has ended waits for its attachments to have read everything, before it is taken apart."""


class Container:
    """One container. Made by :class:`~ross.services.containers.Containers`; outlives its removal as a tombstone."""

    def __init__(self, parts: Parts, record: ContainerRecord, image: Image | None) -> None:
        self.record = record
        self.layout = parts.state.container(record.id)
        self.pending: set[Attachment] = set()
        self.attachments: set[Attachment] = set()
        self.launcher = Launcher(parts, record.id)
        self._parts = parts
        self._image = image
        self._state = _S.STOPPED if record.outcome is not None else _S.CREATED
        self._turn = trio.Lock()
        self._stopped = trio.Event()
        """Set once a run has ended and its outcome is known; replaced at each start."""
        self._settled = trio.Event()
        """Set once nothing of a run is left."""
        self._removed = trio.Event()
        self._begun = trio.Event()
        """Set once it has been started, or removed."""
        if record.outcome is not None:
            for event in (self._begun, self._stopped, self._settled):
                event.set()

    # -- looking ------------------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def state(self) -> ContainerState:
        return self._state

    @property
    def info(self) -> ContainerInfo:
        """What is known now; never waits."""
        record = self.record
        running = self._state in {_S.RUNNING, _S.STOPPING} and record.run is not None
        return ContainerInfo(
            id=record.id,
            name=record.name,
            image=record.image,
            image_id=record.image_id,
            manifest=record.manifest,
            spec=record.spec,
            command=record.command,
            state=self._state,
            pid=record.run.process.pid if running and record.run is not None else 0,
            created_at=record.created_at,
            started_at=record.started_at,
            outcome=record.outcome,
            error=record.error,
            log_path=str(self.layout.log),
            rootfs_path=str(self.layout.rootfs),
        )

    def spawn(self, async_fn: Callable[[], Awaitable[None]], *, name: str) -> None:
        """Run something in the background for this container; its failure is logged and ends nothing else."""

        async def guarded() -> None:
            try:
                await async_fn()
            except Exception:
                logger.exception("%s failed", name)

        self._parts.nursery.start_soon(guarded, name=name)

    async def _to_the_end(self, async_fn: Callable[[], Awaitable[None]], *, name: str) -> None:
        """Run something to its end, also if the caller goes away; raise what it raises."""
        result: list[outcome.Outcome[None]] = []
        done = trio.Event()

        async def captured() -> None:
            try:
                result.append(await outcome.acapture(async_fn))
            finally:
                done.set()

        self._parts.nursery.start_soon(captured, name=name)
        await done.wait()
        result[0].unwrap()

    # -- starting -----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start it; returns when its process runs. Goes on to the end even if the caller does not wait for it.

        Raises:
            FailedPrecondition: it runs already, or cannot be run; for a program that is missing ``reason`` says so.
            NotFound: it has been removed.
        """
        await self._to_the_end(self._start, name=f"start {self.id[:12]}")

    async def _start(self) -> None:
        async with self._turn:
            check_transition(self.record.name, self._state, _S.STARTING)
            before, self._state = self._state, _S.STARTING
            try:
                launched, started_at = await self._launch()
            except Exception as error:
                await self.launcher.take_down()  # noqa: ASYNC120 -- runs in a task that only a shutdown cancels
                failure = (
                    error
                    if isinstance(error, RossError)
                    else FailedPrecondition(f"the container cannot be started: {error}")
                )
                self._state = before
                self._save(evolve(self.record, run=None, error=failure.message), durable=False)
                for attachment in tuple(self.pending):
                    self.pending.discard(attachment)
                    attachment.fail(failure)
                if failure is error:
                    raise
                raise failure from error
            self._begin_run(
                Run(boot=boot_id(), process=launched.process, monitor=launched.monitor), started_at=started_at
            )
        self._publish("start")

    async def _launch(self) -> tuple[Launched, int]:
        """Make everything that a run needs, and begin it. Returns who runs, and since when."""
        if self._image is None:
            raise FailedPrecondition(
                f"the image of the container {self.record.name} is damaged or gone",
                hint="pull it, and create the container again",
            )
        sizes = [
            (one.options.rows, one.options.columns) for one in self.pending if one.options.rows and one.options.columns
        ]
        execution = self._image.config.execution
        launched = await self.launcher.create(self.record, execution, console_size=sizes[-1] if sizes else None)
        for attachment in tuple(self.pending):
            self.pending.discard(attachment)
            self.attachments.add(attachment)
            await attachment.connect()
        started_at = time.time_ns()
        await self._parts.runtime.start(self.id)
        return launched, started_at

    def _begin_run(self, run: Run, *, started_at: int) -> None:
        """From here on it runs, and a task watches it."""
        self._stopped, self._settled = trio.Event(), trio.Event()
        self._state = _S.RUNNING
        self._begun.set()
        self._save(evolve(self.record, run=run, started_at=started_at, outcome=None, error=""), durable=False)
        self._watch_run(run)

    def _watch_run(self, run: Run) -> None:
        def failed(error: Exception, pause: float) -> None:
            logger.error("watching the container %s failed; again in %.1f s", self.id[:12], pause, exc_info=error)
            self.record = evolve(self.record, error=f"it cannot be watched: {error}")

        async def watched() -> None:
            await supervise(lambda: self._watch(run), policy=RestartPolicy(), on_failure=failed)

        self._parts.nursery.start_soon(watched, name=f"shim {self.id[:12]}")

    # -- the shim task ------------------------------------------------------------------------------------------------

    async def _watch(self, run: Run) -> None:
        """Wait for the end of a run, record it, and take down what is left of it."""
        await gone(run.monitor)
        if self._state in {_S.RUNNING, _S.STOPPING}:
            self._end_run(await self.launcher.outcome(run))
        async with self._turn:
            if not self._settled.is_set():
                with trio.move_on_after(_ATTACHED_SECONDS):
                    for attachment in tuple(self.attachments):
                        await attachment.finished()
                await self.launcher.take_down()
                self._settled.set()
        if self.record.spec.auto_remove and self._state is _S.STOPPED:
            await self._remove(force=True)

    def _end_run(self, result: Outcome) -> None:
        self._state = _S.STOPPED
        self._save(evolve(self.record, run=None, outcome=result), durable=False)
        self._stopped.set()
        self._publish("exit", exitCode=str(result.exit_code), oom=str(result.oom).lower())

    # -- ending -------------------------------------------------------------------------------------------------------

    async def wait(self) -> Outcome:
        """Wait until it has stopped, and if it removes itself until it is gone: at once if it is.

        Returns:
            The outcome of its last run; of its first, if it has not been started.
        """
        result = await self.wait_outcome()
        if self.record.spec.auto_remove:
            await self._removed.wait()
        return result

    async def wait_outcome(self) -> Outcome:
        """Wait until its process has ended; what is left of it may still be there."""
        while self.record.outcome is None:
            if self._state is _S.REMOVED:
                raise NotFound(f"the container {self.record.name} was removed before it was started")
            stopped = self._stopped
            await stopped.wait()
            if stopped is self._stopped and self.record.outcome is None:
                raise NotFound(f"the container {self.record.name} was removed before it was started")
        await trio.lowlevel.checkpoint()
        return self.record.outcome

    async def signal(self, name: str) -> None:
        """Send a signal to its first process.

        Raises:
            InvalidArgument: it is no signal.
            FailedPrecondition: it does not run.
        """
        self._send(parse_signal(name))
        await trio.lowlevel.checkpoint()

    def _send(self, number: int) -> None:
        run = self.record.run
        if self._state not in {_S.RUNNING, _S.STOPPING} or run is None:
            if self._state is _S.REMOVED:
                raise NotFound(f"the container {self.record.name} has been removed")
            raise FailedPrecondition(
                f"the container {self.record.name} is {self._state.value}: there is no process to signal"
            )
        fd = open_pidfd(run.process)
        if fd is None:
            return  # it ends right now
        try:
            send_signal(fd, number)
        finally:
            os.close(fd)
        self._publish("kill", signal=signal_name(number))

    async def stop(self, *, signal: str, grace_seconds: int) -> None:
        """Ask it to stop, wait, and end it. Does nothing to one that does not run.

        Args:
            signal: What to ask with; empty: what the spec, then the image say, then SIGTERM.
            grace_seconds: How long to wait before SIGKILL; negative: what the spec says.
        """
        image = self._image.config.execution.stop_signal if self._image is not None else ""
        number = parse_signal(signal or self.record.spec.stop_signal or image or "TERM")
        grace = grace_seconds if grace_seconds >= 0 else self.record.spec.stop_grace_seconds

        async def stop() -> None:
            if self._state is _S.STARTING:
                async with self._turn:
                    pass
            if self._state is _S.REMOVED:
                raise NotFound(f"the container {self.record.name} has been removed")
            if self._state not in {_S.RUNNING, _S.STOPPING}:
                return
            self._state = _S.STOPPING
            self._send(number)
            with trio.move_on_after(grace if grace >= 0 else math.inf):
                await self._stopped.wait()
            if self._state is _S.STOPPING:
                self._send(9)
                await self._stopped.wait()
            await self._settled.wait()
            self._publish("stop")

        await self._to_the_end(stop, name=f"stop {self.id[:12]}")

    async def remove(self, *, force: bool) -> None:
        """Remove it and all that is its own.

        Args:
            force: Also if it runs: its process is killed.

        Raises:
            FailedPrecondition: it runs.
            NotFound: it has been removed.
        """
        await self._to_the_end(lambda: self._remove(force=force), name=f"remove {self.id[:12]}")

    async def _remove(self, *, force: bool) -> None:
        if force and self._state in {_S.STARTING, _S.RUNNING, _S.STOPPING}:
            async with self._turn:
                pass
            if self._state in {_S.RUNNING, _S.STOPPING}:
                self._send(9)
                await self._stopped.wait()
                await self._settled.wait()
        async with self._turn:
            if self._state is _S.REMOVED and self.record.spec.auto_remove:
                return  # it has removed itself meanwhile, which is what was wanted
            check_transition(self.record.name, self._state, _S.REMOVING)
            await self._remove_now()

    async def _remove_now(self) -> None:
        self._state = _S.REMOVING
        self._save(evolve(self.record, removing=True), durable=False)
        await self.launcher.take_down()
        await self._parts.snapshotter.remove(self.id)
        await trio.to_thread.run_sync(remove_tree, self.layout.directory)
        self._state = _S.REMOVED
        for attachment in tuple(self.pending):
            attachment.fail(NotFound(f"the container {self.record.name} was removed before it was started"))
        for event in (self._begun, self._stopped, self._settled, self._removed):
            event.set()
        self._parts.forget(self)
        self._publish("remove")

    # -- output -------------------------------------------------------------------------------------------------------

    async def attach(self, options: AttachOptions, *, stdout: Sink | None, stderr: Sink | None) -> Attachment:
        """Connect to its first process; before the start: from the first byte on, once it starts.

        Raises:
            FailedPrecondition: it is being removed, or its monitor does not answer.
            NotFound: it has been removed.
        """
        if self._state in {_S.REMOVING, _S.REMOVED}:
            raise NotFound(f"the container {self.record.name} has been removed")
        attachment = Attachment(self, options, stdout, stderr)
        if self._state in {_S.RUNNING, _S.STOPPING}:
            self.attachments.add(attachment)
            try:
                await attachment.connect()
            except BaseException:
                self.attachments.discard(attachment)
                raise
            if options.rows and options.columns and self.record.spec.terminal:
                resize(self.layout.bundle, rows=options.rows, columns=options.columns)
        else:
            self.pending.add(attachment)
            await trio.lowlevel.checkpoint()
        return attachment

    async def logs(self, options: LogOptions, write: Callable[[Sequence[LogEntry]], Awaitable[None]]) -> None:
        """Hand its log to ``write``, in batches; with ``follow`` until it has stopped and all was handed over."""
        if self._state is _S.REMOVED:
            raise NotFound(f"the container {self.record.name} has been removed")
        if options.follow and self._state in {_S.CREATED, _S.STARTING}:
            await self._begun.wait()
        batches = read_log(
            self.layout.log,
            options,
            ended=lambda: self._state not in {_S.STARTING, _S.RUNNING, _S.STOPPING},
            wait_ended=self._stopped.wait,
        )
        async with aclosing(batches):
            async for batch in batches:
                await write(batch)

    # -- adopting -----------------------------------------------------------------------------------------------------

    def adopt(self, run: Run, *, started_at: int) -> None:
        """Take over a run that an earlier daemon began."""
        logger.info("adopting the container %s (%s)", self.record.name, self.id[:12])
        self._begin_run(run, started_at=started_at)

    # -- writing ------------------------------------------------------------------------------------------------------

    def _save(self, record: ContainerRecord, *, durable: bool) -> None:
        self.record = record
        try:
            self._parts.records.save(record, durable=durable)
        except OSError as error:
            logger.error("the record of the container %s cannot be written: %s", self.id[:12], error)

    def _publish(self, action: str, **attributes: str) -> None:
        self._parts.events.publish(
            "container", action, subject=self.id, name=self.record.name, image=self.record.image, **attributes
        )
