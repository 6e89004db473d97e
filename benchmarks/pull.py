"""Pulling into a cold store: Ross beside containerd, Docker, Podman and the bare tools, from one registry on loopback, in one run.

    python -m benchmarks.pull [--rounds N] [--peers ross,containerd,docker,podman,floor] [--layouts DIRECTORY] [--rate SIZE]
                                                                                                                    (as root)

Each pull has a fresh ext4 with a journal; the peers take turns, and the figures are medians of wall seconds. Without ``--layouts`` (OCI
layouts named big, many and big-zstd) the images are made of Debian packages: a root filesystem with python3 and a compiler in six gzip
layers, the same as zstd, and one layer of nearly fifty thousand small files. Docker 20 cannot read zstd, and is left out there.
With ``--rate 20m`` each connection to the registry gets no more than that in a second, as content delivery networks have it.
Goals: of the best peer 0.30 for big, 0.35 for many, 0.40 for big-zstd; 1.2 of the floor; 150 MiB over idle in memory.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.limited import limited
from benchmarks.memory import proportional_bytes
from benchmarks.peers import PEERS, Ross, enter_namespaces, missing, running
from ross.sizes import parse_size
from tests.support.debian import cut, debian_tar
from tests.support.ext4 import fresh_ext4
from tests.support.images import ImageBuilder, Layer, push
from tests.support.registry import running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.peers import Peer

PACKAGES = ("python3", "gcc", "libc6-dev", "make", "git", "perl-modules")
LAYERS = 6
SMALL_FILES = 47_000
GOALS = {"big": 0.30, "many": 0.35, "big-zstd": 0.40}
NO_ZSTD = {"docker"}


def many_files() -> Layer:
    """A layer as package managers of scripting languages make them: small files, a dozen to a directory."""
    layer = Layer()
    text = b"".join(b"export const value%d = require('./module%d');\n" % (n, n * 7) for n in range(800))
    for number in range(SMALL_FILES):
        if number % 12 == 0:
            layer.directory(f"node_modules/package{number // 12}/lib")
        begin = number * 131 % 20_000
        size = 400 + number * 7919 % 22_000
        layer.add(f"node_modules/package{number // 12}/lib/file{number}.js", text[begin : begin + size])
    return layer


def publish(registry: str, names: list[str], layouts: Path | None) -> dict[str, str]:
    """Push the images; returns their references."""
    found = {}
    for name in names:
        found[name] = f"{registry}/bench/{name}:1"
        if layouts is not None:
            target = f"docker://{found[name]}"
            copy = ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{layouts / name}", target]
            subprocess.run(copy, check=True)
            continue
        builder = ImageBuilder()
        layers = [many_files()] if name == "many" else cut(debian_tar(PACKAGES, name="big"), LAYERS)
        for layer in layers:
            builder.layer(layer, compression="+zstd" if name.endswith("zstd") else "+gzip")
        push(registry, f"bench/{name}:1", builder.build())
    return found


class Memory:
    """The most that a daemon and its children had beyond what it had idle, in bytes of proportional set size."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._idle = self._now()
        self.peak = 0

    def sample(self) -> None:
        self.peak = max(self.peak, self._now() - self._idle)

    def _now(self) -> int:
        pids = [self._pid]
        for entry in Path(f"/proc/{self._pid}/task").iterdir():
            pids += map(int, (entry / "children").read_text().split())
        return sum(map(proportional_bytes, pids))


@contextmanager
def watching(peer: Peer, peaks: list[int]) -> Iterator[None]:
    """Sample the memory of a Ross daemon meanwhile; nothing for other peers."""
    if not isinstance(peer, Ross):
        yield
        return
    memory, done = Memory(peer.daemon.pid), threading.Event()

    def sample() -> None:
        while not done.wait(0.1):
            memory.sample()

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        peaks.append(memory.peak)


def one_pull(name: str, directory: Path, reference: str, peaks: list[int], *, watched: bool) -> float:
    """Wall seconds. Watching costs time: the rounds that are timed are not watched."""
    with fresh_ext4(directory, size="10G") as disk, running(name, disk) as peer:
        argv, environment = peer.pull(reference), peer.environment()
        subprocess.run(["sync"], check=True)
        begun = time.perf_counter()
        if watched:
            with watching(peer, peaks):
                subprocess.run(argv, check=True, env=environment, stdout=subprocess.DEVNULL)
        else:
            subprocess.run(argv, check=True, env=environment, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begun


def show(image: str, seconds: dict[str, list[float]], peak: int) -> None:
    medians = {name: statistics.median(values) for name, values in seconds.items() if values}
    row = "  ".join(f"{name} {value:6.2f}" for name, value in medians.items())
    engines = [value for name, value in medians.items() if name not in {"ross", "floor"}]
    ratios = []
    if "ross" in medians and engines:
        ratios.append(f"of the best peer {medians['ross'] / min(engines):.2f} (goal {GOALS[image]:.2f})")
    if "ross" in medians and "floor" in medians:
        ratios.append(f"of the floor {medians['ross'] / medians['floor']:.2f} (goal 1.20)")
    memory = f"  memory over idle {peak / 2**20:.0f} MiB (goal 150)" if peak else ""
    print(f"{image:9} {row}  {'  '.join(ratios)}{memory}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layouts", type=Path, help="OCI layouts to pull, in the place of images made here")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--peers", default=",".join(name for name in PEERS if name not in {"runc", "containerd+seccomp"})
    )
    parser.add_argument("--images", default=",".join(GOALS))
    parser.add_argument(
        "--rate", type=parse_size, default=0, help="bytes a second of each connection; no limit if absent"
    )
    options = parser.parse_args()
    enter_namespaces("benchmarks.pull")
    peers, images = options.peers.split(","), options.images.split(",")
    lacking = missing(peers) + ([] if options.layouts is None else ["skopeo"] if missing(["podman"]) else [])
    if lacking:
        sys.exit(f"error: not installed: {', '.join(lacking)}\nhint: apt install {' '.join(lacking)}, or fewer --peers")
    with ExitStack() as stack:
        temporary = stack.enter_context(tempfile.TemporaryDirectory())
        registry = stack.enter_context(running_registry(Path(temporary) / "registry"))
        published = publish(registry, images, options.layouts)
        address = stack.enter_context(limited(registry, options.rate))
        references = {name: reference.replace(registry, address, 1) for name, reference in published.items()}
        for image in images:
            seconds: dict[str, list[float]] = {name: [] for name in peers}
            peaks: list[int] = []
            for number in range(options.rounds):
                for name in peers:
                    if not (image.endswith("zstd") and name in NO_ZSTD):
                        place = Path(temporary) / f"{image}-{name}-{number}"
                        seconds[name].append(one_pull(name, place, references[image], peaks, watched=False))
            if "ross" in peers:
                one_pull("ross", Path(temporary) / f"{image}-memory", references[image], peaks, watched=True)
            show(image, seconds, max(peaks, default=0))


if __name__ == "__main__":
    main()
