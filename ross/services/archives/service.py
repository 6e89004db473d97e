"""Saving images as an archive, and getting images out of one; root filesystems as images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from ross.errors import InvalidArgument, NotFound
from ross.linux.archive.inflate import LayerBytes
from ross.linux.archive.limits import ArchiveLimits
from ross.linux.archive.stream import NextChunk, refuse_foreign
from ross.model.archives import ImportOptions, LoadedImage, LoadOptions, SaveOptions
from ross.model.images import BlobProgress, Platform, PullPhase
from ross.oci import media_types
from ross.oci.archive import layer_type, make_imported_config
from ross.oci.changes import apply_changes
from ross.oci.codec import read_document
from ross.oci.digest import Digest, chain_ids
from ross.oci.image import Descriptor, DocumentPlatform, ImageConfig, Index, Manifest, host_platform, parse_manifest
from ross.oci.reference import Reference
from ross.services.archives.members import Members, read_members
from ross.services.archives.plans import Brought, Plan, assemble, make_plan
from ross.services.archives.saving import Contents, Saved, Write
from ross.services.documents import MAX_INDEX_DEPTH, platform_text
from ross.services.failures import first_error
from ross.services.snapshotter import committed_name
from ross.services.spool import Spooled, open_spool
from ross.services.threads import SenderThreads
from ross.services.unpacker import LayerSource

if TYPE_CHECKING:
    from ross.model.events import ImageAction
    from ross.model.images import ImageInfo
    from ross.services.feed import Feed
    from ross.services.images import Images
    from ross.services.pending import Pending
    from ross.services.pins import Pin, Pins
    from ross.services.snapshotter import Snapshotter
    from ross.services.spool import Spool
    from ross.services.store import ContentStore
    from ross.services.unpacker import Unpacker

Report = Callable[[BlobProgress], None]
_SAVING_THREADS: Final = 8


class Archives:
    """Saves, loads and imports."""

    def __init__(
        self, *, images: Images, store: ContentStore, snapshotter: Snapshotter, unpacker: Unpacker, pins: Pins
    ) -> None:
        self._images = images
        self._store = store
        self._snapshotter = snapshotter
        self._unpacker = unpacker
        self._pins = pins
        self._threads = SenderThreads()
        self._saving = trio.CapacityLimiter(_SAVING_THREADS)

    # -- saving -------------------------------------------------------------------------------------------------------

    async def save(self, names: Sequence[str], options: SaveOptions, write: Write) -> None:
        """Write an archive of images. Their content is held meanwhile.

        Args:
            names: Of the images, which also stand in the archive; one that is given by id has none there.
            options: The form, and the platform.
            write: Takes the archive, piece by piece.

        Raises:
            InvalidArgument: a name is none, or there is none.
            NotFound: there is no such image, or not for this platform.
            Corrupt: content in the store is damaged; what was written is of no use.
        """
        if not names:
            raise InvalidArgument("no image was named")
        with self._pins.hold() as pin:
            saved = [await self._find(name, options.platform, pin) for name in dict.fromkeys(names)]
            contents = Contents.of(saved, options.format, self._store.path)
            await contents.write(write, threads=self._saving)
        for one in saved:
            one.image.publish("save", str(one.reference or ""))

    async def _find(self, name: str, platform: Platform | None, pin: Pin) -> Saved:
        image, reference, target = self._images.resolve(name)
        pin.add(target)
        pin.add(image.digest)
        documents = await self._documents(target, pin)
        images: dict[Digest, tuple[Digest, Manifest, ImageConfig]] = {}
        for digest, (_data, document) in documents.items():
            if isinstance(document, Manifest) and self._is_complete(document):
                config = read_document(
                    await self._store.read(document.config.digest), ImageConfig, what=f"config of {digest.short}"
                )
                images[digest] = (digest, document, config)
        if platform is not None:
            chosen = _for_platform(name, images.values(), platform)
            target, images = chosen[0], {chosen[0]: chosen}
        ours = images.get(image.digest)
        ordered = [ours, *(one for one in images.values() if one is not ours)] if ours is not None else images.values()
        data, document = documents[target]
        return Saved(
            image=image,
            target=Descriptor(media_type=_media_type(document), digest=target, size=len(data)),
            reference=reference,
            documents={
                digest: data
                for digest, (data, document) in documents.items()
                if digest in images or (isinstance(document, Index) and platform is None)
            },
            images=tuple(ordered),
        )

    async def _documents(self, target: Digest, pin: Pin) -> dict[Digest, tuple[bytes, Manifest | Index]]:
        """What a name denotes, and all manifests below it that are here; each is held: an index does not keep what is removed of it."""
        found: dict[Digest, tuple[bytes, Manifest | Index]] = {}
        level = [target]
        for _depth in range(MAX_INDEX_DEPTH):
            below: list[Digest] = []
            for digest in level:
                pin.add(digest)
                if digest in found or (digest != target and self._store.find_manifest(digest) is None):
                    continue
                data = await self._store.read_manifest(digest)
                document = parse_manifest(data, what=f"manifest {digest.short}")
                found[digest] = (data, document)
                below += [one.digest for one in document.manifests] if isinstance(document, Index) else []
            level = below
        return found

    def _is_complete(self, manifest: Manifest) -> bool:
        """It is an image, and all of it is here."""
        parts = (manifest.config, *manifest.layers)
        return manifest.config.media_type in media_types.CONFIGS and all(self._store.find(one.digest) for one in parts)

    # -- loading ------------------------------------------------------------------------------------------------------

    async def load(self, feed: Feed, options: LoadOptions, progress: Report) -> tuple[LoadedImage, ...]:
        """Get the images out of an archive: an OCI layout or Docker's form, as a tar that may be compressed.

        Args:
            feed: The archive; closed at the end.
            options: The platform.
            progress: Told of each layer's progress, from worker threads too.

        Returns:
            The images, with the names that the archive gave them. One without a name is kept by its digest.

        Raises:
            InvalidArgument: it is no archive of images.
            NotFound: it has no image for this platform.
            Corrupt: something is not what it should be. No name is set.
            ResourceExhausted: the disk is full, or a limit was reached.
        """
        wanted = _document_platform(options.platform) if options.platform is not None else None
        try:
            async with open_spool(self._store, purpose="load") as spool:
                members = await self._threads.run(partial(_read_members, spool), feed)
                plan = await trio.to_thread.run_sync(make_plan, members, wanted)
                return await self._take_in(plan, progress, action="load")
        finally:
            feed.close()

    async def _take_in(self, plan: Plan, progress: Report, *, action: ImageAction) -> tuple[LoadedImage, ...]:
        """Bring everything into the store, unpack it, and only then set the names; the disk is behind, as with a pull."""
        images = plan.named()
        with self._pins.hold() as pin, self._images.bringing_in() as pending:
            for brought, _references in images:
                for digest in (*brought.documents, *brought.content, *chain_ids(brought.config.rootfs.diff_ids)):
                    pin.add(digest)
            durable = not await self._announce(pending, [brought for brought, _references in images])
            for brought, _references in images:
                await self._take_in_one(brought, progress, durable=durable)
            return tuple(
                LoadedImage(
                    names=tuple(str(reference) for reference in references),
                    image=self._name(brought, references, pending, action),
                )
                for brought, references in images
            )

    async def _announce(self, pending: Pending | None, images: Sequence[Brought]) -> bool:
        """Say what is to come. False: nobody makes it durable behind us, or it is not worth it, since only documents are new."""
        if pending is None:
            return False
        content = dict.fromkeys(digest for brought in images for digest in brought.content)
        chains = dict.fromkeys(chain for brought in images for chain in chain_ids(brought.config.rootfs.diff_ids))
        blobs = [digest for digest in content if self._store.find(digest) is None]
        snapshots = [name for name in map(committed_name, chains) if self._snapshotter.find(name) is None]
        if blobs or snapshots:
            await pending.announce(blobs=blobs, snapshots=snapshots)
        return pending.announced

    async def _take_in_one(self, brought: Brought, progress: Report, *, durable: bool) -> None:
        manifest = brought.manifest
        for digest, data in brought.documents.items():
            await self._store.write_manifest(digest, data, durable=durable)
        await self._adopt(manifest.config.digest, brought, durable=durable)
        sources = [
            self._source(layer, diff_id, brought, progress, durable=durable)
            for layer, diff_id in zip(manifest.layers, brought.config.rootfs.diff_ids, strict=True)
        ]
        try:
            await self._unpacker.unpack(sources, progress=progress, durable=durable)
        except ExceptionGroup as group:
            raise first_error(group) from None

    def _source(
        self, layer: Descriptor, diff_id: Digest, brought: Brought, progress: Report, *, durable: bool
    ) -> LayerSource:
        async def fetch() -> None:
            await self._adopt(layer.digest, brought, durable=durable)

        progress(BlobProgress(digest=layer.digest, phase=PullPhase.WAITING, current_bytes=0, total_bytes=layer.size))
        return LayerSource(descriptor=layer, diff_id=diff_id, fetch=fetch)

    async def _adopt(self, digest: Digest, brought: Brought, *, durable: bool) -> None:
        content = brought.content[digest]
        if isinstance(content, bytes):
            await self._store.write(digest, content, durable=durable)
        else:
            await self._store.adopt(digest, content.path, content.size_bytes, durable=durable)

    def _name(
        self, brought: Brought, references: Sequence[Reference], pending: Pending | None, action: ImageAction
    ) -> ImageInfo:
        """Let names denote an image that is in the store; without an await, so that all are set or, after a crash, the first."""
        image = self._images.add(
            target=brought.target,
            digest=brought.digest,
            manifest=brought.manifest,
            config=brought.config,
            names=references,
            pending=pending,
            action=action,
        )
        return image.info

    # -- importing ----------------------------------------------------------------------------------------------------

    async def import_filesystem(self, feed: Feed, options: ImportOptions, progress: Report) -> LoadedImage:
        """Make an image with one layer of a tar of a root filesystem.

        Args:
            feed: The tar, which may be compressed; it is kept as it is. Closed at the end.
            options: The name, changes to its config, a message for its history, its platform.
            progress: Told of the layer's progress, from worker threads too.

        Raises:
            InvalidArgument: the name or a change is none; told before anything is read.
            Corrupt: the tar is damaged or hostile. Nothing of it is kept.
            ResourceExhausted: the disk is full, or a limit was reached.
        """
        try:
            reference = _import_name(options.name) if options.name else None
            execution = apply_changes(options.changes)
            async with open_spool(self._store, purpose="import") as spool:
                layer = await self._threads.run(partial(_read_layer, spool), feed)
                diff_id = await trio.to_thread.run_sync(_diff_id, layer)
                data, config = make_imported_config(
                    execution,
                    platform=_platform_fields(options.platform),
                    created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                    comment=options.message or "Imported by ross",
                    diff_id=diff_id,
                )
                plan = Plan()
                brought = assemble(data, config, [layer], what="the imported image")
                plan.add(brought, [reference] if reference is not None else [])
                (loaded,) = await self._take_in(plan, progress, action="import")
                return loaded
        finally:
            feed.close()


def _read_members(spool: Spool, next_chunk: NextChunk) -> Members:
    return read_members(next_chunk, spool, checkpoint=trio.from_thread.check_cancelled)


def _read_layer(spool: Spool, next_chunk: NextChunk) -> Spooled:
    layer = spool.add(iter(next_chunk, b""))
    if not layer.size_bytes:
        raise InvalidArgument("there is nothing in what was to be imported")
    refuse_foreign(layer.head)
    return layer


def _diff_id(layer: Spooled) -> Digest:
    if layer_type(layer.head) == media_types.OCI_LAYER:
        return layer.digest
    with LayerBytes(layer.path, limits=ArchiveLimits()) as source:
        while source.next_chunk():
            trio.from_thread.check_cancelled()
        return Digest("sha256", source.hexdigest())


def _import_name(text: str) -> Reference:
    reference = Reference.parse(text).with_default_tag()
    if reference.digest is not None:
        raise InvalidArgument(
            f"an imported image cannot be called {text!r}: its digest is what it turns out to be",
            hint="give it a name and a tag",
        )
    return reference


def _document_platform(platform: Platform) -> DocumentPlatform:
    return DocumentPlatform(os=platform.os or "linux", architecture=platform.architecture, variant=platform.variant)


def _platform_fields(platform: Platform | None) -> dict[str, str]:
    chosen = _document_platform(platform) if platform is not None else host_platform()
    if chosen.os != "linux":
        raise InvalidArgument(f"an image for {chosen.os} cannot be imported; Ross runs linux images")
    fields = {"os": chosen.os, "architecture": chosen.architecture, "variant": chosen.variant}
    return {key: value for key, value in fields.items() if value}


def _for_platform(
    name: str, images: Iterable[tuple[Digest, Manifest, ImageConfig]], platform: Platform
) -> tuple[Digest, Manifest, ImageConfig]:
    """That of the images which is for a platform."""
    existing = []
    for image in images:
        config = image[2]
        actual = DocumentPlatform(os=config.os, architecture=config.architecture, variant=config.variant)
        if (actual.os, actual.architecture) == (platform.os or "linux", platform.architecture) and (
            platform.variant in {"", actual.variant}
        ):
            return image
        existing.append(platform_text(actual))
    raise NotFound(
        f"{name} is not in the store for {platform}",
        hint=f"it is for {', '.join(sorted(existing))}; to have it: ross pull --platform {platform} {name}",
    )


def _media_type(document: Manifest | Index) -> str:
    if document.media_type:
        return document.media_type
    return media_types.OCI_INDEX if isinstance(document, Index) else media_types.OCI_MANIFEST
