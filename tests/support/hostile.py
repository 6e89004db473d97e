"""Connections that mean no good: garbage, truncated and oversized messages, and well-formed RPC that makes no sense.

    python -m tests.support.hostile [--connections N] [--seed N]          (as root)

The messages are made by hand, after capnproto's encoding and ``rpc.capnp``: a stream of segments with pointers, some of which lie.
"""

from __future__ import annotations

import argparse
import random
import socket
import struct
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.support.daemon import Daemon
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

# Discriminants of rpc.capnp's Message.
(
    UNIMPLEMENTED,
    ABORT,
    CALL,
    RETURN,
    FINISH,
    RESOLVE,
    RELEASE,
    OBSOLETE_SAVE,
    BOOTSTRAP,
    OBSOLETE_DELETE,
    PROVIDE,
    ACCEPT,
    JOIN,
    DISEMBARGO,
) = range(14)
ENGINE_ID: Final = 0x9A0E61223D96743B
"""Any interface will do; that the daemon does not have it is the point."""


def words(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *(value & 0xFFFFFFFFFFFFFFFF for value in values))


def struct_pointer(offset: int, data: int, pointers: int) -> int:
    return (offset << 2 & 0xFFFFFFFF) | data << 32 | pointers << 48


def list_pointer(offset: int, size: int, count: int) -> int:
    return (offset << 2 & 0xFFFFFFFF) | 1 | size << 32 | count << 35


def frame(segment: bytes, *, count: int = 1, sizes: list[int] | None = None) -> bytes:
    """The segment table and the one segment; the table may say what it likes."""
    sizes = sizes if sizes is not None else [len(segment) // 8]
    table = struct.pack("<I", count - 1) + b"".join(struct.pack("<I", size & 0xFFFFFFFF) for size in sizes)
    return table + bytes(-len(table) % 8) + segment


def message(kind: int, body: bytes = b"", *, pointer: int | None = None) -> bytes:
    """A Message of one kind: a word with the discriminant, and a pointer to ``body``, which follows."""
    inner = struct_pointer(0, 2, 2) if pointer is None else pointer
    return frame(words(struct_pointer(0, 1, 1), kind, inner) + body)


def bootstrap(question: int) -> bytes:
    return message(BOOTSTRAP, words(question, 0), pointer=struct_pointer(0, 1, 1))


def call(rng: random.Random, *, question: int | None = None) -> bytes:
    """A Call on whatever, with parameters of whatever."""
    question = rng.randrange(1 << 32) if question is None else question
    data = words(
        question | rng.randrange(1 << 16) << 32, rng.choice((ENGINE_ID, rng.getrandbits(64))), rng.getrandbits(16)
    )
    target = words(struct_pointer(2, 1, 1), rng.getrandbits(64), rng.getrandbits(20), 0)
    return message(CALL, data + target, pointer=struct_pointer(0, 3, 3))


def garbage(rng: random.Random) -> bytes:
    return rng.randbytes(rng.randrange(1, 4000))


def truncated(rng: random.Random) -> bytes:
    whole = bootstrap(1) + call(rng)
    return whole[: rng.randrange(1, len(whole))]


def oversized(rng: random.Random) -> bytes:
    size = rng.choice((1 << 20, 1 << 28, (1 << 32) - 1))
    return frame(words(0), sizes=[size])


def many_segments(rng: random.Random) -> bytes:
    count = rng.choice((2, 513, 1 << 16, (1 << 32) - 1))
    return struct.pack("<I", count - 1) + rng.randbytes(rng.randrange(2000))


def lying_pointer(rng: random.Random) -> bytes:
    pointer = rng.choice((
        struct_pointer(rng.randrange(-(1 << 29), 1 << 29), 1, 1),
        list_pointer(0, 7, (1 << 29) - 1),
        list_pointer(0, 0, (1 << 29) - 1),
        2 | rng.getrandbits(29) << 3 | rng.getrandbits(32) << 32,
        3,
        rng.getrandbits(64),
    ))
    return bootstrap(1) + message(rng.randrange(20), rng.randbytes(64), pointer=pointer)


def deep(rng: random.Random) -> bytes:
    """A pointer to a pointer to a pointer."""
    depth = rng.choice((100, 10_000))
    return message(CALL, words(*(struct_pointer(0, 0, 1) for _ in range(depth))))


def amplified(_rng: random.Random) -> bytes:
    """Many pointers to one list: little to send, much to follow."""
    count = 500
    lists = [list_pointer(count - index - 1, 2, 1000) for index in range(count)]
    return message(CALL, words(list_pointer(0, 6, count), *lists) + bytes(1000))


def unknown_ids(rng: random.Random) -> bytes:
    """Finish, release, return, resolve and disembargo of what never was."""
    parts = [bootstrap(rng.randrange(5))]
    for _ in range(rng.randrange(1, 30)):
        kind = rng.choice((
            RETURN,
            FINISH,
            RESOLVE,
            RELEASE,
            DISEMBARGO,
            ABORT,
            UNIMPLEMENTED,
            JOIN,
            PROVIDE,
            ACCEPT,
            OBSOLETE_SAVE,
        ))
        parts.append(
            message(
                kind,
                words(rng.getrandbits(32), rng.getrandbits(64)) + rng.randbytes(32),
                pointer=struct_pointer(0, 2, 2),
            )
        )
    return b"".join(parts)


def floods(rng: random.Random) -> bytes:
    """Hundreds of bootstraps and calls, and no reading of the answers."""
    return b"".join(bootstrap(number) + call(rng, question=1000 + number) for number in range(rng.choice((10, 400))))


def mutated(rng: random.Random) -> bytes:
    """A sensible conversation with some bytes changed."""
    data = bytearray(
        bootstrap(0) + call(rng, question=1) + message(FINISH, words(1, 0), pointer=struct_pointer(0, 1, 0))
    )
    for _ in range(rng.randrange(1, 20)):
        data[rng.randrange(len(data))] = rng.getrandbits(8)
    return bytes(data)


KINDS: Final[tuple[Callable[[random.Random], bytes], ...]] = (
    garbage, truncated, oversized, many_segments, lying_pointer, deep, amplified, unknown_ids, floods, mutated,
)  # fmt: skip


def attack(path: Path, rng: random.Random) -> str:
    """One connection. Returns what kind it was."""
    kind = rng.choice(KINDS)
    with socket.socket(socket.AF_UNIX) as sock, suppress(OSError):
        sock.settimeout(0.5)
        sock.connect(str(path))
        sock.sendall(kind(rng))
        if rng.random() < 0.3:
            sock.shutdown(socket.SHUT_WR)
        if rng.random() < 0.3:
            sock.settimeout(0.02)
            sock.recv(4096)
    return kind.__name__


def run(daemon: Daemon, *, connections: int, seed: int) -> tuple[int, int]:
    """Attack; returns the daemon's resident bytes after the first fifth, which warms it up, and at the end: with nobody connected."""
    rng = random.Random(seed)
    warm = 0
    for number in range(connections):
        attack(daemon.socket, rng)
        if number == connections // 5:
            until(lambda: not daemon.connections())
            warm = daemon.rss_bytes()
        if number % 500 == 0 and daemon.ross("health").returncode != 0:
            raise RuntimeError(
                f"the daemon does not answer after {number} connections of seed {seed}:\n{daemon.log[-3000:]}"
            )
    until(lambda: not daemon.connections())
    return warm, daemon.rss_bytes()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        daemon = Daemon(Path(temporary))
        daemon.start()
        before = daemon.open_fds()
        warm, end = run(daemon, connections=options.connections, seed=options.seed)
        answers = daemon.ross("health").returncode == 0
        with suppress(AssertionError):
            until(lambda: daemon.open_fds() <= before)
        after = daemon.open_fds()
        daemon.terminate()
    growth = (end - warm) / warm
    sys.stdout.write(
        f"seed {options.seed}: {options.connections} connections; answers: {answers}; resident {warm >> 10} KiB warm, "
        f"{end >> 10} KiB at the end ({growth:+.1%}); descriptors {before} before, {after} after\n"
    )
    return 0 if answers and growth < 0.1 and after <= before else 1


if __name__ == "__main__":
    sys.exit(main())
