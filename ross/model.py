"""The records that services return, the wire carries and clients receive.

Frozen facts, never live state. Each record has a struct of the same shape in ``schema/ross.capnp`` (field names in camelCase);
``ross.wire.convert`` carries one into the other by this definition alone, and a test holds the two together.
Times are integer nanoseconds since the epoch, 0 where the thing has not happened; sizes are bytes; an absent limit is 0.
"""

from __future__ import annotations

from enum import Enum

from attrs import field, frozen

from ross.oci.digest import Digest


class ContainerState(Enum):
    """Where a container is in its life. Drawn in ``schema/ross.capnp``."""

    UNKNOWN = "unknown"
    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    REMOVING = "removing"
    REMOVED = "removed"


class Stream(Enum):
    """Which of a process's outputs a piece of log comes from."""

    UNKNOWN = "unknown"
    STDOUT = "stdout"
    STDERR = "stderr"


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


class Role(Enum):
    """What the daemon lets a peer do, decided once from the credentials of its socket."""

    UNKNOWN = "unknown"
    GATE = "gate"
    ENGINE = "engine"


class SnapshotKind(Enum):
    """What a snapshot is for."""

    UNKNOWN = "unknown"
    ACTIVE = "active"
    """Writable: the top of a container, or of whatever a client builds."""
    COMMITTED = "committed"
    """A layer; never changes, and others may stand on it."""
    VIEW = "view"
    """Reads a committed one, which stays as long as the view does."""
    STAGED = "staged"
    """A layer that is being unpacked. Does not outlive its daemon."""


class SnapshotOwner(Enum):
    """Who keeps a snapshot."""

    UNKNOWN = "unknown"
    NOBODY = "nobody"
    """It stays as long as an image has it, a client holds the image, or another snapshot stands on it."""
    CONTAINER = "container"
    """The container whose id is its name."""
    CLIENT = "client"
    """It stays until a client removes it."""


class ChangeKind(Enum):
    """How two snapshots differ in a path."""

    UNKNOWN = "unknown"
    ADDED = "added"
    MODIFIED = "modified"
    """Its content, attributes or kind are others; or something inside of it was added, modified or deleted."""
    DELETED = "deleted"
    """With everything inside of it."""


class FileKind(Enum):
    """What a name in a directory denotes."""

    UNKNOWN = "unknown"
    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    """A symbolic one."""
    FIFO = "fifo"
    SOCKET = "socket"
    CHARACTER_DEVICE = "characterDevice"
    BLOCK_DEVICE = "blockDevice"


class NetworkMode(Enum):
    """The networks a container can have today."""

    UNKNOWN = "unknown"
    NONE = "none"
    HOST = "host"


@frozen(kw_only=True)
class VersionInfo:
    """What answered, and what it speaks."""

    version: str
    protocol: int
    """Rises when the schema gains a method or a field; a client may require a minimum."""
    features: tuple[str, ...]
    role: Role


@frozen(kw_only=True)
class EngineInfo:
    """The engine and its host, at one moment."""

    version: str
    root: str
    run: str
    pid: int
    started_at: int
    runtime: str
    runtime_version: str
    monitor: str
    monitor_version: str
    kernel: str
    architecture: str
    operating_system: str
    hostname: str
    cpus: int
    memory_bytes: int
    cgroup_version: int
    images: int
    containers: int
    containers_running: int
    snapshots: int


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
    """Normalised references that point to it; empty for one that only a container keeps."""
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


class ArchiveFormat(Enum):
    """Which documents an archive of images has."""

    UNKNOWN = "unknown"
    BOTH = "both"
    """An OCI layout with Docker's ``manifest.json`` beside it: every engine reads one of the two."""
    OCI_ARCHIVE = "ociArchive"
    DOCKER_ARCHIVE = "dockerArchive"
    """Docker's own: uncompressed layers, no manifest; older tools read nothing else."""


@frozen(kw_only=True)
class SaveOptions:
    """How to save."""

    format: ArchiveFormat = ArchiveFormat.BOTH
    platform: Platform | None = None
    """Absent: what the name denotes, with all of it that is in the store. Else the one image for this platform."""


@frozen(kw_only=True)
class LoadOptions:
    """How to load."""

    platform: Platform | None = None
    """Where there is a choice. Absent: the host's own, or the only one there is."""


@frozen(kw_only=True)
class LoadedImage:
    """An image that came out of an archive."""

    names: tuple[str, ...]
    """What the archive calls it; empty if it does not, and then its digest is the name that keeps it."""
    image: ImageInfo


@frozen(kw_only=True)
class ImportOptions:
    """How to make an image of a root filesystem."""

    name: str = ""
    """Empty: none but its digest."""
    changes: tuple[str, ...] = ()
    """Instructions of a Dockerfile that change the config, such as ``CMD ["/bin/sh"]``."""
    message: str = ""
    """Stands in its history."""
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


class NoticeKind(Enum):
    """What a notice is about."""

    UNKNOWN = "unknown"
    WARNING = "warning"
    """The registry warns, in its own words."""
    RATE_LIMIT = "rateLimit"
    """How much one may still ask the registry for."""
    DELAY = "delay"
    """The registry wants to be left alone for a while."""
    MIRROR = "mirror"
    """A mirror failed; the next one is asked."""


@frozen(kw_only=True)
class Notice:
    """What a registry has to say beside what it was asked for."""

    kind: NoticeKind
    registry: str
    text: str
    """One printable line."""


@frozen(kw_only=True)
class RemovedImages:
    """What removing an image did."""

    untagged: tuple[str, ...]
    deleted: tuple[Digest, ...]
    """Manifests and blobs that nothing references any more."""
    freed_bytes: int


@frozen(kw_only=True)
class RegistryLogin:
    """That the engine has credentials for a registry; not what they are."""

    registry: str
    """As references call it."""
    username: str
    """Empty where only a token is kept."""
    store: str
    """What keeps them: a file, or a credential helper's program."""
    encrypted: bool
    """A helper keeps them; a file has them as they are."""
    token: bool
    """It is a token that the registry has given in exchange for the password."""


@frozen(kw_only=True)
class BindMount:
    """A directory or file of the host, seen inside the container."""

    source: str
    target: str
    read_only: bool = False
    propagation: str = "rprivate"


@frozen(kw_only=True)
class ContainerSpec:
    """What ``create`` may ask for. What is left at its default comes from the image, then from Ross."""

    name: str = ""
    """Empty: the engine makes one up."""
    args: tuple[str, ...] = ()
    """Replaces the image's command; follows the entrypoint."""
    entrypoint: tuple[str, ...] | None = None
    """Absent: the image's. Empty: none, and the image's command is dropped too (as Docker does)."""
    env: tuple[str, ...] = ()
    """``NAME=value``; later ones win, and all win over the image's."""
    working_dir: str = ""
    user: str = ""
    hostname: str = ""
    terminal: bool = False
    stdin_open: bool = False
    mounts: tuple[BindMount, ...] = ()
    network: NetworkMode = NetworkMode.NONE
    read_only: bool = False
    privileged: bool = False
    no_new_privileges: bool = False
    memory_bytes: int = 0
    nano_cpus: int = 0
    """Billionths of a processor: ``--cpus 1.5`` is 1_500_000_000."""
    pids_limit: int = 0
    """0: the engine's default. -1: unlimited."""
    labels: dict[str, str] = field(factory=dict)
    auto_remove: bool = False
    stop_signal: str = ""
    stop_grace_seconds: int = 10


@frozen(kw_only=True)
class Outcome:
    """How a process ended. The shell's number is derived, never stored apart."""

    exit_code: int
    """0 to 255; for one that a signal ended, 128 + signal."""
    signal: int = 0
    """The signal that ended it, or 0."""
    oom: bool = False
    """The kernel killed a process of the container for want of memory."""
    error: str = ""
    """Why the engine could not run it or lost sight of it; empty for a process that ran and ended."""
    finished_at: int = 0


@frozen(kw_only=True)
class ContainerInfo:
    """A container: the stored facts and the state last observed."""

    id: str
    name: str
    image: str
    """The reference or digest it was created from, as the user would type it."""
    image_id: Digest
    manifest: Digest
    spec: ContainerSpec
    command: tuple[str, ...]
    """What runs: entrypoint and arguments, merged."""
    state: ContainerState
    pid: int
    created_at: int
    started_at: int
    outcome: Outcome | None
    error: str
    """Why the last start failed, or why the container cannot be observed; empty otherwise."""
    log_path: str
    rootfs_path: str


@frozen(kw_only=True)
class ContainerFilter:
    """Which containers a list holds."""

    all: bool = False
    """False: only those that are starting, running or stopping."""


@frozen(kw_only=True)
class LogOptions:
    """What to read of a log."""

    follow: bool = False
    tail: int = -1
    """The last so many lines; -1: all."""
    since: int = 0
    until: int = 0
    stdout: bool = True
    stderr: bool = True


@frozen(kw_only=True)
class LogEntry:
    """A piece of output, as the monitor recorded it."""

    time: int
    stream: Stream
    data: bytes
    """With its newline, except where the output had none."""
    partial: bool
    """The line goes on in the next entry of the same stream."""


@frozen(kw_only=True)
class AttachOptions:
    """Which streams of the init process to connect."""

    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    rows: int = 0
    columns: int = 0
    """The terminal's size to begin with; 0 leaves it as it is."""


@frozen(kw_only=True)
class SnapshotInfo:
    """A snapshot; also its record on disk."""

    name: str
    kind: SnapshotKind
    parent: str | None
    created_at: int
    updated_at: int = 0
    """When its labels last changed; 0: never."""
    owner: SnapshotOwner = SnapshotOwner.NOBODY
    labels: dict[str, str] = field(factory=dict)
    size_bytes: int = 0
    """Of its files' contents, for a committed one; 0 for others, which change."""


@frozen(kw_only=True)
class SnapshotFilter:
    """Which snapshots a list holds: those for which all of this is true."""

    name_prefix: str = ""
    kind: SnapshotKind = SnapshotKind.UNKNOWN
    """Unknown: any."""
    parent: str = ""
    """Empty: any."""
    labels: tuple[str, ...] = ()
    """Each ``key=value``, or ``key`` for a label of any value."""


@frozen(kw_only=True)
class SnapshotUsage:
    """What a snapshot takes of the disk by itself, without those below."""

    size_bytes: int
    """Of blocks that are allocated; what is linked several times counts once."""
    inodes: int


@frozen(kw_only=True)
class SnapshotMount:
    """How a snapshot is mounted: the directories of an overlay, below the engine's root."""

    lower: tuple[str, ...]
    """The layers that are only read, top first; at least two, or one with an upper one."""
    upper: str = ""
    """Where writes go; empty for what cannot be written to."""
    work: str = ""
    """The overlay's own directory beside the upper one."""
    options: tuple[str, ...] = ()
    """What the overlay is to be mounted with, besides."""


@frozen(kw_only=True)
class SnapshotChange:
    """One difference between two snapshots."""

    change: ChangeKind
    path: bytes
    """Absolute. As the kernel has it: most likely UTF-8, and not always."""
    kind: FileKind
    """Of what is there now; for what was deleted, of what was there."""

    @property
    def text(self) -> str:
        """The path for people; what is not UTF-8 is replaced."""
        return self.path.decode(errors="replace")


@frozen(kw_only=True)
class Event:
    """Something that happened. Sequence numbers rise by one; a missing number is a gap."""

    sequence: int
    time: int
    kind: str
    """``image``, ``container`` or ``registry``."""
    action: str
    """``pull``, ``remove``, ``create``, ``start``, ``exit``, ..."""
    subject: str
    """The container's id, the image's digest or the registry's host."""
    name: str
    attributes: dict[str, str]


@frozen(kw_only=True)
class TaskInfo:
    """One task of the daemon's live task tree."""

    name: str
    depth: int
    """0 for the main task; a child stands behind its parent, one deeper."""
    waiting_at: str
    """``file:line function`` of the innermost frame of Ross."""


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
