"""The health of one container: while it runs a program is executed in it now and then, whose exit code says how it is.

States follow Docker: starting until a check succeeds, unhealthy after so many failures in a row. A check that hangs is killed; nothing else
waits for it. The state is in the container's record, so that it outlives the daemon; the results of checks are in memory.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

import trio

from ross.errors import FailedPrecondition, NotFound, RossError
from ross.model.containers import ContainerState
from ross.model.execs import ExecOptions, GonePolicy
from ross.model.health import HealthAction, HealthInfo, HealthResult, HealthState
from ross.nursery.restart import RestartPolicy, supervise
from ross.oci.image import Execution
from ross.shim.health import Check, effective_check
from ross.shim.state import ALIVE

if TYPE_CHECKING:
    from ross.services.exec import Exec
    from ross.services.running import RunnableContainer
    from ross.services.tracked import Ending

logger = logging.getLogger(__name__)

_S = ContainerState
_RESULTS: Final = 5
_OUTPUT_BYTES: Final = 4096
_FAILED: Final = -1
_KILL_SECONDS: Final = 5.0
"""How long a check that was killed is waited for; one in an uninterruptible sleep may take for ever."""
_OUTPUT_SECONDS: Final = 1.0
"""How long the rest of the output is waited for when the check has ended."""
_LEAST_PAUSE: Final = 0.001


class Subject(Protocol):
    """Whose health it is."""

    def is_running(self) -> bool:
        """Whether it can be checked: it runs, is not paused and not on its way to an end."""

    async def probe(self) -> HealthResult | None:
        """Check it once. None: that says nothing of it."""

    def changed(self, state: HealthState) -> None:
        """It is in another state now."""

    def fail(self) -> None:
        """It is unhealthy, and has failed once more."""


class Checking:
    """The checks of one run: when, and what they make of the state."""

    def __init__(self, check: Check, subject: Subject, *, state: HealthState, age: float) -> None:
        """Begin.

        Args:
            check: What is checked how often.
            subject: What is checked.
            state: Of which state it is to begin with.
            age: Since how many seconds it runs.
        """
        self.state = state
        self.failing_streak = 0
        self.results: deque[HealthResult] = deque(maxlen=_RESULTS)
        self._check = check
        self._subject = subject
        self._started = trio.current_time() - age

    def _starting(self) -> float:
        """For how many seconds more failures do not count; 0 if they do."""
        if self.state is not HealthState.STARTING:
            return 0.0
        return max(0.0, self._started + self._check.start_period - trio.current_time())

    async def run(self) -> None:
        """Check for ever, always so long after the last one has ended."""
        while True:
            starting = self._starting()
            pause = min(self._check.start_interval, starting) if starting else self._check.interval
            await trio.sleep(max(pause, _LEAST_PAUSE))
            if not self._subject.is_running():
                continue
            counts = not self._starting()
            result = await self._subject.probe()
            if (
                result is not None and self._subject.is_running()
            ):  # else it says nothing: whoever is paused or asked to end does not answer
                self._take(result, counts=counts)

    def _take(self, result: HealthResult, *, counts: bool) -> None:
        self.results.append(result)
        before = self.state
        if result.exit_code == 0:
            self.failing_streak = 0
            self.state = HealthState.HEALTHY
        elif counts:
            self.failing_streak += 1
            if self.failing_streak >= self._check.retries:
                self.state = HealthState.UNHEALTHY
        if self.state is not before:
            self._subject.changed(self.state)
        if self.state is HealthState.UNHEALTHY:
            self._subject.fail()


class Health:
    """The health of one container, run after run. Has no say in its life but what its check's action is."""

    def __init__(self, container: RunnableContainer) -> None:
        self._container = container
        image = container.image.config.execution if container.image is not None else Execution()
        self._check = effective_check(container.record.spec.health, image)
        self._checking: Checking | None = None
        self._changed = trio.Event()
        """Set at the next change of the state, or start of a run."""
        self._hanging: Exec | None = None
        self._acting = False

    @property
    def info(self) -> HealthInfo | None:
        """What is known now; None without a check, and before the first start."""
        state = self._container.record.health
        if self._check is None or state is None:
            return None
        checking = self._checking
        if checking is None:
            return HealthInfo(state=state)
        return HealthInfo(state=state, failing_streak=checking.failing_streak, results=tuple(checking.results))

    # -- a run --------------------------------------------------------------------------------------------------------

    def begin(self, ending: Ending, *, started_at: int, adopted: bool) -> None:
        """A run has begun, or was taken over: check it until it ends."""
        check, known = self._check, self._container.record.health
        if check is None:
            return
        state = known if adopted and known is not None else HealthState.STARTING
        checking = Checking(check, self, state=state, age=max(0, time.time_ns() - started_at) / 1e9)
        if self._checking is not None:
            checking.results.extend(self._checking.results)
        self._checking = checking
        self._container.note_health(state, publish=False)
        self._tell()

        def failed(error: Exception, pause: float) -> None:
            logger.error("checking %s failed; again in %.1f s", self._container.record.name, pause, exc_info=error)

        async def watched() -> None:
            async with trio.open_nursery() as nursery:

                async def checked() -> None:
                    await supervise(checking.run, policy=RestartPolicy(), on_failure=failed)

                nursery.start_soon(checked)
                await ending.wait()
                nursery.cancel_scope.cancel()

        self._container.spawn(watched, name=f"health of {self._container.id[:12]}")

    def end(self) -> None:
        """The run has ended: what does not run is not healthy."""
        if self._check is not None:
            self._container.note_health(HealthState.UNHEALTHY, publish=False)
            self._tell()

    def is_running(self) -> bool:
        """Whether it can be checked."""
        container = self._container
        return container.state is _S.RUNNING and not container.checkpoints.busy and not container.freezer.busy

    def changed(self, state: HealthState) -> None:
        """Its checks say something else of it now."""
        self._container.note_health(state, publish=True)
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def wait_healthy(self) -> None:
        """Wait until it is healthy.

        Raises:
            FailedPrecondition: it has no check, or has ended, and will not be started again by its restart policy.
            NotFound: it has been removed.
        """
        container = self._container
        name = container.record.name
        if self._check is None:
            raise FailedPrecondition(f"the container {name} has no health check", hint="create it with --health-cmd")
        while not (container.state in ALIVE and container.record.health is HealthState.HEALTHY):
            if container.state in {_S.REMOVING, _S.REMOVED}:
                raise NotFound(f"the container {name} was removed before it was healthy")
            if container.at_rest:
                result = container.record.outcome
                raise FailedPrecondition(
                    f"the container {name} has ended{f' with exit code {result.exit_code}' if result else ''}, and is not healthy",
                    hint=f"see: ross logs {name}",
                )
            await self._something(self._changed)
        await trio.lowlevel.checkpoint()

    async def _something(self, changed: trio.Event) -> None:
        """Return when the state of health has changed, or the container is at rest."""
        async with trio.open_nursery() as nursery:

            async def at_rest() -> None:
                await self._container.wait_at_rest()
                nursery.cancel_scope.cancel()

            nursery.start_soon(at_rest)
            await changed.wait()
            nursery.cancel_scope.cancel()

    # -- a check ------------------------------------------------------------------------------------------------------

    async def probe(self) -> HealthResult | None:
        """Execute the check once. Never raises for what it comes to; None where it was held still meanwhile."""
        started_at, output, standstills = time.time_ns(), _Output(), self._container.standstills
        exit_code, words = await self._execute(output)
        if self._container.standstills != standstills:
            return None
        return HealthResult(
            started_at=started_at, finished_at=time.time_ns(), exit_code=exit_code, output=words + output.text()
        )

    async def _execute(self, output: _Output) -> tuple[int, str]:
        """Its exit code, and what there is to say of it beside its output."""
        check = self._check
        assert check is not None  # noqa: S101 -- else nothing calls this
        if self._hanging is not None and not self._hanging.has_ended():
            return _FAILED, "the check before was killed, and has not ended yet"
        options = ExecOptions(args=check.args, when_gone=GonePolicy.KILL)
        try:
            executed, attachment = await self._container.execs.begin(
                options, stdout=output, stderr=output, listed=False
            )
        except RossError as error:
            return _FAILED, error.message
        try:
            with trio.move_on_after(check.timeout) as scope:
                result = await executed.wait()
        finally:
            await executed.let_go()  # kills it if it has not ended
        if scope.cancelled_caught:
            with trio.move_on_after(_KILL_SECONDS):
                await executed.wait()
            self._hanging = executed
            return _FAILED, f"the check took longer than {check.timeout:g} s" + (": " if output.text() else "")
        if attachment is not None:
            with trio.move_on_after(_OUTPUT_SECONDS):
                await attachment.finished()
        return result.exit_code, ""

    # -- what follows from it -----------------------------------------------------------------------------------------

    def fail(self) -> None:
        """It is unhealthy: do what is to be done then, in a task that the end of the run does not end."""
        if self._check is not None and self._check.on_failure is not HealthAction.NONE and not self._acting:
            self._acting = True
            self._container.spawn(self._act, name=f"unhealthy {self._container.id[:12]}")

    async def _act(self) -> None:
        assert self._check is not None  # noqa: S101 -- as above
        container, action = self._container, self._check.on_failure
        if not self.is_running():  # somebody has been faster
            self._acting = False
            return
        logger.info("the container %s is unhealthy: %s", container.record.name, action.value)
        try:
            if action is HealthAction.KILL:
                await container.kill()
            elif action is HealthAction.STOP:
                await container.stop(signal="", grace_seconds=-1)
            else:
                await container.restart_unasked()
        except RossError as error:
            logger.info("the container %s is unhealthy, and %s: %s", container.record.name, action.value, error)
        finally:
            self._acting = False


class _Output:
    """Takes the beginning of what a check writes, on either stream, and counts nothing."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._truncated = False

    async def write(self, data: bytes) -> None:
        """Take what there is room for."""
        room = _OUTPUT_BYTES - len(self._data)
        self._data += data[:room]
        self._truncated = self._truncated or len(data) > room
        await trio.lowlevel.checkpoint()

    async def gap(self, lost_bytes: int) -> None:  # noqa: ARG002 -- what is missing is not told
        """Something is missing here."""
        self._truncated = True
        await trio.lowlevel.checkpoint()

    async def done(self) -> None:
        """There will be no more."""
        await trio.lowlevel.checkpoint()

    def text(self) -> str:
        """What was taken."""
        return self._data.decode(errors="replace").replace("\0", "\N{REPLACEMENT CHARACTER}") + "..." * self._truncated
