"""Where a registry cannot lead the engine, and what it cannot get out of it: the cases of past vulnerabilities, each with its proof.

The names are those of the flaw in whichever engine had it. Every test has two or three servers and looks at what reached each of them.
"""

from __future__ import annotations

import base64
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from ross.errors import Denied, RossError, Unauthenticated
from ross.oci.digest import Digest
from ross.oci.image import Descriptor, Manifest, parse_manifest
from ross.oci.reference import Reference
from ross.registry.client import RegistryClient
from ross.registry.credentials import CredentialStore
from ross.registry.retry import RetryPolicy
from ross.registry.session import RegistrySession
from tests.support.scripted_registry import (
    OCI,
    Handler,
    Request,
    ScriptedRegistry,
    digest_of,
    make_image,
    reply,
    scripted_registry,
    serve_image,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import trio

    from tests.support.certificates import Authority

SECRET = "correct-horse-battery"
LAYER = b"a layer" * 100
IMAGE = make_image(LAYER, architecture="amd64")
BLOB = Descriptor(media_type=f"{OCI}.layer.v1.tar", digest=Digest.parse(digest_of(LAYER)), size=len(LAYER))


@asynccontextmanager
async def client_for(tmp_path: Path, *servers: ScriptedRegistry, token: str = "") -> AsyncIterator[RegistryClient]:
    """One who has credentials for each of the servers, all different."""
    auths = {}
    for server in servers:
        pair = base64.b64encode(f"me-{server.port}:{SECRET}-{server.port}".encode()).decode()
        auths[server.host] = {"auth": pair} | ({"identitytoken": token} if token else {})
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    credentials = CredentialStore(tmp_path / "config.json")
    async with RegistrySession(credentials, user_agent="test", certs_dir=[tmp_path / "certs.d"]) as session:
        yield RegistryClient(session, policy=RetryPolicy(attempts=1))


async def resolve(client: RegistryClient, server: ScriptedRegistry, path: str = "some/app") -> bytes:
    return (await client.open(Reference.parse(f"{server.host}/{path}:1")).resolve()).data


def wanting(challenge: str) -> Handler:
    async def handle(request: Request, stream: trio.SocketStream) -> None:
        await reply(stream, 401, WWW_Authenticate=challenge)

    return handle


def secrets_in(*servers: ScriptedRegistry) -> list[str]:
    """What proves who we are, in what reached the servers."""
    return [
        f"{request.target}: {request.headers.get('authorization')} {request.body!r}"
        for server in servers
        for request in server.requests
        if "authorization" in request.headers or SECRET.encode() in request.body or b"refresh" in request.body
    ]


# -- CVE-2020-15157: credentials sent to a foreign layer URL ----------------------------------------------------------


@pytest.mark.parametrize(
    "challenge", ['Basic realm="x"', 'Bearer realm="{url}/token",service="s"'], ids=["basic", "bearer"]
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_host_that_a_redirect_leads_to_gets_no_credentials_whatever_it_asks_for(
    status: int, challenge: str, tmp_path: Path
) -> None:
    """CVE-2020-15157: not those of the registry that leads there, and not its own, which nobody has chosen to send; nor is a token service
    asked in its name."""

    async def foreign(request: Request, stream: trio.SocketStream) -> None:
        await reply(stream, 401, WWW_Authenticate=challenge.format(url=f"http://{request.headers['host']}"))

    async with scripted_registry(foreign) as other:

        async def lead(request: Request, stream: trio.SocketStream) -> None:
            if "authorization" in request.headers:
                await reply(stream, status, Location=f"{other.url}/blob")
            else:
                await reply(stream, 401, WWW_Authenticate="Basic")

        async with scripted_registry(lead) as server, client_for(tmp_path, server, other) as client:
            with pytest.raises(Unauthenticated):
                async with client.open(Reference.parse(f"{server.host}/app:1")).blob(BLOB):
                    pass

    assert [request.path for request in other.requests] == ["/blob"]
    assert secrets_in(other) == []


async def test_urls_of_a_descriptor_are_never_followed(tmp_path: Path) -> None:
    """CVE-2020-15157 and SSRF by ``urls``: a layer comes from its registry, whatever its descriptor says of other places."""
    async with scripted_registry(wanting("Basic")) as other:
        manifest = json.loads(IMAGE.manifest)
        manifest["layers"][0]["urls"] = [f"{other.url}/blob", "http://169.254.169.254/"]

        async def handle(request: Request, stream: trio.SocketStream) -> None:
            if "/manifests/" in request.path:
                await reply(stream, 200, json.dumps(manifest).encode())
            else:
                await serve_image(IMAGE, request, stream)

        async with scripted_registry(handle) as server, client_for(tmp_path, server, other) as client:
            remote = client.open(Reference.parse(f"{server.host}/app:1"))
            document = parse_manifest((await remote.resolve()).data, what="the manifest")
            assert isinstance(document, Manifest)
            async with remote.blob(document.layers[0]) as stream:
                assert b"".join([chunk async for chunk in stream.chunks()]) == LAYER

    assert other.requests == []


async def test_credentials_do_not_go_back_by_a_detour(tmp_path: Path) -> None:
    """CVE-2020-15157, the bypass of the obvious fix: led away and back again, with another scheme, port or name of the same machine."""
    async with scripted_registry(wanting("Basic")) as other:

        async def lead(request: Request, stream: trio.SocketStream) -> None:
            if "authorization" not in request.headers:
                await reply(stream, 401, WWW_Authenticate="Basic")
            else:
                await reply(stream, 307, Location=f"http://localhost:{other.port}/again")

        async with scripted_registry(lead) as server, client_for(tmp_path, server, other) as client:
            with pytest.raises(Unauthenticated):
                await resolve(client, server)

    assert [request.path for request in other.requests] == ["/again"]
    assert secrets_in(other) == []


async def test_nobody_can_send_us_back_with_our_credentials(tmp_path: Path) -> None:
    """CVE-2020-15157, another bypass: led away, and from there to something else at home, which would be asked for in our name."""
    home: list[ScriptedRegistry] = []

    async def back(request: Request, stream: trio.SocketStream) -> None:
        await reply(stream, 307, Location=f"{home[0].url}/v2/another/private/blobs/x")

    async with scripted_registry(back) as other:

        async def lead(request: Request, stream: trio.SocketStream) -> None:
            if "authorization" not in request.headers:
                await reply(stream, 401, WWW_Authenticate="Basic")
            else:
                await reply(stream, 307, Location=f"{other.url}/away")

        async with scripted_registry(lead) as server, client_for(tmp_path, server, other) as client:
            home.append(server)
            with pytest.raises(Unauthenticated):
                await resolve(client, server)

    (returned,) = server.sent("/v2/another/private/blobs/x")
    assert "authorization" not in returned.headers


# -- realms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "realm",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.169.254]/",
        "http://[fe80::1]/",
        "http://0.0.0.0/",
        "https://169.254.169.254/",
        "http://auth.example/token",
        "https://user:word@auth.example/token",
        "file:///etc/shadow",
        "unix:///run/ross/ross.sock",
        "gopher://127.0.0.1/",
        "//auth.example/token",
        "/token",
        "",
        "http://[half",
    ],
)
@pytest.mark.parametrize("token", ["", "refresh-1"], ids=["password", "identity-token"])
async def test_a_realm_that_leads_astray_is_refused_and_nothing_is_sent(realm: str, token: str, tmp_path: Path) -> None:
    """SSRF via realm: metadata services, other schemes, plain http elsewhere; with a password and with a refresh token alike."""
    async with scripted_registry(wanting(f'Bearer realm="{realm}"')) as server:
        async with client_for(tmp_path, server, token=token) as client:
            with pytest.raises(RossError) as caught:
                await resolve(client, server)

    assert not isinstance(caught.value, Unauthenticated)
    assert secrets_in(server) == []
    assert len(server.requests) == 1


async def test_a_registry_with_tls_cannot_lead_to_http_nor_to_this_machine(
    authority: Authority, tmp_path: Path
) -> None:
    """Downgrade: neither a realm nor a redirect of a registry with TLS is http, on this machine either."""
    async with scripted_registry(wanting("Basic")) as other:

        async def lead(request: Request, stream: trio.SocketStream) -> None:
            if "/by-realm/" in request.path:
                await reply(stream, 401, WWW_Authenticate=f'Bearer realm="{other.url}/token"')
            else:
                await reply(stream, 307, Location=f"{other.url}/storage")

        async with scripted_registry(lead, tls=authority.server()) as server:
            (tmp_path / "certs.d" / server.host).mkdir(parents=True)
            (tmp_path / "certs.d" / server.host / "ca.crt").write_bytes(authority.certificate.read_bytes())
            async with client_for(tmp_path, server, other) as client:
                for path in ("by-realm/app", "by-redirect/app"):
                    with pytest.raises(Denied, match="must not lead to http"):
                        await resolve(client, server, path)

    assert other.requests == []


async def test_a_token_service_that_leads_on_is_not_followed(tmp_path: Path) -> None:
    """SSRF via realm, the bypass: an innocent token service that redirects; the password would be sent along."""
    async with scripted_registry(wanting("Basic")) as other:

        async def handle(request: Request, stream: trio.SocketStream) -> None:
            if request.path == "/token":
                await reply(stream, 307, Location=f"{other.url}/token")
            else:
                await reply(stream, 401, WWW_Authenticate=f'Bearer realm="http://{request.headers["host"]}/token"')

        async with scripted_registry(handle) as server, client_for(tmp_path, server) as client:
            with pytest.raises(Denied, match=r"token service .* status 307"):
                await resolve(client, server)

    assert other.requests == []


# -- CVE-2019-10214: the token service reached without verifying it ---------------------------------------------------


@pytest.mark.parametrize(
    "settings", ['server = "{url}"', "skip_verify = true"], ids=["plain-registry", "unverified-registry"]
)
async def test_a_token_service_is_verified_although_its_registry_is_not(
    settings: str, authority: Authority, tmp_path: Path
) -> None:
    """CVE-2019-10214: a bad certificate of the realm fails, whatever is let pass for the registry: http, or TLS that is not verified."""
    async with scripted_registry(wanting("Basic"), tls=authority.server()) as service:
        tls = authority.server() if "skip" in settings else None
        async with scripted_registry(wanting(f'Bearer realm="{service.url}/token"'), tls=tls) as server:
            (tmp_path / "certs.d" / server.host).mkdir(parents=True)
            (tmp_path / "certs.d" / server.host / "hosts.toml").write_text(settings.format(url=server.url))
            async with client_for(tmp_path, server) as client:
                with pytest.raises(RossError, match=f"the certificate of {service.host} is not trusted"):
                    await resolve(client, server)

    assert service.requests == []


# -- token and scope confusion ----------------------------------------------------------------------------------------


def issuing(token: str) -> Handler:
    """A registry whose own token service gives one token, and which takes no other."""

    async def handle(request: Request, stream: trio.SocketStream) -> None:
        if request.path == "/token":
            await reply(stream, 200, json.dumps({"token": token}).encode())
        elif request.headers.get("authorization") == f"Bearer {token}":
            await serve_image(IMAGE, request, stream)
        else:
            await reply(stream, 401, WWW_Authenticate=f'Bearer realm="http://{request.headers["host"]}/token"')

    return handle


async def test_a_token_is_for_its_registry_and_its_repository(tmp_path: Path) -> None:
    """Token confusion: pull from A, then from B, then another repository of A: nobody ever sees a token that is for something else."""
    async with scripted_registry(issuing("token-of-a")) as a, scripted_registry(issuing("token-of-b")) as b:
        async with client_for(tmp_path, a, b) as client:
            for server in (a, b, a):
                await resolve(client, server)
                await resolve(client, server, "another/app")

    for server, own in ((a, "token-of-a"), (b, "token-of-b")):
        seen = [request.headers.get("authorization", "") for request in server.requests]
        assert {one for one in seen if one.startswith("Bearer")} == {f"Bearer {own}"}
        basic = {base64.b64decode(one.partition(" ")[2]).decode() for one in seen if one.startswith("Basic")}
        assert basic == {f"me-{server.port}:{SECRET}-{server.port}"}
        scopes = [request.target for request in server.sent("/token")]
        assert scopes == [f"/token?scope=repository%3A{name}%3Apull" for name in ("some%2Fapp", "another%2Fapp")]


async def test_a_challenge_cannot_widen_what_a_token_is_asked_for(tmp_path: Path) -> None:
    """Scope confusion: a registry that says ``push``, or another repository, gets a token for what we want to do and no more."""

    async def greedy(request: Request, stream: trio.SocketStream) -> None:
        if request.path == "/token":
            await reply(stream, 200, b'{"token":"t"}')
        elif "authorization" in request.headers:
            await serve_image(IMAGE, request, stream)
        else:
            scope = "repository:some/app:pull,push,delete repository:other/secret:pull"
            realm = f"http://{request.headers['host']}/token"
            await reply(stream, 401, WWW_Authenticate=f'Bearer realm="{realm}",scope="{scope}"')

    async with scripted_registry(greedy) as server, client_for(tmp_path, server) as client:
        await resolve(client, server)

    (asked,) = server.sent("/token")
    assert asked.target == "/token?scope=repository%3Asome%2Fapp%3Apull"


# -- secrets in logs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(issuing("t0ken-t0ken"), id="accepts"),
        pytest.param(wanting("Basic"), id="refuses"),
        pytest.param(wanting('Bearer realm="http://127.0.0.1:1/token"'), id="token-service-down"),
        pytest.param(wanting('Bearer realm="http://169.254.169.254/"'), id="astray"),
    ],
)
async def test_nothing_that_proves_who_we_are_is_logged(
    handler: Handler, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Secrets in logs: not in Ross's, not in those of the libraries below it at the levels that the daemon lets through, not in errors."""
    caplog.set_level("DEBUG", logger="ross")
    text = ""
    async with scripted_registry(handler) as server, client_for(tmp_path, server) as client:
        try:
            await resolve(client, server)
        except RossError as error:
            text = repr(error) + str(error.hint) + str(error.facts)
        pair = base64.b64encode(f"me-{server.port}:{SECRET}-{server.port}".encode()).decode()

    text += caplog.text
    assert SECRET not in text
    assert pair not in text
    assert "t0ken-t0ken" not in text
