"""What an archive says that it holds, checked as a whole before any of it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import define, evolve, field, frozen

from ross.errors import Corrupt, InvalidArgument, NotFound, ResourceExhausted
from ross.oci import media_types
from ross.oci.archive import (
    DOCKER_FILE,
    INDEX_FILE,
    LAYOUT_FILE,
    DockerImage,
    check_layout,
    layer_type,
    make_manifest,
    name_of,
    parse_docker,
    parse_index,
    parse_name,
)
from ross.oci.codec import read_document
from ross.oci.digest import Digest
from ross.oci.image import (
    MAX_LAYERS,
    Descriptor,
    DocumentPlatform,
    ImageConfig,
    Index,
    Manifest,
    host_platform,
    parse_manifest,
)
from ross.oci.reference import Reference
from ross.services.documents import MAX_INDEX_DEPTH, choose_platform, platform_text
from ross.services.spool import Spooled, read_small

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ross.services.archives.members import Members

MAX_IMAGES: Final = 4096
MAX_DOCUMENT_BYTES: Final = 64 << 20
"""Of all documents of an archive, which are held in memory until its images are in the store."""


@frozen(kw_only=True)
class Brought:
    """An image that is not in the store yet."""

    target: Digest
    """What its names will denote: an index, or the manifest itself."""
    digest: Digest
    """Of the manifest."""
    manifest: Manifest
    config: ImageConfig
    documents: dict[Digest, bytes]
    """The manifest, and the indexes above it."""
    content: dict[Digest, Spooled | bytes]
    """The config and the layers, as far as they came along."""


@define
class Plan:
    """The images of an archive, with their names."""

    images: dict[tuple[Digest, Digest], Brought] = field(factory=dict)
    names: dict[Reference, tuple[Digest, Digest]] = field(factory=dict)
    document_bytes: int = 0

    def add(self, brought: Brought, references: Iterable[Reference]) -> None:
        """Plan an image.

        Raises:
            Corrupt: a name is that of another image already.
            ResourceExhausted: there are too many, or their documents are too large.
        """
        key = (brought.target, brought.digest)
        for reference in references:
            if self.names.setdefault(reference, key) != key:
                raise Corrupt(f"the archive calls two images {reference}")
        if key in self.images:
            return
        self.images[key] = brought
        self.document_bytes += sum(map(len, brought.documents.values()))
        if len(self.images) > MAX_IMAGES or self.document_bytes > MAX_DOCUMENT_BYTES:
            raise ResourceExhausted(
                f"the archive has more than {MAX_IMAGES} images, or {MAX_DOCUMENT_BYTES} bytes of documents"
            )

    def named(self) -> list[tuple[Brought, tuple[Reference, ...]]]:
        """The images with their names, sorted."""
        found: dict[tuple[Digest, Digest], list[Reference]] = {key: [] for key in self.images}
        for reference, key in self.names.items():
            found[key].append(reference)
        return [(self.images[key], tuple(sorted(references, key=str))) for key, references in found.items()]


def make_plan(members: Members, platform: DocumentPlatform | None) -> Plan:
    """Find the images of an archive. Blocking.

    Args:
        members: What is in it.
        platform: For which machine, where there is a choice; absent: for this one, or the only one there is.

    Raises:
        InvalidArgument: it is no archive of images, or has something in it that is none.
        NotFound: it has no image for this platform.
        Corrupt: something is not what it should be.
        ResourceExhausted: it holds too much.
    """
    layout, index = members.find(LAYOUT_FILE), members.find(INDEX_FILE)
    docker = members.find(DOCKER_FILE)
    plan = Plan()
    if layout is not None and index is not None:
        check_layout(read_small(layout, what=f"the archive's {LAYOUT_FILE}"))
        _plan_layout(plan, members, parse_index(read_small(index, what=f"the archive's {INDEX_FILE}")), platform)
        if docker is not None:
            _check_agreement(plan, members, parse_docker(read_small(docker, what=f"the archive's {DOCKER_FILE}")))
    elif docker is not None:
        for image in parse_docker(read_small(docker, what=f"the archive's {DOCKER_FILE}")):
            _plan_docker(plan, members, image, platform)
    else:
        raise InvalidArgument(
            f"this is no archive of images: it has neither {LAYOUT_FILE} and {INDEX_FILE} nor {DOCKER_FILE}",
            hint="for the files of a root filesystem use: ross import",
        )
    if not plan.images:
        raise InvalidArgument("the archive has no image in it")
    return plan


# -- OCI layouts --------------------------------------------------------------------------------------------------------


def _plan_layout(plan: Plan, members: Members, index: Index, platform: DocumentPlatform | None) -> None:
    groups: dict[Reference | Digest, list[Descriptor]] = {}
    for descriptor in index.manifests:
        groups.setdefault(name_of(descriptor) or descriptor.digest, []).append(descriptor)
    for name, descriptors in groups.items():
        targets = {one.digest: one for one in descriptors}
        # One name for several manifests: they are what an index would hold.
        chosen = (
            descriptors[0]
            if len(targets) == 1
            else _choose(evolve(index, manifests=tuple(targets.values())), members, platform, str(name))
        )
        brought = _descend(members, chosen, platform, what=str(name))
        if brought is not None:
            plan.add(brought, [] if isinstance(name, Digest) else [name])


def _descend(members: Members, target: Descriptor, platform: DocumentPlatform | None, *, what: str) -> Brought | None:
    """From what a name denotes to the image; None if it is no image but some other artifact."""
    documents: dict[Digest, bytes] = {}
    descriptor = target
    for _level in range(MAX_INDEX_DEPTH):
        data = _document(members, descriptor)
        documents[descriptor.digest] = data
        document = parse_manifest(data, content_type=descriptor.media_type or None, what=f"the manifest of {what}")
        if isinstance(document, Manifest):
            return _image(members, target, descriptor, document, documents, platform, what)
        descriptor = _choose(document, members, platform, what)
    raise Corrupt(f"{what} is an index of indexes of indexes, deeper than {MAX_INDEX_DEPTH}")


def _document(members: Members, descriptor: Descriptor) -> bytes:
    found = members.blob(descriptor.digest)
    if found is None:
        raise Corrupt(f"the archive lacks {descriptor.digest}, a manifest")
    _check_size(found, descriptor)
    return read_small(found, what=f"the manifest {descriptor.digest}")


def _choose(index: Index, members: Members, platform: DocumentPlatform | None, what: str) -> Descriptor:
    """Of those manifests of an index that came along, which may be one of many."""
    present = [one for one in index.manifests if members.blob(one.digest) is not None]
    images = [one for one in present if one.platform is None or one.platform.os != "unknown"]
    if platform is None and len(images) == 1:
        return images[0]
    return choose_platform(evolve(index, manifests=tuple(present)), platform or host_platform(), what)


def _image(
    members: Members,
    target: Descriptor,
    descriptor: Descriptor,
    manifest: Manifest,
    documents: dict[Digest, bytes],
    platform: DocumentPlatform | None,
    what: str,
) -> Brought | None:
    if manifest.config.media_type not in media_types.CONFIGS:
        return None
    content: dict[Digest, Spooled | bytes] = {}
    for part in (manifest.config, *manifest.layers):
        found = members.blob(part.digest)
        if found is None:
            raise Corrupt(f"the archive lacks {part.digest}, a part of {what}")
        _check_size(found, part)
        content[part.digest] = found
    config = _config(content[manifest.config.digest], what)
    check_image(manifest, config, platform, what=what)
    return Brought(
        target=target.digest,
        digest=descriptor.digest,
        manifest=manifest,
        config=config,
        documents=documents,
        content=content,
    )


def _config(content: Spooled | bytes, what: str) -> ImageConfig:
    what = f"the config of {what}"
    return read_document(
        content if isinstance(content, bytes) else read_small(content, what=what), ImageConfig, what=what
    )


def _check_size(found: Spooled, descriptor: Descriptor) -> None:
    if found.size_bytes != descriptor.size:
        raise Corrupt(
            f"the archive has {found.size_bytes} bytes for {descriptor.digest}, whose descriptor promises {descriptor.size}"
        )


def check_image(manifest: Manifest, config: ImageConfig, platform: DocumentPlatform | None, *, what: str) -> None:
    """Check that a manifest and its config belong together, and are for a machine that we have, or were asked for.

    Raises:
        Corrupt: they do not.
        NotFound: it is for another platform.
        InvalidArgument: it is of a kind that Ross does not run.
    """
    if config.os not in {"linux", ""}:
        raise InvalidArgument(f"{what} is for {config.os}; Ross runs linux images")
    actual = DocumentPlatform(os=config.os, architecture=config.architecture, variant=config.variant)
    if platform is not None and (actual.os, actual.architecture) != (platform.os, platform.architecture):
        raise NotFound(f"the archive has {what} only for {platform_text(actual)}, not for {platform_text(platform)}")
    if config.rootfs.type != "layers":
        raise Corrupt(f"the config of {what} describes its root filesystem as {config.rootfs.type!r}, not as layers")
    if len(config.rootfs.diff_ids) != len(manifest.layers):
        raise Corrupt(
            f"{what} has {len(manifest.layers)} layers, but its config describes {len(config.rootfs.diff_ids)}"
        )
    for layer in manifest.layers:
        if layer.media_type not in media_types.LAYERS:
            raise InvalidArgument(f"{what} has a layer of the type {layer.media_type!r}, which Ross cannot unpack")


def _check_agreement(plan: Plan, members: Members, images: Iterable[DockerImage]) -> None:
    """An archive of both forms must not be one image to us and another to an engine that reads the other form.

    Where a name denotes an index, Docker's form has that image of it which suited the machine that wrote the archive.
    """
    for image in images:
        config = members.get(image.config, what=f"the config of {image.config[:200]}").digest
        for text in image.repo_tags or ():
            key = plan.names.get(parse_name(text, target=config))
            if key is not None and key[0] == key[1] and plan.images[key].manifest.config.digest != config:
                raise Corrupt(
                    f"the archive's {INDEX_FILE} and {DOCKER_FILE} call different images {text[:200]!r}",
                    hint="two engines would load different images from it; get it from who made it, again",
                )


# -- Docker's form ------------------------------------------------------------------------------------------------------


def _plan_docker(plan: Plan, members: Members, image: DockerImage, platform: DocumentPlatform | None) -> None:
    what = (image.repo_tags or (image.config,))[0][:200]
    spooled = members.get(image.config, what=f"the config of {what}")
    config = _config(spooled, what)
    layers = [members.get(path, what=f"a layer of {what}") for path in image.layers or ()]
    if len(layers) > MAX_LAYERS:
        raise InvalidArgument(f"{what} has {len(layers)} layers, more than {MAX_LAYERS}")
    brought = assemble(spooled, config, layers, what=what)
    check_image(brought.manifest, config, platform, what=what)
    plan.add(brought, [parse_name(text, target=brought.digest) for text in image.repo_tags or ()])


def assemble(config_content: Spooled | bytes, config: ImageConfig, layers: Sequence[Spooled], *, what: str) -> Brought:
    """An image that has no manifest yet, of its parts: always the same for the same parts.

    Raises:
        Corrupt: a layer that is not compressed is not the one that the config promises.
    """
    for layer, diff_id in zip(layers, config.rootfs.diff_ids, strict=False):
        packed = layer_type(layer.head) != media_types.OCI_LAYER
        if not packed and diff_id.algorithm == layer.digest.algorithm and diff_id != layer.digest:
            raise Corrupt(f"a layer of {what} is {layer.digest}, where its config promises {diff_id}")
    manifest_bytes = make_manifest(
        _descriptor(media_types.OCI_CONFIG, config_content), [_descriptor(layer_type(one.head), one) for one in layers]
    )
    manifest = parse_manifest(manifest_bytes, what=f"the manifest of {what}")
    assert isinstance(manifest, Manifest)  # noqa: S101 -- we have just written one
    digest = Digest.of(manifest_bytes)
    return Brought(
        target=digest,
        digest=digest,
        manifest=manifest,
        config=config,
        documents={digest: manifest_bytes},
        content={manifest.config.digest: config_content} | {layer.digest: layer for layer in layers},
    )


def _descriptor(media_type: str, content: Spooled | bytes) -> Descriptor:
    if isinstance(content, bytes):
        return Descriptor(media_type=media_type, digest=Digest.of(content), size=len(content))
    return Descriptor(media_type=media_type, digest=content.digest, size=content.size_bytes)
