"""Mirrors that lie and break off, before a real daemon that unpacks layers while they come in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.daemon import running_daemon
from tests.support.images import ARCHITECTURE, Layer, busybox_layer
from tests.support.scripted_registry import Request, begin, make_image, reply, scripted_registry, serve_image

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


async def test_what_mirrors_falsify_or_break_off_comes_from_the_registry(
    filesystem: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One layer is of the right size and garbage, one is a whole archive but another, one ends half-way, each from another mirror."""
    big = Layer().add("big", bytes(range(256)) * 8_000).tar()
    image = make_image(busybox_layer().tar(), big, Layer().add("small", b"small").tar(), architecture=ARCHITECTURE)
    busybox, large, small = image.layer_digests

    async def lying(request: Request, stream: trio.SocketStream) -> None:
        if request.path.endswith(busybox):
            await reply(stream, 200, b"\x01" * len(image.blobs[busybox]))
        elif request.path.endswith(small):
            await reply(stream, 200, Layer().add("small", b"SMALL").tar())
        elif request.path.endswith(large):
            await begin(stream, 200, Content_Length=str(len(big)))
            await stream.send_all(big[: len(big) // 2])
        else:
            await serve_image(image, request, stream)

    async def honest(request: Request, stream: trio.SocketStream) -> None:
        await serve_image(image, request, stream)

    async with scripted_registry(lying) as mirror, scripted_registry(honest) as server:
        (tmp_path / "certs.d" / server.host).mkdir(parents=True)
        (tmp_path / "certs.d" / server.host / "hosts.toml").write_text(f'[host."{mirror.url}"]')
        monkeypatch.setenv("ROSS_CERTS_DIR", str(tmp_path / "certs.d"))

        def use() -> None:
            (filesystem / "mirrored").mkdir()
            with running_daemon(filesystem / "mirrored") as daemon:
                daemon.expect_log("serves wrong content|came out wrong")
                daemon.ok("pull", f"{server.host}/app:1")
                shown = daemon.ross("run", "--rm", f"{server.host}/app:1", "sh", "-c", "cat /small; wc -c < /big")
                assert shown.stdout == "small2048000\n"

        await trio.to_thread.run_sync(use)

    (asked,) = server.sent(f"/v2/app/blobs/{large}")
    assert asked.headers["range"] == f"bytes={len(big) // 2}-"
    assert [request.path for request in server.requests if "/manifests/" in request.path] == []
