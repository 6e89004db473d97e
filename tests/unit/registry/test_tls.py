"""TLS as an administrator sets it up for a host, and that none of it reaches another."""

from __future__ import annotations

import base64
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from ross.errors import FailedPrecondition, RossError, Unavailable
from ross.oci.reference import Reference
from ross.registry.client import RegistryClient
from ross.registry.credentials import CredentialStore
from ross.registry.retry import RetryPolicy
from ross.registry.session import RegistrySession
from tests.support.certificates import Authority, make_authority
from tests.support.scripted_registry import (
    Request,
    ScriptedRegistry,
    make_image,
    reply,
    scripted_registry,
    serve_image,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import trio

IMAGE = make_image(b"a layer", architecture="amd64")


async def honest(request: Request, stream: trio.SocketStream) -> None:
    await serve_image(IMAGE, request, stream)


def configure(tmp_path: Path, server: ScriptedRegistry, *lines: str, file: str = "hosts.toml") -> None:
    directory = tmp_path / "certs.d" / server.host
    directory.mkdir(parents=True, exist_ok=True)
    (directory / file).write_text("\n".join(lines))


@asynccontextmanager
async def client_for(tmp_path: Path, *servers: ScriptedRegistry) -> AsyncIterator[RegistryClient]:
    auths = {server.host: {"auth": base64.b64encode(b"me:secret-word").decode()} for server in servers}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    credentials = CredentialStore(tmp_path / "config.json")
    async with RegistrySession(credentials, user_agent="test", certs_dir=[tmp_path / "certs.d"]) as session:
        yield RegistryClient(session, policy=RetryPolicy(attempts=1))


async def resolve(client: RegistryClient, server: ScriptedRegistry) -> bytes:
    return (await client.open(Reference.parse(f"{server.host}/app:1")).resolve()).data


async def test_a_ca_of_the_host_is_trusted(authority: Authority, tmp_path: Path) -> None:
    async with scripted_registry(honest, tls=authority.server()) as server, client_for(tmp_path) as client:
        configure(tmp_path, server, f'ca = "{authority.certificate}"')
        assert await resolve(client, server) == IMAGE.manifest


async def test_plain_certificates_do_the_same(authority: Authority, tmp_path: Path) -> None:
    async with scripted_registry(honest, tls=authority.server()) as server, client_for(tmp_path) as client:
        configure(tmp_path, server, authority.certificate.read_text(), file="any.crt")
        assert await resolve(client, server) == IMAGE.manifest


async def test_another_ca_is_not_enough_and_the_file_is_read_anew(authority: Authority, tmp_path: Path) -> None:
    other = make_authority(tmp_path / "other")
    async with scripted_registry(honest, tls=authority.server()) as server, client_for(tmp_path) as client:
        configure(tmp_path, server, other.certificate.read_text(), file="any.crt")
        with pytest.raises(Unavailable, match="is not trusted") as caught:
            await resolve(client, server)
        assert f"certs.d/{server.host}/ca.crt" in (caught.value.hint or "")

        configure(tmp_path, server, authority.certificate.read_text(), file="any.crt")
        assert await resolve(client, server) == IMAGE.manifest


async def test_skip_verify_is_for_its_host_only(authority: Authority, tmp_path: Path) -> None:
    """Proof for CVE-2019-10214 (features 5.2): the token service elsewhere is verified although its registry is not, and neither are
    credentials sent to it nor is a redirect to another origin followed unverified."""
    async with scripted_registry(honest, tls=authority.server()) as elsewhere:

        async def handle(request: Request, stream: trio.SocketStream) -> None:
            if request.path.startswith("/v2/led/"):
                await reply(stream, 307, Location=f"{elsewhere.url}/manifests/1")
            else:
                await reply(stream, 401, WWW_Authenticate=f'Bearer realm="{elsewhere.url}/token"')

        async with scripted_registry(handle, tls=authority.server()) as server, client_for(tmp_path, server) as client:
            configure(tmp_path, server, "skip_verify = true")
            for name in ("led/app", "app"):
                with pytest.raises(Unavailable, match=f"the certificate of {elsewhere.host} is not trusted"):
                    await client.open(Reference.parse(f"{server.host}/{name}:1")).resolve()
            assert len(server.requests) == 2
            assert not elsewhere.requests

            configure(tmp_path, server, "skip_verify = true", f'ca = "{authority.certificate}"')
            await client.open(Reference.parse(f"{server.host}/led/app:1")).resolve()
            assert len(elsewhere.requests) == 1, "what the administrator trusts is trusted where the registry leads"


async def test_a_token_service_of_the_very_host_is_reached_as_the_host_is(authority: Authority, tmp_path: Path) -> None:
    async def handle(request: Request, stream: trio.SocketStream) -> None:
        if request.path == "/token":
            await reply(stream, 200, b'{"token":"t"}')
        elif "authorization" in request.headers:
            await honest(request, stream)
        else:
            await reply(stream, 401, WWW_Authenticate=f'Bearer realm="https://{request.headers["host"]}/token"')

    async with scripted_registry(handle, tls=authority.server()) as server, client_for(tmp_path, server) as client:
        configure(tmp_path, server, "skip_verify = true")
        assert await resolve(client, server) == IMAGE.manifest


@pytest.mark.parametrize("combined", [True, False])
async def test_a_client_certificate_is_shown_to_its_host_only(
    combined: bool, authority: Authority, tmp_path: Path
) -> None:
    """Proof for CVE-2020-15157 (features 5.2), for a certificate: who a redirect leads to does not learn who we are."""
    certificate, key = authority.issue("me")
    if combined:
        both = tmp_path / "both.pem"
        both.write_text(certificate.read_text() + key.read_text())
        client_lines = f'client = "{both}"'
    else:
        client_lines = f'client = [["{certificate}", "{key}"]]'
    async with scripted_registry(honest, tls=authority.server(wants_client=True)) as strict:
        async with client_for(tmp_path) as client:
            configure(tmp_path, strict, f'ca = "{authority.certificate}"')
            with pytest.raises(RossError, match=r"broke|no connection"):
                await resolve(client, strict)
            configure(tmp_path, strict, f'ca = "{authority.certificate}"', client_lines)
            assert await resolve(client, strict) == IMAGE.manifest

            async def lead(request: Request, stream: trio.SocketStream) -> None:
                await reply(stream, 307, Location=f"{strict.url}/storage")

            async with scripted_registry(lead, tls=authority.server(wants_client=True)) as server:
                configure(tmp_path, server, f'ca = "{authority.certificate}"', client_lines)
                with pytest.raises(RossError, match=r"broke|no connection"):
                    await resolve(client, server)
                assert len(server.requests) == 1
        assert len(strict.requests) == 1


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        pytest.param('ca = "absent.crt"', "absent.crt cannot be read: No such file", id="absent"),
        pytest.param('ca = "hosts.toml"', "hosts.toml holds no certificate", id="no-certificate"),
        pytest.param('client = "absent.pem"', "absent.pem cannot be read: No such file", id="absent-client"),
        pytest.param('client = [["hosts.toml", "hosts.toml"]]', "are not a certificate and its key", id="no-pair"),
    ],
)
async def test_files_that_cannot_be_used_are_told(lines: str, words: str, tmp_path: Path) -> None:
    async with scripted_registry(honest) as server, client_for(tmp_path) as client:
        configure(tmp_path, server, f'server = "{server.url}"', lines)
        with pytest.raises(FailedPrecondition, match=words):
            await resolve(client, server)


async def test_a_key_with_a_password_is_refused_without_asking(authority: Authority, tmp_path: Path) -> None:
    certificate, _key = authority.issue("locked")
    locked = tmp_path / "locked.key"
    locked.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n")
    async with scripted_registry(honest) as server, client_for(tmp_path) as client:
        configure(tmp_path, server, f'server = "{server.url}"', f'client = [["{certificate}", "{locked}"]]')
        with pytest.raises(FailedPrecondition, match="are not a certificate and its key"):
            await resolve(client, server)


async def test_connections_of_many_configurations_are_not_kept_for_ever(authority: Authority, tmp_path: Path) -> None:
    async with scripted_registry(honest, tls=authority.server()) as server, client_for(tmp_path) as client:
        for number in range(10):
            configure(tmp_path, server, f'ca = "{authority.certificate}"', f'dial_timeout = "{number + 5}s"')
            await resolve(client, server)
        assert len(client.session._connections._pools) <= 8
