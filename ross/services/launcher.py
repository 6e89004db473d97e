"""What a run of a container is made of, and what is left to take down behind it: mount, bundle, monitor, the runtime's state.

Knows nothing of states; :class:`~ross.services.container.Container` calls it in its turn.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import TYPE_CHECKING, Final

import trio
from attrs import evolve

from ross.errors import FailedPrecondition
from ross.linux.cgroup_counters import read_oom_kills
from ross.linux.cgroups import end_cgroup, kill_cgroup
from ross.linux.pidfd import ProcessIdentity, open_pidfd, wait_exited
from ross.model.containers import Outcome
from ross.services.handed_mounts import handed_places
from ross.services.image_mounts import image_places
from ross.services.own_users import own_ids, places_of, take_binds_away, take_way_away
from ross.services.records import Run, boot_id
from ross.services.sharing import Sharing, take_away
from ross.services.snapshot_mounts import mount_snapshot, unmount_snapshot
from ross.services.snapshotter import committed_name
from ross.shim.bundle import write_bundle
from ross.shim.conmon import ended_early
from ross.shim.criu import end_criu
from ross.shim.handed import NOTHING, Handed
from ross.shim.nested_mounts import put_together

if TYPE_CHECKING:
    from ross.oci.image import Execution
    from ross.services.containers import Parts
    from ross.services.records import ContainerRecord
    from ross.shim.bundle import Places
    from ross.shim.criu import Restoring
    from ross.shim.monitor import Launched
    from ross.shim.namespaces import Joined

logger = logging.getLogger(__name__)

_LOST_EXIT_CODE: Final = 255
_LAUNCH_SECONDS: Final = 60.0
"""A runtime needs a tenth of a second; one that hangs, on whatever an image holds, must not hold the container for ever."""
_MONITOR_END_SECONDS: Final = 5.0
_FORSAKEN_PAUSE: Final = 1.0
_FORSAKEN_TIMES: Final = 3
"""A monitor is without a runtime for a moment before it has begun one."""


class Launcher:
    """Sets a container up to run, and takes it down again."""

    def __init__(self, parts: Parts, container_id: str) -> None:
        self._parts = parts
        self._id = container_id
        self._layout = parts.state.container(container_id)

    async def create(
        self,
        record: ContainerRecord,
        execution: Execution,
        *,
        console_size: tuple[int, int] | None,
        handed: Handed = NOTHING,
        restoring: Restoring | None = None,
    ) -> Launched:
        """Mount its root, write its bundle, and have a monitor create it: everything but the start; or have it go on from a checkpoint.

        Raises:
            FailedPrecondition: the runtime cannot create it, or hangs.
        """
        parts, rootfs = self._parts, self._layout.rootfs
        await self.see_snapshot(record)
        async with own_ids(record.spec.namespaces.users, parts.runtime_layout.binds(self._id)) as ids:
            await mount_snapshot(parts.snapshotter, self._id, rootfs, ids=ids)
            binds = parts.runtime_layout.binds(self._id)
            with (
                places_of(record.spec, ids, parts.runtime_layout, container_id=self._id, rootfs=rootfs) as usual,
                image_places(record, parts.snapshotter, binds, ids) as images,
                handed_places(record, binds) as own,
            ):
                places = evolve(usual, binds={**usual.binds, **images, **own})
                try:
                    record, places = await self._nested(record, places)
                    async with Sharing(record.spec, parts.find).joined(self._layout.shm) as joined:
                        await self._write_bundle(
                            record, execution, joined, places, console_size=console_size, restored=restoring is not None
                        )
                        return await self._launch(record, handed, restoring)
                finally:
                    take_binds_away(binds)

    async def _nested(self, record: ContainerRecord, places: Places) -> tuple[ContainerRecord, Places]:
        """What of its mounts is left to the runtime, and where; the record is for this start only."""
        if not record.spec.mounts:
            return record, places
        directory = self._parts.runtime_layout.binds(self._id) / "nested"
        spec, places = await trio.to_thread.run_sync(
            lambda: put_together(record.spec, places, rootfs=self._layout.rootfs, directory=directory)
        )
        return evolve(record, spec=spec), places

    async def _write_bundle(
        self,
        record: ContainerRecord,
        execution: Execution,
        joined: Joined,
        places: Places,
        *,
        console_size: tuple[int, int] | None,
        restored: bool,
    ) -> None:
        parts, parent = self._parts, record.spec.resources.cgroup_parent
        await trio.to_thread.run_sync(
            lambda: write_bundle(
                self._layout,
                container_id=self._id,
                spec=record.spec,
                execution=execution,
                host=parts.host,
                cgroups_path=parts.groups.for_runtime(self._id, parent),
                joined=joined,
                console_size=console_size,
                places=places,
                restored=restored,
            )
        )

    async def _launch(self, record: ContainerRecord, handed: Handed, restoring: Restoring | None) -> Launched:
        parts, parent = self._parts, record.spec.resources.cgroup_parent
        launched: Launched | None = None
        problem: Exception | None = None
        seconds = _LAUNCH_SECONDS if restoring is None else restoring.seconds
        with trio.move_on_after(seconds) as limit:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._see_whether_forsaken, nursery.cancel_scope)
                try:
                    launched = await parts.monitor.launch(
                        self._id, self._layout, record.spec, handed=handed, restoring=restoring
                    )
                except Exception as error:  # noqa: BLE001 -- raised again below, outside the nursery, which would wrap it
                    problem = error
                nursery.cancel_scope.cancel()
        if problem is not None:
            raise problem
        if launched is not None:
            return launched
        parts.monitor.abandon(self._id)
        kill_cgroup(parts.groups.path(self._id, parent))
        verb = "create" if restoring is None else "restore"
        if not limit.cancelled_caught:
            raise ended_early(verb)
        raise FailedPrecondition(
            f"the runtime did not {verb} the container {record.name} in {seconds:.0f} s, and was ended"
        )

    async def _see_whether_forsaken(self, launching: trio.CancelScope) -> None:
        """Cancel what waits for a monitor that itself waits, for what an orphan of a killed runtime may print."""
        seen = 0
        while seen < _FORSAKEN_TIMES:
            await trio.sleep(_FORSAKEN_PAUSE)
            seen = seen + 1 if await trio.to_thread.run_sync(self._parts.monitor.is_forsaken, self._id) else 0
        launching.cancel()

    async def see_snapshot(self, record: ContainerRecord) -> None:
        """Its snapshot is made when it is created; a power failure may have taken it away again."""
        if self._parts.snapshotter.find(self._id) is None:
            chain = record.chain_id
            await self._parts.snapshotter.prepare(self._id, parent=committed_name(chain) if chain is not None else None)

    async def outcome(self, run: Run) -> Outcome:
        """How a run ended whose monitor is gone."""
        kills_seen = self._parts.oom_watch.forget(run.group)
        ended = self._parts.monitor.exit_of(self._id, self._layout)
        if ended is not None:
            signal_number = (
                ended.status - 128 if ended.status > 128 and ended.status - 128 in signal.valid_signals() else 0
            )
            oom = kills_seen > 0 or self._out_of_memory(run.group, seen_by_monitor=ended.oom)
            return Outcome(exit_code=ended.status, signal=signal_number, oom=oom, finished_at=ended.finished_at)
        # The monitor was killed. The process may go on, without anybody to write its log or keep its exit code.
        error = "its monitor was killed, so its exit code is not known"
        if run.boot != boot_id():
            error = "the host was restarted while it ran"
        else:
            await gone(run.process)
        return Outcome(exit_code=_LOST_EXIT_CODE, error=error, finished_at=time.time_ns())

    def _out_of_memory(self, group: str, *, seen_by_monitor: bool) -> bool:
        """What its control group has counted, which is there until it is taken down; where systemd has done so, what its monitor saw."""
        kills = read_oom_kills(group, self._parts.hierarchies)
        return kills > 0 if kills is not None else seen_by_monitor

    async def take_down(self, record: ContainerRecord) -> None:
        """Undo what a start has made: the runtime's state, the control groups, the mount, what the monitor left. Safe to repeat."""
        parts = self._parts
        monitor = parts.monitor.pid_of_monitor(self._id)
        group = parts.groups.path(self._id, record.spec.resources.cgroup_parent)
        if self._layout.checkpoint.exists():
            await trio.to_thread.run_sync(end_criu, self._layout.checkpoint)
        group_is_gone = False
        if (parts.runtime.root / self._id).exists() or monitor is not None:
            group_is_gone = await parts.runtime.delete(self._id, group=None if parts.groups.by_systemd else group)
        if monitor is not None:
            with trio.move_on_after(_MONITOR_END_SECONDS):
                await gone(monitor)
            group_is_gone = False  # it may have begun something meanwhile
        # A runtime that was killed before it wrote its state has nothing to delete, and yet has made groups.
        if not group_is_gone and not await trio.to_thread.run_sync(end_cgroup, group):
            logger.warning("the control group %s stays: something in it does not end", group)
        take_away(self._layout.shm)
        take_way_away(parts.runtime_layout, self._id)
        take_binds_away(parts.runtime_layout.binds(self._id))
        await unmount_snapshot(self._layout.rootfs)
        parts.monitor.forget(self._id)


async def gone(identity: ProcessIdentity) -> None:
    """Wait until a process has ended, if there is one."""
    fd = open_pidfd(identity)
    if fd is None:
        await trio.lowlevel.checkpoint()
        return
    try:
        await wait_exited(fd)
    finally:
        os.close(fd)
