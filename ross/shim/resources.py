"""What a container may use, as the runtime is told (runtime-spec, config-linux.md, "Control groups"; config.md, "POSIX process")."""

from __future__ import annotations

import os
import resource
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ross.errors import InvalidArgument
from ross.model.limits import ThrottleKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ross.model.containers import ContainerSpec
    from ross.model.limits import Limits, Throttle
    from ross.shim.facts import HostFacts

DEFAULT_PIDS_LIMIT: Final = 4096
"""Enough for anything that is meant, and an end to what is not."""
DEFAULT_SHM_BYTES: Final = 64 << 20
_CPU_PERIOD_US: Final = 100_000
_NOFILE: Final = (1024, 524_288)
"""Programs that use select(2) break with a larger soft limit, and those that close all descriptors are slow with a larger hard one."""
_INFINITY: Final = (1 << 64) - 1

ULIMITS: Final = frozenset({
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime",
    "sigpending", "stack",
})  # fmt: skip
_NUMBERS: Final = {
    "core": resource.RLIMIT_CORE,
    "cpu": resource.RLIMIT_CPU,
    "data": resource.RLIMIT_DATA,
    "fsize": resource.RLIMIT_FSIZE,
    "locks": 10,  # which Python does not name
    "memlock": resource.RLIMIT_MEMLOCK,
    "msgqueue": resource.RLIMIT_MSGQUEUE,
    "nice": resource.RLIMIT_NICE,
    "nofile": resource.RLIMIT_NOFILE,
    "nproc": resource.RLIMIT_NPROC,
    "rss": resource.RLIMIT_RSS,
    "rtprio": resource.RLIMIT_RTPRIO,
    "rttime": resource.RLIMIT_RTTIME,
    "sigpending": resource.RLIMIT_SIGPENDING,
    "stack": resource.RLIMIT_STACK,
}

_THROTTLES: Final = {
    ThrottleKind.READ_BPS: ("throttleReadBpsDevice", "rate"),
    ThrottleKind.WRITE_BPS: ("throttleWriteBpsDevice", "rate"),
    ThrottleKind.READ_IOPS: ("throttleReadIOPSDevice", "rate"),
    ThrottleKind.WRITE_IOPS: ("throttleWriteIOPSDevice", "rate"),
    ThrottleKind.WEIGHT: ("weightDevice", "weight"),
}


def pids_limit(spec: ContainerSpec) -> int:
    """The most processes; -1 for no limit."""
    return spec.limits.pids_limit or DEFAULT_PIDS_LIMIT


def resources_of(spec: ContainerSpec, host: HostFacts) -> dict[str, Any]:
    """The limits of its control group, but for devices.

    Raises:
        InvalidArgument: what is to be throttled is no block device.
    """
    memory = _memory(spec.limits, host)
    if spec.resources.memory_swappiness >= 0:
        memory["swappiness"] = spec.resources.memory_swappiness
    if spec.resources.oom_kill_disable:
        memory["disableOOMKiller"] = True
    limit = pids_limit(spec)
    found: dict[str, Any] = {
        "memory": memory,
        "cpu": _cpu(spec.limits),
        "blockIO": _block_io(spec.limits, spec.resources.throttles),
        "pids": {"limit": limit} if limit > 0 else {},
        "hugepageLimits": [
            {"pageSize": page_size(one.page_bytes), "limit": one.limit_bytes} for one in spec.resources.huge_pages
        ],
    }
    return {name: values for name, values in found.items() if values}


def _memory(limits: Limits, host: HostFacts) -> dict[str, Any]:
    memory: dict[str, Any] = {}
    if limits.memory_bytes:
        memory["limit"] = limits.memory_bytes
        if host.swap_accounting:
            memory["swap"] = limits.memory_swap_bytes or 2 * limits.memory_bytes
    if limits.memory_reservation_bytes:
        memory["reservation"] = limits.memory_reservation_bytes
    return memory


def _cpu(limits: Limits) -> dict[str, Any]:
    cpu: dict[str, Any] = {}
    if limits.nano_cpus:
        cpu = {"period": _CPU_PERIOD_US, "quota": limits.nano_cpus * _CPU_PERIOD_US // 1_000_000_000}
    if limits.cpu_period_us:
        cpu["period"] = limits.cpu_period_us
    if limits.cpu_quota_us:
        cpu["quota"] = limits.cpu_quota_us
    if limits.cpu_shares:
        cpu["shares"] = limits.cpu_shares
    if limits.cpuset_cpus:
        cpu["cpus"] = limits.cpuset_cpus
    if limits.cpuset_mems:
        cpu["mems"] = limits.cpuset_mems
    return cpu


def _block_io(limits: Limits, throttles: Sequence[Throttle]) -> dict[str, Any]:
    found: dict[str, Any] = {"weight": limits.blkio_weight} if limits.blkio_weight else {}
    for throttle in throttles:
        major, minor = _block_device(throttle.device)
        name, unit = _THROTTLES[throttle.kind]
        found.setdefault(name, []).append({"major": major, "minor": minor, unit: throttle.rate})
    return found


def page_size(size_bytes: int) -> str:
    """As the kernel's hierarchy has it: ``2MB``."""
    for shift, unit in ((30, "GB"), (20, "MB")):
        if size_bytes >= 1 << shift:
            return f"{size_bytes >> shift}{unit}"
    return f"{size_bytes >> 10}KB"


def _block_device(path: str) -> tuple[int, int]:
    try:
        found = Path(path).stat()
    except OSError as error:
        raise InvalidArgument(f"the device {path!r} cannot be limited: {error.strerror}") from None
    if not stat.S_ISBLK(found.st_mode):
        raise InvalidArgument(f"{path!r} is not a block device, which alone can be limited")
    return os.major(found.st_rdev), os.minor(found.st_rdev)


def rlimits_of(spec: ContainerSpec) -> list[dict[str, Any]]:
    """The limits of its first process, and so of all. A number of open files is always set: what the daemon has is not for containers."""
    wanted = {one.name: (one.soft, one.hard) for one in spec.resources.ulimits}
    if "nofile" not in wanted:
        most = hard_limit("nofile")
        soft, hard = (value if most < 0 else min(value, most) for value in _NOFILE)
        wanted["nofile"] = (soft, hard)
    return [
        {"type": f"RLIMIT_{name.upper()}", "soft": _number(soft), "hard": _number(hard)}
        for name, (soft, hard) in wanted.items()
    ]


def hard_limit(name: str) -> int:
    """Ours; -1: unlimited."""
    _soft, hard = resource.getrlimit(_NUMBERS[name])
    return hard


def _number(value: int) -> int:
    return _INFINITY if value < 0 else value


def changes_of(wanted: Mapping[str, Any], limits: Limits, host: HostFacts) -> dict[str, Any]:
    """Of the limits that are wanted from now on those that an update is about; what an update takes away is said to be unlimited."""
    changed: dict[str, Any] = {}
    if limits.memory_bytes or limits.memory_swap_bytes:
        nothing = {"limit": -1, **({"swap": -1} if host.swap_accounting else {})}
        found = wanted.get("memory", {})
        changed["memory"] = {key: value for key, value in found.items() if key in {"limit", "swap"}} or nothing
    if limits.memory_reservation_bytes:
        changed.setdefault("memory", {})["reservation"] = wanted.get("memory", {}).get("reservation", -1)
    cpu = wanted.get("cpu", {})
    if limits.nano_cpus or limits.cpu_quota_us or limits.cpu_period_us:
        changed["cpu"] = {"quota": cpu.get("quota", -1), "period": cpu.get("period", _CPU_PERIOD_US)}
    if limits.cpu_shares:
        changed.setdefault("cpu", {})["shares"] = cpu.get("shares", 1024)
    for key, value in (("cpus", limits.cpuset_cpus), ("mems", limits.cpuset_mems)):
        if value:
            changed.setdefault("cpu", {})[key] = value
    if limits.blkio_weight:
        changed["blockIO"] = {"weight": limits.blkio_weight}
    if limits.pids_limit:
        changed["pids"] = wanted.get("pids", {"limit": -1})
    return changed
