"""The content store: blobs and manifests by digest."""

from __future__ import annotations

from attrs import frozen

from ross.oci.digest import Digest


@frozen(kw_only=True)
class ContentInfo:
    """A piece of content in the store."""

    digest: Digest
    kind: str
    """``blob`` or ``manifest``."""
    size_bytes: int
    created_at: int
    updated_at: int
    """When its labels were changed last."""
    labels: dict[str, str]


@frozen(kw_only=True)
class ContentFilter:
    """Which content a list holds; what fits all of what is given."""

    kind: str = ""
    """``blob`` or ``manifest``; both if empty."""
    digest_prefix: str = ""
    labels: tuple[str, ...] = ()
    """Each ``key`` or ``key=value``."""


@frozen(kw_only=True)
class IngestStatus:
    """A blob on its way into the store."""

    digest: Digest
    offset: int
    """So many bytes are there."""
    total_bytes: int
    started_at: int
    updated_at: int
    active: bool
    """Somebody is writing to it."""
