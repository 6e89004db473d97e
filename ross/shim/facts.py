"""What of the host decides how a container is made, and what can be refused because of it."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Final

from attrs import frozen

from ross.linux.capabilities import own_capabilities
from ross.linux.host import cgroup_version

_SELINUX: Final = Path("/sys/fs/selinux/enforce")
_HUGE_PAGES: Final = Path("/sys/kernel/mm/hugepages")
_MOUNT_SETATTR: Final = (5, 12)


@frozen(kw_only=True)
class HostFacts:
    """The facts."""

    cgroup_version: int
    cgroup_namespaces: bool
    capabilities: frozenset[str]
    """Ours: a container can have no others."""
    swap_accounting: bool
    blkio_weights: bool
    huge_pages: frozenset[int]
    """The sizes, in bytes, of those whose use can be limited."""
    oom_score_adj: int
    """Ours."""
    cpus: frozenset[int]
    memory_nodes: frozenset[int]
    recursive_read_only: bool
    """The kernel makes a whole tree of mounts read-only."""
    selinux: bool


def host_facts() -> HostFacts:
    """The facts, as they are now; they change only with a reboot."""
    version = cgroup_version()
    return HostFacts(
        cgroup_version=version,
        cgroup_namespaces=Path("/proc/self/ns/cgroup").exists(),
        capabilities=own_capabilities(),
        swap_accounting=version == 2 or Path("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists(),
        blkio_weights=_blkio_weights(version),
        huge_pages=_huge_pages(version),
        oom_score_adj=int(Path("/proc/self/oom_score_adj").read_text()),
        cpus=_online("cpu"),
        memory_nodes=_online("node"),
        recursive_read_only=_kernel() >= _MOUNT_SETATTR,
        selinux=_SELINUX.exists(),
    )


def parse_set(text: str) -> frozenset[int]:
    """Numbers as the kernel lists them: ``0-2,7``.

    Raises:
        ValueError: it is no such list, or one of numbers that no machine has.
    """
    found: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part, re.ASCII)
        if match is None:
            raise ValueError(f"{text[:80]!r} is not a list of numbers, such as 0-2,7")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"{part!r} ends before it begins")
        found.update(range(first, last + 1))
    return frozenset(found)


def _blkio_weights(version: int) -> bool:
    top = Path("/sys/fs/cgroup")
    if version == 1:
        return any((top / "blkio" / name).exists() for name in ("blkio.weight", "blkio.bfq.weight"))
    return any(any(top.glob(f"*/{name}")) for name in ("io.weight", "io.bfq.weight"))


def _huge_pages(version: int) -> frozenset[int]:
    top = Path("/sys/fs/cgroup")
    try:
        can = (
            (top / "hugetlb").is_dir()
            if version == 1
            else "hugetlb" in (top / "cgroup.controllers").read_text().split()
        )
        names = [path.name for path in _HUGE_PAGES.iterdir()] if can else []
    except OSError:
        return frozenset()
    return frozenset(int(name.removeprefix("hugepages-").removesuffix("kB")) << 10 for name in names)


def _online(what: str) -> frozenset[int]:
    try:
        return parse_set(Path(f"/sys/devices/system/{what}/online").read_text().strip())
    except (OSError, ValueError):
        return frozenset(range(os.cpu_count() or 1)) if what == "cpu" else frozenset({0})


def _kernel() -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", platform.release())
    return (int(match[1]), int(match[2])) if match else (0, 0)
