"""The images of the store, by name, digest and id: pulling, listing, removing."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Final

import trio

from ross.errors import Corrupt, FailedPrecondition, InvalidArgument, NotFound, RossError
from ross.model import BlobProgress, ImageInfo, Platform, PullOptions, RemovedImages
from ross.oci.codec import read_document
from ross.oci.digest import Digest, chain_ids
from ross.oci.image import DocumentPlatform, ImageConfig, Manifest, host_platform, parse_manifest
from ross.oci.reference import Reference
from ross.services.snapshotter import committed_name
from ross.services.tags import TagRecord, Tags

if TYPE_CHECKING:
    from ross.layout import StateLayout
    from ross.services.collector import Collector
    from ross.services.events import Events
    from ross.services.pins import Pin, Pins
    from ross.services.puller import Puller
    from ross.services.snapshotter import Snapshotter
    from ross.services.store import ContentStore

logger = logging.getLogger(__name__)

Users = Callable[[Digest], Sequence[str]]
"""Who uses an image, by the digest of its manifest: names for messages."""

_PREFIX: Final = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})\Z")
_INGEST_SECONDS: Final = 24 * 3600.0


class Image:
    """One image: what a reference denotes for one platform, whatever the reference denotes later."""

    def __init__(
        self, images: Images, *, target: Digest, digest: Digest, manifest: Manifest, config: ImageConfig
    ) -> None:
        self.target = target
        self.digest = digest
        """Of the manifest: what identifies the image."""
        self.manifest = manifest
        self.config = config
        self._images = images

    @property
    def chain_id(self) -> Digest | None:
        """The committed snapshot that is its root filesystem; None if it has no layer."""
        chains = chain_ids(self.config.rootfs.diff_ids)
        return chains[-1] if chains else None

    @property
    def info(self) -> ImageInfo:
        """The image as it is now."""
        return self._images.describe(self)

    def hold(self) -> Pin:
        """Hold its content against collection until the pin is released."""
        return self._images.pins.hold(self.target, self.digest)


class Images:
    """The images. What exists is known from memory; the disk is read once, at :meth:`recover`."""

    def __init__(
        self,
        *,
        layout: StateLayout,
        store: ContentStore,
        snapshotter: Snapshotter,
        puller: Puller,
        pins: Pins,
        collector: Collector,
        events: Events,
    ) -> None:
        self.pins = pins
        self._store = store
        self._snapshotter = snapshotter
        self._puller = puller
        self._collector = collector
        self._events = events
        self._tags = Tags(layout)
        self._known: dict[Digest, Image] = {}
        self._users: list[Users] = []
        self._pulling: dict[tuple[Reference, DocumentPlatform], trio.Lock] = {}
        collector.add_root(self._named)

    async def recover(self) -> None:
        """Read the names and their images; names whose content is not there are taken away."""
        await trio.to_thread.run_sync(self._tags.recover)
        for reference, record in self._tags.records():
            try:
                await self.load(record.manifest, target=record.target)
            except RossError as error:
                logger.warning("the name %s is taken away: %s", reference, error)
                self._tags.remove(reference)
        await self._store.expire_ingests(older_than_seconds=_INGEST_SECONDS)

    async def load(self, digest: Digest, *, target: Digest) -> Image:
        """The image with this manifest, from the store.

        Raises:
            NotFound: something of it is not there.
            Corrupt: something of it is damaged.
        """
        if digest in self._known:
            return self._known[digest]
        document = parse_manifest(await self._store.read_manifest(digest), what=f"manifest {digest.short}")
        if not isinstance(document, Manifest):
            raise Corrupt(f"the manifest {digest} is an index")
        config = read_document(
            await self._store.read(document.config.digest), ImageConfig, what=f"config of {digest.short}"
        )
        image = Image(self, target=target, digest=digest, manifest=document, config=config)
        top = image.chain_id
        if top is not None and self._snapshotter.find(committed_name(top)) is None:
            raise NotFound(f"the layers of the image {digest.short} are not unpacked")
        self._known[digest] = image
        return image

    def keep(self, image: Image) -> None:
        """Know an image although it has no name any more: something is about to use it."""
        self._known[image.digest] = image

    def add_user(self, users: Users) -> None:
        """Ask ``users`` who uses an image, before it is removed and when content is collected."""
        self._users.append(users)

    # -- pulling ------------------------------------------------------------------------------------------------------

    async def pull(self, name: str, options: PullOptions, progress: Callable[[BlobProgress], None]) -> Image:
        """Fetch and unpack what is missing of an image, and let the name denote it.

        Args:
            name: As people type it.
            options: The platform.
            progress: Told of each layer's progress, from worker threads too.

        Raises:
            InvalidArgument: the name is none.
            RossError: as :meth:`ross.services.puller.Puller.pull`.
        """
        reference = Reference.parse(name).with_default_tag()
        wanted = options.platform
        platform = (
            DocumentPlatform(os=wanted.os or "linux", architecture=wanted.architecture, variant=wanted.variant)
            if wanted is not None
            else host_platform()
        )
        with self.pins.hold() as pin:
            async with self._turn(reference, platform):
                pulled = await self._puller.pull(reference, platform=platform, pin=pin, progress=progress)
                digest = pulled.manifest_descriptor.digest
                image = self._known.get(digest)
                if image is None:
                    image = Image(
                        self, target=pulled.target.digest, digest=digest, manifest=pulled.manifest, config=pulled.config
                    )
                    self._known[digest] = image
                self._tags.set(reference, TagRecord(target=pulled.target.digest, manifest=digest))
        self._forget_unused()
        self._events.publish("image", "pull", subject=str(digest), name=str(reference))
        return image

    @asynccontextmanager
    async def _turn(self, reference: Reference, platform: DocumentPlatform) -> AsyncIterator[None]:
        """Two pulls of one name take turns: the second finds everything there."""
        key = (reference, platform)
        lock = self._pulling.setdefault(key, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                self._pulling.pop(key, None)

    # -- looking ------------------------------------------------------------------------------------------------------

    def list(self) -> tuple[ImageInfo, ...]:
        """All images that have a name or are in use, the newest first."""
        infos = [self.describe(image) for image in self._known.values()]
        return tuple(sorted(infos, key=lambda info: (-info.created_at, info.names)))

    def get(self, name: str) -> Image:
        """By reference, image id, digest, or a unique prefix of an id or digest.

        Raises:
            NotFound: there is none.
            InvalidArgument: the prefix is that of several, or the name is none.
        """
        return self._find(name)[0]

    def _find(self, name: str) -> tuple[Image, Reference | None]:
        """The image, and the name by which it was found if it was by a name."""
        problem: RossError | None = None
        try:
            reference = Reference.parse(name).with_default_tag()
        except InvalidArgument as error:
            problem = error
        else:
            record = self._tags.find(reference)
            if record is not None:
                return self._known[record.manifest], reference
            for image in self._known.values():  # a name by digest, pulled by tag
                if reference.digest in {image.target, image.digest} and any(
                    known.repository == reference.repository for known in self._tags.of(image.digest)
                ):
                    return image, None
        match = _PREFIX.match(name)
        candidates = self._by_prefix(match[1]) if match is not None else ()
        if len(candidates) > 1:
            listed = ", ".join(sorted(candidate.manifest.config.digest.short for candidate in candidates))
            raise InvalidArgument(f"{name!r} is the beginning of several ids: {listed}", hint="type more of it")
        if candidates:
            return candidates[0], None
        if problem is not None and match is None:
            raise problem
        raise NotFound(f"no image {name!r} is in the store", hint=f"get it with: ross pull {name}")

    def _by_prefix(self, prefix: str) -> Sequence[Image]:
        return [
            image
            for image in self._known.values()
            if any(
                digest.encoded.startswith(prefix)
                for digest in (image.manifest.config.digest, image.digest, image.target)
            )
        ]

    def describe(self, image: Image) -> ImageInfo:
        """The image as it is now."""
        manifest, config = image.manifest, image.config
        execution = config.execution
        chains = [committed_name(chain) for chain in chain_ids(config.rootfs.diff_ids)]
        snapshots = [self._snapshotter.find(name) for name in chains]
        return ImageInfo(
            id=manifest.config.digest,
            names=tuple(str(reference) for reference in self._tags.of(image.digest)),
            target=image.target,
            manifest=image.digest,
            platform=Platform(os=config.os, architecture=config.architecture, variant=config.variant),
            created_at=_nanoseconds(config.created),
            size_bytes=manifest.config.size + sum(layer.size for layer in manifest.layers),
            unpacked_bytes=sum(snapshot.size_bytes for snapshot in snapshots if snapshot is not None),
            chain_id=image.chain_id,
            layers=tuple(layer.digest for layer in manifest.layers),
            entrypoint=execution.entrypoint or (),
            command=execution.cmd or (),
            env=execution.env or (),
            working_dir=execution.working_dir,
            user=execution.user,
            stop_signal=execution.stop_signal,
            exposed_ports=tuple(sorted(execution.exposed_ports or ())),
            volumes=tuple(sorted(execution.volumes or ())),
            labels=execution.labels or {},
        )

    # -- removing -----------------------------------------------------------------------------------------------------

    async def remove(self, name: str, *, force: bool) -> RemovedImages:
        """Take a name away; with the last name the image goes, and what nothing else references.

        Raises:
            NotFound: there is no such image.
            FailedPrecondition: a container uses it, or it was named by id and has several names; ``force`` is not given.
        """
        image, reference = self._find(name)
        names = self._tags.of(image.digest)
        doomed = [reference] if reference is not None else list(names)
        if reference is None and len(names) > 1 and not force:
            listed = ", ".join(known.familiar for known in names)
            raise FailedPrecondition(
                f"the image {name} has several names: {listed}",
                hint="remove it by each name, or all at once with --force",
            )
        users = self._used_by(image.digest)
        if users and len(doomed) >= len(names) and not force:
            raise FailedPrecondition(
                f"the image {name} is in use by the container {', '.join(users)}",
                hint=f"remove it first: ross rm {users[0]}",
            )
        for one in doomed:
            self._tags.remove(one)
        self._forget_unused()
        self._events.publish("image", "remove", subject=str(image.digest), name=name)
        removed = await self._collector.collect()
        return RemovedImages(
            untagged=tuple(str(one) for one in doomed), deleted=removed.deleted, freed_bytes=removed.freed_bytes
        )

    async def collect(self) -> RemovedImages:
        """Remove what nothing references, and what was downloaded in part and not gone on with."""
        self._forget_unused()
        removed = await self._collector.collect()
        freed = await self._store.expire_ingests(older_than_seconds=0)
        return RemovedImages(untagged=(), deleted=removed.deleted, freed_bytes=removed.freed_bytes + freed)

    def _forget_unused(self) -> None:
        for digest in tuple(self._known):
            if not self._tags.of(digest) and not self._used_by(digest):
                del self._known[digest]

    def _used_by(self, digest: Digest) -> tuple[str, ...]:
        return tuple(user for users in self._users for user in users(digest))

    def _named(self) -> Iterable[Digest]:
        for _reference, record in self._tags.records():
            yield record.target
            yield record.manifest
        for image in self._known.values():  # those without a name are in use
            yield image.digest


def _nanoseconds(text: str | None) -> int:
    """An RFC 3339 time; 0 where there is none that can be read."""
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1_000_000) * 1000 if text else 0
    except (ValueError, OverflowError):
        return 0
