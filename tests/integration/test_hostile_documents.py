"""A daemon that pulls documents which somebody made on purpose: it lives, says what is wrong, and keeps nothing of them."""

from __future__ import annotations

import json
import random
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

import ross
from ross.errors import Internal, RossError
from tests.support.images import ARCHITECTURE, CONFIG, MANIFEST, ImageBuilder, Layer, digest_of, push

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

GOOD = ImageBuilder().layer(Layer().add("file", b"content")).build()
ABSURD = [
    "null", "true", "-1", "0.5", "1e999", "NaN", "-Infinity", "9" * 5000, str(1 << 63), str(1 << 64), '"\\ud800"', '"\\u0000"', '""', "[]",
    "{}", "[" * 100_000, '{"a":' * 50_000, '"sha256:../../x"', '"0001-01-01T00:00:00Z"', '{"a":1,"a":2}', "\x00", "",
]  # fmt: skip


def variants(document: bytes, rng: random.Random) -> list[bytes]:
    """The document with each part of it replaced by something absurd, one at a time."""
    found = []
    for path in paths(json.loads(document)):
        whole = json.loads(document)
        part = whole
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = "@@marker@@"
        text = rng.choice(ABSURD)
        found.append(json.dumps(whole).replace('"@@marker@@"', text).encode("utf-8", "surrogatepass"))
    return found


def paths(part: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, child in items:
        yield (*above, key)
        yield from paths(child, (*above, key))


@contextmanager
def serving(manifests: dict[str, bytes], blobs: dict[str, bytes]) -> Iterator[str]:
    """A registry of a few documents."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _, _, name = self.path.rpartition("/")
            data = manifests.get(name) if "/manifests/" in self.path else blobs.get(name)
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Type", MANIFEST)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("seed", range(2))
async def test_no_document_of_a_registry_harms_the_daemon(seed: int, daemon: Daemon, registry: str) -> None:
    """CVE-2021-21285: each part of a manifest and of a config replaced by something absurd; the daemon answers with an error that says
    what is wrong, or has the image, and goes on."""
    rng = random.Random(seed)
    config_digest = json.loads(GOOD.manifest)["config"]["digest"]
    manifests = {f"m{number}": data for number, data in enumerate(variants(GOOD.manifest, rng))}
    blobs = dict(GOOD.blobs)
    for number, config in enumerate(variants(GOOD.blobs[config_digest], rng)):
        document = json.loads(GOOD.manifest)
        document["config"] = {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)}
        manifests[f"c{number}"] = json.dumps(document).encode()
        blobs[digest_of(config)] = config
    daemon.expect_log("the config .* cannot be read")
    errors: list[RossError] = []
    with serving(manifests, blobs) as host:
        async with ross.connect(daemon.socket) as engine:
            for tag in manifests:
                try:
                    image = await engine.images.pull(f"{host}/app:{tag}")
                    await image.info()
                    await image.history()
                except RossError as error:
                    errors.append(error)
            names = {name for info in await engine.images.list() for name in info.names}
            good = await engine.images.pull(push(registry, "hostile/good:1", GOOD))
            assert str((await good.info()).manifest) == GOOD.digest
    assert [error for error in errors if isinstance(error, Internal)] == []
    assert len(errors) + len(names) == len(manifests)
    assert len(errors) > len(manifests) / 2
    assert "Traceback" not in daemon.log

    async with ross.connect(daemon.socket) as engine:
        for info in await engine.images.list():
            await engine.images.remove(str(info.manifest), force=True)
        await engine.collect()
        assert await engine.images.list() == ()
    assert not [path for path in (daemon.root / "blobs").rglob("*") if path.is_file()]


def test_an_image_without_layers_or_time(daemon: Daemon, registry: str) -> None:
    """What Go writes for no time lies before what 64 bits hold, and no layer is a root filesystem of nothing."""
    empty = ImageBuilder(overrides={"created": "0001-01-01T00:00:00Z"}).build()
    name = push(registry, "hostile/empty:1", empty)
    daemon.ok("pull", "-q", name)
    (info,) = json.loads(daemon.ross("image", "inspect", name).stdout)
    assert (info["Blobs"], info["ChainId"], info["Created"]) == ([], "", "0001-01-01T00:00:00Z")
    assert info["Architecture"] == ARCHITECTURE
    assert "N/A" in daemon.ross("images").stdout
    assert daemon.ross("history", "-q", name).stdout == info["Id"].partition(":")[2][:12] + "\n"
    daemon.ok("tag", name, f"{registry}/hostile/copy:1")
    daemon.ok("push", "-q", f"{registry}/hostile/copy:1")
    done = daemon.ross("run", "--rm", "--network", "none", name, "/bin/true")
    assert done.returncode == 127, done.stderr
    daemon.ok("rmi", "-f", info["Id"])
