"""The engine itself: what answers, and what it is doing."""

from __future__ import annotations

from enum import Enum

from attrs import frozen


class Role(Enum):
    """What the daemon lets a peer do, decided once from the credentials of its socket."""

    UNKNOWN = "unknown"
    GATE = "gate"
    ENGINE = "engine"


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
    cgroup_manager: str
    """Who makes control groups: ``cgroupfs`` or ``systemd``."""


@frozen(kw_only=True)
class TaskInfo:
    """One task of the daemon's live task tree."""

    name: str
    depth: int
    """0 for the main task; a child stands behind its parent, one deeper."""
    waiting_at: str
    """``file:line function`` of the innermost frame of Ross."""
