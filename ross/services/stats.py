"""What a container uses, sample by sample: read from its control group by the kernel's counters.

Takes no turn and asks neither process, monitor nor runtime: a container that hangs, or is being changed, is sampled as any other.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import trio

from ross.errors import FailedPrecondition, InvalidArgument
from ross.linux.cgroup_counters import read_counters
from ross.linux.pidfd import time_since_start
from ross.model.stats import ContainerStats
from ross.shim.state import ALIVE, check_alive

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ross.services.containers import Parts
    from ross.services.running import RunnableContainer

_LEAST_INTERVAL_MS: Final = 20


class Sampler:
    """Samples one container."""

    def __init__(self, container: RunnableContainer, parts: Parts) -> None:
        self._container = container
        self._parts = parts

    async def sample(self, interval_ms: int, write: Callable[[ContainerStats], Awaitable[None]]) -> None:
        """Hand samples to ``write``, the first at once, until the container has stopped for good.

        Args:
            interval_ms: Between two; 0: one sample is all. A ``write`` that takes longer makes them fewer.
            write: Takes a sample.

        Raises:
            FailedPrecondition: it does not run.
            InvalidArgument: that is too often.
            NotFound: it is removed.
        """
        container = self._container
        if 0 < interval_ms < _LEAST_INTERVAL_MS:
            raise InvalidArgument(
                f"a sample each {interval_ms} ms is too much", hint=f"{_LEAST_INTERVAL_MS} ms is the least"
            )
        check_alive(container.record.name, container.state)
        if container.state not in ALIVE:
            raise FailedPrecondition(
                f"the container {container.record.name} is {container.state.value}: there is nothing to be measured"
            )
        due = trio.current_time()
        while not container.at_rest:
            found = await trio.to_thread.run_sync(self._read, abandon_on_cancel=True)
            if found is not None:
                await write(found)
            if not interval_ms:
                return
            due = max(due + interval_ms / 1000, trio.current_time())
            with trio.move_on_at(due):
                await container.wait_stopped()

    def _read(self) -> ContainerStats | None:
        """A sample; None between two runs."""
        record = self._container.record
        if record.run is None:
            return None
        elapsed, now = time_since_start(record.run.process), time.time_ns()
        counters = read_counters(self._container.group, self._parts.hierarchies)
        if counters is None:
            return None
        return ContainerStats(
            sampled_at=now,
            elapsed_ns=elapsed,
            cpu=counters.cpu,
            memory=counters.memory,
            io=counters.io,
            pids=counters.pids,
        )
