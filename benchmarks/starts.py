"""Many starts, commands from the shell, and what many containers cost in memory: Ross beside its peers.

    python -m benchmarks.starts [--rounds N] [--containers N] [--peers ross,containerd,containerd+seccomp,podman,docker]   (as root)

``run --rm ... true`` from the shell (medians of wall ms); so many detached runs at once, as many clients do it, and for Ross also by one
client of its library, with a filter of system calls and without (``ctr`` has one only if it is told to); then the proportional set size of
the daemon and all its monitors, idle and with so many sleeping containers.
Goals: from the shell faster than podman and docker; at once 0.45 of containerd's time; 60 MB idle, 0.6 MB a container.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import trio

import ross
from benchmarks.memory import proportional_bytes
from benchmarks.peers import Ross, enter_namespaces, missing, running
from tests.support.ext4 import fresh_ext4
from tests.support.images import busybox_image, push
from tests.support.registry import running_registry

if TYPE_CHECKING:
    from benchmarks.peers import Peer

PEERS = ("ross", "containerd", "containerd+seccomp", "podman", "docker")
AT_ONCE = 50
AT_ONCE_ROUNDS = 5


def from_the_shell(peer: Peer, reference: str, rounds: int) -> float:
    """Median of milliseconds."""
    times = []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        subprocess.run(peer.run(reference, "true"), env=peer.environment(), check=True, stdin=subprocess.DEVNULL)
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times[1:])


def at_once(peer: Peer, reference: str, prefix: str) -> float:
    """Seconds until so many detached runs, each by a client of its own, have come back."""
    began = time.perf_counter()
    clients = [
        subprocess.Popen(
            peer.run_detached(reference, f"{prefix}{number}", "sleep", "600"),
            env=peer.environment(),
            stdout=subprocess.DEVNULL,
            stdin=subprocess.DEVNULL,
        )
        for number in range(AT_ONCE)
    ]
    failed = sum(client.wait() != 0 for client in clients)
    if failed:
        sys.exit(f"error: {failed} of {AT_ONCE} runs of {peer.name} failed")
    seconds = time.perf_counter() - began
    peer.remove([f"{prefix}{number}" for number in range(AT_ONCE)])
    return seconds


async def by_one_client(socket: Path, reference: str, count: int, *, seccomp: str = "") -> float:
    """Seconds until one client of the library has created and started so many containers, all at once."""
    async with ross.connect(socket) as engine:
        image = await engine.images.get(reference)

        async def begin() -> None:
            await (await image.create(["sleep", "600"], network="none", seccomp=seccomp)).start()

        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(begin)
        return time.perf_counter() - began


def memory(daemon_pid: int) -> tuple[int, int]:
    """Proportional bytes of the daemon, and of all monitors."""
    monitors = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/comm") if _text(path).strip() == "conmon"]
    return proportional_bytes(daemon_pid), sum(map(proportional_bytes, monitors))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended
        return ""


def ross_alone(peer: Ross, reference: str, containers: int) -> None:
    """By the library, and the memory of many."""
    time.sleep(5)  # until it is idle: what a burst has left is given back behind it
    idle, _ = memory(peer.daemon.pid)
    for seccomp, named in (("unconfined", ", no filter"), ("", "")):
        times = []
        for _ in range(AT_ONCE_ROUNDS):
            peer.daemon.clean_up()
            start = functools.partial(by_one_client, seccomp=seccomp)
            times.append(trio.run(start, peer.daemon.socket, reference, AT_ONCE))
        print(f"ross      {AT_ONCE} at once by one client{named} {statistics.median(times):6.2f} s")
    done = AT_ONCE
    print(f"ross      idle {idle / 1e6:6.1f} MB (goal 60)")
    while True:
        daemon, monitors = memory(peer.daemon.pid)
        each = (daemon - idle + monitors) / done / 1e6
        print(f"ross      {done:4} containers: daemon {daemon / 1e6:6.1f} MB, monitors {monitors / 1e6:6.1f} MB, "
              f"{each:.2f} MB each (goal 0.6)", flush=True)  # fmt: skip
        if done >= containers:
            return
        more = min(AT_ONCE, containers - done)
        trio.run(by_one_client, peer.daemon.socket, reference, more)
        done += more


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--containers", type=int, default=500)
    parser.add_argument("--peers", default=",".join(PEERS))
    options = parser.parse_args()
    enter_namespaces("benchmarks.starts")
    peers = options.peers.split(",")
    lacking = missing(peers)
    if lacking:
        sys.exit(f"error: not installed: {', '.join(lacking)}\nhint: apt install {' '.join(lacking)}, or fewer --peers")
    with tempfile.TemporaryDirectory() as temporary, running_registry(Path(temporary) / "registry") as registry:
        reference = push(registry, "bench/busybox:1", busybox_image())
        for name in peers:
            with fresh_ext4(Path(temporary) / name, size="10G") as disk, running(name, disk) as peer:
                subprocess.run(peer.pull(reference), env=peer.environment(), check=True, capture_output=True)
                shell = from_the_shell(peer, reference, options.rounds)
                many = statistics.median(at_once(peer, reference, f"many{turn}-") for turn in range(AT_ONCE_ROUNDS))
                print(f"{name:18} run --rm true {shell:6.0f} ms   {AT_ONCE} at once {many:6.2f} s", flush=True)
                if isinstance(peer, Ross):
                    ross_alone(peer, reference, options.containers)
                    peer.daemon.clean_up()


if __name__ == "__main__":
    main()
