"""The documents of a pull: from an index to the manifest that suits a machine, and its config."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from ross.errors import Corrupt, InvalidArgument, NotFound
from ross.oci import media_types
from ross.oci.codec import MAX_DOCUMENT_BYTES
from ross.oci.image import Descriptor, DocumentPlatform, ImageConfig, Index, Manifest, parse_config, parse_manifest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ross.oci.digest import Digest
    from ross.oci.reference import Reference
    from ross.registry.client import Remote
    from ross.services.pins import Pin
    from ross.services.store import ContentStore

logger = logging.getLogger(__name__)

MAX_INDEX_DEPTH: Final = 4
MAX_INDEX_CHOICES: Final = 8
"""How many indexes in an index are looked into for a platform; an honest one has one or two."""
_VARIANTS: Final = {
    ("arm", "v8"): ("v8", "v7", "v6", "v5", ""),
    ("arm", "v7"): ("v7", "v6", "v5", ""),
    ("arm", "v6"): ("v6", "v5", ""),
}
"""What else a machine of this variant runs, best first."""


class Documents:
    """The manifests and the config of one pull. What the store has of them is verified, and fetched again if it is torn."""

    def __init__(self, store: ContentStore, remote: Remote, pin: Pin, *, durable: bool) -> None:
        self._store = store
        self._remote = remote
        self._pin = pin
        self.durable = durable
        self.brought = False
        """Something that the store has not had."""

    async def keep(self, digest: Digest, data: bytes) -> None:
        """Have a manifest or index in the store.

        Raises:
            Corrupt: it is not what its digest promises.
        """
        self.brought |= self._store.find_manifest(digest) is None
        await self._store.write_manifest(digest, data, durable=self.durable)

    async def choose(
        self, descriptor: Descriptor, data: bytes, platform: DocumentPlatform, depth: int = 0
    ) -> tuple[Descriptor, Manifest]:
        """The manifest for a platform, of an index or of indexes in it.

        Raises:
            NotFound: there is none; the message lists what exists.
            Corrupt: a document is not what it should be.
        """
        remote = self._remote
        document = parse_manifest(data, content_type=descriptor.media_type or None, what=f"the manifest of {remote}")
        if isinstance(document, Manifest):
            return descriptor, document
        if depth + 1 == MAX_INDEX_DEPTH:
            raise Corrupt(f"{remote} is an index of indexes of indexes, deeper than {MAX_INDEX_DEPTH}")
        choices = platform_choices(document, platform, str(remote))
        problem: NotFound | None = None
        for child in choices[:MAX_INDEX_CHOICES]:
            self._pin.add(child.digest)
            child_data = await self._manifest(child)
            try:
                return await self.choose(child, child_data, platform, depth + 1)
            except NotFound as error:  # an index in the index, and without this platform: the next one may have it
                if child.platform is not None:
                    raise
                problem = problem or error
        raise problem or NotFound(f"{remote} does not exist for {platform_text(platform)}")

    async def _manifest(self, descriptor: Descriptor) -> bytes:
        """A manifest or index that another one lists: from the store, from its descriptor, or from the registry."""
        if self._store.find_manifest(descriptor.digest) is not None:
            try:
                return await self._store.read_manifest(descriptor.digest)
            except Corrupt as error:
                logger.warning("%s; fetching it again", error)
        data = descriptor.embedded()
        if data is None:
            data = await self._remote.manifest(descriptor)
        await self.keep(descriptor.digest, data)
        self.brought = True  # if only in the place of what was damaged
        return data

    async def config(self, manifest: Manifest, fetch: Callable[[], Awaitable[None]]) -> ImageConfig:
        """The config; ``fetch`` brings it into the store.

        Raises:
            InvalidArgument: the manifest is not that of a container image.
            Corrupt: the config is not what it should be.
        """
        remote, descriptor = self._remote, manifest.config
        if descriptor.media_type not in media_types.CONFIGS:
            kind = manifest.artifact_type or descriptor.media_type
            raise InvalidArgument(
                f"{remote} is not a container image but an artifact of the type {kind[:200]!r}",
                hint="Ross runs images; other artifacts need the tool that made them",
            )
        if descriptor.size > MAX_DOCUMENT_BYTES:
            raise Corrupt(f"the config of {remote} would be {descriptor.size} bytes, which is refused")
        self._pin.add(descriptor.digest)
        right = await self._store.is_right(descriptor.digest)
        if not right and self._store.find(descriptor.digest) is not None:
            logger.warning("the config %s in the store is damaged; fetching it again", descriptor.digest)
        self.brought |= not right
        with nullcontext() if right else self._store.replacing(descriptor.digest):
            embedded = descriptor.embedded()
            if embedded is not None:
                await self._store.write(descriptor.digest, embedded, durable=self.durable)
            elif not right:
                await fetch()
        data = await self._store.read(descriptor.digest)
        return parse_config(data, what=f"the config of {remote}")


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


def check_platform(reference: Reference, config: ImageConfig, platform: DocumentPlatform) -> None:
    """Refuse a config that is for another machine.

    Raises:
        InvalidArgument: for another operating system.
        NotFound: for another architecture.
    """
    # A manifest that no index led to says only here what it is for; some tools leave it empty.
    if config.os not in {"linux", ""}:
        raise InvalidArgument(f"{reference} is for {config.os}; Ross runs linux images")
    if config.architecture not in {platform.architecture, ""}:
        actual = DocumentPlatform(os=config.os, architecture=config.architecture, variant=config.variant)
        raise NotFound(
            f"{reference} does not exist for {platform_text(platform)}: it is for {platform_text(actual)} only",
            hint=f"to have it all the same: --platform {platform_text(actual)}",
        )


def check_layers(reference: Reference, manifest: Manifest, config: ImageConfig) -> None:
    """Refuse layers that cannot be unpacked.

    Raises:
        Corrupt: manifest and config do not fit together.
        InvalidArgument: a layer is of a type that Ross does not know.
    """
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
