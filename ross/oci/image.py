"""The three documents of an image: index, manifest, config (image-spec: image-index.md, manifest.md, config.md)."""

from __future__ import annotations

import base64
import binascii
import platform as host
from typing import Final

from attrs import Factory, field, frozen

from ross.errors import Corrupt, InvalidArgument
from ross.oci import media_types
from ross.oci.codec import parse_json, structure_document
from ross.oci.digest import Digest

MAX_SIZE_BYTES: Final = 1 << 50
"""Of one piece of content; what claims to be larger is not. So no sum of sizes leaves 64 bits."""
MAX_LAYERS: Final = 500
"""Refused beyond; overlay itself stops at 500 lower directories."""

MAX_HISTORY: Final = 8192
"""Steps in the making of an image; honest builders make some hundreds at most, since each instruction is one."""


@frozen(kw_only=True)
class DocumentPlatform:
    """The ``platform`` of a descriptor in an index, and the same three fields of an image config."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


@frozen(kw_only=True)
class Descriptor:
    """Media type, digest and size of a piece of content (descriptor.md)."""

    media_type: str
    digest: Digest
    size: int
    platform: DocumentPlatform | None = None
    annotations: dict[str, str] | None = None
    artifact_type: str = ""
    data: str = ""
    """The content itself in base64, where it is small: see :meth:`embedded`."""

    def __attrs_post_init__(self) -> None:
        if self.size < 0:
            raise InvalidArgument(f"descriptor of {self.digest} has the negative size {self.size}")
        if self.size > MAX_SIZE_BYTES:
            raise InvalidArgument(f"descriptor of {self.digest} says that it is larger than {MAX_SIZE_BYTES} bytes")

    def embedded(self) -> bytes | None:
        """The content that the descriptor brings along, verified; None if it brings none.

        Raises:
            Corrupt: it is not what the descriptor's size and digest promise.
        """
        if not self.data:
            return None
        try:
            content = base64.b64decode(self.data, validate=True)
        except (binascii.Error, ValueError):
            raise Corrupt(f"the descriptor of {self.digest} has data in it that is not base64") from None
        if len(content) != self.size or Digest.of(content, algorithm=self.digest.algorithm) != self.digest:
            raise Corrupt(f"the descriptor of {self.digest} has data in it that is something else")
        return content


@frozen(kw_only=True)
class Manifest:
    """One image: a config and its layers, bottom first."""

    schema_version: int
    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = ""
    artifact_type: str = ""
    subject: Descriptor | None = None
    """What it is about, if it is a signature, an SBOM or the like: it is a referrer of that."""
    annotations: dict[str, str] | None = None


@frozen(kw_only=True)
class Index:
    """Several manifests, usually one for each platform."""

    schema_version: int
    manifests: tuple[Descriptor, ...]
    media_type: str = ""
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: dict[str, str] | None = None


@frozen(kw_only=True)
class RootFS:
    """The diff IDs of the layers, bottom first."""

    type: str
    diff_ids: tuple[Digest, ...] = field(metadata={"json": "diff_ids"})


@frozen(kw_only=True)
class HistoryItem:
    """How one layer came to be, or a change that made no layer."""

    created: str | None = None
    created_by: str | None = field(default=None, metadata={"json": "created_by"})
    author: str | None = None
    comment: str | None = None
    empty_layer: bool | None = field(default=None, metadata={"json": "empty_layer"})


@frozen(kw_only=True)
class ImageHealthcheck:
    """How an image wants it to be found out whether a container of it is well. Times are nanoseconds; 0 stands for a default."""

    test: tuple[str, ...] | None = field(default=None, metadata={"json": "Test"})
    interval: int = field(default=0, metadata={"json": "Interval"})
    timeout: int = field(default=0, metadata={"json": "Timeout"})
    start_period: int = field(default=0, metadata={"json": "StartPeriod"})
    start_interval: int = field(default=0, metadata={"json": "StartInterval"})
    retries: int = field(default=0, metadata={"json": "Retries"})


@frozen(kw_only=True)
class Execution:
    """The ``config`` of an image config: defaults for containers made of it. Names are capitalised in JSON."""

    user: str = field(default="", metadata={"json": "User"})
    env: tuple[str, ...] | None = field(default=None, metadata={"json": "Env"})
    entrypoint: tuple[str, ...] | None = field(default=None, metadata={"json": "Entrypoint"})
    cmd: tuple[str, ...] | None = field(default=None, metadata={"json": "Cmd"})
    working_dir: str = field(default="", metadata={"json": "WorkingDir"})
    labels: dict[str, str] | None = field(default=None, metadata={"json": "Labels"})
    stop_signal: str = field(default="", metadata={"json": "StopSignal"})
    exposed_ports: dict[str, dict[str, str]] | None = field(default=None, metadata={"json": "ExposedPorts"})
    volumes: dict[str, dict[str, str]] | None = field(default=None, metadata={"json": "Volumes"})
    healthcheck: ImageHealthcheck | None = field(default=None, metadata={"json": "Healthcheck"})
    """Docker's, as the next one: the image-spec knows neither."""
    shell: tuple[str, ...] | None = field(default=None, metadata={"json": "Shell"})


@frozen(kw_only=True)
class ImageConfig:
    """What an image says of itself: platform, history, layers, defaults."""

    architecture: str
    os: str
    rootfs: RootFS
    variant: str = ""
    created: str | None = None
    author: str | None = None
    config: Execution | None = Factory(Execution)
    history: tuple[HistoryItem, ...] | None = None
    """Bottom first, as the layers are."""

    @property
    def execution(self) -> Execution:
        """The defaults for containers, empty where the image has none."""
        return self.config or Execution()


def parse_manifest(data: bytes, *, content_type: str | None = None, what: str = "manifest") -> Manifest | Index:
    """Read an index or a manifest, and refuse bytes that two readers could take for two documents.

    ``content_type`` is what the registry, or the descriptor that led here, said; where the document names its own media type the
    two must agree (image-spec, manifest.md and GHSA-77vh-xpmg-72qh).

    Raises:
        Corrupt: the document is malformed or ambiguous.
        InvalidArgument: it is well-formed and of a kind that Ross does not read.
    """
    value = parse_json(data, what=what)
    _check_spelling(value, what)
    embedded = value.get("mediaType")
    if embedded is not None and not isinstance(embedded, str):
        raise Corrupt(f"{what} has a mediaType that is not a string")
    declared = (content_type or "").partition(";")[0].strip().lower() or None
    kind = embedded or declared
    if declared in media_types.INDEXES | media_types.MANIFESTS and embedded not in (None, declared):
        raise Corrupt(f"{what} calls itself {embedded!r} but was served as {declared!r}")
    looks_like_index = "manifests" in value
    looks_like_manifest = "layers" in value or "config" in value or "fsLayers" in value
    if looks_like_index and looks_like_manifest:
        raise Corrupt(f"{what} is both an index and a manifest")
    if value.get("schemaVersion") == 1 or "fsLayers" in value:
        raise InvalidArgument(
            f"{what} is in Docker's schema 1, which Ross does not read", hint="push the image again with a current tool"
        )
    if looks_like_index:
        return _index(value, kind, what)
    return _manifest(value, kind, what)


def parse_config(data: bytes, *, what: str) -> ImageConfig:
    """Read an image config.

    Raises:
        Corrupt: it is malformed or ambiguous.
        InvalidArgument: its history is too long.
    """
    value = parse_json(data, what=what)
    for part in (value, value.get("rootfs"), value.get("config")):
        if isinstance(part, dict):
            _check_twins(part, what)
    history = value.get("history")
    if isinstance(history, list) and len(history) > MAX_HISTORY:
        raise InvalidArgument(f"{what} has a history of {len(history)} steps, more than {MAX_HISTORY}")
    return structure_document(value, ImageConfig, what=what)


_SPELLINGS: Final = {
    name.lower(): name
    for name in ("schemaVersion", "mediaType", "manifests", "config", "layers", "fsLayers", "subject")
}


def _check_spelling(value: dict[str, object], what: str) -> None:
    """Refuse what readers that do not tell ``layers`` from ``Layers``, as those in Go, take for another document (CVE-2021-41190)."""
    for key in value:
        if _SPELLINGS.get(key.lower(), key) != key:
            raise Corrupt(f"{what} has the key {key[:40]!r}, which some take for {_SPELLINGS[key.lower()]!r}")
    waiting: list[object] = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            _check_twins(part, what)
            waiting.extend(child for key, child in part.items() if key != "annotations")
        elif isinstance(part, list):
            waiting.extend(part)


def _check_twins(part: dict[str, object], what: str) -> None:
    if len({key.lower() for key in part}) != len(part):
        raise Corrupt(f"{what} has two keys in one object that differ in case only")


def _index(value: dict[str, object], kind: str | None, what: str) -> Index:
    if kind in media_types.MANIFESTS:
        raise Corrupt(f"{what} is called {kind!r} but is an index")
    index = structure_document(value, Index, what=what)
    if index.schema_version != 2:
        raise InvalidArgument(f"{what} has the unknown schema version {index.schema_version}")
    return index


def _manifest(value: dict[str, object], kind: str | None, what: str) -> Manifest:
    if kind in media_types.INDEXES:
        raise Corrupt(f"{what} is called {kind!r} but is a manifest")
    manifest = structure_document(value, Manifest, what=what)
    if manifest.schema_version != 2:
        raise InvalidArgument(f"{what} has the unknown schema version {manifest.schema_version}")
    if len(manifest.layers) > MAX_LAYERS:
        raise InvalidArgument(f"{what} has {len(manifest.layers)} layers, more than {MAX_LAYERS}")
    return manifest


_ARCHITECTURES: Final = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
}


def host_platform() -> DocumentPlatform:
    """The platform of this machine, in the names that images use."""
    machine = host.machine()
    architecture, variant = _ARCHITECTURES.get(machine, (machine, ""))
    return DocumentPlatform(os="linux", architecture=architecture, variant=variant)
