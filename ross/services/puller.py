"""From a reference to content in the store and committed snapshots: resolve, choose, fetch what is missing, unpack.

All layers are fetched at the same time, within a bound; each is unpacked while it comes in. The largest begin first, since
the whole pull is as slow as its last layer.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING

import trio
from attrs import frozen

from ross.errors import Corrupt
from ross.model.images import BlobProgress, PullPhase
from ross.oci.digest import Digest, chain_ids
from ross.oci.image import Descriptor, DocumentPlatform, ImageConfig, Manifest
from ross.oci.reference import Reference
from ross.registry.notices import Notify, unheard
from ross.registry.retry import Transient
from ross.services.arrival import Arrival
from ross.services.documents import Documents, check_layers, check_platform
from ross.services.failures import first_error
from ross.services.snapshotter import committed_name
from ross.services.throttle import Throttle
from ross.services.unpacker import LayerSource
from ross.services.windows import Splitting, Windows

if TYPE_CHECKING:
    from ross.registry.blobs import BlobStream
    from ross.registry.client import RegistryClient, Remote
    from ross.services.ingest import Ingest
    from ross.services.pending import Pending
    from ross.services.pins import Pin
    from ross.services.snapshotter import Snapshotter
    from ross.services.store import ContentStore
    from ross.services.unpacker import Unpacker

logger = logging.getLogger(__name__)

Report = Callable[[BlobProgress], None]
Tell = Callable[[PullPhase], None]
Place = Callable[[], AbstractAsyncContextManager[None]]
"""One among those that download."""


@frozen(kw_only=True)
class Pulled:
    """An image that is in the store, unpacked."""

    target: Descriptor
    """What the reference denotes: an index, or the manifest itself."""
    manifest_descriptor: Descriptor
    manifest: Manifest
    config: ImageConfig
    chain_id: Digest | None


class Puller:
    """Pulls images."""

    def __init__(
        self,
        *,
        registry: RegistryClient,
        store: ContentStore,
        snapshotter: Snapshotter,
        unpacker: Unpacker,
        max_downloads: int = 6,
        max_bandwidth: int = 0,
        splitting: Splitting | None = None,
    ) -> None:
        """Fetch by at most ``max_downloads`` connections at a time, and ``max_bandwidth`` bytes a second; without a bound if that is 0.

        Each layer has one connection; one that is slow gets more where ``splitting`` says so, while other layers do not need them.
        """
        self._registry = registry
        self._store = store
        self._snapshotter = snapshotter
        self._unpacker = unpacker
        self._downloads = trio.CapacityLimiter(max_downloads)
        self._throttle = Throttle(max_bandwidth)
        self._splitting = splitting or Splitting()

    async def pull(
        self,
        reference: Reference,
        *,
        platform: DocumentPlatform,
        pin: Pin,
        progress: Report,
        notify: Notify = unheard,
        pending: Pending | None = None,
    ) -> Pulled:
        """Fetch and unpack what is missing of an image.

        Args:
            reference: With a tag or a digest.
            platform: For which machine, where there is a choice.
            pin: Gets everything that belongs to the image, before it is looked for or written.
            progress: Told of each layer's progress, from worker threads too.
            notify: Told what the registry has to say beside the image.
            pending: Is told what is to come; the disk is not waited for then. Without it all is durable when this returns.

        Raises:
            NotFound: there is no such image, or none for this platform; the message lists those that exist.
            Unauthenticated, Denied, Unavailable: the registry.
            Corrupt: something is not what it should be. Nothing of it is kept.
            ResourceExhausted: the disk is full, or a limit was reached.
        """
        durable = pending is None
        remote = self._registry.open(reference, notify=notify)
        resolved = await remote.resolve()
        pin.add(resolved.descriptor.digest)
        documents = Documents(self._store, remote, pin, durable=durable)
        await documents.keep(resolved.descriptor.digest, resolved.data)
        descriptor, manifest = await documents.choose(resolved.descriptor, resolved.data, platform)
        config = await self._config(documents, remote, manifest)
        check_platform(reference, config, platform)
        check_layers(reference, manifest, config)
        chains = chain_ids(config.rootfs.diff_ids)
        for digest in (*chains, *(layer.digest for layer in manifest.layers)):
            pin.add(digest)
        self._store.require_room({layer.digest: layer.size for layer in manifest.layers}, what=str(reference))
        if pending is not None:
            await self._announce(pending, manifest, chains, documents)
        layers = self._sources(remote, manifest, config, progress, durable=durable)
        try:
            chain_id = await self._unpacker.unpack(layers, progress=progress, durable=durable)
        except ExceptionGroup as group:
            # Layers fail side by side; whoever pulls is told of one. A group with a cancellation in it is not caught here.
            raise first_error(group) from None
        return Pulled(
            target=resolved.descriptor,
            manifest_descriptor=descriptor,
            manifest=manifest,
            config=config,
            chain_id=chain_id,
        )

    async def _announce(
        self, pending: Pending, manifest: Manifest, chains: Sequence[Digest], documents: Documents
    ) -> None:
        blobs = dict.fromkeys(layer.digest for layer in manifest.layers if self._store.find(layer.digest) is None)
        if documents.brought:  # they came before they could be announced, and are verified when they are read
            blobs[manifest.config.digest] = None
        snapshots = [name for name in map(committed_name, chains) if self._snapshotter.find(name) is None]
        if blobs or snapshots:
            await pending.announce(blobs=blobs, snapshots=snapshots)

    async def fetch_blob(self, reference: Reference, descriptor: Descriptor) -> None:
        """See that a blob is in the store, and on the disk; from where ``reference`` says.

        Raises:
            As :meth:`pull`.
        """
        await self._fetch(self._registry.open(reference), descriptor, lambda _progress: None, Arrival())

    async def fetch_manifest(self, reference: Reference, descriptor: Descriptor) -> None:
        """See that a manifest or index is in the store.

        Raises:
            As :meth:`pull`.
        """
        exact = Reference(reference.host, reference.path, None, descriptor.digest)
        resolved = await self._registry.open(exact).resolve()
        await self._store.write_manifest(descriptor.digest, resolved.data)

    async def _config(self, documents: Documents, remote: Remote, manifest: Manifest) -> ImageConfig:
        async def fetch() -> None:
            await self._fetch(remote, manifest.config, lambda _progress: None, Arrival(), durable=documents.durable)

        return await documents.config(manifest, fetch)

    # -- layers -------------------------------------------------------------------------------------------------------

    def _sources(
        self, remote: Remote, manifest: Manifest, config: ImageConfig, progress: Report, *, durable: bool
    ) -> list[LayerSource]:
        sizes = {descriptor.digest: descriptor.size for descriptor in manifest.layers}
        largest_first = sorted(sizes, key=lambda digest: -sizes[digest])
        turns = {digest: trio.Event() for digest in largest_first}
        order = {digest: index for index, digest in enumerate(largest_first)}
        for digest in largest_first[:1]:
            turns[digest].set()

        def source(descriptor: Descriptor, diff_id: Digest) -> LayerSource:
            arrival = Arrival()

            def go_on() -> None:
                for digest in largest_first[order[descriptor.digest] + 1 :][:1]:
                    turns[digest].set()

            @asynccontextmanager
            async def place() -> AsyncIterator[None]:
                async with self._downloads:
                    go_on()
                    yield

            async def fetch() -> None:
                await turns[descriptor.digest].wait()
                if self._store.ingests.is_busy(descriptor.digest):
                    go_on()  # another pull brings it in, which is waited for without a place
                await self._fetch(remote, descriptor, progress, arrival, durable=durable, place=place)
                go_on()

            _report(progress, descriptor, PullPhase.WAITING, 0)
            return LayerSource(descriptor=descriptor, diff_id=diff_id, fetch=fetch, arrival=arrival)

        return [source(layer, diff_id) for layer, diff_id in zip(manifest.layers, config.rootfs.diff_ids, strict=True)]

    async def _fetch(
        self,
        remote: Remote,
        descriptor: Descriptor,
        progress: Report,
        arrival: Arrival,
        *,
        durable: bool = True,
        place: Place = nullcontext,
    ) -> None:
        """See that a blob is in the store: from the registry, going on where an earlier attempt stopped.

        It has a ``place`` from when it is its turn to take the blob in, which is when it begins to arrive.
        """
        windows = Windows(
            remote,
            descriptor,
            splitting=self._splitting,
            places=self._downloads,
            throttle=self._throttle,
            space=self._store.space,
        )
        while not await self._ingest(remote, descriptor, progress, arrival, windows, durable=durable, place=place):
            logger.warning("%s of %s came out wrong; fetching all of it again", descriptor.digest, remote)
        arrival.finish()

    async def _ingest(
        self,
        remote: Remote,
        descriptor: Descriptor,
        progress: Report,
        arrival: Arrival,
        windows: Windows,
        *,
        durable: bool,
        place: Place,
    ) -> bool:
        """Take a blob in. False: it came out wrong, but that may be an earlier attempt's fault, a mirror's, or that of windows."""
        async with self._store.ingest(descriptor.digest, descriptor.size) as ingest:
            if ingest is None:
                _report(progress, descriptor, PullPhase.EXISTS, descriptor.size)
                return True
            resumed = ingest.offset > 0

            def report(phase: PullPhase) -> None:
                arrival.advance(ingest.offset)
                _report(progress, descriptor, phase, ingest.offset + windows.held_bytes)

            try:
                async with place():
                    arrival.begin(ingest.path, ingest.offset)
                    async with windows.open(ingest, partial(report, PullPhase.DOWNLOADING)):
                        await self._fill(remote, descriptor, ingest, report, windows)
                    report(PullPhase.VERIFYING)
                    await ingest.commit(durable=durable)
            except Corrupt:
                if not ingest.corrupt:
                    raise  # an answer that is none; what came before it is as good as it was
                by_windows, windows.used = windows.used, False
                windows.give_up()
                if not remote.distrust(descriptor.digest) and not resumed and not by_windows:
                    raise
                return False
            return True

    async def _fill(
        self, remote: Remote, descriptor: Descriptor, ingest: Ingest, report: Tell, windows: Windows
    ) -> None:
        backoff, before = remote.backoff(), ingest.offset
        while ingest.offset < descriptor.size:
            try:
                await self._download(remote, descriptor, ingest, report, windows)
            except Transient as error:
                if ingest.offset > before:
                    backoff.progressed()
                before = ingest.offset
                await backoff.wait(error, what=f"fetching {descriptor.digest.short} of {remote}")
            await windows.drain()

    async def _download(
        self, remote: Remote, descriptor: Descriptor, ingest: Ingest, report: Tell, windows: Windows
    ) -> None:
        async with remote.blob(descriptor, offset=ingest.offset, end=windows.begin) as stream:
            if stream.offset != ingest.offset:
                await windows.forget()
                await ingest.restart()
            report(PullPhase.DOWNLOADING)
            try:
                await self._take_in(stream, ingest, report, windows)
            except Corrupt:
                ingest.corrupt = True  # nothing of it is kept
                raise

    async def _take_in(self, stream: BlobStream, ingest: Ingest, report: Tell, windows: Windows) -> None:
        windows.waits()
        async for chunk in stream.chunks():
            mine = windows.came(chunk)
            await ingest.write(mine)
            windows.written(mine)
            report(PullPhase.DOWNLOADING)
            if windows.relieved or len(mine) < len(chunk):  # the window may have failed meanwhile
                return
            await self._throttle.take(len(chunk))
            windows.waits()


def _report(progress: Report, descriptor: Descriptor, phase: PullPhase, current: int) -> None:
    progress(BlobProgress(digest=descriptor.digest, phase=phase, current_bytes=current, total_bytes=descriptor.size))
