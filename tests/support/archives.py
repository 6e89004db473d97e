"""Archives of images, honest ones: as an OCI layout and in Docker's forms, old and new."""

from __future__ import annotations

import hashlib
import json
import tarfile
from typing import TYPE_CHECKING, Any, Final

from tests.support.images import INDEX, MANIFEST, BuiltImage, ImageBuilder, Layer, digest_of

if TYPE_CHECKING:
    from collections.abc import Sequence

BUSYBOX: Final = "localhost/busybox:1"
"""The image that tests load where there is no registry."""
LAYOUT: Final = b'{"imageLayoutVersion": "1.0.0"}'


def blob_name(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def entry_of(image: BuiltImage, name: str = "", **fields: Any) -> dict[str, Any]:
    """The descriptor of an image in an index."""
    annotations = {"annotations": {"io.containerd.image.name": name}} if name else {}
    return {"mediaType": MANIFEST, "digest": image.digest, "size": len(image.manifest), **annotations, **fields}


def oci_layout(
    images: Sequence[BuiltImage], entries: Sequence[dict[str, Any]], *, more: dict[str, bytes] | None = None
) -> Layer:
    """A layout with these images, and these entries in its index; open for more members.

    Args:
        images: Whose blobs are in it.
        entries: Of its index.
        more: Members by name, in the place of what would be there.
    """
    members = {"oci-layout": LAYOUT, "index.json": index_of(entries)}
    for image in images:
        members[blob_name(image.digest)] = image.manifest
        members |= {blob_name(digest): data for digest, data in image.blobs.items()}
    layer = Layer()
    for name, data in (members | (more or {})).items():
        layer.add(name, data)
    return layer


def index_of(entries: Sequence[dict[str, Any]]) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries)}).encode()


def config_of(image: BuiltImage) -> bytes:
    return image.blobs[json.loads(image.manifest)["config"]["digest"]]


def docker_archive(builder: ImageBuilder, tags: Sequence[str], **overrides: Any) -> Layer:
    """Docker's form, as it was before layouts: ``<id>/layer.tar``; a layer that stands twice is a link the second time."""
    config = config_of(builder.build())
    layer, paths, seen = Layer(), [], dict[str, str]()
    for number, (tar, _compression) in enumerate(builder.layers):
        identity = hashlib.sha256(b"%d" % number + tar).hexdigest()
        path = f"{identity}/layer.tar"
        layer.directory(identity).add(f"{identity}/VERSION", b"1.0").add(f"{identity}/json", b"{}")
        first = seen.setdefault(digest_of(tar), path)
        if first == path:
            layer.add(path, tar)
        else:
            layer.symlink(path, f"../{first}")
        paths.append(path)
    name = f"{digest_of(config).partition(':')[2]}.json"
    entry = {"Config": name, "RepoTags": list(tags), "Layers": paths} | overrides
    return layer.add(name, config).add("manifest.json", json.dumps([entry]).encode()).add("repositories", b"{}")


def names_in(archive: bytes) -> list[str]:
    import io

    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getnames()
