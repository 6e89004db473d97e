"""Exchanges that send something: bodies, methods, scopes, and where an upload goes on."""

from __future__ import annotations

import base64
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest

from ross.errors import Corrupt, Denied, Unauthenticated
from ross.registry.credentials import CredentialStore
from ross.registry.endpoint import Capability, Endpoint
from ross.registry.session import RegistrySession, location
from tests.support.scripted_registry import Handler, Request, ScriptedRegistry, reply, scripted_registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import trio

BODY = b"a layer" * 1000


@asynccontextmanager
async def session_of(tmp_path: Path, *servers: ScriptedRegistry) -> AsyncIterator[RegistrySession]:
    auths = {server.host: {"auth": base64.b64encode(b"me:secret").decode()} for server in servers}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    async with RegistrySession(CredentialStore(tmp_path / "config.json"), user_agent="test") as session:
        yield session


def endpoint_of(session: RegistrySession, server: ScriptedRegistry) -> Endpoint:
    (endpoint,) = session.endpoints(server.host, Capability.PUSH)
    return endpoint


async def guarded(request: Request, stream: trio.SocketStream) -> None:
    if request.path == "/token":
        await reply(stream, 200, b'{"token":"t0ken"}')
    elif request.headers.get("authorization") == "Bearer t0ken":
        await reply(stream, 202, Location="/v2/some/app/blobs/uploads/1?state=x")
    else:
        await reply(stream, 401, WWW_Authenticate=f'Bearer realm="http://{request.headers["host"]}/token"')


def redirecting(status: int, target: str) -> Handler:
    async def handle(request: Request, stream: trio.SocketStream) -> None:
        await reply(stream, status, Location=target)

    return handle


async def in_pieces() -> AsyncIterator[bytes]:
    for start in range(0, len(BODY), 1000):
        yield BODY[start : start + 1000]


@pytest.mark.parametrize("content", [BODY, in_pieces], ids=["whole", "in-pieces"])
async def test_a_body_is_sent_again_after_a_challenge(content: object, tmp_path: Path) -> None:
    async with scripted_registry(guarded) as server, session_of(tmp_path, server) as session:
        async with session.request(
            "POST",
            endpoint_of(session, server),
            "some/app",
            "blobs/uploads/",
            actions="pull,push",
            more_scopes=("repository:some/base:pull",),
            headers={"Content-Length": str(len(BODY))},
            content=content,  # type: ignore[arg-type]  # both are
        ) as response:
            assert response.status_code == 202
            assert location(response) == httpx.URL(f"http://{server.host}/v2/some/app/blobs/uploads/1?state=x")

    (asked,) = server.sent("/token")
    assert asked.target == "/token?scope=repository%3Asome%2Fapp%3Apull%2Cpush&scope=repository%3Asome%2Fbase%3Apull"
    assert [request.body for request in server.sent("/v2/some/app/blobs/uploads/")] == [BODY, BODY]


async def test_a_token_for_pulling_is_not_used_for_pushing(tmp_path: Path) -> None:
    async with scripted_registry(guarded) as server, session_of(tmp_path, server) as session:
        endpoint = endpoint_of(session, server)
        for actions in ("pull", "pull,push", "pull,push"):
            async with session.request("HEAD", endpoint, "some/app", "manifests/1", actions=actions):
                pass

    assert len(server.sent("/token")) == 2


@pytest.mark.parametrize("status", [307, 308])
async def test_a_body_goes_along_with_a_redirect_and_credentials_do_not(status: int, tmp_path: Path) -> None:
    async with scripted_registry(lambda request, stream: reply(stream, 201)) as storage:
        handler = redirecting(status, f"http://{storage.host}/there")
        async with scripted_registry(handler) as server, session_of(tmp_path, server, storage) as session:
            endpoint = endpoint_of(session, server)
            async with session.request("PUT", endpoint, "some/app", "manifests/1", content=BODY) as response:
                assert response.status_code == 201

    (request,) = storage.requests
    assert (request.method, request.body) == ("PUT", BODY)
    assert "authorization" not in request.headers


@pytest.mark.parametrize("status", [301, 302, 303])
async def test_a_redirect_that_would_lose_the_body_is_refused(status: int, tmp_path: Path) -> None:
    async with scripted_registry(redirecting(status, "/elsewhere")) as server, session_of(tmp_path) as session:
        with pytest.raises(Corrupt, match="redirects a PUT"):
            async with session.request("PUT", endpoint_of(session, server), "some/app", "manifests/1", content=BODY):
                pass

    assert len(server.requests) == 1


async def test_an_upload_that_goes_on_elsewhere_goes_there_without_credentials(tmp_path: Path) -> None:
    async with scripted_registry(guarded) as storage:
        async with scripted_registry(guarded) as server, session_of(tmp_path, server, storage) as session:
            endpoint = endpoint_of(session, server)
            with pytest.raises(Unauthenticated):
                async with session.request("PUT", endpoint, "a", httpx.URL(f"http://{storage.host}/up"), content=BODY):
                    pass

    (request,) = storage.requests
    assert "authorization" not in request.headers


@pytest.mark.parametrize("target", ["http://169.254.169.254/", "file:///etc/shadow", "http://u:p@127.0.0.1/"])
async def test_an_upload_does_not_go_on_astray(target: str, tmp_path: Path) -> None:
    handler: Handler = lambda request, stream: reply(stream, 202, Location=target)  # noqa: E731
    async with scripted_registry(handler) as server, session_of(tmp_path) as session:
        async with session.request("POST", endpoint_of(session, server), "a", "blobs/uploads/") as response:
            with pytest.raises(Denied):
                location(response)
