"""A container of which checkpoints can be made: the operations. What is on the disk is :mod:`ross.services.checkpoints`'s business."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from attrs import evolve

from ross.errors import FailedPrecondition, RossError
from ross.model.containers import ContainerState
from ross.services.running import RunnableContainer
from ross.shim.state import ACTIVE, check_alive, check_transition

if TYPE_CHECKING:
    from ross.model.checkpoints import CheckpointOptions, RestoreOptions

_S = ContainerState


class RestorableContainer(RunnableContainer):
    """A container of which a checkpoint can be made."""

    async def checkpoint(self, options: CheckpointOptions) -> None:
        """Write its processes to files, and end them, unless it is to be left running. If the caller goes away, nothing is done.

        Raises:
            FailedPrecondition: it does not run, or CRIU cannot do it; it is then as it was.
            Unavailable: CRIU hangs.
        """
        scope = trio.CancelScope()
        try:
            await self._to_the_end(lambda: self._checkpoint(options, scope), name="checkpoint")
        except trio.Cancelled:
            scope.cancel()
            raise

    async def _checkpoint(self, options: CheckpointOptions, scope: trio.CancelScope) -> None:
        async with self._turn:
            name, state, run = self.record.name, self._state, self.record.run
            check_alive(name, state)
            if state is not _S.RUNNING or run is None:
                hint = f"first: ross {'unpause' if state is _S.PAUSED else 'start'} {name}"
                raise FailedPrecondition(
                    f"the container {name} is {state.value}: only of one that runs a checkpoint can be made", hint=hint
                )
            self.checkpoints.check_takes(options)
            await self.checkpoints.make(options, run, scope)
        if not options.leave_running:
            await self._settled.wait()
        self.publish("checkpoint")

    async def restore(self, options: RestoreOptions) -> None:
        """Let it go on from its checkpoint. Goes on to the end even if the caller does not wait for it.

        Raises:
            FailedPrecondition: it runs, has no checkpoint, or CRIU cannot do it; it is then as it was, and so is the checkpoint.
            Unavailable: CRIU hangs.
        """
        await self._to_the_end(lambda: self._restore(options), name="restore")

    async def _restore(self, options: RestoreOptions) -> None:
        async with self._turn:
            await self._take_apart()
            name, state = self.record.name, self._state
            if state in ACTIVE:
                raise FailedPrecondition(
                    f"the container {name} is {state.value} and cannot be restored", hint="stop it first"
                )
            check_transition(self.record.name, self._state, _S.STARTING)
            restoring = await self.checkpoints.restoring(options)
            self._save(evolve(self.record, stopped_by_hand=False, restart_count=0, restoring=options))
            try:
                await self._begin(restoring=restoring)
                await self.checkpoints.restored(options)
            except RossError as error:  # a shutdown leaves it to the next daemon
                self.checkpoints.not_restored()
                self._save(evolve(self.record, restoring=None))
                message = f"the container {name} cannot be restored: {error.message}"
                raise type(error)(message, hint=error.hint) from None
            self._save(evolve(self.record, restoring=None))

    async def settle_restore(self, *, runs: bool) -> None:
        """Finish what an earlier daemon had in mind with its checkpoint when it was ended."""
        options = self.record.restoring
        if options is None:
            return
        if runs:
            await self.checkpoints.restored(options)
        else:
            self.checkpoints.not_restored()
        self._save(evolve(self.record, restoring=None))

    async def _without_checkpoint(self) -> None:
        """Who is to end is not written to files, and not held still for it either."""
        self.freezer.give_up()
        self.checkpoints.give_up()
        await self.checkpoints.over()
