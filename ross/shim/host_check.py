"""What can be refused about a spec because this host is what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ross.errors import FailedPrecondition, InvalidArgument
from ross.model.limits import ThrottleKind
from ross.model.mounts import Recursion
from ross.shim.apparmor import check_profile
from ross.shim.facts import parse_set
from ross.shim.init_program import find_init
from ross.shim.resources import hard_limit, page_size
from ross.shim.security import ALL, capability_name

if TYPE_CHECKING:
    from ross.model.containers import ContainerSpec
    from ross.model.limits import Ulimit
    from ross.shim.facts import HostFacts

_RAISES_LIMITS = "CAP_SYS_RESOURCE"


def check_host(spec: ContainerSpec, host: HostFacts) -> None:
    """Check that this host has what a spec asks for: nothing that was asked for is left out in silence.

    Raises:
        InvalidArgument: it asks for processors or memory nodes that are not there.
        FailedPrecondition: the kernel, or the daemon itself, lacks what it takes.
    """
    _check_processors(spec, host)
    _check_memory(spec, host)
    weights = [one for one in spec.resources.throttles if one.kind is ThrottleKind.WEIGHT]
    if (spec.limits.blkio_weight or weights) and not host.blkio_weights:
        flag = "--blkio-weight" if spec.limits.blkio_weight else "--blkio-weight-device"
        raise FailedPrecondition("this kernel weighs no use of disks", hint=f"leave out {flag}")
    for name in spec.security.cap_add:
        if capability_name(name) not in {ALL, *host.capabilities}:
            raise FailedPrecondition(f"the daemon has no {capability_name(name)} itself, so it cannot give it away")
    for ulimit in spec.resources.ulimits:
        _check_ulimit(ulimit, host)
    adjustment = spec.resources.oom_score_adj
    if adjustment and adjustment < host.oom_score_adj and _RAISES_LIMITS not in host.capabilities:
        raise FailedPrecondition(f"an out-of-memory score below the daemon's own takes {_RAISES_LIMITS}")
    check_profile(spec.security.apparmor)
    if spec.security.selinux and not host.selinux:
        raise FailedPrecondition(
            f"this host has no SELinux that could know the label {spec.security.selinux}",
            hint="leave out --security-opt label=..., or boot with SELinux",
        )
    for mount in spec.mounts:
        if mount.relabel and host.selinux:
            raise FailedPrecondition("this engine gives files no label of SELinux", hint="label them with chcon")
        if mount.recursion is Recursion.READONLY and not host.recursive_read_only:
            raise FailedPrecondition("this kernel cannot make a whole tree of mounts read-only", hint="5.12 can")
    if spec.init:
        find_init()


def _check_processors(spec: ContainerSpec, host: HostFacts) -> None:
    limits = spec.limits
    if limits.nano_cpus > len(host.cpus) * 1_000_000_000:
        raise InvalidArgument(
            f"{limits.nano_cpus / 1e9:g} processors are more than there are", hint=f"this host has {len(host.cpus)}"
        )
    for what, text, there in (
        ("processors", limits.cpuset_cpus, host.cpus),
        ("memory nodes", limits.cpuset_mems, host.memory_nodes),
    ):
        if text and (missing := parse_set(text) - there):
            listed = ", ".join(map(str, sorted(missing)[:8]))
            raise InvalidArgument(f"this host has no {what} with the numbers {listed}")


def _check_memory(spec: ContainerSpec, host: HostFacts) -> None:
    if spec.limits.memory_swap_bytes and not host.swap_accounting:
        raise FailedPrecondition("this kernel does not count swap", hint="boot it with swapaccount=1")
    for huge in spec.resources.huge_pages:
        if huge.page_bytes not in host.huge_pages:
            sizes = ", ".join(map(page_size, sorted(host.huge_pages)))
            raise FailedPrecondition(
                f"this kernel cannot limit huge pages of {page_size(huge.page_bytes)}",
                hint=f"it can those of {sizes}" if sizes else "leave out --hugetlb-limit",
            )
    if host.cgroup_version == 1:
        return
    for wanted, flag in (
        (spec.resources.memory_swappiness >= 0, "--memory-swappiness"),
        (spec.resources.oom_kill_disable, "--oom-kill-disable"),
    ):
        if wanted:
            raise FailedPrecondition(f"{flag} is of control groups of version 1, and this host has version 2")


def _check_ulimit(ulimit: Ulimit, host: HostFacts) -> None:
    if _RAISES_LIMITS in host.capabilities:
        return
    most = hard_limit(ulimit.name)
    if most >= 0 and (ulimit.hard == -1 or ulimit.hard > most):
        raise FailedPrecondition(
            f"the daemon may not go beyond its own ulimit {ulimit.name}, {most}", hint=f"that takes {_RAISES_LIMITS}"
        )
