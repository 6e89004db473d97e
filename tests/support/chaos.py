"""The daemon killed at random moments of pulls and runs; after each the next one must work, and nothing may be left.

python -m tests.support.chaos [--rounds N] [--seed N]          (as root)
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.support.daemon import Daemon
from tests.support.ext4 import fresh_ext4
from tests.support.images import BuiltImage, ImageBuilder, Layer, busybox_layer, push
from tests.support.registry import running_registry

LONGEST_SECONDS = 0.6


def layered_image(rng: random.Random) -> BuiltImage:
    """Busybox and three layers that take a moment to pull."""
    builder = ImageBuilder().layer(busybox_layer())
    for number in range(3):
        builder.layer(Layer().add(f"file{number}", rng.randbytes(3_000_000)))
    return builder.build()


def one_round(daemon: Daemon, reference: str, rng: random.Random) -> list[str]:
    """Begin something, kill the daemon, start the next; returns what is wrong then."""
    fresh = rng.random() < 0.5
    if fresh:
        daemon.ross("rmi", "-f", reference)
    else:
        daemon.ross("pull", "-q", reference)
    words = rng.choice((
        ("pull", reference),
        ("run", "--rm", reference, "sh", "-c", "echo hello; exit 3"),
        ("run", reference, "true"),
        ("run", "-d", reference, "sleep", "0.3"),
    ))
    client = daemon.popen(*words)
    delay = rng.uniform(0.1, LONGEST_SECONDS)
    time.sleep(delay)
    daemon.kill()
    client.communicate()
    daemon.start()
    wrong = []
    done = daemon.ross("run", "--rm", reference, "sh", "-c", "exit 5")
    if done.returncode != 5:
        wrong.append(f"the next run ended with {done.returncode}: {done.stderr}")
    for info in json.loads(daemon.ross("ps", "-a", "--format", "json").stdout):
        if info["state"] != "created":
            waited = daemon.ross("wait", info["id"])
            if waited.stdout.strip() not in {"0", "3"} and "no container" not in waited.stderr:
                wrong.append(f"{info['command']} ended with {waited.stdout} {waited.stderr}")
    daemon.clean_up()
    wrong += daemon.lasting_leaks()
    return [f"after {' '.join(words[:2])} killed at {delay:.3f} s: {one}" for one in wrong]


def run(directory: Path, registry: str, *, rounds: int, seed: int) -> list[str]:
    """Returns what was wrong in all rounds."""
    rng = random.Random(seed)
    reference = push(registry, "test/layered:1", layered_image(rng))
    daemon = Daemon(directory)
    daemon.start()
    try:
        return [one for _ in range(rounds) for one in one_round(daemon, reference, rng)]
    finally:
        daemon.clean_up()
        daemon.terminate()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, fresh_ext4(Path(temporary) / "disk") as disk:
        with running_registry(Path(temporary) / "registry") as registry:
            wrong = run(disk, registry, rounds=options.rounds, seed=options.seed)
    sys.stdout.write("".join(f"{one}\n" for one in wrong))
    sys.stdout.write(f"seed {options.seed}: {options.rounds} kills, {len(wrong)} things wrong\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
