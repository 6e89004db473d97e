"""The disk: what is on it, what can go, whether it is sound."""

from __future__ import annotations

from enum import Enum

from attrs import frozen

from ross.oci.digest import Digest


@frozen(kw_only=True)
class UsageRow:
    """What one kind of thing occupies below the root."""

    kind: str
    """``images``, ``containers``, ``downloads``, ``records``, ``trash``, ``unknown``."""
    total: int
    active: int
    """Those that a container uses, that do not rest, that somebody goes on with."""
    size_bytes: int
    """Allocated on the disk."""
    reclaimable_bytes: int
    """What removing those that are not active would free."""


@frozen(kw_only=True)
class UsageItem:
    """One thing below the root. All but images add up: those are made of the others."""

    kind: str
    """``image``, ``blob``, ``manifest``, ``snapshot``, ``client snapshot``, ``container``, ``ingest``, ``unpacking``,
    ``record``, ``trash``, ``unknown``."""
    name: str
    size_bytes: int
    shared_bytes: int
    """How much of it several images share."""
    users: int
    """Of an image: containers. Of what images are made of: images."""


@frozen(kw_only=True)
class DiskUsage:
    """What the root occupies on its disk."""

    root: str
    rows: tuple[UsageRow, ...]
    items: tuple[UsageItem, ...]
    total_bytes: int
    """Of everything: the sum of the rows, and what du says."""
    free_bytes: int
    unmeasured: tuple[str, ...] = ()
    """Paths below the root of what cannot be read to its end, or was moved about meanwhile: it counts nothing."""


@frozen(kw_only=True)
class PruneOptions:
    """What to remove of what nobody uses."""

    containers: bool = True
    """Those that do not run."""
    images: bool = True
    """What no name and no container leads to, and what is left of downloads."""
    all: bool = False
    """With ``images``: also those that have a name, and that no container is made of."""
    until: int = 0
    """Only what was made before this time; 0: whenever."""
    labels: tuple[str, ...] = ()
    """Only what has all of these: ``key`` or ``key=value``."""
    without_labels: tuple[str, ...] = ()
    """Only what has none of these."""


@frozen(kw_only=True)
class Pruned:
    """What pruning did."""

    containers: tuple[str, ...]
    untagged: tuple[str, ...]
    deleted: tuple[Digest, ...]
    """Manifests and blobs."""
    freed_bytes: int


class CheckStage(Enum):
    """What a check of the root looks at, in this order."""

    UNKNOWN = "unknown"
    CONTENT = "content"
    """Hashing content."""
    LAYERS = "layers"
    """Unpacking layers again, beside, and comparing them."""
    REST = "rest"
    """Looking for what nobody knows."""


@frozen(kw_only=True)
class CheckProgress:
    """How far a check has come with its present stage."""

    stage: CheckStage
    current_bytes: int
    total_bytes: int
    """0 where nobody knows."""


class Severity(Enum):
    """How bad a finding is."""

    UNKNOWN = "unknown"
    NOTE = "note"
    """Worth knowing; nothing is wrong."""
    ERROR = "error"


@frozen(kw_only=True)
class Finding:
    """Something that a check of the root has found."""

    severity: Severity
    kind: str
    """``blob``, ``manifest``, ``image``, ``snapshot``, ``unknown``."""
    name: str
    problem: str
    """In a word or two: ``damaged``, ``missing``, ``incomplete``, ``differs from its blob``, ``orphan``, ..."""
    detail: str
    repaired: bool
    resolution: str
    """What was done about it, or why nothing could be; empty where nothing was to be done."""


@frozen(kw_only=True)
class CheckReport:
    """What a check of the root has looked at and found."""

    findings: tuple[Finding, ...]
    blobs: int
    manifests: int
    images: int
    snapshots: int
    """Unpacked layers that were compared with their blobs."""
    size_bytes: int
    """Of the content that was hashed."""
