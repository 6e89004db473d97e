"""The part of an engine that pulls, in this process: registry client, puller, unpacker, store and snapshotter on a root of their own."""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, TypeVar

import trio
from attrs import define, field

from ross.layout import StateLayout
from ross.model.images import BlobProgress
from ross.oci.digest import chain_ids
from ross.oci.image import host_platform
from ross.oci.reference import Reference
from ross.registry.client import RegistryClient
from ross.registry.credentials import CredentialStore
from ross.registry.session import RegistrySession, Timing
from ross.services.pins import Pins
from ross.services.puller import Pulled, Puller
from ross.services.snapshotter import Snapshotter, committed_name
from ross.services.store import ContentStore
from ross.services.unpacker import Unpacker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from ross.linux.archive.limits import ArchiveLimits
    from ross.registry.retry import RetryPolicy
    from ross.services.windows import Splitting

T = TypeVar("T")


@define
class PullingEngine:
    """Pulls, and shows what came of it."""

    layout: StateLayout
    store: ContentStore
    snapshotter: Snapshotter
    puller: Puller
    pins: Pins = field(factory=Pins)
    progress: list[BlobProgress] = field(factory=list)

    async def pull(self, name: str) -> Pulled:
        """Pull by a whole reference."""
        with self.pins.hold() as pin:
            return await self.puller.pull(
                Reference.parse(name), platform=host_platform(), pin=pin, progress=self.progress.append
            )

    async def forget(self, pulled: Pulled) -> None:
        """Remove all of an image, whoever else may use it."""
        for chain in reversed(chain_ids(pulled.config.rootfs.diff_ids)):
            await self.snapshotter.remove(committed_name(chain))
        for digest in {pulled.manifest.config.digest, *(layer.digest for layer in pulled.manifest.layers)}:
            await self.store.remove(digest)
        for digest in {pulled.target.digest, pulled.manifest_descriptor.digest}:
            await self.store.remove_manifest(digest)


@asynccontextmanager
async def pulling_engine(
    root: Path,
    *,
    policy: RetryPolicy | None = None,
    timing: Timing | None = None,
    limits: ArchiveLimits | None = None,
    credentials: Path | None = None,
    splitting: Splitting | None = None,
) -> AsyncIterator[PullingEngine]:
    """An engine that pulls into ``root``, for the length of the block."""
    layout = StateLayout(root=root)
    store, snapshotter = ContentStore(layout), Snapshotter(layout)
    await store.recover()
    await snapshotter.recover()
    found = CredentialStore(credentials or root / "no-credentials.json")
    async with RegistrySession(found, user_agent="test", timing=timing) as session:
        registry = RegistryClient(session, policy=policy)
        unpacker = Unpacker(store=store, snapshotter=snapshotter, limits=limits)
        puller = Puller(registry=registry, store=store, snapshotter=snapshotter, unpacker=unpacker, splitting=splitting)
        yield PullingEngine(layout, store, snapshotter, puller)


class EngineThread:
    """A pulling engine on a Trio loop in a thread, for callers that have no loop: hypothesis, among others."""

    def __init__(self, engine: PullingEngine, token: trio.lowlevel.TrioToken) -> None:
        self.engine = engine
        self._token = token

    def run(self, function: Callable[..., Awaitable[T]], *args: object) -> T:
        return trio.from_thread.run(function, *args, trio_token=self._token)


@contextmanager
def engine_thread(root: Path) -> Iterator[EngineThread]:
    """For the length of the block."""
    ready = threading.Event()
    made: list[EngineThread] = []
    ended: list[trio.Event] = []

    async def serve() -> None:
        async with pulling_engine(root) as engine:
            made.append(EngineThread(engine, trio.lowlevel.current_trio_token()))
            ended.append(trio.Event())
            ready.set()
            await ended[0].wait()

    thread = threading.Thread(target=trio.run, args=(serve,), name="engine")
    thread.start()
    assert ready.wait(60)
    try:
        yield made[0]
    finally:
        trio.from_thread.run_sync(ended[0].set, trio_token=made[0]._token)
        thread.join()
