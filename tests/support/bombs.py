"""Images and archives that are little and want much: memory, disk, inodes or time. Made on the way, never whole anywhere.

python -m tests.support.bombs [--gib 10] [--entries 10000000] [--only NAME]          (as root)

Each is pulled, loaded or imported by a daemon with a disk of its own, and both its memory and its disk are looked at meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import zstandard
from attrs import define, field, frozen
from isal import isal_zlib

from tests.support.daemon import Daemon, command
from tests.support.ext4 import ext4_in_memory
from tests.support.faulty_registry import FaultyRegistry, faulty_registry
from tests.support.images import ARCHITECTURE, CONFIG, LAYER, MANIFEST, BuiltImage, digest_of
from tests.support.tar_writer import header, record

MIB: Final = 1 << 20
GIB: Final = 1 << 30
RESIDENT_BYTES: Final = 512 * MIB
"""What the daemon and its workers may have in memory, together, at any time."""
FLOOR_BYTES: Final = 128 * MIB
_SLACK_BYTES: Final = 24 * MIB
"""What is written between two looks at what is free, and the filesystem's own books."""
_SETTLED_SECONDS: Final = 60
_ZEROS: Final = bytes(MIB)

Chunks = Iterator[bytes]


# -- archives ---------------------------------------------------------------------------------------------------------


def zeros(size: int) -> Chunks:
    """One file."""
    yield header(b"zeros", b"0", size=size)
    yield from itertools.repeat(_ZEROS, size // MIB)
    yield bytes(1024)


def behind_the_end(size: int) -> Chunks:
    """Nothing, for long."""
    yield header(b"small", b"0")
    yield from itertools.repeat(_ZEROS, size // MIB)


def same_name(count: int) -> Chunks:
    """The same small file again and again."""
    block = header(b"x", b"0") * 2048
    yield from itertools.repeat(block, -(-count // 2048))


def _numbered(count: int, entry: Callable[[int], bytes]) -> Chunks:
    for start in range(0, count, 1024):
        yield b"".join(map(entry, range(start, start + 1024)))


def files(count: int) -> Chunks:
    return _numbered(count, lambda number: header(b"%d/%d" % (number // 4096, number), b"0"))


def directories(count: int) -> Chunks:
    return _numbered(count, lambda number: header(b"%d/%d" % (number // 4096, number), b"5", mode=0o755))


def whiteouts(count: int) -> Chunks:
    """With long names."""
    above = b"/".join([b"d" * 49] * 80)

    def entry(number: int) -> bytes:
        name = above + b"/.wh.%d" % (number % 1024)
        return _extended(record(b"path", name)) + header(b"x", b"0")

    return _numbered(count, entry)


def links_below(count: int) -> Chunks:
    """Hard links to what is not in the layer, with names of their own: they take no inode until they are settled."""
    target = b"/".join([b"t" * 49] * 80)

    def entry(number: int) -> bytes:
        return _extended(record(b"linkpath", target)) + header(b"%d" % number, b"1")

    return _numbered(count, entry)


def huge_header(size: int) -> Chunks:
    """An extended header that is as large as all."""
    yield header(b"x", b"x", size=size)
    yield from itertools.repeat(_ZEROS, size // MIB)


def many_headers(size: int, kind: bytes = b"x") -> Chunks:
    """Extended headers that are as large as they may be, one behind the other, each with keys of its own."""
    for number in range(size // MIB):
        data = b"".join(record(b"%d.%d" % (number, key), b"v" * 500) for key in range(1900))
        yield _extended(data, kind)
    yield header(b"x", b"0")


def heavy_directories(size: int) -> Chunks:
    """Directories with all the attributes that fit in a header: they are kept until the end."""
    for number in range(size // MIB):
        data = b"".join(record(b"SCHILY.xattr.user.%d" % key, b"v" * 60_000) for key in range(16))
        yield _extended(data) + header(b"%d" % number, b"5", mode=0o755)


def _extended(data: bytes, kind: bytes = b"x") -> bytes:
    return header(b"x", kind, size=len(data)) + data + bytes(-len(data) % 512)


# -- packing ----------------------------------------------------------------------------------------------------------


def gzip_packed(chunks: Chunks) -> Chunks:
    """As one member."""
    packer = isal_zlib.compressobj(1, wbits=31)
    yield from map(packer.compress, chunks)
    yield packer.flush()


def zstd_packed(chunks: Chunks) -> Chunks:
    """As one frame."""
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    yield from map(packer.compress, chunks)
    yield packer.flush()


PACKERS: Final[dict[str, Callable[[Chunks], Chunks]]] = {"gzip": gzip_packed, "zstd": zstd_packed}


def image_of(layer: bytes, compression: str) -> BuiltImage:
    """An image with this layer. What it unpacks to is a lie: nobody gets so far."""
    rootfs = {"type": "layers", "diff_ids": [digest_of(b"whatever")]}
    config = json.dumps({"architecture": ARCHITECTURE, "os": "linux", "rootfs": rootfs}).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)},
        "layers": [{"mediaType": f"{LAYER}+{compression}", "digest": digest_of(layer), "size": len(layer)}],
    }
    blobs = {digest_of(config): config, digest_of(layer): layer}
    return BuiltImage(manifest=json.dumps(manifest).encode(), blobs=blobs)


# -- bombs ------------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Bomb:
    """One of them."""

    name: str
    chunks: Callable[[], Chunks]
    told: str
    """A pattern of what the user is told."""
    compression: str = "zstd"
    verb: str = "pull"


_SPACE = "MiB are free, .* must stay free"
_INODES = "inodes are free|MiB are free|does not fit"
_MEMORY = "than Ross keeps in memory"


def bombs(*, size: int, trailing: int, entries: int) -> list[Bomb]:
    """All of them, so large.

    Args:
        size: Of zeros, in bytes; of headers a fraction of it.
        trailing: Bytes behind the end of an archive.
        entries: Of an archive.
    """
    few = min(entries, 400_000)  # each of these takes 4 KiB of the archive
    named = min(entries, 300_000)  # more than the disk has inodes: so many names are long in the making
    return [
        Bomb(name="zeros, gzip", chunks=lambda: zeros(size), compression="gzip", told=_SPACE),
        Bomb(name="zeros, zstd", chunks=lambda: zeros(size), told=_SPACE),
        Bomb(name="zeros, imported", chunks=lambda: zeros(size), verb="import", told=f"times its|{_SPACE}"),
        Bomb(name="zeros, loaded", chunks=lambda: zeros(size), verb="load", compression="gzip", told=_SPACE),
        Bomb(name="behind the end", chunks=lambda: behind_the_end(trailing), told="times its"),
        Bomb(name="behind the end, imported", chunks=lambda: behind_the_end(trailing), verb="import", told="times its"),
        Bomb(name="a huge header", chunks=lambda: huge_header(size), told="extended header of"),
        Bomb(name="many headers", chunks=lambda: many_headers(size // 8), told="headers are larger"),
        Bomb(name="many global headers", chunks=lambda: many_headers(size // 8, b"g"), told="global header records"),
        Bomb(name="heavy directories", chunks=lambda: heavy_directories(size // 2), told=f"{_MEMORY}|does not fit"),
        Bomb(name="files", chunks=lambda: files(named), told=_INODES),
        Bomb(name="directories", chunks=lambda: directories(named), told=_INODES),
        Bomb(name="whiteouts", chunks=lambda: whiteouts(few), told=_MEMORY),
        Bomb(name="links to what is below", chunks=lambda: links_below(few), told=_MEMORY),
    ]  # fmt: skip


def too_many_entries(entries: int) -> Bomb:
    """More than a layer may have: takes a minute or two."""
    return Bomb(name="entries", chunks=lambda: same_name(entries), compression="gzip", told="more than [0-9]+ entries")


# -- what they do -----------------------------------------------------------------------------------------------------


@define
class Outcome:
    """What a bomb has done."""

    bomb: Bomb
    packed_bytes: int = 0
    seconds: float = 0
    resident_bytes: int = 0
    """At most, daemon and workers together."""
    resident_before: int = 0
    free_bytes: int = 1 << 60
    """At least."""
    wrong: list[str] = field(factory=list)

    def __str__(self) -> str:
        figures = (
            f"{self.packed_bytes / MIB:.1f} MiB, {self.seconds:.1f} s, at most {self.resident_bytes // MIB} MiB resident "
            f"({self.resident_before // MIB} before), at least {self.free_bytes // MIB} MiB free"
        )
        return f"{self.bomb.name}: {figures}" + "".join(f"\n    WRONG: {line}" for line in self.wrong)


@define
class Range:
    """Where bombs go off: a daemon with a disk of its own, and a registry."""

    disk: Path
    daemon: Daemon
    registry: FaultyRegistry

    def explode(self, bomb: Bomb) -> Outcome:
        """Let the daemon have it."""
        outcome = Outcome(bomb)
        outcome.resident_before = resident_bytes(self.daemon)
        packed = b"".join(PACKERS[bomb.compression](bomb.chunks()))
        outcome.packed_bytes = len(packed)
        run = _prepare(bomb, packed, self.daemon, self.registry)
        begun = time.monotonic()
        with _watched(outcome, self.daemon, self.disk):
            done = run()
        outcome.seconds = time.monotonic() - begun
        _judge(outcome, self.daemon, done)
        return outcome


@contextlib.contextmanager
def bomb_range(*, disk_size: str) -> Iterator[Range]:
    """For the length of a block."""
    with ext4_in_memory(size=disk_size) as disk, faulty_registry() as registry:
        daemon = Daemon(disk)
        daemon.start(settings={"ROSS_DISK_FLOOR": str(FLOOR_BYTES)})
        try:
            yield Range(disk, daemon, registry)
        finally:
            daemon.terminate()


def _prepare(
    bomb: Bomb, packed: bytes, daemon: Daemon, registry: FaultyRegistry
) -> Callable[[], subprocess.CompletedProcess[Any]]:
    if bomb.verb == "pull":
        reference = registry.serve("bomb", digest_of(packed)[7:19], image_of(packed, bomb.compression))
        return lambda: daemon.ross("pull", "-q", reference, timeout=1800)
    words = ("import", "-", "bomb:1") if bomb.verb == "import" else ("load",)
    return lambda: subprocess.run(
        command(*words), env=daemon.environment(), input=packed, capture_output=True, timeout=1800, check=False
    )


@contextlib.contextmanager
def _watched(outcome: Outcome, daemon: Daemon, disk: Path) -> Iterator[None]:
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.01):
            outcome.resident_bytes = max(outcome.resident_bytes, resident_bytes(daemon))
            found = os.statvfs(disk)
            outcome.free_bytes = min(outcome.free_bytes, found.f_bavail * found.f_frsize)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _judge(outcome: Outcome, daemon: Daemon, done: subprocess.CompletedProcess[Any]) -> None:
    bomb, wrong = outcome.bomb, outcome.wrong
    told = done.stderr if isinstance(done.stderr, str) else done.stderr.decode()
    if done.returncode != 1:
        wrong.append(f"exit code {done.returncode}")
    if not re.search(bomb.told, told) or "internal error" in told or "Traceback" in told:
        wrong.append(f"told: {told}")
    if outcome.resident_bytes > RESIDENT_BYTES:
        wrong.append(f"{outcome.resident_bytes // MIB} MiB were resident, {RESIDENT_BYTES // MIB} may be")
    if outcome.free_bytes < FLOOR_BYTES - _SLACK_BYTES:
        wrong.append(f"{outcome.free_bytes // MIB} MiB were free, {FLOOR_BYTES // MIB} must be")
    wrong += [f"left: {path}" for path in _left(daemon)]
    wrong += [f"logged: {line}" for line in daemon.complaints()]
    if daemon.ross("health").returncode:
        wrong.append("the daemon does not answer")


def _left(daemon: Daemon) -> list[str]:
    """What is left of it when it has failed. Verified blobs are kept until the next collection, and then they go."""
    deadline = time.monotonic() + _SETTLED_SECONDS
    while (found := _besides_blobs(daemon)) and time.monotonic() < deadline:
        time.sleep(0.05)  # the disk gets what was verified while the answer is on its way
    daemon.ross("system", "prune", "-f")
    return found + [str(path) for path in daemon.root.glob("blobs/*/*")]


def _besides_blobs(daemon: Daemon) -> list[str]:
    found = [str(path) for place in ("ingest", "trash", "pending") for path in (daemon.root / place).glob("*")]
    return found + [str(path) for path in (daemon.root / "snapshots").glob("*") if path.name != "empty"]


def resident_bytes(daemon: Daemon) -> int:
    """Of the daemon and its children."""
    children = [
        pid
        for task in Path(f"/proc/{daemon.pid}/task").iterdir()
        for pid in _read(task / "children").split()
    ]  # fmt: skip
    page = os.sysconf("SC_PAGE_SIZE")
    return sum(
        int(fields[1]) * page
        for pid in (daemon.pid, *children)
        if (fields := _read(Path(f"/proc/{pid}/statm")).split())
    )


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended
        return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=int, default=10)
    parser.add_argument("--entries", type=int, default=10_000_000)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    chosen = bombs(size=options.gib * GIB, trailing=8 * GIB, entries=options.entries)
    wrong = 0
    with bomb_range(disk_size="1G") as where:
        for bomb in (*chosen, too_many_entries(options.entries)):
            if options.only in bomb.name:
                outcome = where.explode(bomb)
                wrong += bool(outcome.wrong)
                sys.stdout.write(f"{outcome}\n")
                sys.stdout.flush()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
