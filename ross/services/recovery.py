"""What a daemon does about the containers of earlier ones, when it begins."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio
from attrs import evolve

from ross.errors import RossError
from ross.linux.cgroups import end_cgroup
from ross.linux.files import remove_tree
from ross.linux.mount import mounts_below, unmount
from ross.linux.pidfd import NOBODY, identify
from ross.model.snapshots import SnapshotOwner
from ross.services.container import Container
from ross.services.execs import recover_execs
from ross.services.own_users import close_ways
from ross.services.records import ContainerRecord, Run, boot_id
from ross.services.restarts import wanted_at_begin
from ross.shim.groups import usual_paths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ross.services.containers import Parts
    from ross.services.image import Image
    from ross.services.images import Images

logger = logging.getLogger(__name__)

_SETTLE_SECONDS: Final = 15.0


class Recovery:
    """Puts right what is there, before anybody may ask for it."""

    def __init__(
        self, parts: Parts, images: Images, by_id: Mapping[str, Container], add: Callable[[Container], None]
    ) -> None:
        self._parts = parts
        self._images = images
        self._by_id = by_id
        self._add = add

    async def run(self) -> None:
        """Read the records; take over what runs, finish what was begun, remove what no record owns."""
        await self._parts.monitor.settle(seconds=_SETTLE_SECONDS)
        # Those that are to be removed first: the name of one may be another's by now.
        for found in sorted(self._parts.records.load(), key=lambda one: not getattr(one, "removing", True)):
            if isinstance(found, ContainerRecord):
                await self._see_mounted(found)
                self._add(Container(self._parts, found, await self._image_of(found)))
            else:
                logger.warning("removing %s, which has no record that can be read", found)
                with _costing_itself(f"{found} cannot be removed"):
                    for mounted in mounts_below(found):
                        unmount(mounted)
                    remove_tree(found)
        for container in tuple(self._by_id.values()):
            with _costing_itself(f"the container {container.record.name} cannot be taken over"):
                await self._take_over(container)
        for forsaken in recover_execs(self._parts, self._by_id):
            with _costing_itself(f"the exec in {forsaken.directory} cannot be ended"):
                await self._parts.exec_monitor.abandon(forsaken)
        await self._remove_orphans()
        close_ways(self._parts.runtime_layout, self._by_id)

    async def _image_of(self, record: ContainerRecord) -> Image | None:
        try:
            return await self._images.load(record.manifest, target=record.target)
        except RossError as error:
            logger.error("the image of the container %s cannot be used: %s", record.name, error)
            return None

    async def _see_mounted(self, record: ContainerRecord) -> None:
        """Know the images that a container has mounted, so that they stay."""
        for mounted in record.mounted_images:
            try:
                await self._images.load(mounted.manifest, target=mounted.target)
            except RossError as error:
                logger.error("an image that the container %s has mounted cannot be used: %s", record.name, error)

    async def _take_over(self, container: Container) -> None:
        record = container.record
        if record.removing:
            await container._remove_now()  # noqa: SLF001 -- a part of this service
            return
        try:  # an earlier daemon may have been killed between the record and the snapshot
            await container.launcher.see_snapshot(record)
        except (RossError, OSError) as error:
            logger.error("the container %s has no files of its own: %s", record.name, error)
        run = record.run
        await trio.to_thread.run_sync(container.checkpoints.recover, run)
        started_at = record.started_at
        if run is None:
            run = await self._unrecorded_run(container)
            started_at = self._parts.monitor.launched_at(container.id)
        if run is not None:
            if run.boot != boot_id():  # what has these numbers now is something else
                run = evolve(run, process=NOBODY, monitor=NOBODY)
            container.adopt(run, started_at=started_at)
            await container.settle_restore(runs=True)
            await container.freezer.thaw()
            if record.paused:
                await container.see_paused()
            return
        await container.settle_restore(runs=False)
        if wanted_at_begin(record):
            await container.launcher.take_down(container.record)
            container.resume_restarting()
        else:
            await container.launcher.take_down(container.record)
            if record.spec.auto_remove and record.outcome is not None:
                await container.remove(force=True)

    async def _unrecorded_run(self, container: Container) -> Run | None:
        """A start that went through without its record: it is told by what the monitor and the runtime have."""
        monitors, outcome = self._parts.monitor, container.record.outcome
        state = await self._parts.runtime.state(container.id)
        if state is None:
            return None
        monitor = monitors.pid_of_monitor(container.id) or monitors.running().get(container.id)
        ended = monitors.exit_of(container.id, container.layout)
        if ended is None and (state.status != "running" or monitor is None):
            return None
        if ended is not None and outcome is not None and ended.finished_at == outcome.finished_at:
            return None  # it is recorded, and only not taken down
        process = identify(state.pid) if state.pid else None
        monitor = monitor or NOBODY  # it has ended too, and left the outcome
        return Run(boot=boot_id(), process=process or monitor, monitor=monitor, group=container.group)

    async def _remove_orphans(self) -> None:
        parts = self._parts
        known = {*self._by_id, *parts.records.withheld}
        for identity in {*parts.runtime.known(), *parts.monitor.left_behind(), *parts.monitor.running()} - known:
            logger.info("removing what is left of the container %s, which has no record", identity[:12])
            with _costing_itself(f"what is left of the container {identity[:12]} cannot be removed"):
                await parts.runtime.delete(identity)
                parts.monitor.forget(identity)
                for group in usual_paths(identity):
                    await trio.to_thread.run_sync(end_cgroup, group)
        for info in parts.snapshotter.list():
            if info.owner is SnapshotOwner.CONTAINER and info.name not in known:
                logger.info("removing the snapshot %s, which no container owns", info.name[:12])
                with _costing_itself(f"the snapshot {info.name[:12]} cannot be removed"):
                    await parts.snapshotter.remove(info.name)


@contextmanager
def _costing_itself(what: str) -> Iterator[None]:
    """What cannot be put right at start-up costs itself, and not the daemon."""
    try:
        yield
    except (RossError, OSError) as error:
        logger.error("%s: %s", what, error)
