"""From a reference to content in the store and committed snapshots: resolve, choose, fetch what is missing, unpack.

All layers are fetched at the same time, within a bound; each is unpacked while it comes in. The largest begin first, since
the whole pull is as slow as its last layer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

import trio
from attrs import frozen

from ross.errors import Corrupt, InvalidArgument, NotFound
from ross.model import BlobProgress, PullPhase
from ross.oci import media_types
from ross.oci.codec import MAX_DOCUMENT_BYTES
from ross.oci.digest import Digest, chain_ids
from ross.oci.image import Descriptor, DocumentPlatform, ImageConfig, Index, Manifest, parse_config, parse_manifest
from ross.registry.notices import Notify, unheard
from ross.registry.retry import Transient
from ross.services.arrival import Arrival
from ross.services.failures import first_error
from ross.services.snapshotter import committed_name
from ross.services.unpacker import LayerSource

if TYPE_CHECKING:
    from ross.oci.reference import Reference
    from ross.registry.client import RegistryClient, Remote
    from ross.services.pending import Pending
    from ross.services.pins import Pin
    from ross.services.snapshotter import Snapshotter
    from ross.services.store import ContentStore, Ingest
    from ross.services.unpacker import Unpacker

logger = logging.getLogger(__name__)

Report = Callable[[BlobProgress], None]
Tell = Callable[[PullPhase], None]
MAX_INDEX_DEPTH: Final = 4
MAX_INDEX_CHOICES: Final = 8
"""How many indexes in an index are looked into for a platform; an honest one has one or two."""
_VARIANTS: Final = {
    ("arm", "v8"): ("v8", "v7", "v6", "v5", ""),
    ("arm", "v7"): ("v7", "v6", "v5", ""),
    ("arm", "v6"): ("v6", "v5", ""),
}
"""What else a machine of this variant runs, best first."""


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
    ) -> None:
        self._registry = registry
        self._store = store
        self._snapshotter = snapshotter
        self._unpacker = unpacker
        self._downloads = trio.CapacityLimiter(max_downloads)

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
        remote = self._registry.open(reference, notify=notify)
        resolved = await remote.resolve()
        pin.add(resolved.descriptor.digest)
        await self._store.write_manifest(resolved.descriptor.digest, resolved.data)
        descriptor, manifest = await self._choose(remote, resolved.descriptor, resolved.data, platform, pin)
        config = await self._config(remote, manifest, pin)
        _check_platform(reference, config, platform)
        _check_layers(reference, manifest, config)
        chains = chain_ids(config.rootfs.diff_ids)
        for digest in (*chains, *(layer.digest for layer in manifest.layers)):
            pin.add(digest)
        if pending is not None:
            await self._announce(pending, manifest, chains)
        layers = self._sources(remote, manifest, config, progress, durable=pending is None)
        try:
            chain_id = await self._unpacker.unpack(layers, progress=progress, durable=pending is None)
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

    async def _announce(self, pending: Pending, manifest: Manifest, chains: Sequence[Digest]) -> None:
        blobs = dict.fromkeys(layer.digest for layer in manifest.layers if self._store.find(layer.digest) is None)
        snapshots = [name for name in map(committed_name, chains) if self._snapshotter.find(name) is None]
        if blobs or snapshots:
            await pending.announce(blobs=blobs, snapshots=snapshots)

    # -- documents ----------------------------------------------------------------------------------------------------

    async def _choose(
        self,
        remote: Remote,
        descriptor: Descriptor,
        data: bytes,
        platform: DocumentPlatform,
        pin: Pin,
        depth: int = 0,
    ) -> tuple[Descriptor, Manifest]:
        document = parse_manifest(data, content_type=descriptor.media_type or None, what=f"the manifest of {remote}")
        if isinstance(document, Manifest):
            return descriptor, document
        if depth + 1 == MAX_INDEX_DEPTH:
            raise Corrupt(f"{remote} is an index of indexes of indexes, deeper than {MAX_INDEX_DEPTH}")
        choices = platform_choices(document, platform, str(remote))
        problem: NotFound | None = None
        for child in choices[:MAX_INDEX_CHOICES]:
            pin.add(child.digest)
            child_data = await self._manifest(remote, child)
            try:
                return await self._choose(remote, child, child_data, platform, pin, depth + 1)
            except NotFound as error:  # an index in the index, and without this platform: the next one may have it
                if child.platform is not None:
                    raise
                problem = problem or error
        raise problem or NotFound(f"{remote} does not exist for {platform_text(platform)}")

    async def _manifest(self, remote: Remote, descriptor: Descriptor) -> bytes:
        """A manifest or index that another one lists: from the store, from its descriptor, or from the registry."""
        if self._store.find_manifest(descriptor.digest) is not None:
            return await self._store.read_manifest(descriptor.digest)
        data = descriptor.embedded()
        if data is None:
            data = await remote.manifest(descriptor)
        await self._store.write_manifest(descriptor.digest, data)
        return data

    async def _config(self, remote: Remote, manifest: Manifest, pin: Pin) -> ImageConfig:
        descriptor = manifest.config
        if descriptor.media_type not in media_types.CONFIGS:
            kind = manifest.artifact_type or descriptor.media_type
            raise InvalidArgument(
                f"{remote} is not a container image but an artifact of the type {kind[:200]!r}",
                hint="Ross runs images; other artifacts need the tool that made them",
            )
        if descriptor.size > MAX_DOCUMENT_BYTES:
            raise Corrupt(f"the config of {remote} would be {descriptor.size} bytes, which is refused")
        pin.add(descriptor.digest)
        embedded = descriptor.embedded()
        if embedded is not None:
            await self._store.write(descriptor.digest, embedded)
        elif self._store.find(descriptor.digest) is None:
            await self._fetch(remote, descriptor, lambda _progress: None, Arrival())
        data = await self._store.read(descriptor.digest)
        return parse_config(data, what=f"the config of {remote}")

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

            async def fetch() -> None:
                await turns[descriptor.digest].wait()
                following = order[descriptor.digest] + 1
                async with self._downloads:
                    if following < len(largest_first):
                        turns[largest_first[following]].set()
                    await self._fetch(remote, descriptor, progress, arrival, durable=durable)

            _report(progress, descriptor, PullPhase.WAITING, 0)
            return LayerSource(descriptor=descriptor, diff_id=diff_id, fetch=fetch, arrival=arrival)

        return [source(layer, diff_id) for layer, diff_id in zip(manifest.layers, config.rootfs.diff_ids, strict=True)]

    async def _fetch(
        self, remote: Remote, descriptor: Descriptor, progress: Report, arrival: Arrival, *, durable: bool = True
    ) -> None:
        """See that a blob is in the store: from the registry, going on where an earlier attempt stopped."""
        while not await self._ingest(remote, descriptor, progress, arrival, durable=durable):
            logger.warning("%s of %s came out wrong; fetching all of it again", descriptor.digest, remote)
        arrival.finish()

    async def _ingest(
        self, remote: Remote, descriptor: Descriptor, progress: Report, arrival: Arrival, *, durable: bool
    ) -> bool:
        """Take a blob in. False: it came out wrong, but that may be an earlier attempt's fault, or a mirror's."""
        async with self._store.ingest(descriptor.digest, descriptor.size) as ingest:
            if ingest is None:
                _report(progress, descriptor, PullPhase.EXISTS, descriptor.size)
                return True
            resumed = ingest.offset > 0
            arrival.begin(ingest.path, ingest.offset)

            def report(phase: PullPhase) -> None:
                arrival.advance(ingest.offset)
                _report(progress, descriptor, phase, ingest.offset)

            try:
                await self._fill(remote, descriptor, ingest, report)
                report(PullPhase.VERIFYING)
                await ingest.commit(durable=durable)
            except Corrupt:
                ingest.corrupt = True  # nothing of it is kept
                if not remote.distrust(descriptor.digest) and not resumed:
                    raise
                return False
            return True

    async def _fill(self, remote: Remote, descriptor: Descriptor, ingest: Ingest, report: Tell) -> None:
        backoff = remote.backoff()
        while ingest.offset < descriptor.size:
            before = ingest.offset
            try:
                await self._download(remote, descriptor, ingest, report)
            except Transient as error:
                if ingest.offset > before:
                    backoff.progressed()
                await backoff.wait(error, what=f"fetching {descriptor.digest.short} of {remote}")

    async def _download(self, remote: Remote, descriptor: Descriptor, ingest: Ingest, report: Tell) -> None:
        async with remote.blob(descriptor, offset=ingest.offset) as stream:
            if stream.offset != ingest.offset:
                await ingest.restart()
            report(PullPhase.DOWNLOADING)
            async for chunk in stream.chunks():
                await ingest.write(chunk)
                report(PullPhase.DOWNLOADING)


def choose_platform(index: Index, platform: DocumentPlatform, what: str) -> Descriptor:
    """The manifest of an index that suits a machine best; the first of equals.

    Raises:
        NotFound: there is none; the message lists what exists.
    """
    return platform_choices(index, platform, what)[0]


def platform_choices(index: Index, platform: DocumentPlatform, what: str) -> tuple[Descriptor, ...]:
    """The manifest that suits a machine best; or, if none says so, those that do not say what they are for: indexes, mostly.

    Raises:
        NotFound: there is none; the message lists what exists.
    """
    images = [one for one in index.manifests if not one.artifact_type]
    candidates = [
        one
        for one in images
        if one.platform and (one.platform.os, one.platform.architecture) == (platform.os, platform.architecture)
    ]
    for variant in _VARIANTS.get((platform.architecture, platform.variant), (platform.variant, "")):
        for descriptor in candidates:
            if descriptor.platform is not None and descriptor.platform.variant == variant:
                return (descriptor,)
    if not platform.variant and candidates:  # the user named none: the first will do
        return (candidates[0],)
    unsaid = tuple(one for one in images if one.platform is None)
    if unsaid:
        return unsaid
    existing = sorted({
        platform_text(one.platform) for one in index.manifests if one.platform and one.platform.os != "unknown"
    })
    raise NotFound(
        f"{what} does not exist for {platform_text(platform)}",
        hint=f"it exists for {', '.join(existing)}; choose one with --platform" if existing else None,
    )


def platform_text(platform: DocumentPlatform) -> str:
    """As people write it."""
    return "/".join(part for part in (platform.os, platform.architecture, platform.variant) if part)


def _check_platform(reference: Reference, config: ImageConfig, platform: DocumentPlatform) -> None:
    # A manifest that no index led to says only here what it is for; some tools leave it empty.
    if config.os not in {"linux", ""}:
        raise InvalidArgument(f"{reference} is for {config.os}; Ross runs linux images")
    if config.architecture not in {platform.architecture, ""}:
        actual = DocumentPlatform(os=config.os, architecture=config.architecture, variant=config.variant)
        raise NotFound(
            f"{reference} does not exist for {platform_text(platform)}: it is for {platform_text(actual)} only",
            hint=f"to have it all the same: --platform {platform_text(actual)}",
        )


def _check_layers(reference: Reference, manifest: Manifest, config: ImageConfig) -> None:
    if config.rootfs.type != "layers":
        raise Corrupt(
            f"the config of {reference} describes its root filesystem as {config.rootfs.type!r}, not as layers"
        )
    if len(config.rootfs.diff_ids) != len(manifest.layers):
        raise Corrupt(
            f"{reference} has {len(manifest.layers)} layers, but its config describes {len(config.rootfs.diff_ids)}"
        )
    for layer in manifest.layers:
        if layer.media_type not in media_types.LAYERS:
            raise InvalidArgument(f"{reference} has a layer of the type {layer.media_type!r}, which Ross cannot unpack")


def _report(progress: Report, descriptor: Descriptor, phase: PullPhase, current: int) -> None:
    progress(BlobProgress(digest=descriptor.digest, phase=phase, current_bytes=current, total_bytes=descriptor.size))
