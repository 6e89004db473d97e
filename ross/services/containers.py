"""The containers: making them, and finding them by name."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, KeysView, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import trio
from attrs import evolve, frozen

from ross.errors import AlreadyExists, NotFound, RossError
from ross.layout import RuntimeLayout, StateLayout
from ross.linux.cgroup_counters import Hierarchies, find_hierarchies
from ross.linux.files import remove_tree
from ross.linux.inotify import Watches
from ross.linux.oom_watch import OomWatch
from ross.model.containers import ContainerFilter, ContainerInfo, ContainerSpec, CreateMode
from ross.model.namespaces import UserMode
from ross.services.commit import Committer
from ross.services.container import Container
from ross.services.container_lookup import check_new_name, find_id
from ross.services.events import Events
from ross.services.filters import select_containers
from ross.services.handed_mounts import identities, with_handed
from ross.services.image_mounts import find_images, holding
from ross.services.images import ImageUser
from ross.services.names import make_id, make_name
from ross.services.records import ContainerRecord, Records, check_new
from ross.services.recovery import Recovery
from ross.services.sharing import NOTHING, Shared, with_shared
from ross.services.snapshots import measure_files
from ross.services.snapshotter import Snapshotter, committed_name
from ross.services.threads import SenderThreads
from ross.services.user_ids import allotted, pools, with_asked_users
from ross.shim.apparmor import with_asked_profile, with_profile
from ross.shim.command import effective_command
from ross.shim.criu import Criu
from ross.shim.exec_monitor import ExecMonitor
from ross.shim.facts import HostFacts, host_facts
from ross.shim.groups import Groups
from ross.shim.host_check import check_host
from ross.shim.monitor import Monitor
from ross.shim.runtime import Runtime
from ross.shim.state import ACTIVE
from ross.shim.validate import check_name, normalise_spec, validate_spec

if TYPE_CHECKING:
    from ross.oci.digest import Digest
    from ross.services.image import Image
    from ross.services.images import Images

logger = logging.getLogger(__name__)

_FILE_THREADS = 16
_PLAINLY = CreateMode()
_BY_PATH = Groups()


@frozen(kw_only=True)
class Parts:
    """What every container needs of the engine."""

    state: StateLayout
    snapshotter: Snapshotter
    events: Events
    runtime: Runtime
    monitor: Monitor
    exec_monitor: ExecMonitor
    runtime_layout: RuntimeLayout
    """What a reboot may lose."""
    records: Records
    nursery: trio.Nursery
    host: HostFacts
    groups: Groups
    hierarchies: Hierarchies
    oom_watch: OomWatch
    committer: Committer
    file_threads: trio.CapacityLimiter
    sender_threads: SenderThreads
    """For reading and writing files of containers, which may wait for a client, or for what a container has mounted."""
    watches: Watches
    criu: Criu
    find: Callable[[str], Container | None]
    """A container by its whole id."""
    forget: Callable[[Container], None]
    rename: Callable[[Container, str], None]
    """Makes the name denote the container; raises AlreadyExists if it denotes another one."""


class Containers:
    """The containers, all in memory; the disk is read once, at :meth:`recover`."""

    def __init__(
        self,
        *,
        layout: StateLayout,
        runtime_layout: RuntimeLayout,
        images: Images,
        snapshotter: Snapshotter,
        events: Events,
        runtime: Runtime,
        monitor: Monitor,
        committer: Committer,
        nursery: trio.Nursery,
        groups: Groups = _BY_PATH,
    ) -> None:
        self._images = images
        self._by_id: dict[str, Container] = {}
        self._names: dict[str, str] = {}
        hierarchies = find_hierarchies()
        self._parts = Parts(
            state=layout,
            snapshotter=snapshotter,
            events=events,
            runtime=runtime,
            monitor=monitor,
            exec_monitor=ExecMonitor(monitor.program, runtime),
            runtime_layout=runtime_layout,
            records=Records(layout),
            nursery=nursery,
            host=host_facts(),
            groups=groups,
            hierarchies=hierarchies,
            oom_watch=OomWatch(hierarchies),
            committer=committer,
            file_threads=trio.CapacityLimiter(_FILE_THREADS),
            sender_threads=SenderThreads(),
            watches=Watches(),
            criu=Criu(),
            find=self._by_id.get,
            forget=self._forget,
            rename=self._rename,
        )
        images.add_user(self._users_of)

    # -- making -------------------------------------------------------------------------------------------------------

    async def create(
        self,
        image: Image,
        spec: ContainerSpec,
        mode: CreateMode = _PLAINLY,
        *,
        image_name: str = "",
        shared: Shared = NOTHING,
    ) -> Container:
        """Make a container, not started. It outlives whoever asked for it.

        Args:
            image: Of what.
            spec: How.
            mode: What to do about one that is there already.
            image_name: How the user calls the image; one of its names if empty.
            shared: What it has of other containers, and of its creator.

        Raises:
            InvalidArgument: something of the spec is not allowed, or there is nothing to run.
            AlreadyExists: the name is taken or another one's id, or the key is taken, by a container that was asked for in another way.
            FailedPrecondition: this host has not what it asks for.
            NotFound: an image that is to be mounted is not in the store.
        """
        spec = with_handed(spec, shared.handed)
        validate_spec(spec)
        spec = with_asked_users(with_shared(normalise_spec(spec), shared))
        validate_spec(spec)
        check_host(spec, self._parts.host)
        self._parts.monitor.check_log(spec.log)
        self._parts.groups.check_parent(spec.resources.cgroup_parent)
        spec = evolve(spec, labels={**(image.config.execution.labels or {}), **spec.labels})
        command = effective_command(spec, image.config.execution)
        if mode.key and (made := self._made_by(mode.key)) is not None:
            return _the_same(made, image, spec)
        mounted = find_images(spec, self._images)  # or nothing is removed for it
        check_new(evolve(self._new_record(image, spec, command, image_name), key=mode.key))
        if spec.name:
            check_new_name(spec.name, self._by_id)
        with holding(mounted):
            made = await self._make_way(spec, mode)
        if made is not None:
            return _the_same(made, image, spec)
        if spec.name in self._names:
            raise self._taken(spec.name)
        name = spec.name or make_name(self._names.__contains__)
        made_spec = with_profile(self._with_ids(evolve(spec, name=name)))
        record = evolve(
            self._new_record(image, made_spec, command, image_name),
            mounted_images=tuple(one.record for one in mounted),
            handed_mounts=identities(spec, shared),
            key=mode.key,
            asked_name=spec.name,
        )
        container = Container(self._parts, record, image)
        self._add(container)
        for used in (image, *(one.image for one in mounted)):
            self._images.keep(used)
        await self._put_down(container)
        container.publish("create")
        return container

    async def _make_way(self, spec: ContainerSpec, mode: CreateMode) -> Container | None:
        """Remove whatever has the name, if that is to be replaced. Returns what the key has made meanwhile."""
        while True:
            made = self._made_by(mode.key) if mode.key else None
            if made is not None or not mode.replace or spec.name not in self._names:
                return made
            with suppress(NotFound):  # somebody else has removed it
                await self._by_id[self._names[spec.name]].remove(force=True)

    async def _put_down(self, container: Container) -> None:
        """Write the record, and make the files; whoever is killed between leaves it to the next daemon to make them.

        It is known by its name and its key from here on. Who removes or starts it takes the turn that this has first, and finds it whole.
        """
        record = container.record
        try:
            with trio.CancelScope(shield=True):
                async with container.turn:
                    await trio.to_thread.run_sync(lambda: self._parts.records.save(record, durable=True))
                    await container.launcher.see_snapshot(record)
        except BaseException:
            container.be_gone()  # somebody may hold it already
            remove_tree(container.layout.directory)
            raise

    def _with_ids(self, spec: ContainerSpec) -> ContainerSpec:
        """The spec with the ids that are nobody else's, if it is to have some."""
        if spec.namespaces.users.mode is not UserMode.AUTO:
            return spec
        others = (one.record.spec.namespaces.users for one in self._by_id.values())
        users = allotted(spec.namespaces.users, others, pools())
        return evolve(spec, namespaces=evolve(spec.namespaces, users=users))

    def _made_by(self, key: str) -> Container | None:
        return next((one for one in self._by_id.values() if one.record.key == key), None)

    def _taken(self, name: str) -> AlreadyExists:
        return AlreadyExists(
            f"the name {name!r} is taken by the container {self._names[name][:12]}",
            hint=f"choose another, remove that one with: ross rm {name}, or put this one in its place with --replace",
        )

    def _new_record(
        self, image: Image, spec: ContainerSpec, command: tuple[str, ...], image_name: str
    ) -> ContainerRecord:
        names = image.info.names
        return ContainerRecord(
            id=make_id(),
            name=spec.name,
            image=image_name or (names[0] if names else str(image.manifest.config.digest)),
            image_id=image.manifest.config.digest,
            target=image.target,
            manifest=image.digest,
            chain_id=image.chain_id,
            spec=spec,
            command=command,
            created_at=time.time_ns(),
        )

    def _add(self, container: Container) -> None:
        self._by_id[container.id] = container
        self._names[container.record.name] = container.id

    def _rename(self, container: Container, name: str) -> None:
        check_name(name)
        check_new_name(name, self._by_id.keys() - {container.id})
        if name in self._names:
            raise self._taken(name)
        del self._names[container.record.name]
        self._names[name] = container.id

    def _forget(self, container: Container) -> None:
        self._by_id.pop(container.id, None)
        if self._names.get(container.record.name) == container.id:
            del self._names[container.record.name]

    # -- looking ------------------------------------------------------------------------------------------------------

    @property
    def ids(self) -> KeysView[str]:
        """Of all that there are."""
        return self._by_id.keys()

    def get(self, name: str) -> Container:
        """By id, name, or a unique beginning of an id: see :func:`~ross.services.container_lookup.find_id`.

        Raises:
            NotFound: there is none.
            InvalidArgument: several ids begin so.
        """
        return self._by_id[find_id(name, self._by_id, self._names)]

    def list(self, wanted: ContainerFilter) -> tuple[ContainerInfo, ...]:
        """The newest first. Never waits.

        Raises:
            NotFound: there is no such container as the filter's ``before`` or ``since`` says.
        """
        infos = (container.info for container in self._by_id.values())
        return select_containers(
            infos, wanted, created_at=lambda name: self.get(name).info.created_at, image_id=self._image_id
        )

    def _image_id(self, name: str) -> Digest | None:
        try:
            return self._images.get(name).info.id
        except RossError:
            return None

    async def measure(self, infos: Sequence[ContainerInfo]) -> tuple[ContainerInfo, ...]:
        """The same, with what is in the files that each has written; 0 for one that is removed meanwhile, -1 where it cannot be told."""
        return tuple([evolve(info, written_bytes=await self._written_bytes(info)) for info in infos])

    async def _written_bytes(self, info: ContainerInfo) -> int:
        files = self._parts.snapshotter.files(info.id)
        try:
            measured = await trio.to_thread.run_sync(measure_files, files, limiter=self._parts.file_threads)
        except FileNotFoundError:
            return 0
        except OSError as error:  # which is that container's trouble, and not that of whoever lists them all
            logger.warning("what the container %s has written cannot be measured: %s", info.name, error)
            return -1
        return measured.content_bytes

    def _users_of(self, manifest: Digest) -> Sequence[ImageUser]:
        return [
            ImageUser(one.record.name, one.state in ACTIVE)
            for one in self._by_id.values()
            if manifest in {one.record.manifest, *(other.manifest for other in one.record.mounted_images)}
        ]

    def mounted_by(self, container_id: str) -> Sequence[str]:
        """The names of the snapshots of the images that a container has mounted, beside its own."""
        container = self._by_id.get(container_id)
        return (
            [committed_name(one.chain_id) for one in container.record.mounted_images] if container is not None else []
        )

    async def watch_memory(self) -> None:
        """See what is killed for want of memory in groups that go before they can be asked, until cancelled."""
        await self._parts.oom_watch.run()

    async def recover(self) -> None:
        """Read the records; take over what runs, finish what was begun, remove what no record owns."""
        await Recovery(self._parts, self._images, self._by_id, self._add).run()


def _the_same(made: Container, image: Image, spec: ContainerSpec) -> Container:
    """The container that a key has made, if it was asked for in the same way."""
    record = made.record
    asked = with_asked_users(with_asked_profile(evolve(record.spec, name=record.asked_name)))
    if record.image_id != image.manifest.config.digest or asked != with_asked_profile(spec):
        raise AlreadyExists(
            f"the key {record.key!r} has made the container {record.name}, in another way",
            hint="use another key, or remove that container",
        )
    return made
