"""Media types of images (image-spec, media-types.md) and their Docker schema-2 twins."""

from __future__ import annotations

from typing import Final

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
OCI_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"
OCI_EMPTY: Final = "application/vnd.oci.empty.v1+json"
DOCKER_INDEX: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar"

INDEXES: Final = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFESTS: Final = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
CONFIGS: Final = frozenset({OCI_CONFIG, DOCKER_CONFIG})
ACCEPT: Final = (OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST)
"""What Ross asks a registry for, best first."""

_OCI_NONDISTRIBUTABLE: Final = "application/vnd.oci.image.layer.nondistributable.v1.tar"
_DOCKER_FOREIGN: Final = "application/vnd.docker.image.rootfs.foreign.diff.tar"

NONDISTRIBUTABLE: Final = frozenset({
    _OCI_NONDISTRIBUTABLE,
    f"{_OCI_NONDISTRIBUTABLE}+gzip",
    f"{_OCI_NONDISTRIBUTABLE}+zstd",
    f"{_DOCKER_FOREIGN}.gzip",
})
"""Layers that are not to be given away."""

_OCI_TWINS: Final = {
    DOCKER_LAYER: OCI_LAYER,
    f"{DOCKER_LAYER}.gzip": f"{OCI_LAYER}+gzip",
    f"{DOCKER_LAYER}.zstd": f"{OCI_LAYER}+zstd",
    f"{_DOCKER_FOREIGN}.gzip": f"{_OCI_NONDISTRIBUTABLE}+gzip",
}

LAYERS: Final = frozenset(
    {OCI_LAYER, f"{OCI_LAYER}+gzip", f"{OCI_LAYER}+zstd"}
    | {DOCKER_LAYER, f"{DOCKER_LAYER}.gzip", f"{DOCKER_LAYER}.zstd"}
    | NONDISTRIBUTABLE
)
"""Layers that can be unpacked. Their compression is told by their first bytes, as every engine does."""


def as_oci(media_type: str) -> str:
    """What the image-spec calls a layer of this type."""
    return _OCI_TWINS.get(media_type, media_type)
