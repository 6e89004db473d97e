"""The checkpoint of a container: made, known, found again by the next daemon.

It is written under another name, with a record that says of which run it will be, and gets its own in one step when it is whole. So
whoever is killed meanwhile leaves either a container that goes on as it was, or one that has ended with a whole checkpoint.

CRIU ends the processes itself, once all is written. Until it is known whether it has, ``busy`` is set, and nobody decides how the run has
ended, executes anything in the container, or checks its health.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from ross.errors import FailedPrecondition, RossError
from ross.linux.cgroup_counters import read_counters
from ross.linux.cgroups import thaw_cgroup
from ross.linux.pidfd import identify
from ross.model.checkpoints import CheckpointInfo, CheckpointOptions, RestoreOptions
from ross.model.logs import LogDriver
from ross.model.namespaces import NamespaceMode, UserMode
from ross.nursery.cleanup import bounded_cleanup
from ross.services.checkpoint_files import CheckpointFiles, CheckpointRecord
from ross.shim.criu import DUMP_LOG, RESTORE_LOG, Restoring, criu_error, end_criu, flags_of, has_ended_it

if TYPE_CHECKING:
    from ross.services.containers import Parts
    from ross.services.records import ContainerRecord, Run
    from ross.services.running import RunnableContainer

logger = logging.getLogger(__name__)

_LEAST_SECONDS: Final = 60.0
_BYTES_PER_SECOND: Final = 20 << 20
"""A CRIU that takes longer than a minute and this hangs."""
_FINISH_SECONDS: Final = 120.0


class Checkpoints:
    """The checkpoint of one container."""

    def __init__(self, container: RunnableContainer, parts: Parts) -> None:
        self._container = container
        self._parts = parts
        self._files = CheckpointFiles(container.layout, parts.state.trash)
        self._stored: CheckpointRecord | None = None
        self._making: trio.CancelScope | None = None
        self._over = trio.Event()
        self._over.set()

    # -- what there is ------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether one is being made."""
        return self._making is not None

    @property
    def info(self) -> CheckpointInfo | None:
        """The one that there is; never waits."""
        stored, path = self._stored, self._files.path
        if stored is None:
            return None
        restored = self._container.record.restored_at > stored.made_at
        return CheckpointInfo(
            made_at=stored.made_at,
            path=str(self._files.images),
            log_path=str(path / DUMP_LOG) if stored.keep else "",
            restore_log_path=str(path / RESTORE_LOG) if restored else "",
        )

    def has_ended(self, record: ContainerRecord) -> bool:
        """Whether it is the checkpoint that has ended the last run of a record."""
        stored = self._stored
        return stored is not None and not stored.leave_running and stored.started_at == record.started_at

    async def over(self) -> None:
        """Wait until none is being made."""
        await self._over.wait()

    def give_up(self) -> None:
        """Let go of one that is being made, unless it is whole: somebody wants the container to end."""
        if self._making is not None:
            self._making.cancel()

    # -- making one ---------------------------------------------------------------------------------------------------

    def check_takes(self, options: CheckpointOptions) -> None:
        """See whether a container is of a kind of which a checkpoint can be made.

        Raises:
            FailedPrecondition: it is not.
        """
        name, spec = self._container.record.name, self._container.record.spec
        if spec.auto_remove and not options.leave_running:
            raise FailedPrecondition(
                f"the container {name} would be removed with its checkpoint: it was created with --rm",
                hint="let it go on with --leave-running",
            )
        if spec.log.driver is LogDriver.PASSTHROUGH:
            raise FailedPrecondition(
                f"the container {name} has the streams of whoever started it, which cannot be restored",
                hint="create it with another --log-driver",
            )
        if spec.namespaces.pid is not NamespaceMode.PRIVATE:
            raise FailedPrecondition(
                f"the container {name} has not its own processes only, which CRIU could not restore",
                hint="create it without --pid",
            )

        if spec.namespaces.ipc is NamespaceMode.CONTAINER:
            raise FailedPrecondition(
                f"the container {name} has its memory with another one, which CRIU would restore it without",
                hint="create it without --ipc",
            )
        if spec.namespaces.users.mode is not UserMode.HOST:
            raise FailedPrecondition(
                f"the container {name} has users of its own, as whom CRIU could not restore its mounts",
                hint="create it without --userns",
            )

    async def make(self, options: CheckpointOptions, run: Run, scope: trio.CancelScope) -> None:
        """Make one, in the container's turn: it is whole and in its place when this returns, and else nothing is left of it.

        Args:
            options: How.
            run: Of what.
            scope: Who cancels it gives up.

        Raises:
            FailedPrecondition: it cannot be made; the container goes on as it was.
            Unavailable: CRIU hangs.
        """
        self._making, self._over = scope, trio.Event()
        whole, failure = False, None
        try:
            with scope:
                await self._alone()
                await self._parts.criu.check()
                await trio.to_thread.run_sync(self._begin, options)
                await self._dump(options)
                whole = True
        except (RossError, OSError) as error:
            failure = error
        finally:
            try:
                with bounded_cleanup(_FINISH_SECONDS, what="finishing a checkpoint"):
                    whole = await trio.to_thread.run_sync(lambda: self._finish(run, made=whole))
            finally:
                self._making = None
                self._over.set()
        if not whole:
            raise self._not_made(failure)

    def _not_made(self, failure: RossError | OSError | None) -> RossError:
        name = self._container.record.name
        if failure is None:
            return FailedPrecondition(f"the checkpoint of the container {name} was given up, since it is to end")
        if isinstance(failure, RossError):
            message = f"the container {name} cannot be checkpointed: {failure.message}"
            return type(failure)(message, hint=failure.hint)
        return FailedPrecondition(f"the checkpoint of the container {name} cannot be written: {failure}")

    async def _alone(self) -> None:
        """Only what its first process has begun can be restored: wait for a check of its health, and for nothing else."""
        execs = self._container.execs
        if execs.runs_any():
            raise FailedPrecondition(
                "something is executed in it, which has no part in a checkpoint",
                hint=f"see: ross top {self._container.record.name}",
            )
        await execs.all_ended()

    def _begin(self, options: CheckpointOptions) -> None:
        record = CheckpointRecord(
            started_at=self._container.record.started_at, leave_running=options.leave_running, keep=options.keep
        )
        self._files.begin(record)

    async def _dump(self, options: CheckpointOptions) -> None:
        files, seconds = self._files, _seconds(self._used_bytes())
        with trio.move_on_after(seconds):
            try:
                await self._parts.runtime.checkpoint(
                    self._container.id, images=files.new_images, work=files.part, flags=flags_of(options)
                )
            except RossError as error:
                raise criu_error(error, files.dump_log) from None
            return
        raise FailedPrecondition(f"CRIU did not end in {seconds:.0f} s, and was ended")

    def _used_bytes(self) -> int:
        counters = read_counters(self._container.group, self._parts.hierarchies)
        return counters.memory.used_bytes if counters is not None else 0

    def _finish(self, run: Run, *, made: bool) -> bool:
        """Keep what is whole, and nothing of what is not. Returns whether it is whole. Blocks."""
        record, files = self._files.read_part(), self._files
        if record is None:
            files.drop()
            return False
        if not made:
            made = self._has_come_through(run, record)
        if made:
            self._stored = files.finish(record)
        else:
            thaw_cgroup(run.group or self._container.group)
            files.drop()
        return made

    def _has_come_through(self, run: Run, record: CheckpointRecord) -> bool:
        """Whether CRIU, that nobody waited for to its end, has ended the processes; if it is at work still, that ends it."""
        name = self._container.record.name
        if not end_criu(self._files.part):
            logger.error("a CRIU that works on the container %s does not end", name)
        ours = record.started_at == self._container.record.started_at and not record.leave_running
        return ours and identify(run.process.pid) != run.process and has_ended_it(self._files.dump_log)

    # -- restoring from it --------------------------------------------------------------------------------------------

    async def restoring(self, options: RestoreOptions) -> Restoring:
        """What the container can go on from.

        Raises:
            FailedPrecondition: it has no checkpoint, or CRIU does not work here.
            Unavailable: CRIU hangs.
        """
        name = self._container.record.name
        if self._stored is None:
            raise FailedPrecondition(
                f"the container {name} has no checkpoint", hint=f"make one while it runs: ross checkpoint {name}"
            )
        await self._parts.criu.check()
        return Restoring(images=self._files.images, options=options, seconds=_seconds(self._stored.size_bytes))

    async def restored(self, options: RestoreOptions) -> None:
        """It has gone on from it."""
        files = self._files
        if options.keep:
            await trio.to_thread.run_sync(files.keep_logs)
            return
        self._stored = None
        await trio.to_thread.run_sync(files.remove)
        files.forget_logs()

    def not_restored(self) -> None:
        """It has not gone on from it."""
        self._files.forget_logs()

    # -- recovering ---------------------------------------------------------------------------------------------------

    def recover(self, run: Run | None) -> None:
        """Find what there is, and finish or undo what an earlier daemon was making. Blocks.

        Args:
            run: The run that the record of the container knows of.
        """
        files = self._files
        part = files.read_part()
        if part is not None and part.made_at:
            files.set_in_place()
        elif files.part.exists() and run is not None:
            self._finish(run, made=False)
        else:
            files.drop()
        self._stored = files.read()


def _seconds(size_bytes: int) -> float:
    return _LEAST_SECONDS + size_bytes / _BYTES_PER_SECOND
