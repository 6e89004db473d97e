"""One image: what it is made of, how it is described, and what is told and held of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from ross.model.images import History, ImageInfo, Platform
from ross.oci.digest import Digest, chain_ids
from ross.services.events import Events
from ross.services.history import history_of, nanoseconds
from ross.services.pins import Pin, Pins
from ross.services.snapshotter import Snapshotter, committed_name
from ross.services.store import ContentStore
from ross.services.tags import Tags

if TYPE_CHECKING:
    from ross.model.events import ImageAction
    from ross.oci.image import DocumentPlatform, ImageConfig, Manifest


@frozen(kw_only=True)
class ImageParts:
    """What every image needs of the engine."""

    store: ContentStore
    snapshotter: Snapshotter
    tags: Tags
    pins: Pins
    events: Events


class Image:
    """One image: what a reference denotes for one platform, whatever the reference denotes later."""

    def __init__(
        self, parts: ImageParts, *, target: Digest, digest: Digest, manifest: Manifest, config: ImageConfig
    ) -> None:
        self.target = target
        self.digest = digest
        """Of the manifest: what identifies the image."""
        self.manifest = manifest
        self.config = config
        self._parts = parts
        self._exposed_ports = tuple(sorted(config.execution.exposed_ports or ()))
        self._volumes = tuple(sorted(config.execution.volumes or ()))

    def seen_as(self, target: Digest) -> Image:
        """The same image, got as a part of ``target``."""
        if target == self.target:
            return self
        return Image(self._parts, target=target, digest=self.digest, manifest=self.manifest, config=self.config)

    def is_for(self, platform: DocumentPlatform) -> bool:
        """Whether it is what is meant by a platform; one without a variant means any."""
        same = (self.config.os or "linux", self.config.architecture) == (platform.os, platform.architecture)
        return same and (not platform.variant or self.config.variant in {"", platform.variant})

    # -- looking ------------------------------------------------------------------------------------------------------

    @property
    def chain_id(self) -> Digest | None:
        """The committed snapshot that is its root filesystem; None if it has no layer."""
        chains = chain_ids(self.config.rootfs.diff_ids)
        return chains[-1] if chains else None

    @property
    def info(self) -> ImageInfo:
        """The image as it is now."""
        manifest, config = self.manifest, self.config
        execution = config.execution
        return ImageInfo(
            id=manifest.config.digest,
            names=self._names(),
            target=self.target,
            manifest=self.digest,
            platform=Platform(os=config.os, architecture=config.architecture, variant=config.variant),
            created_at=nanoseconds(config.created),
            size_bytes=manifest.config.size + sum(layer.size for layer in manifest.layers),
            unpacked_bytes=sum(self._unpacked_bytes()),
            chain_id=self.chain_id,
            layers=tuple(layer.digest for layer in manifest.layers),
            entrypoint=execution.entrypoint or (),
            command=execution.cmd or (),
            env=execution.env or (),
            working_dir=execution.working_dir,
            user=execution.user,
            stop_signal=execution.stop_signal,
            exposed_ports=self._exposed_ports,
            volumes=self._volumes,
            labels=execution.labels or {},
        )

    @property
    def history(self) -> tuple[History, ...]:
        """How it was made, the last step first."""
        return history_of(self.manifest, self.config, sizes=self._unpacked_bytes(), names=self._names())

    def _names(self) -> tuple[str, ...]:
        return tuple(str(reference) for reference in self._parts.tags.of(self.digest))

    def _unpacked_bytes(self) -> list[int]:
        """Of each layer, bottom first; 0 for one that is not unpacked."""
        chains = [committed_name(chain) for chain in chain_ids(self.config.rootfs.diff_ids)]
        snapshots = [self._parts.snapshotter.find(name) for name in chains]
        return [snapshot.size_bytes if snapshot is not None else 0 for snapshot in snapshots]

    async def read_config(self) -> bytes:
        """Its config, byte for byte, if somebody holds it.

        Raises:
            Corrupt: it is damaged.
        """
        return await self._parts.store.read(self.manifest.config.digest)

    async def read_manifest(self) -> bytes:
        """Its manifest, byte for byte, if somebody holds it.

        Raises:
            Corrupt: it is damaged.
        """
        return await self._parts.store.read_manifest(self.digest)

    # -- being used ---------------------------------------------------------------------------------------------------

    def hold(self) -> Pin:
        """Hold its content against collection until the pin is released."""
        return self._parts.pins.hold(self.target, self.digest)

    def publish(self, action: ImageAction, name: str = "") -> None:
        """Tell that something has happened to it."""
        labels = self.config.execution.labels or {}
        self._parts.events.publish("image", action, subject=str(self.manifest.config.digest), name=name, labels=labels)
