"""Making an image of a container: what it has changed becomes a layer on top of those of its image.

The layer is the upper directory of the container's overlay, packed and compressed into a spool in one pass that hashes both forms. It is
taken in and unpacked as any layer is, so that what is run from the image is what was verified. The manifest comes last, then the name:
what a crash leaves before that is a spool, which start-up removes, and content that nobody references, which the next collection does.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import TYPE_CHECKING, Final

import trio
from attrs import evolve, frozen
from isal import isal_zlib

from ross.errors import FailedPrecondition, InvalidArgument, NotFound
from ross.linux.archive.packer import pack
from ross.oci import media_types
from ross.oci.archive import make_manifest
from ross.oci.changes import apply_changes
from ross.oci.codec import parse_json, read_document, write_plain
from ross.oci.digest import Digest, chain_ids
from ross.oci.image import Descriptor, ImageConfig, Manifest, parse_manifest
from ross.oci.reference import Reference
from ross.services.failures import first_error
from ross.services.spool import Spooled, open_spool
from ross.services.unpacker import LayerSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ross.model.containers import ContainerSpec
    from ross.model.files import CommitOptions
    from ross.oci.changes import Config
    from ross.services.image import Image
    from ross.services.images import Images
    from ross.services.pins import Pins
    from ross.services.records import ContainerRecord
    from ross.services.running import RunnableContainer
    from ross.services.snapshotter import Snapshotter
    from ross.services.spool import Spool
    from ross.services.store import ContentStore
    from ross.services.unpacker import Unpacker

_THREADS: Final = 4
_GZIP_LEVEL: Final = 2
_GZIP: Final = 31
"""Window bits with a gzip header, which has neither a name nor a time in it."""
_OF_ITS_BUILDER: Final = ("container", "container_config", "docker_version", "id", "parent", "throwaway")
"""What old engines keep of the container that an image was made of."""


@frozen
class _Layer:
    spooled: Spooled
    diff_id: Digest


class Committer:
    """Makes images of containers."""

    def __init__(
        self, *, images: Images, store: ContentStore, snapshotter: Snapshotter, unpacker: Unpacker, pins: Pins
    ) -> None:
        self._images = images
        self._store = store
        self._snapshotter = snapshotter
        self._unpacker = unpacker
        self._pins = pins
        self._threads = trio.CapacityLimiter(_THREADS)
        """Which pack what may be large: no other work waits for one of these."""

    async def commit(self, container: RunnableContainer, options: CommitOptions) -> Image:
        """Make an image of what a container is now.

        Raises:
            InvalidArgument: the name or a change is none.
            NotFound: it has been removed, or a layer of its image is not in the store.
            FailedPrecondition: its image is damaged, it has files that no layer can hold, or it cannot be paused.
            ResourceExhausted: the disk is full.
        """
        reference = _name(options.name) if options.name else None
        image = container.image
        if image is None:
            raise FailedPrecondition(f"the image of the container {container.record.name} is damaged or gone")
        with self._pins.hold(image.target, image.digest) as pin:
            before = parse_json(await image.read_config(), what="the config of its image")
            execution = apply_changes(options.changes, _execution(before, container.record.spec))
            async with open_spool(self._store, purpose="commit") as spool:
                async with container.freezer.still(pause=options.pause):
                    layer = await self._pack(container, spool)
                config = write_plain(_config(before, execution, container.record, options, layer.diff_id))
                made = _manifest(image.manifest, config, layer.spooled)
                pin.add(Digest.of(made))
                for digest in (Digest.of(config), layer.spooled.digest, *_chains(config)):
                    pin.add(digest)
                await self._take_in(image, layer, config, made)
            return self._name_it(image, config, made, reference)

    async def _pack(self, container: RunnableContainer, spool: Spool) -> _Layer:
        if self._snapshotter.find(container.id) is None:
            raise NotFound(f"the files of the container {container.record.name} are gone", hint="start it first")
        files = self._snapshotter.files(container.id)
        try:
            return await trio.to_thread.run_sync(_pack, files, spool, limiter=self._threads)
        except OSError as error:
            raise FailedPrecondition(
                f"the files of the container {container.record.name} cannot be read: {error.strerror}"
            ) from error

    async def _take_in(self, image: Image, layer: _Layer, config: bytes, manifest: bytes) -> None:
        below = zip(image.manifest.layers, image.config.rootfs.diff_ids, strict=True)
        (top,) = _parsed(manifest).layers[-1:]
        sources = [self._source(descriptor, diff_id) for descriptor, diff_id in below]

        async def fetch() -> None:
            await self._store.adopt(layer.spooled.digest, layer.spooled.path, layer.spooled.size_bytes)

        sources.append(LayerSource(descriptor=top, diff_id=layer.diff_id, fetch=fetch))
        try:
            await self._unpacker.unpack(sources, progress=lambda _progress: None)
        except ExceptionGroup as group:
            raise first_error(group) from None
        await self._store.write(Digest.of(config), config)
        await self._store.write_manifest(Digest.of(manifest), manifest)

    def _source(self, descriptor: Descriptor, diff_id: Digest) -> LayerSource:
        async def fetch() -> None:
            self._store.path(descriptor.digest)  # raises if it is not there
            await trio.lowlevel.checkpoint()

        return LayerSource(descriptor=descriptor, diff_id=diff_id, fetch=fetch)

    def _name_it(self, image: Image, config: bytes, manifest: bytes, reference: Reference | None) -> Image:
        digest = Digest.of(manifest)
        return self._images.add(
            target=digest,
            digest=digest,
            manifest=_parsed(manifest),
            config=_read_config(config),
            names=[reference] if reference is not None else [],
            pending=self._images.pending(image),  # whose layers it has
            action="tag",
        )


# -- the layer ----------------------------------------------------------------------------------------------------------


def _pack(files: Path, spool: Spool) -> _Layer:
    found = hashlib.sha256()
    compressor = isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, _GZIP)

    def pieces(fd: int) -> Iterator[bytes]:
        for chunk in pack(fd, b".", as_layer=True, checkpoint=trio.from_thread.check_cancelled):
            found.update(chunk)
            if packed := compressor.compress(chunk):
                yield packed
        yield compressor.flush()

    fd = os.open(files, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        spooled = spool.add(pieces(fd))
    finally:
        os.close(fd)
    return _Layer(spooled, Digest("sha256", found.hexdigest()))


# -- the documents ------------------------------------------------------------------------------------------------------


def _execution(before: dict[str, object], spec: ContainerSpec) -> Config:
    """The image's, with what the container was created with."""
    found = before.get("config")
    config: Config = dict(found) if isinstance(found, dict) else {}
    if spec.env:
        known = config.get("Env")
        merged: dict[str, str] = {}
        for entry in (*(known if isinstance(known, list) else ()), *spec.env):
            merged[str(entry).partition("=")[0]] = str(entry)
        config["Env"] = [entry for entry in merged.values() if "=" in entry]
    if spec.entrypoint is not None:
        config["Entrypoint"] = list(spec.entrypoint)
        config.pop("Cmd", None)
    if spec.args:
        config["Cmd"] = list(spec.args)
    for key, value in (("WorkingDir", spec.working_dir), ("User", spec.user), ("StopSignal", spec.stop_signal)):
        if value:
            config[key] = value
    if spec.labels:
        labels = config.get("Labels")
        config["Labels"] = {**(labels if isinstance(labels, dict) else {}), **spec.labels}
    return config


def _config(
    before: dict[str, object], execution: Config, record: ContainerRecord, options: CommitOptions, diff_id: Digest
) -> dict[str, object]:
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    step = {
        "created": created,
        "created_by": " ".join(record.command),
        "author": options.author,
        "comment": options.message,
    }
    history, rootfs = before.get("history"), before.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    below, steps = diff_ids if isinstance(diff_ids, list) else [], history if isinstance(history, list) else []
    told = sum(1 for one in steps if isinstance(one, dict) and not one.get("empty_layer"))
    config = {key: value for key, value in before.items() if key not in _OF_ITS_BUILDER}
    config.pop("author", None)
    return {
        **config,
        "created": created,
        **({"author": options.author} if options.author else {}),
        "config": execution,
        "rootfs": {"type": "layers", "diff_ids": [*below, str(diff_id)]},
        # Layers that nobody has told the history of have their place in it all the same: this one is the last.
        "history": [*steps, *({} for _layer in below[told:]), {key: value for key, value in step.items() if value}],
    }


def _manifest(before: Manifest, config: bytes, layer: Spooled) -> bytes:
    return make_manifest(
        Descriptor(media_type=media_types.OCI_CONFIG, digest=Digest.of(config), size=len(config)),
        [
            *(evolve(one, media_type=media_types.as_oci(one.media_type)) for one in before.layers),
            Descriptor(media_type=f"{media_types.OCI_LAYER}+gzip", digest=layer.digest, size=layer.size_bytes),
        ],
    )


def _parsed(manifest: bytes) -> Manifest:
    parsed = parse_manifest(manifest, what="the manifest of the new image")
    assert isinstance(parsed, Manifest)  # noqa: S101 -- we have just written one
    return parsed


def _read_config(config: bytes) -> ImageConfig:
    return read_document(config, ImageConfig, what="the config of the new image")


def _chains(config: bytes) -> tuple[Digest, ...]:
    return chain_ids(_read_config(config).rootfs.diff_ids)


def _name(text: str) -> Reference:
    reference = Reference.parse(text).with_default_tag()
    if reference.digest is not None:
        raise InvalidArgument(
            f"an image of a container cannot be called {text!r}: its digest is what it turns out to be",
            hint="give it a name and a tag",
        )
    return reference
