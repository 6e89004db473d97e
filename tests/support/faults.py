"""Everything that registries, proxies and networks do wrong, at random; and pulls that must end well or say clearly why not.

python -m tests.support.faults [--pulls N] [--seed N]          (as root)
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import re
import sys
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Final

import trio
from attrs import define, field, frozen

from ross.errors import Internal, RossError
from ross.linux.files import remove_tree
from ross.oci.digest import Digest
from ross.registry.retry import RetryPolicy
from ross.registry.session import Timing
from ross.services.windows import Splitting
from tests.support.ext4 import ext4_in_memory
from tests.support.faulty_registry import (
    ANOTHER_SIZE,
    USER,
    Auth,
    Exchange,
    Fault,
    FaultyRegistry,
    Request,
    Served,
    faulty_registry,
)
from tests.support.images import BuiltImage, ImageBuilder, Layer
from tests.support.pulling import PullingEngine, pulling_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

PATIENCE: Final = RetryPolicy(attempts=5, initial_seconds=0.001, maximum_seconds=0.01, patience_seconds=1.5)
TIMING: Final = Timing(
    connect_seconds=2.0, silence_seconds=0.6, document_seconds=1.2, window_seconds=0.6, window_bytes=4096
)
EAGER: Final = Splitting(
    smallest_bytes=64 << 10,
    largest_bytes=512 << 10,
    ahead_bytes=3 << 20,
    stretch_seconds=0,
    slow_bytes=1 << 50,
    busy=1e9,
    gain=0,
)
"""Several connections whenever there is more than a few pieces to come."""
DEADLINE_SECONDS: Final = 60
"""For one pull. None comes near, but for one that hangs."""
LEFT_SECONDS: Final = 30


@frozen
class Kind:
    """One thing that goes wrong."""

    fault: Fault
    blobs: bool = True
    manifests: bool = True
    ranged: bool = False
    """Only where a part was asked for."""
    window: bool = False
    """Only where it was asked for up to somewhere before the end."""


def _random_cut(exchange: Exchange, rng: random.Random) -> int:
    return rng.randrange(len(exchange.reply.body) + 1)


def _status(status: int, **headers: str) -> Fault:
    def fault(exchange: Exchange) -> None:
        exchange.reply.body = b""
        exchange.reply.headers = {key.replace("_", "-"): value for key, value in headers.items()}
        exchange.head(status=status)

    return fault


def _drop(exchange: Exchange, rng: random.Random) -> None:
    exchange.head()
    exchange.body(_random_cut(exchange, rng))


def _reset(exchange: Exchange, rng: random.Random) -> None:
    exchange.fate = "lost"
    exchange.head()
    exchange.body(_random_cut(exchange, rng))
    exchange.reset()


def _close(_exchange: Exchange) -> None:
    return


def _stall(exchange: Exchange, rng: random.Random) -> None:
    exchange.head()
    exchange.body(_random_cut(exchange, rng))
    exchange.wait_for_the_client(3)


def _drip(exchange: Exchange, rng: random.Random) -> None:
    """Slow-loris: a byte now and then, so that there is never silence, and never an end."""
    exchange.fate = "lost"
    exchange.head()
    while exchange.sent < len(exchange.reply.body):
        exchange.body(exchange.sent + 1)
        time.sleep(rng.uniform(0.01, 0.05))


def _dripping_head(exchange: Exchange) -> None:
    for number in range(200):
        exchange.raw(b"HTTP/1.1 200 OK\r\nX-Slow: " if number == 0 else b"x")
        time.sleep(0.02)


def _short_length(exchange: Exchange, rng: random.Random) -> None:
    """An answer that is complete, and less than the blob."""
    cut = _random_cut(exchange, rng)
    exchange.head(length=cut)
    exchange.body(cut)


def _extra(exchange: Exchange, rng: random.Random, *, announced: bool) -> None:
    exchange.fate = "spoiled"
    more = rng.randbytes(rng.randrange(1, 5000))
    exchange.head(length=len(exchange.reply.body) + len(more) if announced else None, Connection="close")
    exchange.body()
    exchange.raw(more)


def _endless(exchange: Exchange) -> None:
    exchange.fate = "spoiled"
    exchange.head(length=None, Connection="close")
    exchange.body()
    for _ in range(2000):
        exchange.raw(bytes(64 << 10))


def _wrong_bytes(exchange: Exchange, rng: random.Random) -> None:
    exchange.fate = "spoiled"
    changed = bytearray(exchange.reply.body)
    if changed:
        at = rng.randrange(len(changed))
        changed[at] ^= 1 << rng.randrange(8)
    exchange.head()
    exchange.reply.body = bytes(changed)
    exchange.body()


def _no_length(exchange: Exchange) -> None:
    exchange.head(length=None, Connection="close")
    exchange.body()


def _chunked(exchange: Exchange, rng: random.Random, *, broken: bool) -> None:
    exchange.fate = "lost" if broken else "kept"
    exchange.head(length=None, Transfer_Encoding="chunked")
    body = exchange.reply.body
    while exchange.sent < len(body):
        count = min(rng.randrange(1, 40_000), len(body) - exchange.sent)
        exchange.raw(b"%x\r\n" % count)
        exchange.body(exchange.sent + count)
        exchange.raw(b"\r\n")
        if broken and rng.random() < 0.4:
            exchange.raw(rng.choice((b"zz\r\n", b"-5\r\n", b"ffffffffffffffffffff\r\n")))
            return
    exchange.raw(b"0\r\n\r\n")


def _lying_header(name: str, value: str, exchange: Exchange, *, fate: str = "kept") -> None:
    if fate == "spoiled":
        exchange.fate = "spoiled"
    exchange.reply.headers.pop(name.replace("_", "-"), None)
    exchange.reply.headers[name.replace("_", "-")] = value
    exchange.head()
    exchange.body()


def _without_digest(exchange: Exchange) -> None:
    exchange.reply.headers.pop("Docker-Content-Digest", None)
    exchange.head()
    exchange.body()


def _range_ignored(exchange: Exchange) -> None:
    """The whole, although a part was asked for."""
    blob = exchange.request.blob or ""
    exchange.reply.status, exchange.reply.start = 200, 0
    exchange.reply.headers.pop("Content-Range", None)
    exchange.reply.body = exchange.registry.content(blob)
    exchange.head()
    exchange.body()


def _range_refused(exchange: Exchange) -> None:
    exchange.fate = "refused"
    _status(416, Content_Range="bytes */1")(exchange)


def _range_elsewhere(exchange: Exchange, rng: random.Random) -> None:
    """206, and another part than was asked for, or one that does not say which it is."""
    exchange.fate = "refused"
    size = len(exchange.registry.content(exchange.request.blob or ""))
    exchange.reply.headers.pop("Content-Range", None)
    wrong = rng.choice((
        f"bytes 0-{size - 1}/{size}",
        f"bytes {exchange.reply.start + 1}-{size - 1}/{size}",
        "bytes x",
        "",
    ))
    if wrong:
        exchange.reply.headers["Content-Range"] = wrong
    exchange.head()
    exchange.connection.sendall(exchange.reply.body)


def _window_too_long(exchange: Exchange) -> None:
    """The right beginning, and all the rest behind it, as if nothing had been said about the end."""
    start, whole = exchange.reply.start, exchange.registry.content(exchange.request.blob or "")
    exchange.reply.headers["Content-Range"] = f"bytes {start}-{len(whole) - 1}/{len(whole)}"
    exchange.reply.body = whole[start:]
    exchange.fate = "lost"
    exchange.head()
    exchange.body()


def _window_of_another_size(exchange: Exchange) -> None:
    """A part of a blob that has another size, it says."""
    exchange.fate = "lost"
    exchange.reply.headers["Content-Range"] = exchange.reply.headers["Content-Range"].partition("/")[0] + "/7"
    exchange.head()
    exchange.body()


def _part_unasked(exchange: Exchange) -> None:
    """204, and 206 to who asked for no part."""
    _status(204)(exchange)


def _redirect(exchange: Exchange, target: str) -> None:
    path = exchange.request.path
    exchange.fate = "kept"
    _status(307, Location=target.format(storage=exchange.registry.storage, host=exchange.registry.host, path=path))(
        exchange
    )


def _no_location(exchange: Exchange) -> None:
    _status(307)(exchange)


def _garbage(exchange: Exchange, rng: random.Random) -> None:
    exchange.raw(rng.choice((
        rng.randbytes(300), b"\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 \xff\xff\r\n\r\n", b"HTTP/1.1 20000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 200_000 + b"\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" * 300,
        b"\x16\x03\x01\x02\x00\x01\x00",
    )))  # fmt: skip


def kinds(rng: random.Random) -> dict[str, Kind]:
    """All that goes wrong, by name."""
    return {
        "drop": Kind(partial(_drop, rng=rng)),
        "reset": Kind(partial(_reset, rng=rng)),
        "close": Kind(_close),
        "stall": Kind(partial(_stall, rng=rng)),
        "drip": Kind(partial(_drip, rng=rng)),
        "dripping head": Kind(_dripping_head),
        "short length": Kind(partial(_short_length, rng=rng)),
        "extra, announced": Kind(partial(_extra, rng=rng, announced=True)),
        "extra": Kind(partial(_extra, rng=rng, announced=False)),
        "endless": Kind(_endless),
        "wrong bytes": Kind(partial(_wrong_bytes, rng=rng)),
        "no length": Kind(_no_length),
        "chunked": Kind(partial(_chunked, rng=rng, broken=False)),
        "broken chunks": Kind(partial(_chunked, rng=rng, broken=True)),
        "encoded": Kind(partial(_lying_header, "Content_Encoding", "gzip", fate="spoiled")),
        "wrong digest header": Kind(partial(_lying_header, "Docker_Content_Digest", "sha256:" + "0" * 64), blobs=False),
        "malformed digest header": Kind(partial(_lying_header, "Docker_Content_Digest", "sha256:../../x"), blobs=False),
        "wrong content type": Kind(partial(_lying_header, "Content_Type", "text/html"), blobs=False),
        "no digest header": Kind(_without_digest),
        "range ignored": Kind(_range_ignored, manifests=False, ranged=True),
        "416": Kind(_range_refused, manifests=False, ranged=True),
        "range elsewhere": Kind(partial(_range_elsewhere, rng=rng), manifests=False, ranged=True),
        "window too long": Kind(_window_too_long, manifests=False, ranged=True, window=True),
        ANOTHER_SIZE: Kind(_window_of_another_size, manifests=False, ranged=True, window=True),
        "window stalls": Kind(partial(_stall, rng=rng), manifests=False, ranged=True, window=True),
        "window resets": Kind(partial(_reset, rng=rng), manifests=False, ranged=True, window=True),
        "204": Kind(_part_unasked),
        "403": Kind(_status(403)),
        "404": Kind(_status(404)),
        "429": Kind(_status(429)),
        "429, at once": Kind(_status(429, Retry_After="0")),
        "429, in a while": Kind(_status(429, Retry_After="1")),
        "429, next week": Kind(_status(429, Retry_After="604800")),
        "429, nonsense": Kind(_status(429, Retry_After="soon, \u00e9")),
        "429, in the past": Kind(_status(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT")),
        "500": Kind(_status(500)),
        "502": Kind(_status(502)),
        "503": Kind(_status(503, Retry_After="0")),
        "redirect to storage": Kind(partial(_redirect, target="http://{storage}{path}")),
        "redirect, relative": Kind(partial(_redirect, target="{path}")),
        "redirect to metadata": Kind(partial(_redirect, target="http://169.254.169.254/latest")),
        "redirect to a file": Kind(partial(_redirect, target="file:///etc/passwd")),
        "redirect with a user": Kind(partial(_redirect, target="http://ross:x@{storage}{path}")),
        "redirect to nothing": Kind(partial(_redirect, target="http://127.0.0.3:1{path}")),
        "redirect, malformed": Kind(partial(_redirect, target="http://[::1")),
        "redirect without a location": Kind(_no_location),
        "garbage": Kind(partial(_garbage, rng=rng)),
    }  # fmt: skip


HARMLESS: Final = frozenset({
    "redirect to storage",
    "no length",
    "chunked",
    "drop",
    "500",
    "range ignored",
    "429, at once",
})


@define
class RandomPlan:
    """Chooses what goes wrong with a request, if anything."""

    rng: random.Random
    rate: float
    chosen: Counter[str] = field(factory=Counter)
    only: frozenset[str] | None = None

    def __call__(self, request: Request) -> tuple[str, Fault] | None:
        if request.redirected or self.rng.random() >= self.rate:
            return None
        fitting = [
            (name, kind.fault)
            for name, kind in kinds(self.rng).items()
            if (kind.blobs if request.blob else kind.manifests)
            and (not kind.ranged or "range" in request.headers)
            and (not kind.window or not request.headers.get("range", "-").endswith("-"))
            and (self.only is None or name in self.only)
        ]
        name, fault = self.rng.choice(fitting)
        self.chosen[name] += 1
        return name, fault


def random_auth(rng: random.Random) -> tuple[Auth, tuple[str, str] | None]:
    """How the registry wants to be spoken to, and what the client knows."""
    wrong_realms = (
        "http://127.0.0.3:1/token",
        "http://169.254.169.254/",
        "file:///etc/passwd",
        "",
        "http://u:p@{host}/token",
        "//[",
        "x",
    )
    answers: tuple[Callable[[], tuple[int, bytes]], ...] = (
        lambda: (500, b""), lambda: (401, b""), lambda: (200, b"not json"), lambda: (200, b'{"token": 5}'),
        lambda: (200, b'{"token": "a\\nb"}'), lambda: (200, b"[" * 100_000), lambda: (200, bytes(1 << 20)), lambda: (404, b""),
    )  # fmt: skip
    return rng.choice((
        *((Auth(), None),) * 6,
        *((Auth(scheme="bearer"), None),) * 3,
        *((Auth(scheme="bearer", uses=rng.randrange(1, 4)), USER),) * 4,
        (Auth(scheme="basic"), USER),
        (Auth(scheme="basic"), ("ross", "wrong")),
        (Auth(scheme="basic"), None),
        (Auth(scheme="bearer", realm=rng.choice(wrong_realms)), USER),
        (Auth(scheme="bearer", token=rng.choice(answers)), None),
        (Auth(scheme="bearer", uses=0), None),
    ))  # fmt: skip


def random_image(rng: random.Random) -> BuiltImage:
    """A few small layers, and one that is larger than what a connection holds back."""
    builder = ImageBuilder()
    for number in range(rng.randrange(1, 4)):
        size = rng.choice((10, 3000, 100_000, 700_000, 4_000_000))
        compression = rng.choice(("", "+gzip", "+zstd"))
        builder.layer(Layer().add(f"file{number}", rng.randbytes(size)), compression=compression)
    return builder.build()


async def one_pull(registry: FaultyRegistry, root: Path, rng: random.Random) -> tuple[str, list[str]]:
    """Pull once with faults, and then without; returns how the first ended, and what is wrong."""
    image = random_image(rng)
    reference = registry.serve("faulty", f"t{rng.getrandbits(64):x}", image)
    registry.auth, known = random_auth(rng)
    plan = RandomPlan(rng, rng.choice((0.2, 0.4, 0.7)), only=HARMLESS if rng.random() < 0.3 else None)
    credentials = root / "credentials.json"
    credentials.parent.mkdir(parents=True, exist_ok=True)
    pair = base64.b64encode(":".join(known).encode()).decode() if known else ""
    credentials.write_text(json.dumps({"auths": {registry.host: {"auth": pair}} if known else {}}))
    registry.forget_requests()
    wrong: list[str] = []
    tasks = trio.lowlevel.current_statistics().tasks_living
    engine_of = partial(pulling_engine, root, policy=PATIENCE, timing=TIMING, credentials=credentials, splitting=EAGER)
    async with engine_of() as engine:
        registry.plan = plan
        ended = await _attempt(engine, reference, image, wrong)
        wrong += _left_behind(engine, image, complete=ended == "right")
        if ended != "right":
            registry.interrupted()  # one layer failed, and the others were cancelled
        there = _on_their_way(engine)
        asked = len(registry.served)
        registry.plan, registry.auth = (lambda _request: None), Auth()
        healed = await _attempt(engine, reference, image, wrong)
        if healed != "right":
            wrong.append(f"the pull without faults ended with {healed}")
        wrong += _left_behind(engine, image, complete=True)
        wrong += _goes_on(there, registry.served[asked:])
    wrong += registry.again()
    wrong += [f"{secret} was sent to the storage" for secret in registry.leaked]
    if trio.lowlevel.current_statistics().tasks_living > tasks:
        wrong.append("a task is left")
    return ended, [f"{line} (after {dict(plan.chosen)}, {registry.auth})" for line in wrong]


async def _attempt(engine: PullingEngine, reference: str, image: BuiltImage, wrong: list[str]) -> str:
    """``right``, or the error's code; what is wrong with either goes to the list."""
    try:
        with trio.fail_after(DEADLINE_SECONDS):
            pulled = await engine.pull(reference)
    except trio.TooSlowError:
        wrong.append("the pull hangs")
        return "hung"
    except Internal as error:
        wrong.append(f"an error that nobody expected: {error!r}")
        return "internal"
    except RossError as error:
        if not str(error) or re.search(r"Traceback|object at 0x|httpx|h11|\n", str(error)):
            wrong.append(f"an error that does not read well: {error}")
        if any(word in f"{error}{error.hint}" for word in USER[1:]):
            wrong.append("a secret in an error")
        return str(error.code)
    if str(pulled.target.digest) != image.digest:
        wrong.append(f"pulled {pulled.target.digest}, which is not {image.digest}")
    for digest, data in image.blobs.items():
        if engine.store.path(Digest.parse(digest)).read_bytes() != data:
            wrong.append(f"the blob {digest} is wrong")
    return "right"


def _on_their_way(engine: PullingEngine) -> dict[str, int]:
    """How many bytes are there of blobs, by digest."""
    found = {}
    for directory in engine.layout.ingests.iterdir() if engine.layout.ingests.exists() else ():
        found[directory.name.replace("-", ":", 1)] = (directory / "data").stat().st_size
    return found


def _goes_on(there: dict[str, int], served: Sequence[Served]) -> list[str]:
    """Whether the next attempt has begun where each blob had stopped."""
    first: dict[str, Served] = {}
    for one in served:
        first.setdefault(one.blob, one)
    return [
        f"{blob[:19]} went on at {one.asked[0]}, with {there[blob]} bytes there"
        for blob, one in first.items()
        if blob in there and one.asked[0] < there[blob] < one.asked[1]
    ]


def _left_behind(engine: PullingEngine, image: BuiltImage, *, complete: bool) -> list[str]:
    wrong = [f"pinned: {digest}" for digest in engine.pins.held()]
    wrong += [f"left: {path}" for path in engine.layout.root.rglob("*.new")]
    for directory in engine.layout.ingests.iterdir() if engine.layout.ingests.exists() else ():
        digest = directory.name.replace("-", ":", 1)
        data = directory / "data"
        size = data.stat().st_size if data.exists() else 0
        if complete or digest not in image.blobs or not (directory / "metadata.json").exists():
            wrong.append(f"an ingest that nobody can go on with: {directory.name}")
        elif size > len(image.blobs[digest]):
            wrong.append(f"an ingest of {size} bytes for {len(image.blobs[digest])}")
    snapshots = [path.name for path in engine.layout.snapshots.iterdir()]
    wrong += [f"a staged snapshot is left: {name}" for name in snapshots if name.startswith("unpack-")]
    return wrong


def run(disk: Path, *, pulls: int, seeded: int, tell: Callable[[str], object] = lambda _line: None) -> Counter[str]:
    """So many pulls; returns how they ended.

    Raises:
        AssertionError: something was wrong with one.
    """
    outcomes: Counter[str] = Counter()
    with faulty_registry() as registry:
        before = _descriptors()
        for number in range(pulls):
            rng = random.Random(f"{seeded}:{number}")
            ended, wrong = trio.run(one_pull, registry, disk / f"root{number}", rng)
            remove_tree(disk / f"root{number}")
            outcomes[ended] += 1
            if wrong:
                tell(f"pull {number} of seed {seeded}: {'; '.join(wrong)}\n")
                outcomes["wrong"] += 1
        deadline = time.monotonic() + LEFT_SECONDS
        while _descriptors() > before and time.monotonic() < deadline:
            time.sleep(0.05)
        if _descriptors() > before:
            tell(f"{_descriptors() - before} descriptors are left\n")
            outcomes["wrong"] += 1
    return outcomes


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- a count, and no paths


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pulls", type=int, default=500)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    options = parser.parse_args()
    with ext4_in_memory() as disk:
        outcomes = run(disk, pulls=options.pulls, seeded=options.seed, tell=sys.stdout.write)
    sys.stdout.write(f"seed {options.seed}: {options.pulls} pulls ended: {dict(outcomes)}\n")
    return 1 if outcomes["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
