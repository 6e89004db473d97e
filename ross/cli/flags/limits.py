"""Flags for what a container may use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from attrs import define
from cyclopts import Parameter

from ross.errors import InvalidArgument
from ross.model.limits import HugePages, Throttle, ThrottleKind, Ulimit
from ross.sizes import parse_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ross.client.limits import LimitOptions
    from ross.client.specs import CreateOptions

Words = Annotated[tuple[str, ...], Parameter(negative=())]
Switch = Annotated[bool, Parameter(negative=())]
_UNLIMITED: Final = frozenset({"-1", "unlimited"})


@Parameter(name="*")
@define(kw_only=True)
class LimitFlags:
    """What ``run``, ``create`` and ``update`` have in common."""

    memory: Annotated[str, Parameter(name=["--memory", "-m"])] = ""
    """The most memory, such as 512m or 2g."""
    memory_swap: Annotated[str, Parameter(allow_leading_hyphen=True)] = ""
    """The most memory and swap together; -1 for all the swap there is. Twice the memory if not given."""
    memory_reservation: str = ""
    """The memory it is pushed back to when the host runs short."""
    cpus: float = 0.0
    """How many processors' worth of time, such as 1.5."""
    cpu_shares: Annotated[int, Parameter(name=["--cpu-shares", "-c"])] = 0
    """Its weight where processors are contended, from 2 to 262144; 1024 is usual."""
    cpu_quota: int = 0
    """Microseconds of processor time in each period."""
    cpu_period: int = 0
    """The length of that period in microseconds."""
    cpuset_cpus: str = ""
    """Which processors, such as 0-2,7."""
    cpuset_mems: str = ""
    """Which memory nodes."""
    pids_limit: int = 0
    """The most processes; -1 for no limit. 4096 if not given."""
    blkio_weight: int = 0
    """Its weight where disks are contended, from 10 to 1000."""

    def options(self) -> LimitOptions:
        """The options of the client library that these flags mean."""
        return {
            "memory": _size(self.memory),
            "memory_swap": _size(self.memory_swap),
            "memory_reservation": _size(self.memory_reservation),
            "cpus": self.cpus,
            "cpu_shares": self.cpu_shares,
            "cpu_quota": self.cpu_quota,
            "cpu_period": self.cpu_period,
            "cpuset_cpus": self.cpuset_cpus,
            "cpuset_mems": self.cpuset_mems,
            "pids_limit": self.pids_limit,
            "blkio_weight": self.blkio_weight,
        }


@Parameter(name="*")
@define(kw_only=True)
class ResourceFlags:
    """What else ``run`` and ``create`` say of what a container may use."""

    shm_size: str = ""
    """The size of its /dev/shm; 64m if not given."""
    memory_swappiness: int = -1
    """How gladly it is swapped out, from 0 to 100; control groups of version 1 only."""
    oom_score_adj: int = 0
    """Which is killed first when the host has no memory left, from -1000 (last) to 1000."""
    oom_kill_disable: Switch = False
    """Let it wait for memory and not be killed; control groups of version 1 only."""
    ulimit: Words = ()
    """name=soft[:hard], such as nofile=1024:4096; -1 for no limit. May be repeated; the last of a name counts."""
    blkio_weight_device: Words = ()
    """device:weight, its weight where that disk is contended, from 10 to 1000. May be repeated."""
    hugetlb_limit: Words = ()
    """page-size=bytes, such as 2m=64m, the most memory in huge pages of that size. May be repeated."""
    device_read_bps: Words = ()
    """device:rate, such as /dev/sda:10m, the most bytes read in a second. May be repeated."""
    device_write_bps: Words = ()
    """The same for what is written."""
    device_read_iops: Words = ()
    """device:rate, the most reads in a second. May be repeated."""
    device_write_iops: Words = ()
    """The same for writes."""
    cgroup_parent: str = ""
    """What its control group is in: a path, or a slice where systemd makes the groups."""

    def options(self) -> CreateOptions:
        """The options of the client library that these flags mean."""
        return {
            "shm_size": parse_size(self.shm_size) if self.shm_size else 0,
            "memory_swappiness": self.memory_swappiness,
            "oom_score_adj": self.oom_score_adj,
            "oom_kill_disable": self.oom_kill_disable,
            "ulimits": list({one.name: one for one in map(parse_ulimit, self.ulimit)}.values()),
            "throttles": [
                *_throttles(ThrottleKind.WEIGHT, self.blkio_weight_device),
                *_throttles(ThrottleKind.READ_BPS, self.device_read_bps),
                *_throttles(ThrottleKind.WRITE_BPS, self.device_write_bps),
                *_throttles(ThrottleKind.READ_IOPS, self.device_read_iops),
                *_throttles(ThrottleKind.WRITE_IOPS, self.device_write_iops),
            ],
            "huge_pages": [parse_huge_pages(text) for text in self.hugetlb_limit],
            "cgroup_parent": self.cgroup_parent,
        }


def _size(text: str) -> int:
    return -1 if text == "-1" else parse_size(text) if text else 0


def parse_ulimit(text: str) -> Ulimit:
    """``name=soft[:hard]``.

    Raises:
        InvalidArgument: it is not of that form.
    """
    name, equals, values = text.partition("=")
    soft, colon, hard = values.partition(":")
    if not equals or not name or not soft or (colon and not hard):
        raise InvalidArgument(f"{text!r} is not a ulimit", hint="write nofile=1024 or nofile=1024:4096")
    first = _ulimit(soft)
    return Ulimit(name=name, soft=first, hard=_ulimit(hard) if hard else first)


def _ulimit(text: str) -> int:
    if text in _UNLIMITED:
        return -1
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise InvalidArgument(f"{text[:40]!r} is not a ulimit", hint="write a number, or -1 for no limit")
    return int(text)


def parse_huge_pages(text: str) -> HugePages:
    """``page-size=bytes``.

    Raises:
        InvalidArgument: it is not of that form.
    """
    size, equals, limit = text.partition("=")
    if not equals or not size or not limit:
        raise InvalidArgument(f"{text!r} is not a limit of huge pages", hint="write 2m=64m")
    return HugePages(page_bytes=parse_size(size), limit_bytes=parse_size(limit))


def _throttles(kind: ThrottleKind, entries: Sequence[str]) -> list[Throttle]:
    return [parse_throttle(kind, entry) for entry in entries]


def parse_throttle(kind: ThrottleKind, text: str) -> Throttle:
    """``device:rate``.

    Raises:
        InvalidArgument: it is not of that form.
    """
    device, _colon, rate = text.rpartition(":")
    if not device or not rate:
        raise InvalidArgument(f"{text!r} is not a limit of a device", hint="write /dev/sda:10m")
    bytes_ = kind in {ThrottleKind.READ_BPS, ThrottleKind.WRITE_BPS}
    if not bytes_ and not (rate.isascii() and rate.isdigit() and len(rate) < 19):
        what = "a weight" if kind is ThrottleKind.WEIGHT else "a number of operations"
        raise InvalidArgument(f"{rate[:40]!r} is not {what}")
    return Throttle(kind=kind, device=device, rate=parse_size(rate) if bytes_ else int(rate))
