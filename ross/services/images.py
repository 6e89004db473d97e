"""The images of the store: which there are, what their names denote, who uses them, and pulling more.

One image, found by what people type, is :mod:`ross.services.image` and :mod:`ross.services.image_lookup`; taking them away is the business
of :mod:`ross.services.remover`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

import trio
from attrs import frozen

from ross.errors import Corrupt, NotFound, RossError
from ross.model.images import BlobProgress, ImageFilter, ImageInfo, Platform, PullOptions
from ross.oci.digest import Digest
from ross.oci.image import DocumentPlatform, ImageConfig, Manifest, host_platform, parse_config, parse_manifest
from ross.oci.reference import Reference
from ross.registry.notices import Notify, unheard
from ross.services.filters import select_images
from ross.services.image import Image, ImageParts
from ross.services.image_lookup import find_image
from ross.services.publisher import Publisher
from ross.services.settler import Settler
from ross.services.snapshotter import committed_name
from ross.services.tags import TagRecord, Tags, canonical, is_keeper, keeper, nameable
from ross.services.turns import Turns

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from ross.layout import StateLayout
    from ross.model.events import ImageAction
    from ross.registry.referrers import ReferrersClient
    from ross.services.collector import Collector
    from ross.services.events import Events
    from ross.services.pending import Pending
    from ross.services.pins import Pins
    from ross.services.puller import Puller
    from ross.services.pusher import Pusher
    from ross.services.snapshotter import Snapshotter
    from ross.services.store import ContentStore

logger = logging.getLogger(__name__)


@frozen
class ImageUser:
    """Who uses an image."""

    name: str
    """Of a container."""
    runs: bool


Users = Callable[[Digest], Sequence[ImageUser]]
"""Who uses an image, by the digest of its manifest."""

_INGEST_SECONDS: Final = 24 * 3600.0


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
        self.tags = Tags(layout)
        self._store = store
        self._snapshotter = snapshotter
        self._puller = puller
        self._pins = pins
        self._parts = ImageParts(store=store, snapshotter=snapshotter, tags=self.tags, pins=pins, events=events)
        self.publisher = Publisher(
            pusher=pusher,
            referrers=referrers,
            tags=self.tags,
            manifest=lambda digest: self._known[digest].manifest,
        )
        self._settler = Settler(layout=layout, tags=self.tags, store=store, snapshotter=snapshotter)
        self.settle_forever = self._settler.settle_forever
        self._known: dict[Digest, Image] = {}
        self._users: list[Users] = []
        self._turns = Turns()
        collector.add_root(self._named)

    async def recover(self) -> None:
        """Read the names and their images; names whose content is not there are taken away."""
        fresh = await self._settler.recover_content()
        await trio.to_thread.run_sync(self.tags.recover)
        self._settler.recover_names(fresh)
        for reference, record in self.tags.records():
            left: TagRecord | None = record
            for manifest in record.manifests:
                try:
                    await self.load(manifest, target=record.target)
                except RossError as error:
                    logger.warning("the name %s loses the manifest %s: %s", reference, manifest.short, error)
                    left = left.without(manifest) if left is not None else None
            self.tags.change(reference, left)
        await self._store.ingests.expire(older_than_seconds=_INGEST_SECONDS)

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
        image = Image(self._parts, target=target, digest=digest, manifest=document, config=config)
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
        Each name is told of as ``action``. Without a name it is kept until somebody removes it."""
        image = Image(self._parts, target=target, digest=digest, manifest=manifest, config=config)
        self._known[digest] = image
        try:
            for reference in names:
                self._name(reference, self._record(target, digest), pending)
                image.publish(action, str(reference))
            if not names and not self.tags.of(digest):
                self.keep_nameless(target, (digest,), pending)
        finally:
            self.forget_unused()  # also this one, if its name could not be written
        if not names and action != "tag":
            image.publish(action)
        return image

    def pending(self, image: Image) -> Pending | None:
        """What an image waits for until the disk has it; None if that has it for certain."""
        return self.tags.kept_by(image.digest)

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
        with self._pins.hold() as pin, self._settler.bringing_in() as pending:
            async with self._turns.take((reference, platform), progress) as report:
                pulled = await self._puller.pull(
                    reference, platform=platform, pin=pin, progress=report, notify=notify, pending=pending
                )
                digest, target = pulled.manifest_descriptor.digest, pulled.target.digest
                image = Image(self._parts, target=target, digest=digest, manifest=pulled.manifest, config=pulled.config)
                self._known[digest] = image
                try:
                    self._name(reference, self._record(target, digest), pending)
                finally:
                    self.forget_unused()  # also this one, if its name could not be written
        image.publish("pull", str(reference))
        return image

    def _record(self, target: Digest, manifest: Digest) -> TagRecord:
        """What a name denotes now that this manifest of the target is here: the one for this machine, if that is here too."""
        here = dict.fromkeys((manifest, *(one for one in self.tags.manifests_of(target) if one in self._known)))
        ours = host_platform()
        first = next((one for one in here if self._known[one].is_for(ours)), manifest)
        return TagRecord(target=target, manifest=first, others=tuple(one for one in here if one != first))

    def _name(self, reference: Reference, record: TagRecord, pending: Pending | None) -> None:
        """Let a name denote an image. What it denoted before, and no other name does, is kept without one."""
        before = self.tags.find(reference)
        nameless = self.tags.nameless_after({canonical(reference): record})
        if before is not None and nameless:
            self.keep_nameless(before.target, nameless, self.tags.kept_by(nameless[0]))
        self._settler.name(reference, record, pending)
        if not is_keeper(reference):
            self.tags.let_go(record.manifests)

    def keep_nameless(self, target: Digest, manifests: Sequence[Digest], pending: Pending | None = None) -> None:
        """Keep manifests of a target that have no name, until somebody removes them."""
        known = self.tags.find(keeper(target))
        first, *others = dict.fromkeys((*manifests, *(known.manifests if known is not None else ())))
        self._settler.name(keeper(target), TagRecord(target=target, manifest=first, others=tuple(others)), pending)

    # -- naming -------------------------------------------------------------------------------------------------------

    def tag(self, image: Image, name: str) -> None:
        """Let a name denote an image that somebody holds; with the other platforms that its target has here.

        Raises:
            InvalidArgument: the name is none, or has a digest in it.
        """
        reference = nameable(name)
        self._known.setdefault(image.digest, image)
        # Just pulled, it may not be on the disk for certain; then neither is its new name.
        self._name(reference, self._record(image.target, image.digest), self.tags.kept_by(image.digest))
        self.forget_unused()
        image.publish("tag", str(reference))

    def untag(self, name: str, names: Sequence[str]) -> tuple[str, ...]:
        """Take names away from an image, all if ``names`` is empty; nothing is deleted. Returns them.

        Raises:
            NotFound: there is no such image, or one of the names is not its.
            InvalidArgument: a name is none.
        """
        image = self.get(name)
        known = self.tags.of(image.digest)
        doomed = [canonical(Reference.parse(one)) for one in names] or known
        for reference in doomed:
            if reference not in known:
                raise NotFound(f"{reference} is not a name of the image {name}")
        for reference in doomed:
            self.tags.remove(reference)
            image.publish("untag", str(reference))
        self.forget_unused()
        return tuple(str(reference) for reference in doomed)

    # -- looking ------------------------------------------------------------------------------------------------------

    def known(self) -> tuple[Image, ...]:
        """The images that have a name, are kept without one, or are in use."""
        return tuple(self._known.values())

    def list(self, wanted: ImageFilter | None = None) -> tuple[ImageInfo, ...]:
        """The images that have a name, are kept without one, or are in use; the newest first.

        Raises:
            NotFound: the filter names an image that there is none of.
        """
        wanted = wanted or ImageFilter(all=True)
        infos = [
            image.info
            for image in self._known.values()
            if wanted.all or self.tags.denote(image.digest) or not self.tags.of(image.digest)
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
        image, reference = find_image(name, self._known, self.tags)
        if platform is None:
            return image
        record = self.tags.find(reference) if reference is not None else None
        wanted = DocumentPlatform(
            os=platform.os or "linux", architecture=platform.architecture, variant=platform.variant
        )
        for digest in record.manifests if record is not None else (image.digest,):
            if self._known[digest].is_for(wanted):
                return self._known[digest].seen_as(image.target)
        raise NotFound(
            f"the image {name} is not in the store for {platform}",
            hint=f"get it with: ross pull --platform {platform} {name}",
        )

    def resolve(self, name: str) -> tuple[Image, Reference | None, Digest]:
        """As :meth:`get`; also the name by which it was found if it was by a name, and what that denotes.

        Raises:
            NotFound: there is none.
            InvalidArgument: the prefix is that of several, or the name is none.
        """
        image, reference = find_image(name, self._known, self.tags)
        record = self.tags.find(reference) if reference is not None else None
        return image, reference, record.target if record is not None else image.target

    # -- staying ------------------------------------------------------------------------------------------------------

    def keep(self, image: Image) -> None:
        """Know an image although it has no name any more: something is about to use it."""
        self._known[image.digest] = image

    def add_user(self, users: Users) -> None:
        """Ask ``users`` who uses an image, before it is removed and when content is collected."""
        self._users.append(users)

    def used_by(self, digest: Digest) -> tuple[ImageUser, ...]:
        """Who uses an image, by the digest of its manifest."""
        return tuple(user for users in self._users for user in users(digest))

    def forget_unused(self) -> None:
        """Know those no more that have neither a name nor anybody who uses them, and that nothing keeps without one."""
        for digest in tuple(self._known):
            if not self.tags.reach(digest) and not self.used_by(digest):
                self._known.pop(digest).publish("delete")

    def _named(self) -> Iterable[Digest]:
        for _reference, record in self.tags.records():
            yield record.target
            yield from record.manifests
        for image in self._known.values():  # those without a name are in use, and may get one again: for their target
            yield image.target
            yield image.digest
