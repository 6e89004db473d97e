"""What a container uses of the machine, as its control group counts it."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class CpuUse:
    """Time of processors, since its process began."""

    time_ns: int = 0
    user_ns: int = 0
    system_ns: int = 0
    periods: int = 0
    """Of those for which its quota counts."""
    throttled_periods: int = 0
    """In so many of them its quota was used up."""
    throttled_ns: int = 0
    """And so long it had to wait."""


@frozen(kw_only=True)
class MemoryUse:
    """Memory, now."""

    used_bytes: int = 0
    """Without what the kernel would drop first, the inactive cache of files: what Docker shows."""
    cache_bytes: int = 0
    """That cache."""
    peak_bytes: int = 0
    """The most that it has had, caches included; 0 where the kernel does not count it."""
    limit_bytes: int = 0
    """The machine's memory, where it has no limit of its own."""
    swap_bytes: int = 0
    oom_kills: int = 0
    """How many of its processes the kernel has killed for want of memory."""


@frozen(kw_only=True)
class IoUse:
    """What went to and from block devices, since its process began. Writes through the cache count when they reach the device."""

    read_bytes: int = 0
    written_bytes: int = 0
    reads: int = 0
    writes: int = 0


@frozen(kw_only=True)
class PidsUse:
    """Processes and threads, now."""

    count: int = 0
    limit: int = 0
    """0: none."""


@frozen(kw_only=True)
class ContainerStats:
    """A sample."""

    sampled_at: int
    """Nanoseconds since the epoch."""
    elapsed_ns: int
    """Since its process began, by a clock that is never set."""
    cpu: CpuUse = CpuUse()
    memory: MemoryUse = MemoryUse()
    io: IoUse = IoUse()
    pids: PidsUse = PidsUse()

    def processors_since(self, earlier: ContainerStats | None = None) -> float:
        """How many processors it kept busy since an earlier sample, or since its process began."""
        time = self.cpu.time_ns - (earlier.cpu.time_ns if earlier is not None else 0)
        elapsed = self.elapsed_ns - (earlier.elapsed_ns if earlier is not None else 0)
        if time < 0 or elapsed <= 0:  # it was started again in between
            return self.processors_since() if earlier is not None else 0.0
        return time / elapsed

    @property
    def memory_share(self) -> float:
        """Of its limit, from 0 to 1."""
        return self.memory.used_bytes / self.memory.limit_bytes if self.memory.limit_bytes else 0.0
