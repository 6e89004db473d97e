"""A daemon behind a proxy, and a registry that has something to say to whoever pulls."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.certificates import make_authority
from tests.support.daemon import running_daemon
from tests.support.images import ARCHITECTURE, busybox_layer
from tests.support.proxy import running_proxy
from tests.support.scripted_registry import Request, make_image, reply, scripted_registry, serve_image

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

QUOTA = {"RateLimit_Limit": "100;w=21600", "RateLimit_Remaining": "76;w=21600"}


async def test_a_pull_through_a_proxy_shows_what_the_registry_says(
    filesystem: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = make_image(busybox_layer().tar(), architecture=ARCHITECTURE)

    async def handle(request: Request, stream: trio.SSLStream[trio.SocketStream]) -> None:
        if "/manifests/" in request.path:
            headers = {"Content_Type": "application/vnd.oci.image.manifest.v1+json", **QUOTA}
            await reply(stream, 200, image.manifest, Warning='299 - "End of \x1b[31mlife."', **headers)
        else:
            await serve_image(image, request, stream)

    def use() -> None:
        (filesystem / "proxied").mkdir()
        with running_daemon(filesystem / "proxied") as daemon:
            daemon.expect_log("the registry registry.test says: End of")
            done = daemon.ross("pull", "registry.test/app:1")
            assert done.returncode == 0, done.stderr
            assert done.stdout == "registry.test/app:1\n"
            lines = done.stderr.splitlines()
            assert "warning: registry.test: End of \ufffd[31mlife." in lines
            assert "registry.test: 76 of 100 pulls are left within 6 hours" in lines
            quiet = daemon.ross("pull", "-q", "registry.test/app:1")
            assert quiet.stderr == "warning: registry.test: End of \ufffd[31mlife.\n"
            assert daemon.ross("run", "--rm", "registry.test/app:1", "/bin/echo", "in").stdout == "in\n"
            assert "76 of 100 pulls are left" in daemon.log
            (info,) = json.loads(daemon.ross("images", "--format", "json").stdout)
            assert info["names"] == ["registry.test/app:1"]

    authority = make_authority(tmp_path / "authority")
    (tmp_path / "certs.d/registry.test").mkdir(parents=True)
    (tmp_path / "certs.d/registry.test/ca.crt").write_bytes(authority.certificate.read_bytes())
    async with scripted_registry(handle, tls=authority.server()) as server:
        async with running_proxy({"registry.test:443": server.port}) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            monkeypatch.setenv("ROSS_CERTS_DIR", str(tmp_path / "certs.d"))
            await trio.to_thread.run_sync(use)
        assert proxy.heads
