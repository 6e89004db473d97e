"""What can be refused about limits before anything is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ross.errors import InvalidArgument
from ross.model.limits import ThrottleKind
from ross.shim.facts import parse_set
from ross.shim.resources import ULIMITS

if TYPE_CHECKING:
    from ross.model.limits import Limits, Resources, Throttle, Ulimit

_MIN_MEMORY_BYTES: Final = 6 << 20
_MAX_BYTES: Final = (1 << 63) - 1
_SHARES: Final = range(2, 262_145)
_PERIOD_US: Final = range(1000, 1_000_001)
_WEIGHT: Final = range(10, 1001)


def check_limits(limits: Limits) -> None:
    """Check limits of a control group.

    Raises:
        InvalidArgument: one is not allowed, or two contradict each other.
    """
    _check_memory(limits)
    _check_cpu(limits)
    if limits.pids_limit < -1:
        raise InvalidArgument("a limit of processes is a number, or -1 for none")
    if limits.blkio_weight and limits.blkio_weight not in _WEIGHT:
        raise InvalidArgument("the weight for disks is a number from 10 to 1000")


def _check_memory(limits: Limits) -> None:
    memory, swap, reservation = limits.memory_bytes, limits.memory_swap_bytes, limits.memory_reservation_bytes
    if memory and memory < _MIN_MEMORY_BYTES:
        raise InvalidArgument(f"a memory limit of {memory} bytes is too small", hint="the least is 6m")
    if swap < -1:
        raise InvalidArgument("a limit of memory and swap together is a size, or -1 for no limit of swap")
    if swap and not memory:
        raise InvalidArgument("a limit of memory and swap together goes with one of memory", hint="give --memory too")
    if swap > 0 and swap < memory:
        raise InvalidArgument("the limit of memory and swap together is smaller than that of memory alone")
    if reservation < 0 or (memory and reservation > memory):
        raise InvalidArgument("the memory that is reserved is more than the limit of memory")


def _check_cpu(limits: Limits) -> None:
    if limits.nano_cpus and limits.nano_cpus < 10_000_000:
        raise InvalidArgument("that is too little of a processor", hint="the least is 0.01")
    if limits.nano_cpus and (limits.cpu_quota_us or limits.cpu_period_us):
        raise InvalidArgument("--cpus is another way to say --cpu-quota and --cpu-period", hint="leave one out")
    if limits.cpu_period_us and limits.cpu_period_us not in _PERIOD_US:
        raise InvalidArgument("the period of processor time is from 1000 to 1000000 microseconds")
    if limits.cpu_quota_us and limits.cpu_quota_us < 1000:
        raise InvalidArgument("the quota of processor time is at least 1000 microseconds")
    if limits.cpu_shares and limits.cpu_shares not in _SHARES:
        raise InvalidArgument("the shares of processor time are a number from 2 to 262144")
    for text in (limits.cpuset_cpus, limits.cpuset_mems):
        if text:
            try:
                parse_set(text)
            except ValueError as error:
                raise InvalidArgument(str(error)) from None


def check_resources(resources: Resources) -> None:
    """Check what else a container may use.

    Raises:
        InvalidArgument: something is not allowed.
    """
    if not -1 <= resources.memory_swappiness <= 100:
        raise InvalidArgument("the swappiness of memory is a number from 0 to 100")
    if not -1000 <= resources.oom_score_adj <= 1000:
        raise InvalidArgument("the adjustment of the out-of-memory score is a number from -1000 to 1000")
    if not 0 <= resources.shm_bytes <= _MAX_BYTES:
        raise InvalidArgument("the size of shared memory is too large")
    for ulimit in resources.ulimits:
        _check_ulimit(ulimit)
    if len({ulimit.name for ulimit in resources.ulimits}) < len(resources.ulimits):
        raise InvalidArgument("a limit of processes is given twice")
    for throttle in resources.throttles:
        _check_throttle(throttle)
    if len({(one.kind, one.device) for one in resources.throttles}) < len(resources.throttles):
        raise InvalidArgument("a limit of a device is given twice")
    for huge in resources.huge_pages:
        if not 0 < huge.page_bytes <= _MAX_BYTES or not 0 <= huge.limit_bytes <= _MAX_BYTES:
            raise InvalidArgument("a limit of huge pages is the size of a page, and a number of bytes")
    if len({huge.page_bytes for huge in resources.huge_pages}) < len(resources.huge_pages):
        raise InvalidArgument("a limit of huge pages is given twice")


def _check_ulimit(ulimit: Ulimit) -> None:
    if ulimit.name not in ULIMITS:
        raise InvalidArgument(f"there is no ulimit {ulimit.name[:40]!r}", hint=f"one of {', '.join(sorted(ULIMITS))}")
    if min(ulimit.soft, ulimit.hard) < -1:
        raise InvalidArgument(f"the ulimit {ulimit.name} is a number, or -1 for none")
    if ulimit.hard != -1 and (ulimit.soft == -1 or ulimit.soft > ulimit.hard):
        raise InvalidArgument(f"the soft ulimit {ulimit.name} is larger than the hard one")


def _check_throttle(throttle: Throttle) -> None:
    if throttle.kind is ThrottleKind.UNKNOWN or not throttle.device.startswith("/") or "\0" in throttle.device:
        raise InvalidArgument(f"{throttle.device!r} is not the path of a device that can be limited")
    if throttle.kind is ThrottleKind.WEIGHT and throttle.rate not in _WEIGHT:
        raise InvalidArgument(f"the weight for {throttle.device} is a number from 10 to 1000")
    if not 0 < throttle.rate <= _MAX_BYTES:
        raise InvalidArgument(f"the limit of {throttle.device} is a number larger than 0")
