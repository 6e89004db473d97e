"""Listing what refers to an image: by the registry's API, by the tag schema, and from registries that mean no good."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from ross.errors import Corrupt, Denied, Unavailable
from ross.oci.digest import Digest
from ross.oci.reference import Reference
from ross.registry.credentials import CredentialStore
from ross.registry.referrers import MAX_PAGES, ReferrersClient
from ross.registry.retry import RetryPolicy
from ross.registry.session import RegistrySession
from tests.support.scripted_registry import OCI, Handler, Request, ScriptedRegistry, Stream, reply, scripted_registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ross.oci.image import Descriptor

SUBJECT = Digest.of(b"subject")
API = f"/v2/app/referrers/{SUBJECT}"
TAG = f"/v2/app/manifests/sha256-{SUBJECT.encoded}"
INDEX = f"{OCI}.index.v1+json"


def listing(*names: str) -> bytes:
    entries = [
        {
            "mediaType": f"{OCI}.manifest.v1+json",
            "digest": str(Digest.of(name.encode())),
            "size": 7,
            "artifactType": f"application/{name}",
            "annotations": {"name": name},
        }
        for name in names
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()


@asynccontextmanager
async def asking(handler: Handler, tmp_path: Path) -> AsyncIterator[tuple[ReferrersClient, ScriptedRegistry]]:
    async with scripted_registry(handler) as server:
        async with RegistrySession(CredentialStore(tmp_path / "config.json"), user_agent="test") as session:
            yield ReferrersClient(session, policy=RetryPolicy(attempts=2, initial_seconds=0)), server


async def ask(handler: Handler, tmp_path: Path) -> tuple[Descriptor, ...]:
    async with asking(handler, tmp_path) as (client, server):
        return await client.referrers(Reference.parse(f"{server.host}/app:1"), SUBJECT)


async def test_referrers_are_listed_page_by_page(tmp_path: Path) -> None:
    async def handle(request: Request, stream: Stream) -> None:
        assert request.path == API
        if "?" in request.target:
            await reply(stream, 200, listing("sbom"), Content_Type=INDEX)
        else:
            link = f'<{API}?page=2>; foo="a"; rel="next"'
            await reply(stream, 200, listing("signature", "sbom"), Content_Type=INDEX, Link=link)

    found = await ask(handle, tmp_path)
    assert [one.artifact_type for one in found] == ["application/signature", "application/sbom"]
    assert found[0].annotations == {"name": "signature"}


async def test_a_registry_without_the_api_is_asked_by_tag(tmp_path: Path) -> None:
    async def handle(request: Request, stream: Stream) -> None:
        if request.path == TAG:
            await reply(stream, 200, listing("signature"), Content_Type=INDEX)
        else:
            await reply(stream, 404, b"404 page not found")

    assert [one.size for one in await ask(handle, tmp_path)] == [7]


async def test_no_referrers_are_no_error(tmp_path: Path) -> None:
    async def handle(_request: Request, stream: Stream) -> None:
        await reply(stream, 404)

    assert await ask(handle, tmp_path) == ()


@pytest.mark.parametrize(
    ("status", "body", "headers", "kind"),
    [
        pytest.param(200, b"<html>", {}, Corrupt, id="no-json"),
        pytest.param(200, b'{"schemaVersion":2,"layers":[],"config":{}}', {}, Corrupt, id="no-index"),
        pytest.param(200, listing("a").replace(b'"size": 7', b'"size": -7'), {}, Corrupt, id="negative"),
        pytest.param(200, listing("a").replace(b"sha256:", b"sha256:../"), {}, Corrupt, id="digest"),
        pytest.param(200, b" " * (5 << 20), {}, Corrupt, id="huge"),
        pytest.param(200, listing(), {"Link": '<http://169.254.169.254/x>; rel="next"'}, Denied, id="link-local"),
        pytest.param(200, listing(), {"Link": '<http://127.0.0.1:1/x>; rel="next"'}, Denied, id="other-origin"),
        pytest.param(200, listing(), {"Link": f'<{API}>; rel="next"'}, Corrupt, id="endless"),
        pytest.param(403, b"", {}, Denied, id="forbidden"),
        pytest.param(418, b"", {}, Unavailable, id="odd"),
        pytest.param(503, b"", {}, Unavailable, id="broken"),
    ],
)
async def test_what_is_no_list_is_refused(
    status: int, body: bytes, headers: dict[str, str], kind: type[Exception], tmp_path: Path
) -> None:
    async def handle(_request: Request, stream: Stream) -> None:
        await reply(stream, status, body, **headers)

    async with asking(handle, tmp_path) as (client, server):
        with pytest.raises(kind):
            await client.referrers(Reference.parse(f"{server.host}/app:1"), SUBJECT)
        assert len(server.requests) <= MAX_PAGES
