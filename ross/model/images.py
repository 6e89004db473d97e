"""Images, and what pulling, pushing and removing them takes and gives."""

from __future__ import annotations

from enum import Enum
from typing import Final

from attrs import evolve, frozen

from ross.oci.digest import Digest

MOST_NAMES: Final = 8192
"""Of one image, where it is told of as briefly as can be."""
_LONGEST_WORD: Final = 64


class PullPhase(Enum):
    """What is happening to one blob of a pull or a push."""

    UNKNOWN = "unknown"
    WAITING = "waiting"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    UNPACKING = "unpacking"
    DONE = "done"
    EXISTS = "exists"
    UPLOADING = "uploading"
    MOUNTED = "mounted"
    """The registry has taken it from another repository of its own."""


@frozen(kw_only=True)
class Platform:
    """os/architecture[/variant] of an image, in the names of the Go toolchain (image-spec, image-index.md)."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@frozen(kw_only=True)
class ImageInfo:
    """An image that is in the store, unpacked."""

    id: Digest
    """The digest of the image config, what Docker calls the image id."""
    names: tuple[str, ...]
    """Normalised references that point to it; empty for one without a name, which stays until it is removed or pruned."""
    target: Digest
    """What the names denote: the index, or the manifest where there is no index."""
    manifest: Digest
    platform: Platform
    created_at: int
    size_bytes: int
    """Compressed: config and layers, as the registry sends them."""
    unpacked_bytes: int
    chain_id: Digest | None
    """The committed snapshot that holds its root filesystem; absent for an image with no layer."""
    layers: tuple[Digest, ...]
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    env: tuple[str, ...]
    working_dir: str
    user: str
    stop_signal: str
    exposed_ports: tuple[str, ...]
    volumes: tuple[str, ...]
    labels: dict[str, str]
    abridged: bool = False
    """What its config says for containers is left out, since it is uncommonly long; it stands in the config itself."""

    def abridge(self) -> ImageInfo:
        """The same, as short as it can be."""
        return evolve(
            self,
            names=self.names[:MOST_NAMES],
            platform=Platform(
                os=self.platform.os[:_LONGEST_WORD],
                architecture=self.platform.architecture[:_LONGEST_WORD],
                variant=self.platform.variant[:_LONGEST_WORD],
            ),
            entrypoint=(),
            command=(),
            env=(),
            working_dir="",
            user="",
            stop_signal="",
            exposed_ports=(),
            volumes=(),
            labels={},
            abridged=True,
        )


@frozen(kw_only=True)
class ImageFilter:
    """Which images a list holds; those that fit all of what is given."""

    all: bool = False
    """Also those that a name leads to for another platform only."""
    dangling: bool = False
    """Only those without a name."""
    named: bool = False
    """Only those with a name."""
    references: tuple[str, ...] = ()
    """Only names that fit one of these: ``name``, ``name:tag``, with ``*``, ``?`` and ``[...]`` within a part of the path."""
    labels: tuple[str, ...] = ()
    """Only those with all of these: ``key`` or ``key=value``."""
    before: str = ""
    """Only those made before this image."""
    since: str = ""
    """Only those made after this image."""


@frozen(kw_only=True)
class History:
    """One step in the making of an image."""

    id: Digest | None
    """The image's, for the last step; the steps before it are no images of their own."""
    created_at: int
    created_by: str
    """The command, as the builder recorded it."""
    author: str
    comment: str
    empty: bool
    """It made no layer."""
    layer: Digest | None
    """The blob of the layer that it made."""
    size_bytes: int
    """Unpacked."""
    names: tuple[str, ...]


@frozen(kw_only=True)
class Referrer:
    """Something at a registry that is about an image: a signature, an SBOM, an attestation."""

    subject: Digest
    """What it is about: the image's manifest, or the index that its name denotes."""
    digest: Digest
    media_type: str
    artifact_type: str
    """What kind of thing it is; empty where the registry does not say."""
    size_bytes: int
    """Of its manifest."""
    annotations: dict[str, str]


@frozen(kw_only=True)
class PullOptions:
    """How to pull."""

    platform: Platform | None = None
    """Absent: the host's own."""


@frozen(kw_only=True)
class BlobProgress:
    """How far one blob of a pull or a push has come."""

    digest: Digest
    phase: PullPhase
    current_bytes: int
    total_bytes: int


@frozen(kw_only=True)
class PushOptions:
    """How to push."""

    manifest_only: bool = False
    """Only the image itself, where what its name denotes is an index."""


@frozen(kw_only=True)
class PushedImage:
    """What a registry has under a name now."""

    name: str
    digest: Digest
    """Of the index or manifest that the name denotes there."""
    size_bytes: int
    """Of that index or manifest itself."""


@frozen(kw_only=True)
class RemovedImages:
    """What removing an image did."""

    untagged: tuple[str, ...]
    deleted: tuple[Digest, ...]
    """Manifests and blobs that nothing references any more."""
    freed_bytes: int
    used_by: tuple[str, ...] = ()
    """Containers, for which an image stays that has no name any more."""
