"""Runs of a container: starting, watching, what its restart policy does, and taking over a run of an earlier daemon.

A run is watched by a task of its own, the shim task, from its start until nothing of it is left.
"""

from __future__ import annotations

import logging
import time
from abc import abstractmethod
from typing import TYPE_CHECKING, Final

import trio
from attrs import evolve

from ross.errors import FailedPrecondition, Reason, RossError
from ross.linux.files import time_of_files
from ross.model.containers import ContainerInfo, ContainerState, Outcome, WaitCondition
from ross.nursery.restart import RestartPolicy, supervise
from ross.services.checkpoints import Checkpoints
from ross.services.execs import Execs
from ross.services.files import Files
from ross.services.freezer import Freezer
from ross.services.health import Health
from ross.services.init_process import InitProcess
from ross.services.launcher import Launcher, gone
from ross.services.records import Run, boot_id
from ross.services.restarts import Restarts
from ross.services.stats import Sampler
from ross.services.tracked import Ending, TrackedContainer
from ross.shim.handed import NOTHING, Handed
from ross.shim.logfiles import LogFiles
from ross.shim.logs import log_end
from ross.shim.state import ALIVE, check_transition
from ross.shim.valid_logs import check_handed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ross.services.containers import Parts
    from ross.services.image import Image
    from ross.services.records import ContainerRecord
    from ross.shim.criu import Restoring
    from ross.shim.monitor import Launched

logger = logging.getLogger(__name__)

_S = ContainerState
_START_FAILED: Final = 128
"""Where it is not the program that is at fault, for which the shell has codes: as Docker has it."""
_PROGRAM_FAILED: Final = {Reason.COMMAND_NOT_FOUND: 127, Reason.COMMAND_NOT_EXECUTABLE: 126}
_NONE_YET = Outcome(exit_code=0)
"""For those who wait for something else than an end."""
_ATTACHED_SECONDS: Final = 5.0
"""How long a container that has ended waits for its attachments to have read everything and its execs to end, before it is taken apart."""


class RunnableContainer(TrackedContainer):
    """A container that can be started. What changes it takes its turn, and runs in a task that the caller's end does not end."""

    def __init__(self, parts: Parts, record: ContainerRecord, image: Image | None) -> None:
        super().__init__(parts, record)
        self._image = image
        self.log_files = LogFiles(self.layout, record.spec.log, parts.watches)
        self.init = InitProcess(self)
        self.execs = Execs(parts, self)
        self.checkpoints = Checkpoints(self, parts)
        self.health = Health(self)
        self.launcher = Launcher(parts, record.id)
        self._turn = trio.Lock()
        self.files = Files(self, parts, self._turn)
        self.freezer = Freezer(self, parts, self._turn)
        self.stats = Sampler(self, parts)
        self.standstills = 0
        """How often its processes have been held still: whoever has asked them something got no answer."""
        self._ends_asked = 0
        """How often somebody has asked for its end: what restarts it without having been asked to gives way."""
        self._kept = 0
        """How many are about to start it again: it does not remove itself meanwhile."""
        self._restarts = Restarts()
        self._give_up = trio.Event()
        """Set to end the pause before a restart."""

    @property
    def turn(self) -> trio.Lock:
        """Whoever changes it as a whole holds this."""
        return self._turn

    @property
    def image(self) -> Image | None:
        """What it was made of; None if that is damaged or gone."""
        return self._image

    @property
    def info(self) -> ContainerInfo:
        """What is known now; never waits."""
        return evolve(super().info, health=self.health.info, checkpoint=self.checkpoints.info)

    async def wait(self, condition: WaitCondition = WaitCondition.NOT_RUNNING) -> Outcome:
        """Wait for a condition; see :meth:`TrackedContainer.wait`."""
        if condition is WaitCondition.HEALTHY:
            await self.health.wait_healthy()
            return _NONE_YET
        return await super().wait(condition)

    @property
    def settled(self) -> trio.Event:
        """Set once nothing of its last run is left."""
        return self._settled

    async def _to_the_end(self, async_fn: Callable[[], Awaitable[None]], *, name: str) -> None:
        async def in_its_turn() -> None:
            with self.files.making_way():
                await async_fn()

        await super()._to_the_end(in_its_turn, name=name)

    @abstractmethod
    async def signal(self, name: str) -> None:
        """Send a signal to its first process."""

    @abstractmethod
    async def kill(self) -> None:
        """Kill its process, without anybody having asked for it: its restart policy says what comes then."""

    @abstractmethod
    async def stop(self, *, signal: str, grace_seconds: int) -> None:
        """Ask it to stop, wait, and end it."""

    @abstractmethod
    async def restart(self, *, signal: str, grace_seconds: int) -> None:
        """Stop it, and start it."""

    @abstractmethod
    async def restart_unasked(self) -> None:
        """The same, unless somebody wants its end meanwhile."""

    @abstractmethod
    async def _remove_now(self) -> None:
        """Remove it and all that is its own. Called in its turn."""

    # -- starting -----------------------------------------------------------------------------------------------------

    async def start(self, handed: Handed = NOTHING) -> None:
        """Start it; returns when its process runs. Goes on to the end even if the caller does not wait for it.

        Args:
            handed: Descriptors for its process: streams only where its log driver is passthrough. They stay the caller's.

        Raises:
            InvalidArgument: it takes none, or not these.
            FailedPrecondition: it runs already, or cannot be run; for a program that is missing ``reason`` says so.
            NotFound: it has been removed.
        """
        check_handed(self.record.spec.log, handed)
        own = handed.duplicate()

        async def begin() -> None:
            try:
                await self._start(own)
            finally:
                own.close()

        await self._to_the_end(begin, name="start")

    async def _start(self, handed: Handed = NOTHING, *, unless_it_runs: bool = False) -> None:
        async with self._turn:
            await self._take_apart()
            if unless_it_runs and self._state in ALIVE:
                return
            if self._state is _S.RESTARTING:
                self._rest()  # what was to come is now
            check_transition(self.record.name, self._state, _S.STARTING)
            self._save(evolve(self.record, stopped_by_hand=False, restart_count=0))
            self._restarts = Restarts()
            try:
                await self._begin(handed)
            except RossError:
                await self._remove_itself()  # noqa: ASYNC120 -- runs in a task that only a shutdown cancels
                raise

    async def _begin(self, handed: Handed = NOTHING, restoring: Restoring | None = None) -> None:
        """From created, stopped or restarting to running, or back if it fails. Called in its turn."""
        before, self._state = self._state, _S.STARTING
        if self._stopped.is_set():
            self._stopped = Ending()
        try:
            launched, started_at = await self._launch(handed, restoring)
        except Exception as error:
            failure = await self._start_failed(before, error)  # noqa: ASYNC120 -- runs in a task that only a shutdown cancels
            if failure is error:
                raise
            raise failure from error
        run = Run(boot=boot_id(), process=launched.process, monitor=launched.monitor, group=self.group)
        self._begin_run(run, started_at=started_at)
        self.publish("start" if restoring is None else "restore")

    async def _start_failed(self, before: ContainerState, error: Exception) -> RossError:
        """Take down what a start has made, and be what it was. Returns what to tell of it."""
        self._parts.oom_watch.forget(self.group)
        try:
            await self.launcher.take_down(self.record)
        except (RossError, OSError) as left:
            logger.error("what a failed start of the container %s has made stays: %s", self.record.name, left)
        failure = (
            error if isinstance(error, RossError) else FailedPrecondition(f"the container cannot be started: {error}")
        )
        self._state = before
        if before is _S.STOPPED:
            self._stopped.set(self.record.outcome)
        code = _PROGRAM_FAILED.get(failure.reason or "", _START_FAILED)
        self._save(evolve(self.record, run=None, error=failure.message, error_code=code))
        self.init.fail_pending(failure)
        return failure

    async def _launch(self, handed: Handed, restoring: Restoring | None) -> tuple[Launched, int]:
        """Make everything that a run needs, and begin it, or have it go on. Returns who runs, and since when."""
        if self.image is None:
            raise FailedPrecondition(
                f"the image of the container {self.record.name} is damaged or gone",
                hint="pull it, and create the container again",
            )
        execution = self.image.config.execution
        launched = await self.launcher.create(
            self.record, execution, console_size=self.init.console_size(), handed=handed, restoring=restoring
        )
        self._parts.oom_watch.add(self.group)
        await self.init.connect_pending()
        started_at = time_of_files()  # as the monitor's word of its end will be stamped
        if restoring is None:
            await self._parts.runtime.start(self.id, launched.process)
        await self.init.started()
        return launched, started_at

    def _begin_run(self, run: Run, *, started_at: int, adopted: bool = False) -> None:
        """From here on it runs, and a task watches it."""
        if self._stopped.is_set():
            self._stopped = Ending()
        self._settled = trio.Event()
        self._state = _S.RUNNING
        self._begun.set()
        self._save(
            evolve(
                self.record,
                run=run,
                started_at=started_at,
                outcome=None,
                error="",
                error_code=0,
                paused=False,
                restarting=False,
                restored_at=started_at if self.record.restoring is not None else self.record.restored_at * adopted,
            )
        )
        self.health.begin(self.ending, started_at=started_at, adopted=adopted)
        self._watch_run(run)

    def _watch_run(self, run: Run) -> None:
        settled = self._settled

        def failed(error: Exception, pause: float) -> None:
            logger.error("watching the container %s failed; again in %.1f s", self.id[:12], pause, exc_info=error)
            self.record = evolve(self.record, error=f"it cannot be watched: {error}")

        async def watched() -> None:
            await supervise(lambda: self._watch(run, settled), policy=RestartPolicy(), on_failure=failed)

        self._parts.nursery.start_soon(watched, name=f"shim {self.id[:12]}")

    # -- the shim task ------------------------------------------------------------------------------------------------

    async def _watch(self, run: Run, settled: trio.Event) -> None:
        """Wait for the end of a run, record it, and take down what is left of it. Knows nothing of the runs that come behind it."""
        if self._settled is not settled:
            return  # what has failed here before was done by whoever began the next one
        await self.log_files.tended(lambda: gone(run.monitor))
        await self.checkpoints.over()  # which says whether it was the end of this run
        if self._state in ALIVE:
            self._end_run(await self.launcher.outcome(run))
        async with self._turn:
            await self._take_apart()
            if self._settled is not settled:
                return  # whoever had the turn before us has begun the next one
            if self._state is _S.STOPPED:
                await self._remove_itself()
        if self._state is _S.RESTARTING:
            self.spawn(self._restart_later, name=f"restart {self.id[:12]}")

    async def _remove_itself(self) -> None:
        """Behind its end, or a start that has failed, if that is wanted. Called in its turn."""
        if not self.record.spec.auto_remove or self._kept:
            return
        try:
            await self._remove_now()
        except (RossError, OSError) as error:
            logger.error("the container %s cannot remove itself: %s", self.record.name, error)
            self._removal_tried.set()

    async def _take_apart(self) -> None:
        """Take down what is left of a run that has ended, before anything else is done with the container. Called in its turn."""
        if self._state not in {_S.STOPPED, _S.RESTARTING} or self._settled.is_set():
            return
        with trio.move_on_after(_ATTACHED_SECONDS):
            await self.init.all_finished()
            await self.execs.all_ended()
        await self.launcher.take_down(self.record)
        self._settled.set()

    def _end_run(self, result: Outcome) -> None:
        result = evolve(result, checkpointed=self.checkpoints.has_ended(self.record))
        again = self._restarts.wanted(self.record, result)
        self._state = _S.RESTARTING if again else _S.STOPPED
        self._save(evolve(self.record, run=None, outcome=result, paused=False, restarting=again))
        ending, self.ending = self.ending, Ending()
        ending.set(result, log_end=log_end(self.log_files))
        if not again:
            self._stopped.set(result)
        if self._restarts.given_up(self.record, result):
            name, code, count = self.record.name, result.exit_code, self.record.restart_count
            logger.info(
                "the container %s has ended with exit code %d, and is not restarted after %d restarts",
                name,
                code,
                count,
            )
        self.files.run_ended()
        self.health.end()
        if result.oom:
            self.publish("oom")
        seconds = max(0, result.finished_at - self.record.started_at) // 10**9
        self.publish("die", exitCode=str(result.exit_code), execDuration=str(seconds))

    # -- restarting ---------------------------------------------------------------------------------------------------

    async def _restart_later(self) -> None:
        """Pause, and start it again, until that succeeds or somebody wants otherwise. Why it does not succeed is logged once."""
        told = ""
        while True:
            self._give_up = trio.Event()
            pause = self._restarts.pause(self.record, now=time.time_ns(), start_failed=told != "")
            with trio.move_on_after(pause):
                await self._give_up.wait()
            with self.files.making_way():
                async with self._turn:
                    await self._take_apart()
                    if self._state is not _S.RESTARTING:
                        return
                    self._save(evolve(self.record, restart_count=self.record.restart_count + 1))
                    try:
                        await self._begin()
                    except RossError as error:
                        failed = Outcome(exit_code=125, error=error.message, finished_at=time.time_ns())
                        again = self._restarts.wanted(self.record, failed)
                        if error.message != told or not again:
                            logger.warning(
                                "the container %s could not be started again%s: %s",
                                self.record.name,
                                "" if again else ", and is not tried any more",
                                error.message,
                            )
                        told = error.message
                        if not again:
                            self._rest()
                            return
                    else:
                        return

    def _rest(self) -> None:
        """It will not be restarted."""
        self._state = _S.STOPPED
        self._save(evolve(self.record, restarting=False))
        self._stopped.set(self.record.outcome)
        self._give_up.set()

    def resume_restarting(self) -> None:
        """Go on with a restart that an earlier daemon had in mind, or that its policy wants when a daemon begins."""
        self._state = _S.RESTARTING
        self._stopped = Ending()
        self._save(evolve(self.record, restarting=True))
        self.spawn(self._restart_later, name=f"restart {self.id[:12]}")

    # -- adopting -----------------------------------------------------------------------------------------------------

    def adopt(self, run: Run, *, started_at: int) -> None:
        """Take over a run that an earlier daemon began."""
        self._parts.oom_watch.add(run.group)
        logger.info("adopting the container %s (%s)", self.record.name, self.id[:12])
        self._begin_run(run, started_at=started_at, adopted=self.record.run is not None)

    async def see_paused(self) -> None:
        """Whether a run that was taken over is paused, as its runtime knows."""
        state = await self._parts.runtime.state(self.id)
        if state is not None and state.status == "paused" and self._state is _S.RUNNING:
            self._state = _S.PAUSED
            self._save(evolve(self.record, paused=True))
