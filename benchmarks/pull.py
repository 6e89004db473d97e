"""``ross pull`` against ``podman pull``: the same image, the same registry on loopback, each on a fresh ext4 with a journal.

    python -m benchmarks.pull [--layout DIRECTORY] [--rounds N]          (as root; needs podman and skopeo)

Without a layout an image is made: a Debian root filesystem with python3 and a compiler, in six gzip layers. The two alternate; the
figure is the ratio of the medians.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.daemon import Daemon, command
from tests.support.debian import cut, debian_tar
from tests.support.ext4 import fresh_ext4
from tests.support.images import ImageBuilder, push
from tests.support.registry import running_registry

PACKAGES = ("python3", "gcc", "libc6-dev", "make", "git", "perl-modules")
LAYERS = 6


def publish(registry: str, layout: Path | None) -> str:
    """Push the image; returns its reference."""
    reference = f"{registry}/bench/big:1"
    if layout is not None:
        subprocess.run(
            ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{layout}", f"docker://{reference}"], check=True
        )
        return reference
    builder = ImageBuilder()
    for layer in cut(debian_tar(PACKAGES, name="big"), LAYERS):
        builder.layer(layer)
    return push(registry, "bench/big:1", builder.build())


def timed(argv: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(argv, check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def pull_with_ross(directory: Path, reference: str) -> float:
    with fresh_ext4(directory, size="10G") as disk:
        daemon = Daemon(disk)
        daemon.start()
        try:
            return timed(command("pull", "-q", reference), daemon.environment())
        finally:
            daemon.terminate()


def pull_with_podman(directory: Path, reference: str) -> float:
    with fresh_ext4(directory, size="10G") as disk:
        places = ["--root", str(disk / "root"), "--runroot", str(disk / "run"), "--storage-driver", "overlay"]
        try:
            return timed(["podman", *places, "pull", "-q", "--tls-verify=false", reference], dict(os.environ))
        finally:
            subprocess.run(["podman", *places, "system", "migrate"], check=False, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", type=Path, help="an OCI layout with the image to pull")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for program in ("podman", "skopeo"):
        if shutil.which(program) is None:
            sys.exit(f"error: {program} is not installed\nhint: apt install {program}")
    figures: dict[str, list[float]] = {"ross": [], "podman": []}
    with tempfile.TemporaryDirectory() as temporary, running_registry(Path(temporary) / "registry") as registry:
        reference = publish(registry, options.layout)
        for number in range(options.rounds):
            figures["ross"].append(pull_with_ross(Path(temporary) / f"ross{number}", reference))
            figures["podman"].append(pull_with_podman(Path(temporary) / f"podman{number}", reference))
    medians = {name: statistics.median(found) for name, found in figures.items()}
    print(", ".join(f"{name} {value:.2f} s" for name, value in medians.items()))
    print(f"ratio {medians['ross'] / medians['podman']:.2f}   goal: at most 1")


if __name__ == "__main__":
    main()
