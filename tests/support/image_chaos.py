"""The daemon killed at random moments of work on images: what is on the disk is then sound, and no byte that was there is fetched again.

    python -m tests.support.image_chaos [--rounds N] [--seed N]          (as root)

After each kill: the next daemon starts, ``system check`` finds nothing wrong, the same pull comes to its end, fetching of each blob exactly
what was not on the disk, and nothing is left that no record owns.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from attrs import frozen

from tests.support.daemon import Daemon
from tests.support.ext4 import fresh_ext4
from tests.support.faulty_registry import FaultyRegistry, faulty_registry
from tests.support.images import BuiltImage, ImageBuilder, Layer, busybox_layer
from tests.support.registry import running_registry

BYTES_PER_SECOND = 12_000_000
SHORTEST_SECONDS, LONGEST_SECONDS = 0.3, 1.6
OPERATIONS = ("pull", "pull", "push", "prune", "load", "rmi")


@frozen(kw_only=True)
class Place:
    """What a round needs."""

    daemon: Daemon
    source: FaultyRegistry
    target: str
    """A registry to push to."""
    reference: str
    archive: Path
    rng: random.Random


def layered_image(rng: random.Random) -> BuiltImage:
    """Busybox, and layers large enough to be caught on their way."""
    builder = ImageBuilder().layer(busybox_layer())
    for number in range(3):
        layer = Layer().directory(f"d{number}")
        for name in range(20):
            layer.add(f"d{number}/{name}", rng.randbytes(150_000))
        builder.layer(layer)
    return builder.build()


def one_round(place: Place) -> list[str]:
    """Begin something, kill the daemon, start the next; returns what is wrong then."""
    daemon, rng = place.daemon, place.rng
    operation = rng.choice(OPERATIONS)
    wrong = _prepare(place, operation)
    words = {
        "pull": ("pull", place.reference),
        "push": ("push", f"{place.target}/pushed:{rng.randrange(10**9)}"),
        "prune": ("system", "prune", "-af"),
        "load": ("load", "-i", str(place.archive)),
        "rmi": ("rmi", "-f", place.reference),
    }[operation]
    if operation == "push":
        daemon.ross("tag", place.reference, words[1])
    place.source.bytes_per_second = BYTES_PER_SECOND
    client = daemon.popen(*words)
    delay = rng.uniform(SHORTEST_SECONDS, LONGEST_SECONDS)
    time.sleep(delay)
    daemon.kill()
    client.communicate()
    place.source.bytes_per_second = 0
    there = _on_disk(daemon)
    daemon.start()
    wrong += _check(daemon)
    place.source.forget_requests()
    done = daemon.ross("pull", "-q", place.reference)
    if done.returncode != 0:
        wrong.append(f"the next pull failed: {done.stderr}")
    if operation == "pull":
        wrong += _fetched_again(place.source, there)
    wrong += _check(daemon) + daemon.lasting_leaks()
    return [f"after {operation}, killed at {delay:.3f} s: {one}" for one in wrong]


def _prepare(place: Place, operation: str) -> list[str]:
    """Bring about what the operation begins with: an image that is there, or one that is not."""
    if operation in {"pull", "load"}:
        place.daemon.ross("system", "prune", "-af")
        return []
    done = place.daemon.ross("pull", "-q", place.reference)
    return [] if done.returncode == 0 else [f"the image could not be pulled: {done.stderr}"]


def _check(daemon: Daemon) -> list[str]:
    done = daemon.ross("system", "check")
    return [] if done.returncode == 0 else [f"system check: {done.stdout}{done.stderr}"]


def _on_disk(daemon: Daemon) -> dict[str, int]:
    """The bytes that are there of each blob, whole or on its way."""
    found = {}
    for path in (daemon.root / "ingest").glob("sha256-*/data"):
        found[path.parent.name.replace("-", ":", 1)] = path.stat().st_size
    for path in (daemon.root / "blobs/sha256").glob("*"):
        found[f"sha256:{path.name}"] = path.stat().st_size
    return found


def _fetched_again(source: FaultyRegistry, there: dict[str, int]) -> list[str]:
    return [
        f"{one.blob[:19]} was asked for from byte {one.start} on, and {there[one.blob]} bytes of it were there"
        for one in source.served
        if one.blob in there and one.start < there[one.blob]
    ]


def run(directory: Path, source: FaultyRegistry, target: str, *, rounds: int, seed: int) -> list[str]:
    """Returns what was wrong in all rounds."""
    rng = random.Random(seed)
    daemon = Daemon(directory)
    daemon.start()
    try:
        archive = directory / "archive.tar"
        reference = source.serve("chaos", "1", layered_image(rng))
        for words in (("pull", "-q", reference), ("save", "-o", str(archive), reference)):
            done = daemon.ross(*words)
            if done.returncode != 0:
                return [done.stderr]
        place = Place(daemon=daemon, source=source, target=target, reference=reference, archive=archive, rng=rng)
        return [one for _ in range(rounds) for one in one_round(place)]
    finally:
        daemon.clean_up()
        daemon.terminate()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, fresh_ext4(Path(temporary) / "disk") as disk:
        with running_registry(Path(temporary) / "registry") as target, faulty_registry() as source:
            wrong = run(disk, source, target, rounds=options.rounds, seed=options.seed)
    sys.stdout.write("".join(f"{one}\n" for one in wrong))
    sys.stdout.write(f"seed {options.seed}: {options.rounds} kills, {len(wrong)} things wrong\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
