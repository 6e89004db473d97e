"""What is known of a container: its record, its state, and the events that others wait for. No operation on it.

Between a check of the state and its change there is no await.
"""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING

import outcome
import trio
from attrs import evolve

from ross.errors import NotFound
from ross.model.containers import Bounds, ContainerInfo, ContainerState, Outcome, WaitCondition
from ross.model.health import HealthState
from ross.model.logs import LogDriver
from ross.shim.resources import pids_limit
from ross.shim.security import masked_paths, read_only_paths, seccomp_digest
from ross.shim.state import ALIVE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ross.model.events import ContainerAction
    from ross.services.containers import Parts
    from ross.services.records import ContainerRecord

logger = logging.getLogger(__name__)

_S = ContainerState


class Ending:
    """An end of one run, or of a run and all its restarts, for those who wait for it."""

    def __init__(self) -> None:
        self._event = trio.Event()
        self._outcome: Outcome | None = None
        self.log_end: int | None = None
        """The position in the log up to which it is of that run, as far as it has ended and kept one."""

    def set(self, result: Outcome | None, *, log_end: int | None = None) -> None:
        """It has ended so; None: there will be no run."""
        self._outcome = result
        self.log_end = log_end
        self._event.set()

    @property
    def outcome(self) -> Outcome | None:
        """How it has ended; None while it has not."""
        return self._outcome

    def is_set(self) -> bool:
        return self._event.is_set()

    async def wait(self) -> Outcome | None:
        await self._event.wait()
        return self._outcome


class TrackedContainer:
    """A container as others see it. :class:`~ross.services.container.Container` is what changes it."""

    def __init__(self, parts: Parts, record: ContainerRecord) -> None:
        self.record = record
        self.layout = parts.state.container(record.id)
        self.ending = Ending()
        """Of the run that is, or that comes next: another one from each end on."""
        self._parts = parts
        self._state = _S.STOPPED if record.outcome is not None else _S.CREATED
        self._stopped = Ending()
        """Of the run and what its policy makes of it: set while it is at rest; another one at each start."""
        self._settled = trio.Event()
        """Set once nothing of a run is left."""
        self._removed = trio.Event()
        self._removal_tried = trio.Event()
        """Set once it has been removed, or could not be."""
        self._begun = trio.Event()
        """Set once it has been started, or removed."""
        if record.outcome is not None:
            self._stopped.set(record.outcome)
            self._begun.set()
            self._settled.set()

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def state(self) -> ContainerState:
        return self._state

    @property
    def group(self) -> str:
        """The control group of its run, or of the next one, from the root of each hierarchy."""
        record = self.record
        if record.run is not None and record.run.group:
            return record.run.group
        return self._parts.groups.path(record.id, record.spec.resources.cgroup_parent)

    @property
    def at_rest(self) -> bool:
        """Whether it has ended, and no policy starts it again."""
        return self._stopped.is_set()

    @property
    def info(self) -> ContainerInfo:
        """What is known now; never waits."""
        record = self.record
        return ContainerInfo(
            id=record.id,
            name=record.name,
            image=record.image,
            image_id=record.image_id,
            manifest=record.manifest,
            spec=record.spec,
            command=record.command,
            state=self._state,
            pid=record.run.process.pid if self._state in ALIVE and record.run is not None else 0,
            created_at=record.created_at,
            started_at=record.started_at,
            outcome=record.outcome,
            error=record.error,
            error_code=record.error_code,
            log_path=str(self.layout.log) if record.spec.log.driver is LogDriver.FILE else "",
            rootfs_path=str(self.layout.rootfs),
            restart_count=record.restart_count,
            seccomp=self._seccomp,
            restored_at=record.restored_at,
        )

    @cached_property
    def _seccomp(self) -> str:
        # Nothing changes a container's profile, and a list asks each container: one of its own is taken apart once.
        return seccomp_digest(self.record.spec, self._parts.host)

    @property
    def described(self) -> ContainerInfo:
        """What is known of it, with what nobody wants to know of a thousand at once."""
        spec = self.record.spec
        bounds = Bounds(
            pids_limit=pids_limit(spec),
            masked_paths=tuple(masked_paths(spec)),
            read_only_paths=tuple(read_only_paths(spec)),
        )
        return evolve(self.info, bounds=bounds)

    # -- waiting ------------------------------------------------------------------------------------------------------

    async def wait(self, condition: WaitCondition = WaitCondition.NOT_RUNNING) -> Outcome:
        """Wait until it has stopped (and if it removes itself, until it is gone, or cannot be), or for another condition.

        Returns:
            The outcome of its last run; of its first, if it has not been started.

        Raises:
            NotFound: it was removed before it had run.
        """
        if condition is WaitCondition.NEXT_EXIT:
            result = await self.ending.wait()
        elif condition is WaitCondition.REMOVED:
            await self._removed.wait()
            result = self.record.outcome
        else:
            result = await self.wait_stopped()
            if self.record.spec.auto_remove:
                await self._removal_tried.wait()
                result = self.record.outcome  # it may have been restarted meanwhile
        if result is None:
            raise self._never_ran()
        return result

    async def wait_stopped(self) -> Outcome:
        """Wait until it is at rest after a run; what is left of the run may still be there.

        Raises:
            NotFound: it was removed before it had run.
        """
        result = await self._stopped.wait()
        if result is None:
            raise self._never_ran()
        return result

    async def wait_at_rest(self) -> None:
        """Wait until it is at rest after a run, or has been removed."""
        await self._stopped.wait()

    def _never_ran(self) -> NotFound:
        return NotFound(f"the container {self.record.name} was removed before it was started")

    # -- tasks and records --------------------------------------------------------------------------------------------

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

        self._parts.nursery.start_soon(captured, name=f"{name} {self.id[:12]}")
        await done.wait()
        result[0].unwrap()

    def _save(self, record: ContainerRecord) -> None:
        """Have a record, which is written at once and without waiting for the disk; of what is removed nothing is written any more."""
        self.record = record
        if self._state is ContainerState.REMOVED:
            return
        try:
            self._parts.records.save(record, durable=False)
        except OSError as error:
            logger.error("the record of the container %s cannot be written: %s", self.id[:12], error)

    async def _save_durably(self, record: ContainerRecord) -> None:
        """Have a record, and wait until it is on the disk; or a newer one, if its run has ended meanwhile or the like.

        Raises:
            OSError: it cannot be written.
        """
        self.record = record
        await trio.to_thread.run_sync(self._write_durably)

    def _write_durably(self) -> None:
        written: ContainerRecord | None = None
        while written is not self.record:
            written = record = self.record
            self._parts.records.save(record, durable=True, outdated=lambda: self.record is not record)  # noqa: B023 -- called in there

    def note_health(self, state: HealthState, *, publish: bool) -> None:
        """Its health checks have found out something, or there are none for now."""
        if self.record.health is not state:
            self._save(evolve(self.record, health=state))
        if publish:
            self.publish("health_status: healthy" if state is HealthState.HEALTHY else "health_status: unhealthy")

    def publish(self, action: ContainerAction, **attributes: str) -> None:
        """Tell that something has happened to it."""
        record = self.record
        self._parts.events.publish(
            "container",
            action,
            subject=record.id,
            name=record.name,
            labels=record.spec.labels,
            image=record.image,
            **attributes,
        )
