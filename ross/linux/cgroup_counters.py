"""What the kernel counts of a control group, in hierarchies of version 1 and 2 (cgroups(7); cgroup-v2.rst and cgroup-v1/ of the kernel).

Only files are read, and none of them waits for a process: of a group that is frozen, or whose processes hang, they tell as of any other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import frozen

from ross.linux.cgroups import groups_of
from ross.model.stats import CpuUse, IoUse, MemoryUse, PidsUse

if TYPE_CHECKING:
    from collections.abc import Iterator

_TICK_NS: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_MEMORY_BYTES: Final = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@frozen(kw_only=True)
class Hierarchies:
    """Where control groups are mounted. Decided when the machine boots."""

    legacy: Mapping[str, Path]
    """By controller; of version 1."""
    unified: Path | None
    """Of version 2. On a hybrid host it is there, and has those controllers that are not of version 1."""

    def directory(self, controller: str, group: str) -> Path | None:
        """Where a controller has a group; None if it has no such group.

        Args:
            controller: ``memory``, ``cpuacct``, ...: as version 1 calls them.
            group: From the root of each hierarchy.
        """
        top = self.legacy.get(controller, self.unified)
        if top is None:
            return None
        found = top / group.lstrip("/")
        return found if found.is_dir() else None


def find_hierarchies(mounts: Path = Path("/proc/self/mounts")) -> Hierarchies:
    """Where control groups are mounted now."""
    legacy: dict[str, Path] = {}
    unified = None
    for line in mounts.read_text().splitlines():
        _device, target, kind, options, *_rest = line.split(" ")
        if kind == "cgroup":
            legacy |= dict.fromkeys(options.split(","), Path(target))
        elif kind == "cgroup2":
            unified = unified or Path(target)
    return Hierarchies(legacy=legacy, unified=unified)


@frozen(kw_only=True)
class Counters:
    """What a group has used."""

    cpu: CpuUse
    memory: MemoryUse
    io: IoUse
    pids: PidsUse


def read_counters(group: str, hierarchies: Hierarchies) -> Counters | None:
    """What a group has used; None if there is no such group. A counter that this kernel does not have is 0."""
    found = {name: hierarchies.directory(name, group) for name in ("cpu", "cpuacct", "memory", "blkio", "pids")}
    if not any(found.values()):
        return None

    def of_version_1(name: str) -> bool:
        return name in hierarchies.legacy

    return Counters(
        cpu=_cpu_1(found["cpuacct"], found["cpu"]) if of_version_1("cpuacct") else _cpu_2(found["cpu"]),
        memory=_memory_1(found["memory"]) if of_version_1("memory") else _memory_2(found["memory"]),
        io=_io_1(found["blkio"]) if of_version_1("blkio") else _io_2(found["blkio"]),
        pids=_pids(found["pids"]),
    )


def read_oom_kills(group: str, hierarchies: Hierarchies) -> int | None:
    """How many processes of a group, and of those inside it, were killed for want of memory; None if there is no such group."""
    directory = hierarchies.directory("memory", group)
    if directory is None:
        return None
    return _oom_kills_1(directory) if "memory" in hierarchies.legacy else _oom_kills_2(directory)


# -- version 1 --------------------------------------------------------------------------------------------------------


def _cpu_1(accounting: Path | None, quota: Path | None) -> CpuUse:
    ticks, throttling = _table(accounting, "cpuacct.stat"), _table(quota, "cpu.stat")
    return CpuUse(
        time_ns=_number(accounting, "cpuacct.usage"),
        user_ns=ticks.get("user", 0) * _TICK_NS,
        system_ns=ticks.get("system", 0) * _TICK_NS,
        periods=throttling.get("nr_periods", 0),
        throttled_periods=throttling.get("nr_throttled", 0),
        throttled_ns=throttling.get("throttled_time", 0),
    )


def _memory_1(directory: Path | None) -> MemoryUse:
    stat = _table(directory, "memory.stat")
    used, cache = _without_cache(_number(directory, "memory.usage_in_bytes"), stat.get("total_inactive_file", 0))
    return MemoryUse(
        used_bytes=used,
        cache_bytes=cache,
        peak_bytes=_number(directory, "memory.max_usage_in_bytes"),
        limit_bytes=_memory_limit(stat.get("hierarchical_memory_limit", 0)),
        swap_bytes=stat.get("total_swap", 0),
        oom_kills=_oom_kills_1(directory) if directory is not None else 0,
    )


def _oom_kills_1(directory: Path) -> int:
    """Each group counts its own only."""
    return sum(_table(group, "memory.oom_control").get("oom_kill", 0) for group in groups_of(directory))


def _io_1(directory: Path | None) -> IoUse:
    for scheduler in (
        "bfq.",
        "",
        "throttle.",
    ):  # the throttle counts where no scheduler does, and what it lets through besides
        transferred = _by_operation(directory, f"blkio.{scheduler}io_service_bytes_recursive")
        if any(transferred.values()):
            break
    operations = _by_operation(directory, f"blkio.{scheduler}io_serviced_recursive")
    return IoUse(
        read_bytes=transferred.get("read", 0),
        written_bytes=transferred.get("write", 0),
        reads=operations.get("read", 0),
        writes=operations.get("write", 0),
    )


def _by_operation(directory: Path | None, name: str) -> dict[str, int]:
    """``8:0 Read 4096`` and so on, all devices together."""
    found: dict[str, int] = {}
    for device, *words in _lines(directory, name):
        if device != "Total" and len(words) == 2:
            found[words[0].lower()] = found.get(words[0].lower(), 0) + int(words[1])
    return found


# -- version 2 --------------------------------------------------------------------------------------------------------


def _cpu_2(directory: Path | None) -> CpuUse:
    stat = _table(directory, "cpu.stat")
    return CpuUse(
        time_ns=stat.get("usage_usec", 0) * 1000,
        user_ns=stat.get("user_usec", 0) * 1000,
        system_ns=stat.get("system_usec", 0) * 1000,
        periods=stat.get("nr_periods", 0),
        throttled_periods=stat.get("nr_throttled", 0),
        throttled_ns=stat.get("throttled_usec", 0) * 1000,
    )


def _memory_2(directory: Path | None) -> MemoryUse:
    used, cache = _without_cache(
        _number(directory, "memory.current"), _table(directory, "memory.stat").get("inactive_file", 0)
    )
    return MemoryUse(
        used_bytes=used,
        cache_bytes=cache,
        peak_bytes=_number(directory, "memory.peak"),
        limit_bytes=_memory_limit(_number(directory, "memory.max")),
        swap_bytes=_number(directory, "memory.swap.current"),
        oom_kills=_oom_kills_2(directory) if directory is not None else 0,
    )


def _oom_kills_2(directory: Path) -> int:
    """Those of the groups inside it included."""
    return _table(directory, "memory.events").get("oom_kill", 0)


def _io_2(directory: Path | None) -> IoUse:
    found: dict[str, int] = {}
    for _device, *words in _lines(directory, "io.stat"):
        for word in words:
            name, _equals, value = word.partition("=")
            if value.isdecimal():
                found[name] = found.get(name, 0) + int(value)
    return IoUse(
        read_bytes=found.get("rbytes", 0),
        written_bytes=found.get("wbytes", 0),
        reads=found.get("rios", 0),
        writes=found.get("wios", 0),
    )


# -- both -------------------------------------------------------------------------------------------------------------


def _pids(directory: Path | None) -> PidsUse:
    return PidsUse(count=_number(directory, "pids.current"), limit=_number(directory, "pids.max"))


def _without_cache(usage: int, inactive_file: int) -> tuple[int, int]:
    """They are not read at the same moment, so the one may be larger than the other."""
    cache = min(usage, inactive_file)
    return usage - cache, cache


def _memory_limit(limit: int) -> int:
    """Version 1 says no limit by a number that no machine has."""
    return min(limit, _MEMORY_BYTES) if limit else _MEMORY_BYTES


def _number(directory: Path | None, name: str) -> int:
    """0 for ``max`` too."""
    for word, *_rest in _lines(directory, name):
        return int(word) if word.isdecimal() else 0
    return 0


def _table(directory: Path | None, name: str) -> dict[str, int]:
    return {line[0]: int(line[1]) for line in _lines(directory, name) if len(line) == 2 and line[1].isdecimal()}


def _lines(directory: Path | None, name: str) -> Iterator[list[str]]:
    """The words of each line; nothing of a file that is not there, or not any more."""
    if directory is None:
        return
    try:
        text = (directory / name).read_text()
    except OSError:
        return
    for line in text.splitlines():
        words = line.split()
        if words:
            yield words
