"""What a container may use of the machine."""

from __future__ import annotations

from enum import Enum

from attrs import frozen


@frozen(kw_only=True)
class Limits:
    """Limits of a control group, which can also be changed while the container runs.

    In a spec 0, or nothing, is what there is without the option; in an update it leaves things as they are, and -1 takes a limit away.
    """

    memory_bytes: int = 0
    memory_swap_bytes: int = 0
    """Memory and swap together. 0: twice the memory, where there is a limit of it. -1: as much swap as there is."""
    memory_reservation_bytes: int = 0
    """What it is pushed back to when the host runs short."""
    nano_cpus: int = 0
    """Billionths of a processor: ``--cpus 1.5`` is 1_500_000_000."""
    cpu_shares: int = 0
    """Its weight where processors are contended; without it 1024."""
    cpu_quota_us: int = 0
    """So much time of processors in each period. Not with ``nano_cpus``."""
    cpu_period_us: int = 0
    cpuset_cpus: str = ""
    """Which processors: ``0-2,7``."""
    cpuset_mems: str = ""
    """Which memory nodes."""
    pids_limit: int = 0
    """0: the engine's default. -1: unlimited."""
    blkio_weight: int = 0
    """Its weight where disks are contended, from 10 to 1000."""


@frozen(kw_only=True)
class Ulimit:
    """A limit of each process (getrlimit(2)). -1: unlimited."""

    name: str
    """``nofile``, ``nproc``, ..."""
    soft: int
    hard: int


class ThrottleKind(Enum):
    """What of a block device is limited."""

    UNKNOWN = "unknown"
    READ_BPS = "readBps"
    """Bytes in a second."""
    WRITE_BPS = "writeBps"
    READ_IOPS = "readIops"
    """Operations in a second."""
    WRITE_IOPS = "writeIops"
    WEIGHT = "weight"
    """Its weight where this device is contended, from 10 to 1000."""


@frozen(kw_only=True)
class Throttle:
    """A limit on the use of one block device."""

    kind: ThrottleKind
    device: str
    """Its path on the host."""
    rate: int


@frozen(kw_only=True)
class HugePages:
    """A limit on huge pages of one size."""

    page_bytes: int
    limit_bytes: int


@frozen(kw_only=True)
class Resources:
    """What else a container may use; decided when it is created."""

    shm_bytes: int = 0
    """The size of its ``/dev/shm``. 0: 64 MiB."""
    memory_swappiness: int = -1
    """How gladly it is swapped out, from 0 to 100; control groups of version 1 only. -1: as the host has it."""
    oom_score_adj: int = 0
    """Which processes the kernel kills first for want of memory, from -1000 (last) to 1000."""
    oom_kill_disable: bool = False
    """Let it wait for memory and not be killed for want of it; control groups of version 1 only."""
    ulimits: tuple[Ulimit, ...] = ()
    throttles: tuple[Throttle, ...] = ()
    huge_pages: tuple[HugePages, ...] = ()
    cgroup_parent: str = ""
    """What its control group is in: a path, or a slice where systemd makes the groups. Empty: the engine's own place."""
