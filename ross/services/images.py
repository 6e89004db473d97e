"""The images of the store, by name, digest and id: pulling, listing, removing."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

import trio

from ross.errors import Corrupt, FailedPrecondition, InvalidArgument, NotFound, RossError
from ross.model.images import (
    BlobProgress,
    History,
    ImageFilter,
    ImageInfo,
    Platform,
    PullOptions,
    PushedImage,
    PushOptions,
    Referrer,
    RemovedImages,
)
from ross.oci.digest import Digest, chain_ids
from ross.oci.image import DocumentPlatform, ImageConfig, Manifest, host_platform, parse_config, parse_manifest
from ross.oci.reference import Reference
from ross.registry.notices import Notify, unheard
from ross.services.filters import select_images
from ross.services.history import history_of, nanoseconds
from ross.services.publisher import Publisher
from ross.services.settler import Settler
from ross.services.snapshotter import committed_name
from ross.services.tags import TagRecord, Tags, canonical, nameable
from ross.services.turns import Turns

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ross.layout import StateLayout
    from ross.model.events import ImageAction
    from ross.registry.referrers import ReferrersClient
    from ross.services.collector import Collector
    from ross.services.events import Events
    from ross.services.pending import Pending
    from ross.services.pins import Pin, Pins
    from ross.services.puller import Puller
    from ross.services.pusher import Pusher
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

    @property
    def history(self) -> tuple[History, ...]:
        """How it was made, the last step first."""
        return self._images.history(self)

    def seen_as(self, target: Digest) -> Image:
        """The same image, got as a part of ``target``."""
        if target == self.target:
            return self
        return Image(self._images, target=target, digest=self.digest, manifest=self.manifest, config=self.config)

    async def read_config(self) -> bytes:
        """Its config, byte for byte."""
        return await self._images.read_config(self)

    async def read_manifest(self) -> bytes:
        """Its manifest, byte for byte."""
        return await self._images.read_manifest(self)

    def publish(self, action: ImageAction, name: str = "") -> None:
        """Tell that something has happened to it."""
        self._images.publish(self, action, name)

    def tag(self, name: str) -> None:
        """Let a name denote it, as :meth:`Images.tag`."""
        self._images.tag(self, name)

    async def push(
        self,
        name: str,
        options: PushOptions,
        progress: Callable[[BlobProgress], None],
        notify: Notify = unheard,
    ) -> PushedImage:
        """Let a name of a registry denote it, as :meth:`ross.services.publisher.Publisher.push`."""
        return await self._images.publisher.push(self, name, options, progress, notify)

    async def referrers(self, repository: str, artifact_type: str) -> tuple[Referrer, ...]:
        """What its registry has that is about it, as :meth:`ross.services.publisher.Publisher.referrers`."""
        return await self._images.publisher.referrers(self, repository, artifact_type)

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
        pusher: Pusher,
        referrers: ReferrersClient,
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
        self.publisher = Publisher(
            pusher=pusher,
            referrers=referrers,
            tags=self._tags,
            manifest=lambda digest: self._known[digest].manifest,
        )
        self._settler = Settler(layout=layout, tags=self._tags, store=store, snapshotter=snapshotter)
        self.settle_forever = self._settler.settle_forever
        self._known: dict[Digest, Image] = {}
        self._users: list[Users] = []
        self._turns = Turns()
        collector.add_root(self._named)

    async def recover(self) -> None:
        """Read the names and their images; names whose content is not there are taken away."""
        fresh = await self._settler.recover_content()
        await trio.to_thread.run_sync(self._tags.recover)
        self._settler.recover_names(fresh)
        for reference, record in self._tags.records():
            left: TagRecord | None = record
            for manifest in record.manifests:
                try:
                    await self.load(manifest, target=record.target)
                except RossError as error:
                    logger.warning("the name %s loses the manifest %s: %s", reference, manifest.short, error)
                    left = left.without(manifest) if left is not None else None
            self._tags.change(reference, left)
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
        config = parse_config(await self._store.read(document.config.digest), what=f"config of {digest.short}")
        image = Image(self, target=target, digest=digest, manifest=document, config=config)
        top = image.chain_id
        if top is not None and self._snapshotter.find(committed_name(top)) is None:
            raise NotFound(f"the layers of the image {digest.short} are not unpacked")
        self._known[digest] = image
        return image

    def bringing_in(self) -> AbstractContextManager[Pending | None]:
        """What comes in meanwhile is made durable behind it, as :meth:`ross.services.settler.Settler.bringing_in`."""
        return self._settler.bringing_in()

    def add(
        self,
        *,
        target: Digest,
        digest: Digest,
        manifest: Manifest,
        config: ImageConfig,
        names: Sequence[Reference],
        pending: Pending | None,
        action: ImageAction = "load",
    ) -> Image:
        """Know an image that has got into the store, unpacked, and let these names denote it: behind ``pending``, if there is one.
        Each name is told of as ``action``."""
        image = Image(self, target=target, digest=digest, manifest=manifest, config=config)
        self._known[digest] = image
        for reference in names:
            self._settler.name(reference, self._record(target, digest), pending)
            image.publish(action, str(reference))
        self._forget_unused()
        return image

    def pending(self, image: Image) -> Pending | None:
        """What an image waits for until the disk has it; None if that has it for certain."""
        return self._tags.kept_by(image.digest)

    def keep(self, image: Image) -> None:
        """Know an image although it has no name any more: something is about to use it."""
        self._known[image.digest] = image

    def add_user(self, users: Users) -> None:
        """Ask ``users`` who uses an image, before it is removed and when content is collected."""
        self._users.append(users)

    # -- pulling ------------------------------------------------------------------------------------------------------

    async def pull(
        self,
        name: str,
        options: PullOptions,
        progress: Callable[[BlobProgress], None],
        notify: Notify = unheard,
    ) -> Image:
        """Fetch and unpack what is missing of an image, and let the name denote it.

        Args:
            name: As people type it.
            options: The platform.
            progress: Told of each layer's progress, from worker threads too.
            notify: Told what the registry has to say beside the image.

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
        with self.pins.hold() as pin, self._settler.bringing_in() as pending:
            async with self._turns.take((reference, platform), progress) as report:
                pulled = await self._puller.pull(
                    reference, platform=platform, pin=pin, progress=report, notify=notify, pending=pending
                )
                digest, target = pulled.manifest_descriptor.digest, pulled.target.digest
                image = Image(self, target=target, digest=digest, manifest=pulled.manifest, config=pulled.config)
                self._known[digest] = image
                self._settler.name(reference, self._record(target, digest), pending)
        self._forget_unused()
        image.publish("pull", str(reference))
        return image

    def _record(self, target: Digest, manifest: Digest) -> TagRecord:
        """What a name denotes now that this manifest of the target is here: the one for this machine, if that is here too."""
        here = dict.fromkeys((manifest, *(one for one in self._tags.manifests_of(target) if one in self._known)))
        ours = host_platform()
        first = next((one for one in here if _is_for(self._known[one].config, ours)), manifest)
        return TagRecord(target=target, manifest=first, others=tuple(one for one in here if one != first))

    # -- naming -------------------------------------------------------------------------------------------------------

    def tag(self, image: Image, name: str) -> None:
        """Let a name denote an image that somebody holds; with the other platforms that its target has here.

        Raises:
            InvalidArgument: the name is none, or has a digest in it.
        """
        reference = nameable(name)
        self._known.setdefault(image.digest, image)
        # Just pulled, it may not be on the disk for certain; then neither is its new name.
        self._settler.name(reference, self._record(image.target, image.digest), self._tags.kept_by(image.digest))
        self._forget_unused()
        image.publish("tag", str(reference))

    def untag(self, name: str, names: Sequence[str]) -> tuple[str, ...]:
        """Take names away from an image, all if ``names`` is empty; nothing is deleted. Returns them.

        Raises:
            NotFound: there is no such image, or one of the names is not its.
            InvalidArgument: a name is none.
        """
        image = self.get(name)
        known = self._tags.of(image.digest)
        doomed = [canonical(Reference.parse(one)) for one in names] or known
        for reference in doomed:
            if reference not in known:
                raise NotFound(f"{reference} is not a name of the image {name}")
        for reference in doomed:
            self._tags.remove(reference)
            image.publish("untag", str(reference))
        self._forget_unused()
        return tuple(str(reference) for reference in doomed)

    # -- looking ------------------------------------------------------------------------------------------------------

    def known(self) -> tuple[Image, ...]:
        """The images that have a name or are in use."""
        return tuple(self._known.values())

    def used_by(self, digest: Digest) -> tuple[str, ...]:
        """Who uses an image, by the digest of its manifest."""
        return self._used_by(digest)

    def references(self, digest: Digest) -> tuple[Reference, ...]:
        """The names of an image, by the digest of its manifest."""
        return self._tags.of(digest)

    def name_files(self) -> tuple[Path, ...]:
        """The records of the names, on the disk."""
        return self._tags.files()

    def list(self, wanted: ImageFilter | None = None) -> tuple[ImageInfo, ...]:
        """The images that have a name or are in use, the newest first.

        Raises:
            NotFound: the filter names an image that there is none of.
        """
        wanted = wanted or ImageFilter(all=True)
        infos = [
            self.describe(image)
            for image in self._known.values()
            if wanted.all or self._tags.denote(image.digest) or not self._tags.of(image.digest)
        ]
        infos.sort(key=lambda info: (-info.created_at, info.names))
        return select_images(infos, wanted, created_at=lambda name: self.get(name).info.created_at)

    def get(self, name: str, platform: Platform | None = None) -> Image:
        """By reference, image id, digest, or a unique prefix of an id or digest.

        Args:
            name: Any of them.
            platform: Which of the platforms that the name has here; if absent, the host's own or the last pulled.

        Raises:
            NotFound: there is none, or none for the platform.
            InvalidArgument: the prefix is that of several, or the name is none.
        """
        image, reference = self._find(name)
        if platform is None:
            return image
        record = self._tags.find(reference) if reference is not None else None
        wanted = DocumentPlatform(
            os=platform.os or "linux", architecture=platform.architecture, variant=platform.variant
        )
        for digest in record.manifests if record is not None else (image.digest,):
            if _is_for(self._known[digest].config, wanted):
                return self._known[digest].seen_as(image.target)
        raise NotFound(
            f"the image {name} is not in the store for {platform}",
            hint=f"get it with: ross pull --platform {platform} {name}",
        )

    async def read_config(self, image: Image) -> bytes:
        """The config of an image that somebody holds, byte for byte.

        Raises:
            Corrupt: it is damaged.
        """
        return await self._store.read(image.manifest.config.digest)

    async def read_manifest(self, image: Image) -> bytes:
        """The manifest of an image that somebody holds, byte for byte.

        Raises:
            Corrupt: it is damaged.
        """
        return await self._store.read_manifest(image.digest)

    def history(self, image: Image) -> tuple[History, ...]:
        """How an image was made, the last step first."""
        chains = [committed_name(chain) for chain in chain_ids(image.config.rootfs.diff_ids)]
        snapshots = [self._snapshotter.find(name) for name in chains]
        sizes = [snapshot.size_bytes if snapshot is not None else 0 for snapshot in snapshots]
        names = [str(reference) for reference in self._tags.of(image.digest)]
        return history_of(image.manifest, image.config, sizes=sizes, names=names)

    def resolve(self, name: str) -> tuple[Image, Reference | None, Digest]:
        """As :meth:`get`; also the name by which it was found if it was by a name, and what that denotes.

        Raises:
            NotFound: there is none.
            InvalidArgument: the prefix is that of several, or the name is none.
        """
        image, reference = self._find(name)
        record = self._tags.find(reference) if reference is not None else None
        return image, reference, record.target if record is not None else image.target

    def _find(self, name: str) -> tuple[Image, Reference | None]:
        """The image, and the name by which it was found if it was by a name."""
        problem: RossError | None = None
        try:
            reference = canonical(Reference.parse(name))
        except InvalidArgument as error:
            problem = error
        else:
            record = self._tags.find(reference)
            if record is not None:
                return self._known[record.manifest].seen_as(record.target), reference
            for image in self._in_order():  # a name by digest, pulled by tag
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
        own = [
            image
            for image in self._known.values()
            if any(digest.encoded.startswith(prefix) for digest in (image.manifest.config.digest, image.digest))
        ]
        targets = {image.target: image for image in reversed(self._in_order())}
        return own or [image for target, image in targets.items() if target.encoded.startswith(prefix)]

    def _in_order(self) -> Sequence[Image]:
        """All of them, those that a name denotes before those that it has for other platforms."""
        return sorted(self._known.values(), key=lambda image: not self._tags.denote(image.digest))

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
            created_at=nanoseconds(config.created),
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
        if reference is None and len(names) > 1 and not force:
            listed = ", ".join(known.familiar for known in names)
            raise FailedPrecondition(
                f"the image {name} has several names: {listed}",
                hint="remove it by each name, or all at once with --force",
            )
        changes: dict[Reference, TagRecord | None] = {}
        changes.update({reference: None} if reference is not None else self._tags.without(image.digest))
        nameless = self._tags.nameless_after(changes) if changes else (image.digest,)
        users = [user for digest in nameless for user in self._used_by(digest)]
        if users and not force:
            raise FailedPrecondition(
                f"the image {name} is in use by the container {', '.join(users)}",
                hint=f"remove it first: ross rm {users[0]}",
            )
        with self._store.space.room_to_remove():
            for known, record in changes.items():
                self._tags.change(known, record)
                if record is None:
                    image.publish("untag", str(known))
        self._forget_unused()
        dropped, freed = await self._drop(nameless)
        removed = await self._collector.collect()
        return RemovedImages(
            untagged=tuple(str(known) for known, record in changes.items() if record is None),
            deleted=dropped + removed.deleted,
            freed_bytes=freed + removed.freed_bytes,
        )

    async def _drop(self, manifests: Iterable[Digest]) -> tuple[tuple[Digest, ...], int]:
        """Remove manifests that an index would keep although nobody wants their platform any more."""
        dropped, freed = [], 0
        for digest in manifests:
            if digest not in self._collector.roots() and self._store.find_manifest(digest) is not None:
                freed += await self._store.remove_manifest(digest)
                dropped.append(digest)
        return tuple(dropped), freed

    async def prune(self, unwanted: Callable[[ImageInfo], bool]) -> RemovedImages:
        """Remove the images that are unwanted and that nobody uses, then what nothing references, and what is left of downloads."""
        doomed = [image for image in self.known() if not self._used_by(image.digest) and unwanted(image.info)]
        untagged: list[str] = []
        with self._store.space.room_to_remove():
            for image in doomed:
                for known, record in self._tags.without(image.digest).items():
                    self._tags.change(known, record)
                    if record is None:
                        untagged.append(str(known))
                        image.publish("untag", str(known))
        self._forget_unused()
        dropped, freed = await self._drop(image.digest for image in doomed)
        removed = await self.collect()
        return RemovedImages(
            untagged=tuple(untagged), deleted=dropped + removed.deleted, freed_bytes=freed + removed.freed_bytes
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
                self._known.pop(digest).publish("delete")

    def publish(self, image: Image, action: ImageAction, name: str = "") -> None:
        """Tell that something has happened to an image."""
        labels = image.config.execution.labels or {}
        self._events.publish("image", action, subject=str(image.manifest.config.digest), name=name, labels=labels)

    def _used_by(self, digest: Digest) -> tuple[str, ...]:
        return tuple(user for users in self._users for user in users(digest))

    def _named(self) -> Iterable[Digest]:
        for _reference, record in self._tags.records():
            yield record.target
            yield from record.manifests
        for image in self._known.values():  # those without a name are in use
            yield image.digest


def _is_for(config: ImageConfig, platform: DocumentPlatform) -> bool:
    same = (config.os or "linux", config.architecture) == (platform.os, platform.architecture)
    return same and (not platform.variant or config.variant in {"", platform.variant})
