"""One container: the operations on it, and the task that watches its process.

States follow ``ross.shim.state``. What changes a container (start, stop, remove) runs in a task of its own, to its end, whether or not
the caller stays; so none of them is ever half done. They take turns by ``_turn``. Between a check of the state and its change there is
no await.
"""

from __future__ import annotations

import logging
import math
import os
import signal
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import trio
from attrs import evolve

from ross.errors import FailedPrecondition, InvalidArgument, NotFound
from ross.linux.cgroups import thaw_cgroup
from ross.linux.files import remove_tree
from ross.linux.pidfd import open_pidfd, send_signal
from ross.model.containers import ContainerState
from ross.model.logs import LogDriver
from ross.services.restorable import RestorableContainer
from ross.services.top import process_table
from ross.shim.host_check import check_host
from ross.shim.journal import read_journal_log
from ross.shim.logs import read_log
from ross.shim.signals import parse_signal
from ross.shim.state import ACTIVE, ALIVE, check_alive, check_transition
from ross.shim.update import changed_resources, updated_spec
from ross.shim.validate import validate_spec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ross.model.containers import AttachOptions, ContainerUpdate
    from ross.model.execs import ProcessTable
    from ross.model.files import CommitOptions
    from ross.model.logs import LogChunk, LogOptions
    from ross.services.attachment import Attachment
    from ross.services.image import Image
    from ross.shim.attach import Sink

logger = logging.getLogger(__name__)

_S = ContainerState
_READERS_SECONDS: Final = 5.0
"""So long the end of a process that was killed waits for whoever reads its output."""


class Container(RestorableContainer):
    """One container. Made by :class:`~ross.services.containers.Containers`; outlives its removal as a tombstone."""

    # -- ending -------------------------------------------------------------------------------------------------------

    async def signal(self, name: str) -> None:
        """Send a signal to its first process.

        Raises:
            InvalidArgument: it is no signal.
            FailedPrecondition: it does not run.
        """
        number = parse_signal(name)
        if self._state is _S.STARTING:  # what it has written is seen before its start is recorded
            async with self._turn:
                pass
        if self._state in ACTIVE and number in {signal.SIGKILL, self._stop_signal()}:
            self._ends_asked += 1
            self._save(evolve(self.record, stopped_by_hand=True))
            if self._state is _S.RESTARTING:
                self._rest()
                return
        if number == signal.SIGKILL:
            await self._without_checkpoint()
        self._send(number)
        if number == signal.SIGKILL:
            await self._thaw()
        await trio.lowlevel.checkpoint()

    def _send(self, number: int) -> None:
        run = self.record.run
        if self._state not in ALIVE or run is None:
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
        self.publish("kill", signal=str(number))

    async def kill(self) -> None:
        """Kill its process, without anybody having asked for it: its restart policy says what comes then.

        Raises:
            FailedPrecondition: it does not run.
        """
        await self._without_checkpoint()
        self._send(signal.SIGKILL)
        await self._thaw()

    async def stop(self, *, signal: str, grace_seconds: int) -> None:
        """Ask it to stop, wait, and end it. Does nothing to one that does not run.

        Args:
            signal: What to ask with; empty: what the spec, then the image say, then SIGTERM.
            grace_seconds: How long to wait before SIGKILL; negative: what the spec says.
        """
        number = self._stop_signal(signal)
        grace = grace_seconds if grace_seconds >= 0 else self.record.spec.stop_grace_seconds
        self._ends_asked += 1
        await self._to_the_end(lambda: self._stop(number, grace), name="stop")

    def _stop_signal(self, wanted: str = "") -> int:
        if asked := wanted or self.record.spec.stop_signal:
            return parse_signal(asked)
        image = self.image.config.execution.stop_signal if self.image is not None else ""
        try:
            return parse_signal(image)
        except InvalidArgument:  # none, or what is no signal: as in Docker it is then of no effect
            return signal.SIGTERM

    async def _stop(self, number: int, grace: int) -> None:
        if self._state is _S.STARTING:
            async with self._turn:
                pass
        if self._state is _S.REMOVED:
            raise NotFound(f"the container {self.record.name} has been removed")
        # Of the run that there is now: somebody may begin the next one as soon as it has ended, which is none of our business.
        run, stopped, settled = self.record.run, self._stopped, self._settled
        if self._state in ACTIVE:
            self._save(evolve(self.record, stopped_by_hand=True))
        if self._state is _S.RESTARTING:
            self._rest()
        await self._without_checkpoint()
        if self._state not in ALIVE or self.record.run is not run:
            return
        self._send(number)
        await self._thaw()
        if self._state in ALIVE and self.record.run is run:
            self._state = _S.STOPPING
        with trio.move_on_after(grace if grace >= 0 else math.inf):
            await stopped.wait()
        if self._state is _S.STOPPING and self.record.run is run:
            await self._kill_to_the_end()
        await settled.wait()
        self.publish("stop")

    async def _kill_to_the_end(self) -> None:
        """Kill it, and wait until it has ended: for readers that have it wait only so long."""
        stopped = self._stopped
        self._send(signal.SIGKILL)
        await self._thaw()
        with trio.move_on_after(_READERS_SECONDS):
            await stopped.wait()
            return
        await self.init.leave_stalled()
        await stopped.wait()

    async def restart(self, *, signal: str, grace_seconds: int) -> None:
        """Stop it, as :meth:`stop` does, and start it; one that does not run is only started.

        Raises:
            FailedPrecondition: it cannot be started.
        """
        number = self._stop_signal(signal)
        grace = grace_seconds if grace_seconds >= 0 else self.record.spec.stop_grace_seconds

        async def again() -> None:
            async with self._keeping():
                await self._stop(number, grace)
                await self._start_again()

        await self._to_the_end(again, name="restart")

    async def restart_unasked(self) -> None:
        """Restart it without anybody having asked for that, unless somebody wants its end meanwhile.

        Raises:
            FailedPrecondition: it cannot be started.
        """
        asked = self._ends_asked

        async def again() -> None:
            async with self._keeping():
                await self._stop(self._stop_signal(), self.record.spec.stop_grace_seconds)
                if self._ends_asked == asked:
                    await self._start_again()

        await self._to_the_end(again, name="restart")

    @asynccontextmanager
    async def _keeping(self) -> AsyncIterator[None]:
        """Let it not remove itself at its end, but behind this, if it does not run again by then."""
        self._kept += 1
        try:
            yield
        finally:
            self._kept -= 1
            async with self._turn:  # noqa: ASYNC102 -- in a task that only a shutdown cancels
                if self._state is _S.CREATED or (self._state is _S.STOPPED and self._settled.is_set()):
                    await self._remove_itself()  # noqa: ASYNC102 -- as above

    async def _start_again(self) -> None:
        await self._start(unless_it_runs=True)  # somebody may have started it by now
        self.publish("restart")

    # -- pausing ------------------------------------------------------------------------------------------------------

    async def pause(self) -> None:
        """Freeze its processes.

        Raises:
            FailedPrecondition: it does not run, or cannot be paused.
        """
        await self._to_the_end(self._pause, name="pause")

    async def _pause(self) -> None:
        async with self._turn:
            check_transition(self.record.name, self._state, _S.PAUSED)
            self._save(evolve(self.record, paused=True))
            self.standstills += 1
            try:
                await self._parts.runtime.pause(self.id)
            except BaseException:
                thaw_cgroup(self.group)  # a runtime that was killed may have come as far as freezing it
                self._save(evolve(self.record, paused=False))
                raise
            if self._state is not _S.RUNNING:  # somebody stops it meanwhile, which a frozen process would never notice
                thaw_cgroup(self.group)
                self._save(evolve(self.record, paused=False))
                raise FailedPrecondition(f"the container {self.record.name} is {self._state.value}")
            self._state = _S.PAUSED
        self.publish("pause")

    async def resume(self) -> None:
        """Let its processes go on.

        Raises:
            FailedPrecondition: it is not paused.
        """

        async def resume() -> None:
            if self._state is not _S.PAUSED:
                raise FailedPrecondition(f"the container {self.record.name} is {self._state.value}, not paused")
            await self._thaw()

        await self._to_the_end(resume, name="resume")

    async def _thaw(self) -> None:
        """Resume it if it is paused, or was left frozen: a signal arrives only then."""
        if self._state is not _S.PAUSED:
            await trio.to_thread.run_sync(thaw_cgroup, self.group)
            return
        async with self._turn:
            if self._state is _S.PAUSED:
                await self._parts.runtime.resume(self.id)
                if self._state is _S.PAUSED:
                    self._state = _S.RUNNING
                    self._save(evolve(self.record, paused=False))
                    self.publish("unpause")

    # -- changing -----------------------------------------------------------------------------------------------------

    async def rename(self, name: str) -> None:
        """Give it another name.

        Raises:
            InvalidArgument: that is no name.
            AlreadyExists: another container has it.
        """
        await self._to_the_end(lambda: self._rename(name), name="rename")

    async def _rename(self, name: str) -> None:
        async with self._turn:
            before = self.record.name
            check_alive(before, self._state)
            if name == before:
                raise InvalidArgument(f"the container {name} has that name already")
            self._parts.rename(self, name)
            await self._save_durably(evolve(self.record, name=name, spec=evolve(self.record.spec, name=name)))
        self.publish("rename", oldName=before)

    async def update(self, update: ContainerUpdate) -> None:
        """Change its limits, at once where it runs, and its restart policy.

        Raises:
            InvalidArgument: a limit is not allowed.
            FailedPrecondition: the kernel does not allow it now, such as less memory than is in use.
        """
        await self._to_the_end(lambda: self._update(update), name="update")

    async def _update(self, update: ContainerUpdate) -> None:
        async with self._turn:
            check_alive(self.record.name, self._state)
            spec = updated_spec(self.record.spec, update)
            validate_spec(spec)
            check_host(spec, self._parts.host)
            if self._state in ALIVE and (resources := changed_resources(spec, update, self._parts.host)):
                await self._parts.runtime.update(self.id, resources)
            await self._save_durably(evolve(self.record, spec=spec))
        self.publish("update")

    # -- removing -----------------------------------------------------------------------------------------------------

    async def remove(self, *, force: bool) -> None:
        """Remove it and all that is its own.

        Args:
            force: Also if it runs: its process is killed.

        Raises:
            FailedPrecondition: it runs.
            NotFound: it has been removed.
        """
        self._ends_asked += 1
        await self._to_the_end(lambda: self._remove(force=force), name="remove")

    async def _remove(self, *, force: bool) -> None:
        while True:
            if force and self._state in ACTIVE:
                await self._end_for_good()
            async with self._turn:
                await self._take_apart()
                if self._state is _S.REMOVED and self.record.spec.auto_remove:
                    return  # it has removed itself meanwhile, which is what was wanted
                if force and self._state in ACTIVE:
                    continue  # somebody has started it meanwhile
                check_transition(self.record.name, self._state, _S.REMOVING)
                await self._remove_now()
                return

    async def _end_for_good(self) -> None:
        """Kill it if it has a process, or will have; nothing of it is left behind this, unless somebody starts it again."""
        self.freezer.give_up()
        self.checkpoints.give_up()
        async with self._turn:
            pass
        self._save(evolve(self.record, stopped_by_hand=True))
        if self._state is _S.RESTARTING:
            self._rest()
        if self._state in ALIVE:
            settled = self._settled
            await self._kill_to_the_end()
            await settled.wait()

    async def _remove_now(self) -> None:
        self._state = _S.REMOVING
        self._save(evolve(self.record, removing=True))
        await self.launcher.take_down(self.record)
        await self._parts.snapshotter.remove(self.id)
        try:
            await trio.to_thread.run_sync(remove_tree, self.layout.directory)
        except OSError as error:
            raise FailedPrecondition(
                f"what is left of the container {self.record.name} cannot be removed: {error.strerror}",
                hint=f"it is in {self.layout.directory}; see what keeps it, and remove the container again",
            ) from error
        self.be_gone()
        self.publish("destroy")

    def be_gone(self) -> None:
        """Nobody finds it any more, and who holds it finds it removed."""
        self._state = _S.REMOVED
        self.init.fail_pending(NotFound(f"the container {self.record.name} was removed before it was started"))
        self._stopped.set(self.record.outcome)
        self.ending.set(None)
        for event in (self._begun, self._settled, self._removed, self._removal_tried):
            event.set()
        self._parts.forget(self)

    async def commit(self, options: CommitOptions) -> Image:
        """Make an image of what it is now, as :meth:`ross.services.commit.Committer.commit`."""
        image = await self._parts.committer.commit(self, options)
        self.publish("commit", imageID=str(image.manifest.config.digest))
        return image

    # -- output -------------------------------------------------------------------------------------------------------

    async def attach(self, options: AttachOptions, *, stdout: Sink | None, stderr: Sink | None) -> Attachment:
        """Connect to its first process; see :meth:`~ross.services.init_process.InitProcess.attach`."""
        return await self.init.attach(options, stdout=stdout, stderr=stderr)

    async def top(self, columns: str) -> ProcessTable:
        """What runs in it, in columns as ps has them.

        Raises:
            FailedPrecondition: it does not run.
            InvalidArgument: there is no such column.
        """
        check_alive(self.record.name, self._state)
        if self._state not in ALIVE:
            raise FailedPrecondition(f"the container {self.record.name} is {self._state.value}: nothing runs in it")
        return await trio.to_thread.run_sync(process_table, self.group, columns)

    async def logs(self, options: LogOptions, write: Callable[[LogChunk], Awaitable[None]]) -> None:
        """Hand its log to ``write``, in chunks; with ``follow`` until it has stopped and all was handed over.

        Raises:
            FailedPrecondition: it keeps none.
            InvalidArgument: the position to go on from is none of its log.
            NotFound: it has been removed.
            Unavailable: the journal, where its log is there, cannot be read.
        """
        if self._state is _S.REMOVED:
            raise NotFound(f"the container {self.record.name} has been removed")
        driver = self.record.spec.log.driver
        if driver not in {LogDriver.FILE, LogDriver.JOURNALD}:
            raise FailedPrecondition(
                f"the container {self.record.name} keeps no log",
                hint=f"it was created with --log-driver {driver.value}",
            )
        if options.follow and self._state in {_S.CREATED, _S.STARTING}:
            await self._begun.wait()
        read = partial(read_journal_log, self.id) if driver is LogDriver.JOURNALD else partial(read_log, self.log_files)
        chunks = read(options, ended=lambda: self._state not in ACTIVE, wait_ended=self.wait_at_rest)
        async with aclosing(chunks):
            async for chunk in chunks:
                await write(chunk)
