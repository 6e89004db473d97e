"""A container's life through the client library, against ``runc run`` of the same bundle; and an exec, against ``runc exec``.

    python -m benchmarks.run [--rounds N]          (as root)

``create + start + wait + remove`` of ``true`` with network none, everything warm; then ``runc run`` of the bundle that Ross wrote for it,
with its root filesystem mounted. Then ``exec`` of ``true`` in a container that runs, and ``runc exec`` of it in the same container. The two
alternate; the figures are the ratios of the medians. Goals: 2.2 and 2.0.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import trio

import ross
from ross.linux.mount import mount_overlay, unmount
from tests.support.daemon import Daemon
from tests.support.ext4 import fresh_ext4
from tests.support.images import busybox_image, push
from tests.support.registry import running_registry


async def cycle(image: ross.Image) -> dict[str, float]:
    """Seconds of each step of one life."""
    marks = [time.perf_counter()]
    box = await image.create(["true"], network="none")
    marks.append(time.perf_counter())
    await box.start()
    marks.append(time.perf_counter())
    outcome = await box.wait()
    marks.append(time.perf_counter())
    await box.remove()
    marks.append(time.perf_counter())
    assert outcome.exit_code == 0
    steps = dict(zip(("create", "start", "wait", "remove"), (b - a for a, b in pairwise(marks)), strict=True))
    return {**steps, "life": marks[-1] - marks[0]}


def runc(bundle: Path, state: Path, number: int) -> float:
    """Seconds of ``runc run``."""
    began = time.perf_counter()
    subprocess.run(
        ["runc", "--root", str(state), "run", "--bundle", str(bundle), f"bench{number}"],
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return time.perf_counter() - began


def runc_exec(state: Path, container_id: str) -> float:
    """Seconds of ``runc exec``."""
    began = time.perf_counter()
    subprocess.run(["runc", "--root", str(state), "exec", container_id, "true"], check=True, stdin=subprocess.DEVNULL)
    return time.perf_counter() - began


async def measure_exec(image: ross.Image, state: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of execs in one container: by the client library, and by its runtime alone."""
    ours, bare = [], []
    box = await image.create(["sleep", "600"], network="none")
    await box.start()
    identity = (await box.info()).id
    for _ in range(rounds + 1):
        began = time.perf_counter()
        assert (await box.exec(["true"])).outcome.exit_code == 0
        ours.append(time.perf_counter() - began)
        bare.append(runc_exec(state, identity))
    await box.remove(force=True)
    return ours[1:], bare[1:]


async def measure(
    daemon: Daemon, reference: str, directory: Path, rounds: int
) -> tuple[list[dict[str, float]], list[float], list[float], list[float]]:
    lives, bare = [], []
    async with ross.connect(daemon.socket) as engine:
        image = await engine.images.pull(reference)
        bundle = await copy_bundle(engine, image, directory)
        try:
            await cycle(image)
            runc(bundle, directory / "runc", 0)
            for number in range(1, rounds + 1):
                lives.append(await cycle(image))
                bare.append(runc(bundle, directory / "runc", number))
        finally:
            unmount(bundle / "rootfs")
        return lives, bare, *(await measure_exec(image, daemon.run / "runtime", rounds))


async def copy_bundle(engine: ross.Engine, image: ross.Image, directory: Path) -> Path:
    """The bundle of a container of ours, with a root filesystem of its own: the same layers under a fresh one."""
    box = await image.create(["true"], network="none")
    await box.start()
    await box.wait()
    info = await box.info()
    source = Path(info.rootfs_path).parent
    bundle = directory / "bundle"
    for path in (bundle / "rootfs", directory / "upper", directory / "work", directory / "empty"):
        path.mkdir(parents=True)
    config = json.loads((source / "config.json").read_text())
    etc = shutil.copytree(source.parent / "etc", directory / "etc")
    config["root"]["path"] = "rootfs"
    config["linux"]["cgroupsPath"] = "/ross-bench"
    for mount in config["mounts"]:
        if mount["source"].startswith(str(source.parent)):
            mount["source"] = str(Path(etc) / Path(mount["source"]).name)
    (bundle / "config.json").write_text(json.dumps(config))
    await box.remove()
    (layer,) = (Path((await engine.info()).root) / "snapshots").glob("sha256-*")
    mount_overlay(
        bundle / "rootfs", lower=[layer / "fs", directory / "empty"], upper=directory / "upper", work=directory / "work"
    )
    return bundle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, fresh_ext4(Path(temporary)) as disk:
        with running_registry(Path(temporary) / "registry") as registry:
            reference = push(registry, "bench/busybox:1", busybox_image())
            daemon = Daemon(disk)
            daemon.start()
            try:
                lives, bare, execs, bare_execs = trio.run(measure, daemon, reference, disk / "bench", options.rounds)
            finally:
                daemon.clean_up()
                daemon.terminate()
    medians = {step: statistics.median(life[step] for life in lives) * 1e3 for step in lives[0]}
    runc_ms = statistics.median(bare) * 1e3
    print("ms: " + ", ".join(f"{step} {value:.1f}" for step, value in medians.items()) + f"; runc run {runc_ms:.1f}")
    print(f"ratio {medians['life'] / runc_ms:.2f}   goal: at most 2.2")
    exec_ms, runc_exec_ms = statistics.median(execs) * 1e3, statistics.median(bare_execs) * 1e3
    print(f"ms: exec {exec_ms:.1f}; runc exec {runc_exec_ms:.1f}")
    print(f"ratio {exec_ms / runc_exec_ms:.2f}   goal: at most 2.0")


if __name__ == "__main__":
    main()
