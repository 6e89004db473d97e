"""The registry client against a server that misbehaves on purpose."""

from __future__ import annotations

import base64
import gzip
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from ross.errors import Corrupt, Denied, InvalidArgument, NotFound, Unauthenticated, Unavailable
from ross.oci.digest import Digest
from ross.oci.image import Descriptor
from ross.oci.reference import Reference
from ross.registry.client import RegistryClient
from ross.registry.credentials import CredentialStore
from ross.registry.retry import RetryPolicy, Transient
from ross.registry.session import RegistrySession, Timing
from tests.support.scripted_registry import (
    OCI,
    Handler,
    Request,
    ScriptedRegistry,
    begin,
    make_image,
    reply,
    scripted_registry,
    serve_image,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SECRET = "correct-horse-battery"
IMAGE = make_image(b"a layer" * 1000, architecture="amd64")
BLOB = IMAGE.blobs[IMAGE.layer_digests[0]]
LAYER = Descriptor(media_type=f"{OCI}.layer.v1.tar", digest=Digest.parse(IMAGE.layer_digests[0]), size=len(BLOB))


async def honest(request: Request, stream: trio.SocketStream) -> None:
    await serve_image(IMAGE, request, stream)


@asynccontextmanager
async def client_of(
    tmp_path: Path, *servers: ScriptedRegistry, timing: Timing | None = None
) -> AsyncIterator[RegistryClient]:
    auths = {server.host: {"auth": base64.b64encode(f"me:{SECRET}".encode()).decode()} for server in servers}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    policy = RetryPolicy(attempts=3, initial_seconds=0, patience_seconds=5)
    store = CredentialStore(tmp_path / "config.json")
    async with RegistrySession(store, user_agent="test", timing=timing) as session:
        yield RegistryClient(session, policy=policy)


def reference(server: ScriptedRegistry) -> Reference:
    return Reference.parse(f"{server.host}/some/app:1")


async def resolve_with(handler: Handler, tmp_path: Path, *, timing: Timing | None = None) -> object:
    async with scripted_registry(handler) as server, client_of(tmp_path, timing=timing) as client:
        return await client.open(reference(server)).resolve()


async def read_blob(client: RegistryClient, server: ScriptedRegistry, *, offset: int = 0) -> tuple[int, bytes]:
    async with client.open(reference(server)).blob(LAYER, offset=offset) as stream:
        return stream.offset, b"".join([chunk async for chunk in stream.chunks()])


async def test_resolve_returns_what_the_registry_serves(tmp_path: Path) -> None:
    async with scripted_registry(honest) as server, client_of(tmp_path) as client:
        resolved = await client.open(reference(server)).resolve()

    assert resolved.data == IMAGE.manifest
    assert resolved.descriptor == Descriptor(
        media_type=f"{OCI}.manifest.v1+json", digest=Digest.of(IMAGE.manifest), size=len(IMAGE.manifest)
    )


def answering(status: int, body: bytes = b"", **headers: str) -> Handler:
    async def handle(request: Request, stream: trio.SocketStream) -> None:
        await reply(stream, status, body, **headers)

    return handle


BOTH = json.dumps({"schemaVersion": 2, "manifests": [], "layers": [], "config": {}}).encode()
SCHEMA_1 = json.dumps({"schemaVersion": 1, "fsLayers": []}).encode()
WRONG = f"sha256:{'0' * 64}"


@pytest.mark.parametrize(
    ("handler", "error", "words"),
    [
        pytest.param(answering(404), NotFound, "does not exist", id="missing"),
        pytest.param(answering(403), Denied, "does not allow", id="forbidden"),
        pytest.param(answering(500), Unavailable, "status 500", id="broken"),
        pytest.param(answering(418), Unavailable, "status 418", id="odd"),
        pytest.param(answering(200, b"<html>"), Corrupt, "not valid JSON", id="no-json"),
        pytest.param(answering(200, b'{"a":1,"a":2}'), Corrupt, "twice", id="twins"),
        pytest.param(answering(200, b"[" * 100_000), Corrupt, "not valid JSON", id="deep"),
        pytest.param(answering(200, BOTH), Corrupt, "both an index and a manifest", id="ambiguous"),
        pytest.param(answering(200, SCHEMA_1), InvalidArgument, "schema 1", id="schema-1"),
        pytest.param(answering(200, b" " * (5 << 20)), Corrupt, "longer than", id="huge"),
        pytest.param(
            answering(200, IMAGE.manifest, Content_Type=f"{OCI}.index.v1+json"), Corrupt, "served as", id="other-type"
        ),
        pytest.param(answering(200, IMAGE.manifest, Docker_Content_Digest=WRONG), Corrupt, "should be", id="other-digest"),
        pytest.param(answering(200, IMAGE.manifest, Docker_Content_Digest="x/../y"), Corrupt, "no digest", id="no-digest"),
        pytest.param(
            answering(200, gzip.compress(IMAGE.manifest), Content_Encoding="gzip"), Corrupt, "encoding", id="gzip"
        ),
        pytest.param(answering(302, Location="file:///etc/shadow"), Denied, "http and https", id="to-a-file"),
        pytest.param(answering(302, Location="http://169.254.169.254/"), Denied, "refused", id="to-metadata"),
        pytest.param(answering(302, Location="http://a:b@127.0.0.1/"), Denied, "user name", id="to-a-user"),
        pytest.param(answering(302, Location="/v2/"), Unavailable, "without end", id="in-circles"),
        pytest.param(answering(302), Corrupt, "no URL", id="to-nowhere"),
    ],
)  # fmt: skip
async def test_resolve_refuses(handler: Handler, error: type[Exception], words: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=words):
        await resolve_with(handler, tmp_path)


async def test_what_is_known_is_not_asked_for_again_of_a_registry_that_makes_nothing_of_an_end(tmp_path: Path) -> None:
    asked = []

    async def handle(request: Request, stream: trio.SocketStream) -> None:
        wanted = request.headers["range"]
        asked.append(wanted)
        odd = 0 if wanted.endswith("-") else 1
        body = BLOB[10:30] if odd else BLOB[10:]
        await reply(stream, 206, body, Content_Range=f"bytes 10-{10 + len(body) - 1}/{len(BLOB) + odd}")

    async with scripted_registry(handle) as server, client_of(tmp_path) as client:
        async with client.open(reference(server)).blob(LAYER, offset=10, end=30) as stream:
            assert stream.offset == 10
            assert b"".join([chunk async for chunk in stream.chunks()]) == BLOB[10:]
    assert asked == ["bytes=10-29", "bytes=10-"]


async def test_resolve_by_digest_refuses_another_document(tmp_path: Path) -> None:
    async with scripted_registry(honest) as server, client_of(tmp_path) as client:
        with pytest.raises(Corrupt, match="should be"):
            await client.open(Reference.parse(f"{server.host}/some/app@{WRONG}")).resolve()


async def test_an_endless_document_is_left_at_its_bound(tmp_path: Path) -> None:
    async def endless(request: Request, stream: trio.SocketStream) -> None:
        await begin(stream, 200)
        while True:
            await stream.send_all(b" " * 65536)

    with pytest.raises(Corrupt, match="longer than"):
        await resolve_with(endless, tmp_path)


async def test_a_document_that_drips_is_given_up(tmp_path: Path) -> None:
    async def drip(request: Request, stream: trio.SocketStream) -> None:
        await begin(stream, 200)
        while True:
            await stream.send_all(b" ")
            await trio.sleep(0.02)

    with pytest.raises(Transient, match="did not answer in full within"):
        await resolve_with(drip, tmp_path, timing=Timing(document_seconds=0.1))


async def test_passing_trouble_is_tried_again(tmp_path: Path) -> None:
    failures = [503, 429]

    async def moody(request: Request, stream: trio.SocketStream) -> None:
        if failures:
            await reply(stream, failures.pop(), Retry_After="0")
        else:
            await honest(request, stream)

    async with scripted_registry(moody) as server, client_of(tmp_path) as client:
        await client.open(reference(server)).resolve()

    assert len(server.requests) == 3


async def test_no_patience_for_a_wait_without_end(tmp_path: Path) -> None:
    async with scripted_registry(answering(429, Retry_After="86400")) as server, client_of(tmp_path) as client:
        with pytest.raises(Unavailable, match="429"):
            await client.open(reference(server)).resolve()

    assert len(server.requests) == 1


# -- blobs ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 10])
async def test_blob_is_read_from_an_offset(offset: int, tmp_path: Path) -> None:
    async with scripted_registry(honest) as server, client_of(tmp_path) as client:
        assert await read_blob(client, server, offset=offset) == (offset, BLOB[offset:])


@pytest.mark.parametrize(
    "ranged",
    [
        pytest.param(answering(200, BLOB), id="ignored"),
        pytest.param(answering(416), id="refused"),
        pytest.param(answering(206, BLOB[5:], Content_Range=f"bytes 5-{len(BLOB) - 1}/{len(BLOB)}"), id="another"),
        pytest.param(answering(206, BLOB[10:]), id="unsaid"),
    ],
)
async def test_blob_begins_at_0_where_ranges_do_not_work(ranged: Handler, tmp_path: Path) -> None:
    async def handle(request: Request, stream: trio.SocketStream) -> None:
        await (ranged if "range" in request.headers else honest)(request, stream)

    async with scripted_registry(handle) as server, client_of(tmp_path) as client:
        assert await read_blob(client, server, offset=10) == (0, BLOB)


async def test_a_dropped_blob_hands_on_what_came(tmp_path: Path) -> None:
    async def drop(request: Request, stream: trio.SocketStream) -> None:
        await reply(stream, 200, BLOB[:100], Content_Length=str(len(BLOB)))

    got = b""
    async with scripted_registry(drop) as server, client_of(tmp_path) as client:
        with pytest.raises(Transient, match="broke"):
            async with client.open(reference(server)).blob(LAYER) as stream:
                async for chunk in stream.chunks():
                    got += chunk

    assert got == BLOB[:100]


@pytest.mark.parametrize("announced", [True, False])
async def test_a_blob_longer_than_its_descriptor_is_refused(announced: bool, tmp_path: Path) -> None:
    async def long(request: Request, stream: trio.SocketStream) -> None:
        if announced:
            await reply(stream, 200, BLOB + b"x")
        else:
            await begin(stream, 200)
            while True:
                await stream.send_all(BLOB)

    async with scripted_registry(long) as server, client_of(tmp_path) as client:
        with pytest.raises(Corrupt, match="more of a blob"):
            await read_blob(client, server)


async def test_a_short_blob_is_transient(tmp_path: Path) -> None:
    async with scripted_registry(answering(200, BLOB[:-1])) as server, client_of(tmp_path) as client:
        with pytest.raises(Transient, match="1 bytes of a blob too few"):
            await read_blob(client, server)


@pytest.mark.parametrize(
    "timing",
    [
        pytest.param(Timing(silence_seconds=1), id="silent"),
        pytest.param(Timing(window_seconds=0.05, window_bytes=1000), id="dripping"),
    ],
)
async def test_a_blob_that_hardly_comes_is_given_up(timing: Timing, tmp_path: Path) -> None:
    async def drip(request: Request, stream: trio.SocketStream) -> None:
        await begin(stream, 200)
        while True:
            await stream.send_all(b"x")
            await trio.sleep(0.02 if timing.window_seconds < 1 else 60)

    async with scripted_registry(drip) as server, client_of(tmp_path, timing=timing) as client:
        with pytest.raises(Transient, match=r"stopped sending|too slowly"):
            await read_blob(client, server)


# -- who we are -------------------------------------------------------------------------------------------------------


def guarded(token: str = "t0ken", *, realm: str = "http://{host}/token", lifetime: int = 300) -> Handler:
    """A registry that gives a token to whoever asks, and content only for the token."""

    async def handle(request: Request, stream: trio.SocketStream) -> None:
        host = request.headers["host"]
        if request.path == "/token":
            await reply(stream, 200, json.dumps({"token": token, "expires_in": lifetime}).encode())
        elif request.headers.get("authorization") == f"Bearer {token}":
            await honest(request, stream)
        else:
            challenge = f'Bearer realm="{realm.format(host=host)}",service="s",scope="repository:other:push aws"'
            await reply(stream, 401, WWW_Authenticate=challenge)

    return handle


async def test_a_token_is_asked_for_once_and_used_for_all(tmp_path: Path) -> None:
    async with scripted_registry(guarded()) as server, client_of(tmp_path, server) as client:

        async def read() -> None:
            await read_blob(client, server)

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(read)
        await client.open(reference(server)).resolve()

    (asked,) = server.sent("/token")
    assert asked.headers["authorization"].startswith("Basic ")
    assert asked.target == "/token?scope=repository%3Asome%2Fapp%3Apull&scope=aws&service=s"


async def test_a_token_is_never_used_for_another_repository(tmp_path: Path) -> None:
    async with scripted_registry(guarded()) as server, client_of(tmp_path) as client:
        await client.open(reference(server)).resolve()
        await client.open(Reference.parse(f"{server.host}/some/other:1")).resolve()

    first_of_other = next(request for request in server.requests if "/some/other/" in request.path)
    assert "authorization" not in first_of_other.headers
    assert len(server.sent("/token")) == 2


@pytest.mark.parametrize("known", [True, False])
async def test_refused_over_and_over_ends_after_one_answer(known: bool, tmp_path: Path) -> None:
    async def never(request: Request, stream: trio.SocketStream) -> None:
        if request.path == "/token":
            await reply(stream, 200, b'{"token":"x"}')
        else:
            await reply(stream, 401, WWW_Authenticate=f'Bearer realm="http://{request.headers["host"]}/token"')

    async with scripted_registry(never) as server:
        async with client_of(tmp_path, *([server] if known else [])) as client:
            with pytest.raises(Unauthenticated, match="stored credentials" if known else "wants credentials"):
                await client.open(reference(server)).resolve()

    assert len(server.requests) == 3


async def test_basic_without_credentials_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(Unauthenticated, match="wants credentials") as caught:
        await resolve_with(answering(401, WWW_Authenticate='Basic realm="r"'), tmp_path)

    assert "ross login" in (caught.value.hint or "")


@pytest.mark.parametrize(
    "realm", ["http://169.254.169.254/token", "file:///etc/passwd", "https://u:p@auth.example/", "http://auth.example/"]
)
async def test_credentials_do_not_follow_a_realm_astray(realm: str, tmp_path: Path) -> None:
    async with scripted_registry(guarded(realm=realm)) as server, client_of(tmp_path, server) as client:
        with pytest.raises(Denied, match="token realm"):
            await client.open(reference(server)).resolve()


async def test_a_token_that_would_break_the_header_is_refused(tmp_path: Path) -> None:
    for token in ("a\r\nX-Evil: 1", " padded ", "snow\u2603", ""):
        with pytest.raises(Corrupt, match="no token"):
            await resolve_with(guarded(token), tmp_path)


async def test_no_authorization_crosses_a_redirect(tmp_path: Path) -> None:
    async with scripted_registry(honest) as storage:

        async def handle(request: Request, stream: trio.SocketStream) -> None:
            if "authorization" not in request.headers:
                await reply(stream, 401, WWW_Authenticate="Basic")
            else:
                await reply(stream, 307, Location=f"http://{storage.host}{request.target}", Set_Cookie="a=b; Path=/")

        async with scripted_registry(handle) as server, client_of(tmp_path, server, storage) as client:
            assert await read_blob(client, server, offset=10) == (10, BLOB[10:])

    (request,) = storage.requests
    assert "authorization" not in request.headers
    assert "cookie" not in request.headers
    assert request.headers["range"] == "bytes=10-"


async def test_a_storage_that_asks_for_credentials_gets_none(tmp_path: Path) -> None:
    async with scripted_registry(answering(401, WWW_Authenticate="Basic")) as storage:
        handler = answering(307, Location=f"http://{storage.host}/blob")
        async with scripted_registry(handler) as server, client_of(tmp_path, server, storage) as client:
            with pytest.raises(Unauthenticated):
                await read_blob(client, server)

    (request,) = storage.requests
    assert "authorization" not in request.headers


async def test_nothing_secret_is_logged_or_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG", logger="ross")
    async with scripted_registry(guarded("s3cret-token")) as server, client_of(tmp_path, server) as client:
        await client.open(reference(server)).resolve()
        with pytest.raises(NotFound) as caught:
            async with client.open(reference(server)).blob(
                Descriptor(media_type="x", digest=Digest.parse(WRONG), size=1)
            ):
                pass

    text = caplog.text + repr(caught.value) + str(caught.value.facts)
    assert "s3cret-token" not in text
    assert SECRET not in text


async def test_cancelling_a_silent_exchange_leaves_no_connection(tmp_path: Path) -> None:
    asked = trio.Event()
    gone = trio.Event()

    async def silent(request: Request, stream: trio.SocketStream) -> None:
        asked.set()
        assert await stream.receive_some() == b""
        gone.set()

    async with scripted_registry(silent) as server, client_of(tmp_path) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.open(reference(server)).resolve)
        await asked.wait()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True), trio.fail_after(60):
            await gone.wait()
