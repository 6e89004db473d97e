"""Bytes out of a container: to an attached client, and back out of its log.

    python -m benchmarks.output [--megabytes N] [--rounds N] [--peers ross,podman,docker]     (as root)

``run`` of a program that writes zeros, its output into a pipe that somebody empties, beside ``runc run`` of the same; for Ross with a
log, as its peers have it, and then with the log driver passthrough, which is what runc does. Then a log of lines that is read back.
Medians of MB/s; goals: 0.9 of runc's, and 100 MB/s.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers import Ross, Runc, enter_namespaces, missing, running
from tests.support.ext4 import fresh_ext4
from tests.support.images import busybox_image, push
from tests.support.registry import running_registry

if TYPE_CHECKING:
    from benchmarks.peers import Peer

PEERS = ("ross", "podman", "docker", "runc")
_LINE = "y" * 99


def drained(argv: list[str], environment: dict[str, str], *, from_first: bool) -> tuple[float, int]:
    """Seconds of a command, or of its output from the first byte on; and how many bytes it wrote into the pipe that we empty."""
    began = time.perf_counter()
    process = subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert process.stdout is not None
    count, buffer = 0, bytearray(1 << 20)
    with process.stdout as pipe:
        while size := os.readv(pipe.fileno(), [buffer]):
            if from_first and not count:
                began = time.perf_counter()
            count += size
        seconds = time.perf_counter() - began
    if process.wait() != 0:
        sys.exit(f"error: {' '.join(argv)} failed with {process.returncode}")
    return seconds, count


def rate(argv: list[str], environment: dict[str, str], expected: int, *, from_first: bool = False) -> float:
    """MB/s of a command's output."""
    seconds, count = drained(argv, environment, from_first=from_first)
    if count != expected:
        sys.exit(f"error: {' '.join(argv)} wrote {count} bytes instead of {expected}")
    return count / 1e6 / seconds


def attached(peer: Peer, reference: str, megabytes: int) -> float:
    words = ["dd", "if=/dev/zero", "bs=64k", f"count={megabytes * 16}", "status=none"]
    # How long a container takes to begin is another question.
    return rate(peer.run(reference, *words), peer.environment(), megabytes << 20, from_first=True)


def write_log(peer: Peer, reference: str, lines: int) -> None:
    """Leave a container called log behind, with a log of so many lines."""
    script = f"yes {_LINE} | head -n {lines}"
    subprocess.run(
        peer.run_detached(reference, "log", "sh", "-c", script), env=peer.environment(), check=True, capture_output=True
    )
    subprocess.run(peer.wait("log"), env=peer.environment(), check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", default=",".join(PEERS))
    options = parser.parse_args()
    enter_namespaces("benchmarks.output")
    peers = options.peers.split(",")
    lacking = missing(peers)
    if lacking:
        sys.exit(f"error: not installed: {', '.join(lacking)}\nhint: apt install {' '.join(lacking)}, or fewer --peers")
    lines = options.megabytes * 10_000 // 4
    found: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as temporary, running_registry(Path(temporary) / "registry") as registry:
        reference = push(registry, "bench/busybox:1", busybox_image())
        for name in peers:
            with fresh_ext4(Path(temporary) / name, size="10G") as disk, running(name, disk) as peer:
                subprocess.run(peer.pull(reference), env=peer.environment(), check=True, capture_output=True)
                attached(peer, reference, 10)
                out = statistics.median(attached(peer, reference, options.megabytes) for _ in range(options.rounds))
                if isinstance(peer, Ross):
                    print(f"{name:8} attached {out:7.0f} MB/s, with a log", flush=True)
                    peer.run_flags = ("--log-driver", "passthrough")
                    out = statistics.median(attached(peer, reference, options.megabytes) for _ in range(options.rounds))
                back = 0.0
                if not isinstance(peer, Runc):
                    write_log(peer, reference, lines)
                    size = lines * (len(_LINE) + 1)
                    back = statistics.median(
                        rate(peer.logs("log"), peer.environment(), size) for _ in range(options.rounds)
                    )
                found[name] = out, back
                print(f"{name:8} attached {out:7.0f} MB/s   logs {back:7.0f} MB/s", flush=True)
    if "ross" in found and "runc" in found:
        print(f"attached: {found['ross'][0] / found['runc'][0]:.2f} of runc (goal 0.9); logs: goal 100 MB/s")


if __name__ == "__main__":
    main()
