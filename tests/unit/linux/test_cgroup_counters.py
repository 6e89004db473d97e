"""What the kernel counts of control groups, as its files of both versions have it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ross.linux.cgroup_counters import Hierarchies, find_hierarchies, read_counters, read_oom_kills
from ross.model.stats import ContainerStats, CpuUse, IoUse, MemoryUse, PidsUse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MACHINE_BYTES = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
VERSION_1 = {
    "cpuacct/ross/x/cpuacct.usage": "1500000000\n",
    "cpuacct/ross/x/cpuacct.stat": "user 100\nsystem 50\n",
    "cpu/ross/x/cpu.stat": "nr_periods 20\nnr_throttled 5\nthrottled_time 777\n",
    "memory/ross/x/memory.usage_in_bytes": "10485760\n",
    "memory/ross/x/memory.max_usage_in_bytes": "20971520\n",
    "memory/ross/x/memory.stat": (
        "cache 1\nhierarchical_memory_limit 67108864\ntotal_cache 3\ntotal_swap 4096\ntotal_inactive_file 4194304\n"
    ),
    "memory/ross/x/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    "memory/ross/x/inner/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    "blkio/ross/x/blkio.throttle.io_service_bytes_recursive": (
        "8:0 Read 4096\n8:0 Write 8192\n8:0 Total 12288\n8:16 Read 1\n8:16 Write 2\nTotal 12291\n"
    ),
    "blkio/ross/x/blkio.throttle.io_serviced_recursive": "8:0 Read 1\n8:0 Write 2\n8:16 Read 3\nTotal 6\n",
    "pids/ross/x/pids.current": "3\n",
    "pids/ross/x/pids.max": "max\n",
}
VERSION_2 = {
    "ross/x/cpu.stat": (
        "usage_usec 1500000\nuser_usec 1000000\nsystem_usec 500000\nnr_periods 20\nnr_throttled 5\nthrottled_usec 7\n"
    ),
    "ross/x/memory.current": "10485760\n",
    "ross/x/memory.peak": "20971520\n",
    "ross/x/memory.max": "max\n",
    "ross/x/memory.swap.current": "4096\n",
    "ross/x/memory.stat": "anon 7\ninactive_file 4194304\n",
    "ross/x/memory.events": "low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\noom_group_kill 0\n",
    "ross/x/io.stat": "8:0 rbytes=4096 wbytes=8192 rios=1 wios=2 dbytes=0 dios=0\n259:0 rbytes=1 wbytes=2 rios=3\n7:0 \n",
    "ross/x/pids.current": "3\n",
    "ross/x/pids.max": "4096\n",
}
IO = IoUse(read_bytes=4097, written_bytes=8194, reads=4, writes=2)


def tree(top: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return top


def version_1(top: Path) -> Hierarchies:
    tree(top, VERSION_1)
    return Hierarchies(
        legacy={name: top / name for name in ("cpu", "cpuacct", "memory", "blkio", "pids")}, unified=None
    )


def version_2(top: Path) -> Hierarchies:
    return Hierarchies(legacy={}, unified=tree(top, VERSION_2))


def test_counters_of_version_1(tmp_path: Path) -> None:
    found = read_counters("/ross/x", version_1(tmp_path))

    assert found is not None
    tick = 10**9 // os.sysconf("SC_CLK_TCK")
    assert found.cpu == CpuUse(
        time_ns=1_500_000_000,
        user_ns=100 * tick,
        system_ns=50 * tick,
        periods=20,
        throttled_periods=5,
        throttled_ns=777,
    )
    assert found.memory == MemoryUse(
        used_bytes=6 << 20,
        cache_bytes=4 << 20,
        peak_bytes=20 << 20,
        limit_bytes=64 << 20,
        swap_bytes=4096,
        oom_kills=3,
    )
    assert found.io == IO
    assert found.pids == PidsUse(count=3, limit=0)


def test_counters_of_version_2(tmp_path: Path) -> None:
    found = read_counters("/ross/x", version_2(tmp_path))

    assert found is not None
    assert found.cpu == CpuUse(
        time_ns=1_500_000_000,
        user_ns=1_000_000_000,
        system_ns=500_000_000,
        periods=20,
        throttled_periods=5,
        throttled_ns=7000,
    )
    assert found.memory == MemoryUse(
        used_bytes=6 << 20,
        cache_bytes=4 << 20,
        peak_bytes=20 << 20,
        limit_bytes=MACHINE_BYTES,
        swap_bytes=4096,
        oom_kills=3,
    )
    assert found.io == IO
    assert found.pids == PidsUse(count=3, limit=4096)


def test_a_scheduler_that_counts_is_believed_before_the_throttle(tmp_path: Path) -> None:
    found = version_1(tmp_path)
    tree(
        tmp_path / "blkio/ross/x",
        {
            "blkio.bfq.io_service_bytes_recursive": "8:0 Read 5\n8:0 Write 6\nTotal 11\n",
            "blkio.bfq.io_serviced_recursive": "8:0 Read 7\n8:0 Write 8\nTotal 15\n",
        },
    )

    counters = read_counters("ross/x", found)

    assert counters is not None
    assert counters.io == IoUse(read_bytes=5, written_bytes=6, reads=7, writes=8)


def test_a_cache_that_has_grown_since_is_no_negative_use(tmp_path: Path) -> None:
    found = version_2(tmp_path)
    tree(tmp_path / "ross/x", {"memory.current": "100\n", "memory.stat": "inactive_file 101\n"})

    counters = read_counters("/ross/x", found)

    assert counters is not None
    assert (counters.memory.used_bytes, counters.memory.cache_bytes) == (0, 100)


def test_no_limit_of_version_1_is_the_memory_of_the_machine(tmp_path: Path) -> None:
    found = version_1(tmp_path)
    tree(tmp_path / "memory/ross/x", {"memory.stat": "hierarchical_memory_limit 9223372036854771712\n"})

    counters = read_counters("/ross/x", found)

    assert counters is not None
    assert counters.memory.limit_bytes == MACHINE_BYTES


def test_a_group_that_is_gone_has_no_counters(tmp_path: Path) -> None:
    for found in (version_1(tmp_path / "one"), version_2(tmp_path / "two"), Hierarchies(legacy={}, unified=None)):
        assert read_counters("/ross/y", found) is None
        assert read_oom_kills("/ross/y", found) is None


def test_files_that_are_missing_or_garbage_count_nothing(tmp_path: Path) -> None:
    files = {
        "ross/x/cpu.stat": "usage_usec\nx y z\n\n",
        "ross/x/io.stat": "8:0 rbytes=x wbytes\n",
        "ross/x/pids.max": "\n",
    }
    found = Hierarchies(legacy={}, unified=tree(tmp_path, files))

    counters = read_counters("/ross/x", found)

    assert counters is not None
    assert (counters.cpu, counters.io, counters.pids) == (CpuUse(), IoUse(), PidsUse())


@pytest.mark.parametrize("version", [version_1, version_2])
def test_out_of_memory_kills_are_those_of_inner_groups_too(
    tmp_path: Path, version: Callable[[Path], Hierarchies]
) -> None:
    assert read_oom_kills("/ross/x", version(tmp_path)) == 3


def test_hierarchies_of_a_hybrid_host(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n"
        "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n"
        "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n"
        "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"
    )

    found = find_hierarchies(mounts)

    assert found.legacy["cpuacct"] == found.legacy["cpu"] == Path("/sys/fs/cgroup/cpu,cpuacct")
    assert found.legacy["memory"] == Path("/sys/fs/cgroup/memory")
    assert "pids" not in found.legacy
    assert found.unified == Path("/sys/fs/cgroup/unified")


def test_processors_are_time_by_time() -> None:
    def at(elapsed: int, time: int) -> ContainerStats:
        return ContainerStats(sampled_at=0, elapsed_ns=elapsed, cpu=CpuUse(time_ns=time))

    assert at(4 * 10**9, 10**9).processors_since() == 0.25
    assert at(4 * 10**9, 2 * 10**9).processors_since(at(3 * 10**9, 10**9)) == 1.0
    assert at(10**9, 10**9 // 2).processors_since(at(3 * 10**9, 10**9)) == 0.5, "it was started again"
    assert at(0, 0).processors_since() == 0.0
