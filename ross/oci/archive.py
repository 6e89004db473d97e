"""Images in an archive: the files of an OCI layout (image-spec, image-layout.md) and of Docker's own form, and their names.

An archive is a tar. In an OCI layout ``index.json`` leads by digest to ``blobs/<algorithm>/<hex>``; in Docker's form ``manifest.json``
leads by path to a config and to layers. One archive can be both: Docker's paths then lead to the same blobs. Nothing here touches a file,
and no path of an archive is ever one of ours: it is a key to look a member up by.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from ross.errors import Corrupt, InvalidArgument
from ross.oci import media_types
from ross.oci.codec import parse_json, read_documents, structure_document, write_document
from ross.oci.digest import ENCODED_LENGTH, Digest
from ross.oci.image import Descriptor, ImageConfig, Index, Manifest, parse_manifest
from ross.oci.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

LAYOUT_FILE: Final = "oci-layout"
INDEX_FILE: Final = "index.json"
DOCKER_FILE: Final = "manifest.json"
LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
NAME_ANNOTATION: Final = "io.containerd.image.name"
"""The whole reference; written by containerd, Docker and Podman."""
REF_ANNOTATION: Final = "org.opencontainers.image.ref.name"
"""The spec's own; by habit a tag, and from some tools a whole reference."""

_BLOB: Final = re.compile(r"blobs/([a-z0-9]+)/([0-9a-f]+)\Z")


@frozen(kw_only=True)
class DockerImage:
    """One entry of ``manifest.json``."""

    config: str = field(metadata={"json": "Config"})
    repo_tags: tuple[str, ...] | None = field(default=None, metadata={"json": "RepoTags"})
    layers: tuple[str, ...] | None = field(default=None, metadata={"json": "Layers"})


# -- names of members ---------------------------------------------------------------------------------------------------


def member_name(raw: bytes) -> str:
    """The name of a member in its plain form, without ``./`` and double slashes; empty for the top directory.

    Raises:
        Corrupt: it leads out of the archive, or is no text.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Corrupt(f"the archive has a member whose name {raw[:100]!r} is not UTF-8") from None
    parts = [part for part in text.split("/") if part not in {"", "."}]
    if text.startswith("/") or ".." in parts:
        raise Corrupt(f"the archive has the member {text[:100]!r}, whose name leads out of it")
    return "/".join(parts)


def link_target(name: str, raw: bytes) -> str:
    """The member that a symbolic link at ``name`` leads to.

    Raises:
        Corrupt: it leads out of the archive, or is no text.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise Corrupt(f"the archive's link {name[:100]!r} leads to {raw[:100]!r}, which is not UTF-8") from None
    found = name.split("/")[:-1]
    for part in text.split("/"):
        if part == ".." and found:
            found.pop()
        elif part == ".." or text.startswith("/"):
            raise Corrupt(f"the archive's link {name[:100]!r} leads to {text[:100]!r}, out of the archive")
        elif part not in {"", "."}:
            found.append(part)
    return "/".join(found)


def blob_name(digest: Digest) -> str:
    """Where an OCI layout has a blob."""
    return f"blobs/{digest.algorithm}/{digest.encoded}"


def algorithm_of(name: str) -> str:
    """By which algorithm a member is named; sha256 if by none."""
    match = _BLOB.match(name)
    return match[1] if match is not None and match[1] in ENCODED_LENGTH else "sha256"


# -- reading ------------------------------------------------------------------------------------------------------------


def check_layout(data: bytes) -> None:
    """Check ``oci-layout``.

    Raises:
        Corrupt: it is not of that form.
        InvalidArgument: the layout is of a version that is not known.
    """
    version = parse_json(data, what=f"the archive's {LAYOUT_FILE}").get("imageLayoutVersion")
    if not isinstance(version, str) or version.partition(".")[0] != "1":
        raise InvalidArgument(f"the archive is an OCI layout of the version {version!r}, which Ross does not know")


def parse_index(data: bytes) -> Index:
    """Read ``index.json``.

    Raises:
        Corrupt: it is not an index.
        InvalidArgument: it is of a version that is not known.
    """
    document = parse_manifest(data, what=f"the archive's {INDEX_FILE}")
    if isinstance(document, Manifest):
        raise Corrupt(f"the archive's {INDEX_FILE} is a manifest, not an index")
    return document


def parse_docker(data: bytes) -> tuple[DockerImage, ...]:
    """Read ``manifest.json``.

    Raises:
        Corrupt: it is not of that form.
    """
    return read_documents(data, DockerImage, what=f"the archive's {DOCKER_FILE}")


def name_of(descriptor: Descriptor) -> Reference | None:
    """What the archive calls the image of a descriptor of its index; None if it does not.

    Raises:
        Corrupt: it calls it what cannot be a name, or names a digest that is another's.
    """
    annotations = descriptor.annotations or {}
    text = annotations.get(NAME_ANNOTATION)
    if text is None:
        text = annotations.get(REF_ANNOTATION, "")
        if "/" not in text and ":" not in text:  # a tag: of what, it does not say
            return None
    return parse_name(text, target=descriptor.digest)


def parse_name(text: str, *, target: Digest) -> Reference:
    """A name that an archive gives to an image.

    Raises:
        Corrupt: it is no reference, or names a digest that is not the image's: a name by digest must never denote anything else.
    """
    try:
        reference = Reference.parse(text).with_default_tag()
    except InvalidArgument as error:
        raise Corrupt(f"the archive calls an image {text[:200]!r}, which is not a name: {error}") from None
    if reference.digest not in {None, target}:
        raise Corrupt(f"the archive calls the image {target} {text[:200]!r}, which is another digest")
    return reference


# -- writing ------------------------------------------------------------------------------------------------------------


def layer_type(head: bytes) -> str:
    """The media type of a layer that begins with these bytes."""
    if head.startswith(b"\x1f\x8b"):
        return f"{media_types.OCI_LAYER}+gzip"
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return f"{media_types.OCI_LAYER}+zstd"
    return media_types.OCI_LAYER


def make_manifest(config: Descriptor, layers: Sequence[Descriptor]) -> bytes:
    """The manifest of an image that came without one: the same bytes for the same parts."""
    manifest = Manifest(schema_version=2, media_type=media_types.OCI_MANIFEST, config=config, layers=tuple(layers))
    return write_document(manifest)


def make_index(targets: Iterable[tuple[Descriptor, Reference | None]]) -> bytes:
    """The ``index.json`` of an archive that gives these names to these images: the same bytes for the same images."""
    entries = []
    for descriptor, reference in targets:
        annotations = {}
        if reference is not None:
            annotations[NAME_ANNOTATION] = str(reference)
            if reference.tag is not None:
                annotations[REF_ANNOTATION] = reference.tag
        entry: dict[str, object] = {
            "mediaType": descriptor.media_type, "digest": str(descriptor.digest), "size": descriptor.size
        }  # fmt: skip
        entries.append(entry | ({"annotations": annotations} if annotations else {}))
    index = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": sorted(entries, key=_encode)}
    return _encode(index)


def make_docker(images: Mapping[str, tuple[Sequence[Reference], Sequence[str]]]) -> bytes:
    """The ``manifest.json`` of an archive: names and layers, bottom first, by the path of the config."""
    return _encode([
        {
            "Config": config,
            "RepoTags": sorted(str(reference) for reference in references if reference.digest is None) or None,
            "Layers": list(layers),
        }
        for config, (references, layers) in sorted(images.items())
    ])


def make_imported_config(
    execution: Mapping[str, object], *, platform: Mapping[str, str], created: str, comment: str, diff_id: Digest
) -> tuple[bytes, ImageConfig]:
    """The config of an image whose one layer was imported, and what it says.

    Args:
        execution: Its ``config``, in the names of the spec.
        platform: Its ``os``, ``architecture`` and ``variant``.
        created: When, as RFC 3339 has it.
        comment: Stands in its history.
        diff_id: Of the layer.
    """
    value: dict[str, object] = {
        "created": created,
        **platform,
        "config": dict(execution),
        "rootfs": {"type": "layers", "diff_ids": [str(diff_id)]},
        "history": [{"created": created, "comment": comment}],
    }
    return _encode(value), structure_document(value, ImageConfig, what="the config of an imported image")


def _encode(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
