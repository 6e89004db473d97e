"""Facts about the host: kernel, distribution, memory, cgroup version. Read once, cheap."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path
from typing import Final

from attrs import frozen

from ross.linux.syscalls import syscall

_GETPID_OF_X32: Final = 0x40000000 | 39


@frozen(kw_only=True)
class Host:
    """The machine and its kernel."""

    kernel: str
    architecture: str
    operating_system: str
    hostname: str
    cpus: int
    memory_bytes: int
    cgroup_version: int
    """2 where the unified hierarchy is all there is; 1 for legacy and hybrid hosts."""


def read_host() -> Host:
    """The facts, as they are now."""
    uname = os.uname()
    return Host(
        kernel=uname.release,
        architecture=uname.machine,
        operating_system=_operating_system(),
        hostname=uname.nodename,
        cpus=len(os.sched_getaffinity(0)),
        memory_bytes=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        cgroup_version=cgroup_version(),
    )


def cgroup_version(mounts: Path = Path("/proc/self/mounts")) -> int:
    """2 if ``/sys/fs/cgroup`` is the unified hierarchy, else 1 (cgroups(7))."""
    for line in mounts.read_text().splitlines():
        _device, target, kind, *_rest = line.split(" ")
        if target == "/sys/fs/cgroup":
            return 2 if kind == "cgroup2" else 1
    return 1


@cache
def has_x32() -> bool:
    """Whether programs of the x32 ABI run: 64-bit ones with short pointers, which hardly any kernel is made for.

    The kernel is asked for what every process may ask it. Where this process's own calls are filtered, asking could be its end: then it is
    taken to have them.
    """
    if platform.machine() != "x86_64":
        return False
    if "\nSeccomp:\t0\n" not in Path("/proc/thread-self/status").read_text():
        return True
    try:
        syscall(_GETPID_OF_X32, what="getpid")
    except OSError:
        return False
    return True


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"
