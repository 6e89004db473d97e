"""Proxies, as the daemon's environment or ``hosts.toml`` names them: who goes through, who does not, and who gets to know what."""

from __future__ import annotations

import base64
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from ross.errors import InvalidArgument, Unavailable
from ross.oci.reference import Reference
from ross.registry.client import RegistryClient
from ross.registry.credentials import CredentialStore
from ross.registry.retry import RetryPolicy
from ross.registry.session import RegistrySession, Timing
from tests.support.proxy import running_proxy
from tests.support.scripted_registry import Request, make_image, reply, scripted_registry, serve_image

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import trio

    from tests.support.certificates import Authority

IMAGE = make_image(b"a layer", architecture="amd64")
NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_proxy_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


async def private(request: Request, stream: trio.SocketStream) -> None:
    """Wants a token, which its own token service gives for a password."""
    host = request.headers["host"]
    scheme = "https" if host == "registry.test" else "http"
    if request.path == "/token":
        await reply(
            stream, 200 if request.headers.get("authorization", "").startswith("Basic ") else 401, b'{"token":"t"}'
        )
    elif request.headers.get("authorization") == "Bearer t":
        await serve_image(IMAGE, request, stream)
    else:
        await reply(stream, 401, WWW_Authenticate=f'Bearer realm="{scheme}://{host}/token"')


def configure(tmp_path: Path, host: str, *lines: str) -> None:
    (tmp_path / "certs.d" / host).mkdir(parents=True)
    (tmp_path / "certs.d" / host / "hosts.toml").write_text("\n".join(lines))


@asynccontextmanager
async def client_for(tmp_path: Path, *hosts: str) -> AsyncIterator[RegistryClient]:
    auths = {host: {"auth": base64.b64encode(b"me:secret-word").decode()} for host in hosts}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    async with RegistrySession(
        CredentialStore(tmp_path / "config.json"),
        user_agent="test",
        certs_dir=[tmp_path / "certs.d"],
        timing=Timing(connect_seconds=2),
    ) as session:
        yield RegistryClient(session, policy=RetryPolicy(attempts=1))


async def resolve(client: RegistryClient, host: str) -> bytes:
    return (await client.open(Reference.parse(f"{host}/app:1")).resolve()).data


async def test_tls_goes_through_a_tunnel_that_sees_nothing(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(tmp_path, "registry.test", f'ca = "{authority.certificate}"')
    async with scripted_registry(private, tls=authority.server()) as server:
        async with running_proxy({"registry.test:443": server.port}) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("://", "://proxy-user:proxy-word@"))
            async with client_for(tmp_path, "registry.test") as client:
                assert await resolve(client, "registry.test") == IMAGE.manifest

    assert set(proxy.asked) == {"CONNECT registry.test:443 HTTP/1.1"}
    known = f"Proxy-Authorization: Basic {base64.b64encode(b'proxy-user:proxy-word').decode()}"
    assert all(known in head for head in proxy.heads)
    assert all("\r\nauthorization:" not in head.lower() for head in proxy.heads)
    assert server.sent("/token"), "the token service is reached through it too"
    assert all("proxy-authorization" not in request.headers for request in server.requests)


async def test_http_goes_through_where_the_administrator_lets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(tmp_path, "plain.test:5000", 'server = "http://plain.test:5000"')
    async with scripted_registry(private) as server:
        async with running_proxy({"plain.test:5000": server.port}) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            async with client_for(tmp_path, "plain.test:5000") as client:
                assert await resolve(client, "plain.test:5000") == IMAGE.manifest

    assert proxy.asked[0] == "GET http://plain.test:5000/v2/app/manifests/1 HTTP/1.1"


@pytest.mark.parametrize("excluded", ["registry.test", ".test", "*"])
async def test_who_is_excluded_does_not(excluded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_proxy({}) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", excluded)
        async with client_for(tmp_path) as client:
            with pytest.raises(Unavailable, match=r"no connection to|did not answer"):
                await resolve(client, "registry.test")

    assert proxy.heads == []


@pytest.mark.parametrize("name", ["127.0.0.1", "127.1.2.3", "localhost"])
async def test_this_machine_is_never_reached_through_a_proxy(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted_registry(private) as server, running_proxy({}) as proxy:
        for variable in NAMES[:3]:
            monkeypatch.setenv(variable, proxy.url)
        async with client_for(tmp_path, server.host) as client:
            if name == "127.1.2.3":  # nothing listens there, which shows as well where it was looked for
                with pytest.raises(Unavailable, match="no connection"):
                    await resolve(client, f"{name}:{server.port}")
            elif name == "localhost":
                with pytest.raises(Exception, match="wants credentials"):
                    await resolve(client, f"{name}:{server.port}")
            else:
                assert await resolve(client, server.host) == IMAGE.manifest

    assert proxy.heads == []


async def test_a_proxy_of_the_host_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with scripted_registry(private) as server, running_proxy({}) as other:
        async with running_proxy({"plain.test:80": server.port}) as proxy:
            configure(tmp_path, "plain.test", 'server = "http://plain.test"', f'proxy = "{proxy.url}"')
            monkeypatch.setenv("HTTP_PROXY", other.url)
            monkeypatch.setenv("NO_PROXY", "*")
            async with client_for(tmp_path, "plain.test") as client:
                assert await resolve(client, "plain.test") == IMAGE.manifest

    assert len(proxy.heads) == 3
    assert other.heads == []


@pytest.mark.parametrize("refuses", [True, False])
async def test_a_proxy_that_does_not_let_through_is_told_without_its_password(
    refuses: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_proxy({}, refuses=refuses) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("://", "://me:proxy-word@"))
        async with client_for(tmp_path) as client:
            with pytest.raises(Unavailable, match="407" if refuses else "502") as caught:
                await resolve(client, "registry.test")

    assert "proxy-word" not in str(caught.value) + str(caught.value.hint)


async def test_a_proxy_that_cannot_be_one_is_told_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "ftp://me:proxy-word@proxy.test")
    with pytest.raises(InvalidArgument, match="the proxy that the environment names") as caught:
        async with client_for(tmp_path):
            pass
    assert "proxy-word" not in str(caught.value) + str(caught.value.hint)
