"""Listing many containers, some of which have a monitor that does not answer.

    python -m benchmarks.listing [--containers N] [--running N] [--stopped N] [--rounds N]      (as root)

So many containers, some of them running, are listed by a client: the answer as it comes from the daemon, and as the records that a
client makes of it. Then monitors are stopped (SIGSTOP), and the same is done again, beside an inspection of a container with a stopped
monitor, and a whole life of another container. Medians of wall ms; goal: 50 for the answer, with and without stopped monitors.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

import ross
from ross.model.containers import ContainerFilter
from ross.wire.convert import to_wire
from tests.support.daemon import Daemon
from tests.support.ext4 import fresh_ext4
from tests.support.images import busybox_image, push
from tests.support.registry import running_registry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_AT_ONCE = 20


async def fill(image: ross.Image, containers: int, running: int) -> list[ross.Container]:
    """Create so many, and start some; returns those."""
    limiter, started = trio.CapacityLimiter(_AT_ONCE), []

    async def one(number: int) -> None:
        async with limiter:
            box = await image.create(
                ["sleep", "3600"], name=f"listed{number}", network="none", labels={"n": str(number)}
            )
            if number < running:
                await box.start()
                started.append(box)

    async with trio.open_nursery() as nursery:
        for number in range(containers):
            nursery.start_soon(one, number)
    return started


async def median(rounds: int, call: Callable[[], Awaitable[Any]]) -> float:
    """Milliseconds."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        await call()
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times)


async def measure(daemon: Daemon, reference: str, options: argparse.Namespace) -> None:
    async with ross.connect(daemon.socket) as engine:
        image = await engine.images.pull(reference)
        started = await fill(image, options.containers, options.running)
        capability = engine.containers._capability  # noqa: SLF001 -- the answer itself, before anything is made of it
        everything = to_wire(ContainerFilter(all=True))

        async def life() -> None:
            box = await image.create(["true"], network="none")
            await box.start()
            await box.wait()
            await box.remove()

        async def show(title: str) -> None:
            answered = await median(options.rounds, lambda: capability.list(filter=everything))
            listed = await median(options.rounds, lambda: engine.containers.list(all=True))
            inspected = await median(options.rounds, started[0].info)
            lived = await median(options.rounds, life)
            print(
                f"{title:24} answer {answered:6.1f}   as records {listed:6.1f}   info {inspected:6.2f}   a life {lived:6.1f}",
                flush=True,
            )

        await show(f"{options.containers} containers")
        monitors = [
            int((daemon.run / "monitors" / (await box.info()).id / "monitor.pid").read_text())
            for box in started[: options.stopped]
        ]
        for pid in monitors:
            os.kill(pid, signal.SIGSTOP)
        try:
            await show(f"{len(monitors)} monitors stopped")
        finally:
            for pid in monitors:
                os.kill(pid, signal.SIGCONT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--containers", type=int, default=1000)
    parser.add_argument("--running", type=int, default=100)
    parser.add_argument("--stopped", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, fresh_ext4(Path(temporary), size="4G") as disk:
        with running_registry(Path(temporary) / "registry") as registry:
            reference = push(registry, "bench/busybox:1", busybox_image())
            daemon = Daemon(disk)
            daemon.start()
            try:
                trio.run(measure, daemon, reference, options)
            finally:
                daemon.clean_up()
                daemon.terminate()


if __name__ == "__main__":
    main()
