"""Every method of the services, cancelled while it waits: what was begun is undone or finished, and nothing is left behind."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
import trio.testing
from attrs import frozen

from ross.errors import FailedPrecondition, NotFound, RossError
from ross.layout import RuntimeLayout, StateLayout
from ross.linux.mount import mounts_below
from ross.linux.process import which
from ross.linux.processes import pids_of_cgroup
from ross.model.archives import ArchiveFormat, ImportOptions, LoadOptions, SaveOptions
from ross.model.containers import (
    AttachOptions,
    ContainerFilter,
    ContainerSpec,
    ContainerState,
    ContainerUpdate,
    Pace,
    RestartMode,
    RestartPolicy,
    WaitCondition,
)
from ross.model.execs import ExecOptions, GonePolicy
from ross.model.files import CommitOptions
from ross.model.health import HealthCheck
from ross.model.images import PullOptions, PushOptions
from ross.model.limits import Limits
from ross.model.logs import LogOptions
from ross.model.namespaces import NamespaceMode, Namespaces
from ross.model.snapshots import SnapshotKind
from ross.oci.digest import Digest
from ross.registry.client import RegistryClient
from ross.registry.credentials import CredentialStore
from ross.registry.push import RegistryPusher
from ross.registry.referrers import ReferrersClient
from ross.registry.session import RegistrySession
from ross.services import files
from ross.services.archives.service import Archives
from ross.services.collector import Collector
from ross.services.commit import Committer
from ross.services.containers import Containers
from ross.services.events import Events
from ross.services.feed import Feed
from ross.services.images import Images
from ross.services.pins import Pins
from ross.services.puller import Puller
from ross.services.pusher import Pusher
from ross.services.remover import Remover
from ross.services.sharing import Shared
from ross.services.snapshot_mounts import mount_snapshot
from ross.services.snapshotter import Snapshotter
from ross.services.store import ContentStore
from ross.services.unpacker import Unpacker
from ross.shim.monitor import Monitor
from ross.shim.runtime import Runtime
from tests.support.images import MANIFEST, ImageBuilder, Layer, busybox_layer, push
from tests.support.registry import running_registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ross.model.stats import ContainerStats
    from ross.services.container import Container

pytestmark = pytest.mark.integration


@frozen
class Services:
    """The engine's services in this process, over a real registry, overlay, runc and conmon."""

    state: StateLayout
    run: RuntimeLayout
    store: ContentStore
    snapshotter: Snapshotter
    pins: Pins
    images: Images
    remover: Remover
    archives: Archives
    containers: Containers
    nursery: trio.Nursery

    def leftovers(self) -> list[str]:
        """What should not be there while no operation is under way, and no container exists."""
        found = [f"mount {path}" for path in mounts_below(self.state.root)]
        found += [f"task {task.name}" for task in self.nursery.child_tasks]
        found += [f"pin {digest}" for digest in self.pins.held()]
        found += [
            f"snapshot {info.name}" for info in self.snapshotter.list() if info.kind is not SnapshotKind.COMMITTED
        ]
        found += [str(path) for path in self.state.containers.glob("*")]
        found += [str(path) for path in self.state.snapshots.glob("unpack-*")]
        for directory in (self.run.exits, self.run.monitors, self.run.runtime_root, self.run.execs):
            found += [str(path) for path in directory.glob("*")]
        return found


@asynccontextmanager
async def open_services(directory: Path) -> AsyncIterator[Services]:
    state, run = StateLayout(root=directory / "root"), RuntimeLayout(run=directory / "run")
    for path in (state.root, run.exits, run.monitors, run.runtime_root):
        path.mkdir(parents=True)
    store, snapshotter, pins, events = ContentStore(state), Snapshotter(state), Pins(), Events()
    await store.recover()
    await snapshotter.recover()
    runc, conmon = which("runc"), which("conmon")
    assert runc is not None
    assert conmon is not None
    async with RegistrySession(CredentialStore(), user_agent="test") as session:
        registry = RegistryClient(session)
        unpacker = Unpacker(store=store, snapshotter=snapshotter)
        puller = Puller(registry=registry, store=store, snapshotter=snapshotter, unpacker=unpacker)
        collector = Collector(store=store, snapshotter=snapshotter, pins=pins)
        images = Images(
            layout=state,
            store=store,
            snapshotter=snapshotter,
            puller=puller,
            pusher=Pusher(registry=RegistryPusher(session), store=store),
            referrers=ReferrersClient(session),
            pins=pins,
            collector=collector,
            events=events,
        )
        await images.recover()
        runtime = Runtime(runc, run.runtime_root)
        async with trio.open_nursery() as nursery:
            containers = Containers(
                layout=state,
                runtime_layout=run,
                images=images,
                snapshotter=snapshotter,
                events=events,
                runtime=runtime,
                monitor=Monitor(conmon, runtime, run),
                committer=Committer(images=images, store=store, snapshotter=snapshotter, unpacker=unpacker, pins=pins),
                nursery=nursery,
            )
            await containers.recover()
            archives = Archives(images=images, store=store, snapshotter=snapshotter, unpacker=unpacker, pins=pins)
            remover = Remover(images=images, store=store, collector=collector)
            yield Services(state, run, store, snapshotter, pins, images, remover, archives, containers, nursery)
            nursery.cancel_scope.cancel()


@pytest.fixture
def place(filesystem: Path) -> Path:
    directory = filesystem / f"c{len(list(filesystem.iterdir()))}"
    directory.mkdir()
    return directory


@pytest.fixture(scope="module")
def layered(registry: str) -> str:
    """An image whose pull takes a moment."""
    builder = ImageBuilder().layer(busybox_layer())
    for number in range(3):
        builder.layer(Layer().add(f"f{number}", bytes(range(256)) * 40_000), compression="")
    return push(registry, "test/cancelled:1", builder.build())


async def cancelled_at(seconds: float, operation: Callable[[], Awaitable[object]]) -> bool:
    """Run an operation and cancel it after so long. Returns whether it was still under way."""
    with trio.move_on_after(seconds) as scope:
        await operation()
    return scope.cancelled_caught


async def settled(services: Services) -> None:
    """Wait until what runs on by itself has ended."""
    with trio.move_on_after(60):
        while services.nursery.child_tasks:  # noqa: ASYNC110 -- they are not ours to wait for otherwise
            await trio.sleep(0.02)


async def reached(container: Container, state: ContainerState) -> None:
    """Wait until a container is in a state."""
    with trio.fail_after(60):
        while container.state is not state:  # noqa: ASYNC110
            await trio.sleep(0.01)


async def has_written(container: Container) -> None:
    """Wait until there is something in a container's log."""
    with trio.fail_after(60), trio.CancelScope() as scope:

        async def seen(_chunk: object) -> None:
            scope.cancel()
            await trio.lowlevel.checkpoint()

        await container.logs(LogOptions(follow=True), seen)


async def test_pull(place: Path, layered: str) -> None:
    async with open_services(place) as services:
        began = time.monotonic()
        await services.images.pull(layered, PullOptions(), lambda _progress: None)
        whole = time.monotonic() - began
        caught = 0
        for part in range(1, 20):
            await services.remover.remove(layered, force=True)
            await services.remover.collect()

            async def pull() -> None:
                await services.images.pull(layered, PullOptions(), lambda _progress: None)

            began = time.monotonic()
            if await cancelled_at(whole * part / 16, pull):
                caught += 1
            else:
                whole = time.monotonic() - began  # the first one may have taken far longer than the others do
            assert services.leftovers() == []
            assert not services.images._turns._turns
            await services.images.pull(layered, PullOptions(), lambda _progress: None)
        assert caught >= 5, "the pull was cancelled under way at least a few times"


async def start_something(services: Services, image: str, *args: str, **spec: object) -> Container:
    pulled = await services.images.pull(image, PullOptions(), lambda _progress: None)
    return await services.containers.create(pulled, ContainerSpec(args=args or ("sleep", "100000"), **spec))  # type: ignore[arg-type]


async def test_create_start_stop_remove(place: Path, layered: str) -> None:
    """Each is done as a whole or not at all, however early its caller goes away."""
    async with open_services(place) as services:
        for part in range(12):
            seconds = 0.005 * part
            container = await start_something(services, layered)
            await cancelled_at(seconds, container.start)
            await reached(container, ContainerState.RUNNING)  # a start that was begun is finished

            async def stop(container: Container = container) -> None:
                await container.stop(signal="KILL", grace_seconds=5)

            await cancelled_at(seconds, stop)
            with trio.fail_after(60):
                assert (await container.wait()).signal == 9

            async def remove(container: Container = container) -> None:
                await container.remove(force=False)

            await cancelled_at(seconds, remove)
            await settled(services)
            await reached(container, ContainerState.REMOVED)
            assert services.containers.list(ContainerFilter(all=True)) == ()
            assert services.leftovers() == []


async def test_pause_resume_restart_rename_update(place: Path, layered: str) -> None:
    """What was begun is finished; the container ends up as if its caller had stayed."""
    async with open_services(place) as services:
        container = await start_something(services, layered)
        await container.start()
        for part in range(5):
            seconds = 0.003 * part
            await cancelled_at(seconds, container.pause)
            await reached(container, ContainerState.PAUSED)
            await cancelled_at(seconds, container.resume)
            await reached(container, ContainerState.RUNNING)

            async def again() -> None:
                await container.restart(signal="KILL", grace_seconds=5)

            before = container.info.started_at
            await cancelled_at(seconds, again)
            with trio.fail_after(60):
                while container.info.started_at == before or container.state is not ContainerState.RUNNING:  # noqa: ASYNC110
                    await trio.sleep(0.01)

            async def change(number: int = part) -> None:
                await container.rename(f"name{number}")
                await container.update(ContainerUpdate(limits=Limits(pids_limit=50 + number)))

            await cancelled_at(seconds, change)
            name = container.record.name
            assert services.containers.get(name) is container
        policy = RestartPolicy(mode=RestartMode.ALWAYS)
        restarting = await start_something(services, layered, "false", restart=policy)
        await restarting.start()
        await reached(restarting, ContainerState.RESTARTING)
        for condition in (WaitCondition.NOT_RUNNING, WaitCondition.REMOVED):
            assert await cancelled_at(0.05, partial(restarting.wait, condition))
        for one in (restarting, container):
            await one.remove(force=True)
        await settled(services)
        assert services.leftovers() == []


async def test_create_cancelled_at_once(place: Path, layered: str) -> None:
    async with open_services(place) as services:
        image = await services.images.pull(layered, PullOptions(), lambda _progress: None)
        with trio.CancelScope() as scope:
            scope.cancel()
            await services.containers.create(image, ContainerSpec(args=("true",), name="x"))
        for info in services.containers.list(ContainerFilter(all=True)):
            await services.containers.get(info.id).remove(force=True)
        await settled(services)
        assert services.leftovers() == []


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_wait_logs_attach(place: Path, layered: str) -> None:
    async with open_services(place) as services:
        container = await start_something(services, layered, "sh", "-c", "while true; do echo x; sleep 0.01; done")
        pending = await container.attach(AttachOptions(), stdout=None, stderr=None)
        assert await cancelled_at(0.05, pending.wait)
        await pending.detach()
        await container.start()
        assert await cancelled_at(0.1, container.wait)
        await has_written(container)

        async def take(_chunk: object) -> None:
            await trio.lowlevel.checkpoint()

        async def take_nothing(_chunk: object) -> None:
            await trio.sleep_forever()

        descriptors = open_descriptors()
        for options in (LogOptions(), LogOptions(tail=1), LogOptions(follow=True, tail=0)):
            for part in range(4):
                await cancelled_at(0.003 * part, partial(container.logs, options, take_nothing))
        assert await cancelled_at(0.1, partial(container.logs, LogOptions(), take_nothing))
        assert open_descriptors() <= descriptors + 1, "the one who changes files has one of the log now and then"

        async def follow() -> None:
            await container.logs(LogOptions(follow=True), take)

        assert await cancelled_at(0.2, follow)

        class Stuck:
            """A client that never reads."""

            async def write(self, _data: bytes) -> None:
                await trio.sleep_forever()

            async def gap(self, _lost_bytes: int) -> None:
                await trio.sleep_forever()

            async def done(self) -> None:
                await trio.sleep_forever()

        attachment = await container.attach(AttachOptions(), stdout=Stuck(), stderr=None)
        assert await cancelled_at(0.1, attachment.wait)
        await attachment.detach()
        await container.remove(force=True)
        await settled(services)
        assert services.leftovers() == []


async def test_exec_attach_and_top(place: Path, layered: str) -> None:
    async with open_services(place) as services:
        container = await start_something(services, layered, "sleep", "1000")
        await container.start()
        options = ExecOptions(args=("sleep", "1000"), when_gone=GonePolicy.KILL)
        for part in range(25):

            async def begin() -> None:
                executed, attachment = await container.execs.begin(options, stdout=None, stderr=None)
                assert attachment is None
                await executed.let_go()
                await executed.wait()

            await cancelled_at(0.0024 * part, begin)
        executed, _attachment = await container.execs.begin(options, stdout=None, stderr=None)
        assert await cancelled_at(0.05, executed.wait)
        attachment = await executed.attach(AttachOptions(pace=Pace.BLOCK), stdout=None, stderr=None)
        assert await cancelled_at(0.05, attachment.wait)
        await attachment.detach()
        await cancelled_at(0, lambda: container.top(""))
        await executed.let_go()
        await executed.wait()
        await container.execs.all_ended()
        assert len(pids_of_cgroup(f"/ross/{container.id}")) == 1, "only the first process is left"
        await container.remove(force=True)
        await settled(services)
        assert services.leftovers() == []


async def test_stats(place: Path, layered: str) -> None:
    async with open_services(place) as services:
        container = await start_something(services, layered, "sleep", "1000")
        await container.start()
        taken: list[ContainerStats] = []

        async def take(sample: ContainerStats) -> None:
            taken.append(sample)
            await trio.lowlevel.checkpoint()

        async def take_for_ever(_sample: ContainerStats) -> None:
            await trio.sleep_forever()

        for part in range(10):
            await cancelled_at(0.0004 * part, lambda: container.stats.sample(0, take))
        while not taken:
            assert await cancelled_at(0.1, lambda: container.stats.sample(1000, take))
        assert await cancelled_at(0.1, lambda: container.stats.sample(1000, take_for_ever))
        await container.remove(force=True)
        await settled(services)
        assert services.leftovers() == []


async def test_start_with_the_namespaces_of_another(place: Path, layered: str) -> None:
    """A start that was begun is finished; nothing of the other's shared memory stays mounted here."""
    async with open_services(place) as services:
        owner = await start_something(services, layered, "sleep", "1000")
        await owner.start()
        image = owner.image
        assert image is not None
        spec = ContainerSpec(
            args=("sleep", "1000"), namespaces=Namespaces(pid=NamespaceMode.CONTAINER, ipc=NamespaceMode.CONTAINER)
        )
        for part in range(5):
            container = await services.containers.create(image, spec, shared=Shared(pid=owner, ipc=owner))
            await cancelled_at(0.01 * part, container.start)
            await reached(container, ContainerState.RUNNING)
            assert not container.layout.shm.exists()
            await container.remove(force=True)
        await owner.remove(force=True)
        await settled(services)
        assert services.leftovers() == []


async def test_waiting_for_health(place: Path, layered: str) -> None:
    """The check that is under way when its container is removed leaves nothing behind, wherever it has got to."""
    async with open_services(place) as services:
        for part in range(8):
            check = HealthCheck(test=("CMD", "sleep", "1000"), interval_ns=10**6)
            container = await start_something(services, layered, "sleep", "1000", health=check)
            assert await cancelled_at(0.01, partial(container.wait, WaitCondition.HEALTHY))
            await container.start()
            assert await cancelled_at(0.02 * part, partial(container.wait, WaitCondition.HEALTHY))
            await container.remove(force=True)
            await settled(services)
            assert services.leftovers() == []


async def test_remove_image_and_collect(place: Path, layered: str) -> None:
    async with open_services(place) as services:
        for seconds in (0.0, 0.001, 0.003, 0.01):
            await services.images.pull(layered, PullOptions(), lambda _progress: None)

            async def remove() -> None:
                await services.remover.remove(layered, force=False)

            await cancelled_at(seconds, remove)
            with suppress(RossError):
                await services.remover.remove(layered, force=False)
            await services.remover.collect()
            assert services.store.blobs() == ()
            assert services.snapshotter.list() == ()
            assert services.leftovers() == []


async def test_push(place: Path, layered: str) -> None:
    with running_registry(place / "target") as target:
        async with open_services(place) as services:
            image = await services.images.pull(layered, PullOptions(), lambda _progress: None)
            name = f"{target}/app:1"

            async def attempt() -> None:
                await services.images.publisher.push(image, name, PushOptions(), lambda _progress: None)

            for seconds in (0.0, 0.002, 0.01, 0.03):
                await cancelled_at(seconds, attempt)
                await settled(services)
                assert services.leftovers() == []
                assert tag_of(target) in {None, image.digest}
            await attempt()
            assert services.leftovers() == []
            assert tag_of(target) == image.digest


def tag_of(registry: str) -> Digest | None:
    """What a registry has as app:1; all of it, since it takes no manifest without."""
    answer = httpx.get(f"http://{registry}/v2/app/manifests/1", headers={"Accept": MANIFEST}, timeout=60)
    return Digest.of(answer.content) if answer.status_code == 200 else None


async def test_files(place: Path, layered: str) -> None:
    """Copies in and out, exports, diffs and commits, of a container that runs and of one that does not."""

    async def stuck(_data: object) -> None:
        await trio.sleep_forever()

    async def taken(_data: object) -> None:
        await trio.lowlevel.checkpoint()

    async with open_services(place) as services:
        container = await start_something(services, layered, "sh", "-c", "echo x > /x; exec sleep 100000")
        idle = [path.name for path in services.state.ingests.glob("*")]
        for _state in ("created", "running", "stopped"):

            async def write() -> None:
                feed = Feed()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(partial(container.files.write, b"/", feed, keep_owners=False))
                    await feed.write(Layer().add("broken-off", bytes(100_000)).tar()[:90_000])
                    await trio.sleep_forever()

            async def stat() -> None:
                await container.files.stat(b"/bin", follow=False)

            async def commit() -> None:
                await container.commit(CommitOptions())

            for work in (
                lambda: container.files.read(b"/bin", name=b"", follow=False, write=stuck),
                lambda: container.files.export(stuck),
                write,
            ):
                assert await cancelled_at(0.2, work)
            await cancelled_at(0.0, stat)
            await cancelled_at(0.0, lambda: container.files.diff(stuck))
            for seconds in (0.0, 0.01, 0.03, 0.06, 0.1):
                await cancelled_at(seconds, commit)
                assert [path.name for path in services.state.ingests.glob("*")] == idle
                assert not container.layout.frozen.exists()
                assert services.pins.held() == frozenset()
            await container.files.read(b"/bin", name=b"", follow=False, write=taken)
            with pytest.raises(NotFound):
                await container.files.stat(b"/broken-off", follow=False)
            if container.state is not ContainerState.RUNNING:
                assert mounts_below(services.state.root) == ()
            if container.state is ContainerState.CREATED:
                await container.start()
            elif container.state is ContainerState.RUNNING:
                await container.stop(signal="KILL", grace_seconds=5)
        await container.remove(force=False)
        await settled(services)
        for info in services.images.list():  # also what was committed to the end, without a name
            await services.remover.remove(str(info.id), force=True)
        assert services.leftovers() == []


async def test_a_copy_gives_way(place: Path, layered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not read what it copies holds nobody up for ever; and what a container ends with fails."""
    monkeypatch.setattr(files, "_WAY_SECONDS", 0.3)
    reading = trio.Semaphore(0)

    async def stuck(_data: object) -> None:
        reading.release()
        await trio.sleep_forever()

    async with open_services(place) as services:
        container = await start_something(services, layered)

        async def read(problem: str) -> None:
            with pytest.raises(FailedPrecondition, match=problem):
                await container.files.read(b"/bin", name=b"", follow=False, write=stuck)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, "gave way")
            await reading.acquire()
            with trio.fail_after(60):
                await container.start()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, "ended while")
            await reading.acquire()
            with trio.fail_after(60):
                await container.remove(force=True)
        await settled(services)
        assert services.leftovers() == []


async def test_a_copy_that_only_begins_gives_way_too(
    place: Path, layered: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the turn, and the files are still being mounted for it, when somebody else wants that turn."""
    mounting, wanted = trio.Event(), trio.Event()

    async def slow(*args: Any) -> None:
        mounting.set()
        await wanted.wait()
        await mount_snapshot(*args)

    monkeypatch.setattr(files, "_WAY_SECONDS", 0.3)
    monkeypatch.setattr(files, "mount_snapshot", slow)

    async def stuck(_data: object) -> None:
        await trio.sleep_forever()

    async with open_services(place) as services:
        container = await start_something(services, layered)

        async def read() -> None:
            with pytest.raises(FailedPrecondition, match="gave way"):
                await container.files.read(b"/bin", name=b"", follow=False, write=stuck)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await mounting.wait()
            with trio.fail_after(60):
                async with trio.open_nursery() as removing:
                    removing.start_soon(partial(container.remove, force=True))
                    await trio.testing.wait_all_tasks_blocked(0.1)
                    wanted.set()
        await settled(services)
        assert services.leftovers() == []


async def test_copies_that_wait_hold_nobody_up(place: Path, layered: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever starts or removes a container waits for the copy that is under way; those behind it, and what comes then, wait for him."""
    monkeypatch.setattr(files, "_WAY_SECONDS", 0.3)
    ended: list[str] = []
    reading = trio.Semaphore(0)

    async def stuck(_data: object) -> None:
        reading.release()
        await trio.sleep_forever()

    async with open_services(place) as services:
        container = await start_something(services, layered)
        await container.stop(signal="KILL", grace_seconds=5)

        async def read(name: str) -> None:
            with pytest.raises(RossError):
                await container.files.read(b"/bin", name=b"", follow=False, write=stuck)
            ended.append(name)

        async def stat() -> None:
            assert (await container.files.stat(b"/bin", follow=False)).name == b"bin"
            ended.append(f"looked while it was {container.state.value}")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, "first")
            await reading.acquire()
            nursery.start_soon(read, "second")
            await trio.testing.wait_all_tasks_blocked(0.1)
            with trio.fail_after(60):
                async with trio.open_nursery() as starting:
                    starting.start_soon(container.start)
                    await trio.testing.wait_all_tasks_blocked(0.1)
                    starting.start_soon(stat)
            assert ended == ["first", "looked while it was running"]
            with trio.fail_after(60):
                await container.stop(signal="KILL", grace_seconds=5)
            for name in ("third", "fourth", "fifth"):
                nursery.start_soon(read, name)
                await trio.testing.wait_all_tasks_blocked(0.1)
            with trio.fail_after(60):
                await container.remove(force=True)
        assert sorted(ended[2:]) == ["fifth", "fourth", "second", "third"]
        await settled(services)
        assert services.leftovers() == []


async def test_save_load_import(place: Path, layered: str) -> None:
    """At whatever moment a load ends: no spool, no pin, no staged layer, and the same load works at once."""
    async with open_services(place) as services:
        await services.images.pull(layered, PullOptions(), lambda _progress: None)
        archive = bytearray()

        async def keep(data: bytes) -> None:
            archive.extend(data)
            await trio.lowlevel.checkpoint()

        await services.archives.save([layered], SaveOptions(), keep)
        whole = bytes(archive)

        async def stuck(_data: bytes) -> None:
            await trio.sleep_forever()

        for form in (ArchiveFormat.BOTH, ArchiveFormat.DOCKER_ARCHIVE):

            async def save(form: ArchiveFormat = form) -> None:
                await services.archives.save([layered], SaveOptions(format=form), stuck)

            assert await cancelled_at(0.05, save)
            assert services.leftovers() == []

        async def load() -> None:
            await sending(whole, lambda feed: services.archives.load(feed, LoadOptions(), lambda _progress: None))

        began = time.monotonic()
        await load()
        seconds = time.monotonic() - began
        caught = 0
        for part in range(1, 9):
            await services.remover.remove(layered, force=True)
            began = time.monotonic()
            if await cancelled_at(seconds * part / 8, load):
                caught += 1
            else:
                seconds = time.monotonic() - began
            assert services.leftovers() == []
            assert list(services.state.ingests.glob("spool-*")) == []
            await load()
        assert caught >= 3, "the load was cancelled under way at least a few times"

        tar = busybox_layer().tar()

        async def bring() -> None:
            options = ImportOptions(name="cancelled")
            await sending(tar, lambda feed: services.archives.import_filesystem(feed, options, lambda _progress: None))

        for hundredths in range(1, 5):
            await cancelled_at(hundredths / 100, bring)
            assert services.leftovers() == []
            assert list(services.state.ingests.glob("spool-*")) == []
        await bring()


async def sending(data: bytes, use: Callable[[Feed], Awaitable[object]]) -> None:
    """Send something to a feed while it is used."""
    feed = Feed()

    async def send() -> None:
        for at in range(0, len(data), 256 << 10):
            await feed.write(data[at : at + (256 << 10)])
        await feed.done()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await use(feed)
