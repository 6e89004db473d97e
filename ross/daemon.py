"""The composition root: settings in, a tree of services out, a socket served until somebody asks to stop.

The only module that knows every service. Order of start (each ready before the next), ended in reverse:

    events -> store -> snapshotter -> registry -> images -> containers (a shim task per container) -> listener
"""

from __future__ import annotations

import faulthandler
import logging
import os
import resource
import signal
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from ross.capabilities.listener import run_listener
from ross.errors import FailedPrecondition, RossError
from ross.layout import RuntimeLayout, StateLayout
from ross.linux.lockfile import LockHeldError, hold_lock
from ross.linux.notify import notify
from ross.linux.process import run, which
from ross.linux.syscalls import keep_memory_private
from ross.logs import configure_logging
from ross.nursery.tree import ServiceFailed, open_service_tree
from ross.registry.client import RegistryClient
from ross.registry.credentials import CredentialStore
from ross.registry.push import RegistryPusher
from ross.registry.referrers import ReferrersClient
from ross.registry.session import RegistrySession
from ross.services.archives.service import Archives
from ross.services.checker import Checker
from ross.services.collector import Collector
from ross.services.commit import Committer
from ross.services.containers import Containers
from ross.services.content import Content
from ross.services.engine import VERSION, Engine, Programs
from ross.services.epochs import begin_epoch, end_epoch
from ross.services.events import Events
from ross.services.images import Images
from ross.services.pins import Pins
from ross.services.pruner import Pruner
from ross.services.puller import Puller
from ross.services.pusher import Pusher
from ross.services.registries import Registries
from ross.services.remover import Remover
from ross.services.root_format import see_format
from ross.services.run_owner import own_run_directory
from ross.services.snapshotter import Snapshotter
from ross.services.space import DiskSpace
from ross.services.storage import Storage
from ross.services.store import ContentStore
from ross.services.unpacker import Unpacker
from ross.services.usage import Usage
from ross.services.windows import Splitting
from ross.shim.groups import Groups, make_groups
from ross.shim.monitor import Monitor
from ross.shim.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ross.nursery.tree import ServiceTree
    from ross.settings import Settings

logger = logging.getLogger(__name__)


def main(settings: Settings) -> int:
    """Run the daemon until it is asked to stop.

    Returns:
        The exit code: 0 after an orderly shutdown, 1 if it could not start or a service failed.
    """
    configure_logging(level=settings.log_level, form=settings.log_format)
    try:
        trio.run(run_daemon, settings, strict_exception_groups=True)
    except RossError as error:
        sys.stderr.write(f"error: {error}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        return 1
    except ServiceFailed:
        return 1  # the tree has logged it
    return 0


async def run_daemon(settings: Settings) -> None:
    """Serve until a signal or a client asks to stop.

    Raises:
        FailedPrecondition: another daemon uses the root, a directory cannot be made, a program is missing.
        ServiceFailed: a service ended by itself.
    """
    # Without links on the way: the kernel's lists of mounts have none, and the runtime refuses a root filesystem that is behind one.
    state, runtime = StateLayout(root=settings.root.resolve()), RuntimeLayout(run=settings.run.resolve())
    _prepare_process()
    _make_directories(state, runtime)
    with (
        _only_daemon(state.lock, what=f"the root {state.root}"),
        _only_daemon(runtime.lock, what=f"the run directory {runtime.run}"),
    ):
        see_format(state)
        own_run_directory(state, runtime)
        async with open_service_tree() as tree:
            with trio.CancelScope() as serving:
                await tree.start("signals", _watch_signals, serving.cancel)
                await _start_services(tree, settings, state, runtime, serving.cancel)
                logger.info("ross %s serves %s, root %s", VERSION, settings.socket, settings.root)
                notify("READY=1", f"STATUS=serving {settings.socket}")
                await trio.sleep_forever()
            notify("STOPPING=1")
            logger.info("shutting down; containers keep running")


async def _start_services(
    tree: ServiceTree, settings: Settings, state: StateLayout, runtime: RuntimeLayout, request_stop: Callable[[], None]
) -> None:
    pins, credentials = Pins(), CredentialStore()
    programs, groups = await _find_programs(settings), make_groups(settings.cgroup_manager)
    events = await tree.start("events", _run_events, state, settings)
    store = await tree.start("store", _run_store, state, settings)
    snapshotter = await tree.start("snapshotter", _run_snapshotter, state)
    registry = await tree.start("registry", _run_registry, settings, credentials)
    unpacker = Unpacker(store=store, snapshotter=snapshotter)
    puller = _make_puller(settings, registry, store, snapshotter, unpacker)
    collector = Collector(store=store, snapshotter=snapshotter, pins=pins)
    content = Content(store=store, collector=collector, pins=pins)
    images = Images(
        layout=state,
        store=store,
        snapshotter=snapshotter,
        puller=puller,
        pusher=Pusher(registry=RegistryPusher(registry), store=store),
        referrers=ReferrersClient(registry),
        pins=pins,
        collector=collector,
        events=events,
    )
    await tree.start("images", _run_images, images)
    archives = Archives(images=images, store=store, snapshotter=snapshotter, unpacker=unpacker, pins=pins)
    committer = Committer(images=images, store=store, snapshotter=snapshotter, unpacker=unpacker, pins=pins)
    parts = {"committer": committer, "layout": state, "images": images, "snapshotter": snapshotter, "events": events}
    containers = await tree.start("containers", _run_containers, parts, programs, runtime, groups)
    usage = Usage(layout=state, store=store, snapshotter=snapshotter, images=images, containers=containers)
    checker = Checker(
        layout=state,
        store=store,
        snapshotter=snapshotter,
        unpacker=unpacker,
        puller=puller,
        collector=collector,
        images=images,
        containers=containers,
        usage=usage,
    )
    remover = Remover(images=images, store=store, collector=collector)
    pruner = Pruner(remover=remover, containers=containers, usage=usage, events=events)
    storage = Storage(usage=usage, checker=checker, pruner=pruner)
    engine = Engine(
        settings=settings,
        programs=programs,
        images=images,
        remover=remover,
        archives=archives,
        containers=containers,
        registries=Registries(session=registry, credentials=credentials, events=events),
        snapshotter=snapshotter,
        storage=storage,
        content=content,
        events=events,
        request_stop=request_stop,
    )
    await tree.start("listener", run_listener, settings, engine)


def _make_puller(
    settings: Settings, registry: RegistrySession, store: ContentStore, snapshotter: Snapshotter, unpacker: Unpacker
) -> Puller:
    return Puller(
        registry=RegistryClient(registry),
        store=store,
        snapshotter=snapshotter,
        unpacker=unpacker,
        max_downloads=settings.max_downloads,
        max_bandwidth=settings.max_bandwidth,
        splitting=Splitting(connections=settings.max_connections_per_blob),
    )


async def _run_events(layout: StateLayout, settings: Settings, *, task_status: trio.TaskStatus[Events]) -> None:
    epoch = begin_epoch(layout)
    events = Events(epoch=epoch, kept=settings.kept_events)
    try:
        task_status.started(events)
        await trio.sleep_forever()
    finally:
        end_epoch(layout, epoch, last=events.count)


async def _run_store(layout: StateLayout, settings: Settings, *, task_status: trio.TaskStatus[ContentStore]) -> None:
    store = ContentStore(layout, space=DiskSpace(layout, floor_bytes=settings.disk_floor))
    await store.recover()
    task_status.started(store)
    await trio.sleep_forever()


async def _run_snapshotter(layout: StateLayout, *, task_status: trio.TaskStatus[Snapshotter]) -> None:
    snapshotter = Snapshotter(layout)
    await snapshotter.recover()
    await snapshotter.see_init_layer()
    task_status.started(snapshotter)
    await trio.sleep_forever()


async def _run_registry(
    settings: Settings, credentials: CredentialStore, *, task_status: trio.TaskStatus[RegistrySession]
) -> None:
    agent = f"ross/{VERSION}"
    async with RegistrySession(credentials, user_agent=agent, certs_dir=settings.certs_dir) as session:
        task_status.started(session)
        await trio.sleep_forever()


async def _run_images(images: Images, *, task_status: trio.TaskStatus[None]) -> None:
    await images.recover()
    task_status.started()
    await images.settle_forever()


async def _run_containers(
    parts: Mapping[str, Any],
    programs: Programs,
    runtime: RuntimeLayout,
    groups: Groups,
    *,
    task_status: trio.TaskStatus[Containers],
) -> None:
    async with trio.open_nursery() as nursery:
        oci_runtime = Runtime(Path(programs.runtime), runtime.runtime_root)
        monitor = Monitor(Path(programs.monitor), oci_runtime, runtime, systemd_groups=groups.by_systemd)
        containers = Containers(
            **parts, runtime_layout=runtime, runtime=oci_runtime, monitor=monitor, nursery=nursery, groups=groups
        )
        await containers.recover()
        task_status.started(containers)
        await containers.watch_memory()


async def _watch_signals(request_stop: Callable[[], None], *, task_status: trio.TaskStatus[None]) -> None:
    """SIGTERM and SIGINT: the first asks for an orderly end, the second ends the process at once. SIGHUP asks for nothing that there is.

    Who sends that, as to other daemons, wants no end; and for systemd one by SIGHUP is clean, so nobody would start it again.
    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        asked = False
        async for number in signals:
            if number == signal.SIGHUP:
                logger.info("SIGHUP: settings are read at the start only")
                continue
            if asked:
                logger.warning("%s again: ending at once", signal.Signals(number).name)
                os._exit(128 + number)
            asked = True
            logger.info("%s: shutting down", signal.Signals(number).name)
            request_stop()


def _prepare_process() -> None:
    faulthandler.enable()  # a crash in a library's machine code says in the log where it was
    faulthandler.register(signal.SIGUSR1)  # it says where each thread is, also of a daemon that answers nobody
    keep_memory_private()  # credentials and tokens are in it
    os.umask(0o022)
    # A daemon of many containers needs many descriptors; the soft limit is there for programs that use select(2).
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _make_directories(state: StateLayout, runtime: RuntimeLayout) -> None:
    private = (state.root, runtime.runtime_root, runtime.exits, runtime.monitors, runtime.execs)
    try:
        runtime.run.mkdir(mode=0o711, parents=True, exist_ok=True)
        runtime.run.chmod(0o711)
        for path in private:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(0o700)
    except OSError as error:
        raise FailedPrecondition(
            f"the directory {error.filename} cannot be made or used: {error.strerror}",
            hint="run the daemon as root, or give it directories of its own with --root and --run",
        ) from None


@contextmanager
def _only_daemon(lock: Path, *, what: str) -> Iterator[None]:
    with ExitStack() as stack:
        try:
            stack.enter_context(hold_lock(lock))
        except LockHeldError as error:
            holder = f"process {error.pid}" if error.pid else "another process"
            raise FailedPrecondition(
                f"{what} is in use by another daemon, {holder}",
                hint=f"stop it first (kill {error.pid or 'PID'}), or choose another --root, --run and --socket",
            ) from None
        except OSError as error:
            raise FailedPrecondition(
                f"{lock} cannot be opened, which keeps others from {what}: {error.strerror}",
                hint="it is to be a file, and is made where there is none: see what is there, and remove it",
            ) from None
        yield


async def _find_programs(settings: Settings) -> Programs:
    runtime = _require(settings.runtime, "the OCI runtime", "apt install runc, or name another with --runtime")
    monitor = _require("conmon", "the container monitor", "apt install conmon")
    return Programs(
        runtime=str(runtime),
        runtime_version=await _version_of(runtime),
        monitor=str(monitor),
        monitor_version=await _version_of(monitor),
    )


def _require(name: str, what: str, hint: str) -> Path:
    path = which(name)
    if path is None:
        raise FailedPrecondition(f"{what} {name!r} is not installed", hint=hint)
    return path


async def _version_of(program: Path) -> str:
    """The first line that it prints, without its own name: ``runc version 1.1.5`` becomes ``1.1.5``."""
    done = await run([str(program), "--version"])
    first = done.stdout.decode(errors="replace").partition("\n")[0].strip()
    if done.returncode != 0 or not first:
        raise FailedPrecondition(f"{program} --version failed with exit code {done.returncode}")
    return first.removeprefix(f"{program.name} version ")
