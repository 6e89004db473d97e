"""Pushing to a registry that keeps to the specification, and to some that do not."""

from __future__ import annotations

import base64
import json
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
from attrs import define, field

from ross.errors import Corrupt, Denied, FailedPrecondition, NotFound, Unauthenticated, Unavailable
from ross.oci.digest import Digest
from ross.oci.image import Descriptor
from ross.oci.reference import Reference
from ross.registry.credentials import CredentialStore
from ross.registry.push import RegistryPusher, Sent
from ross.registry.retry import RetryPolicy
from ross.registry.session import RegistrySession
from ross.registry.uploads import Chunking
from tests.support.scripted_registry import (
    Handler,
    Request,
    ScriptedRegistry,
    Stream,
    digest_of,
    reply,
    scripted_registry,
)
from tests.support.upload_registry import Upload, UploadRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SECRET = "correct-horse-battery"
BLOB = random.Random(1).randbytes(10_500)
DESCRIPTOR = Descriptor(media_type="x", digest=Digest.of(BLOB), size=len(BLOB))
SMALL = Chunking(whole_bytes=1000, chunk_bytes=1000)
UPLOADS = "/v2/some/app/blobs/uploads/"


@define
class Setting:
    """A pusher, and the server that it pushes to."""

    server: ScriptedRegistry
    pusher: RegistryPusher
    reported: list[int] = field(factory=list)

    @property
    def reference(self) -> Reference:
        return Reference.parse(f"{self.server.host}/some/app:1")

    async def push(self, *, mount_from: str | None = None, descriptor: Descriptor = DESCRIPTOR) -> Sent:
        async def read(offset: int, size: int) -> bytes:
            await trio.lowlevel.checkpoint()
            return BLOB[offset : offset + size]

        return await self.pusher.put_blob(
            self.reference, descriptor, read, mount_from=mount_from, report=self.reported.append
        )

    def methods(self) -> list[str]:
        return [request.method for request in self.server.requests]


@asynccontextmanager
async def pushing_to(
    handler: Handler, tmp_path: Path, *, chunking: Chunking | None = None, attempts: int = 3
) -> AsyncIterator[Setting]:
    async with scripted_registry(handler) as server:
        auths = {server.host: {"auth": base64.b64encode(f"me:{SECRET}".encode()).decode()}}
        (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
        async with RegistrySession(CredentialStore(tmp_path / "config.json"), user_agent="test") as session:
            policy = RetryPolicy(attempts=attempts, initial_seconds=0, patience_seconds=5)
            yield Setting(server, RegistryPusher(session, policy=policy, chunking=chunking or Chunking()))


async def test_a_small_blob_goes_in_one_request_and_only_once(tmp_path: Path) -> None:
    registry = UploadRegistry()
    async with pushing_to(registry.handle, tmp_path) as setting:
        assert await setting.push() is Sent.UPLOADED
        assert await setting.push() is Sent.EXISTED

    assert registry.blobs == {str(DESCRIPTOR.digest): BLOB}
    assert setting.methods() == ["HEAD", "POST", "PUT", "HEAD"]
    assert setting.reported[-1] == len(BLOB)
    assert all("transfer-encoding" not in request.headers for request in setting.server.requests)


async def test_an_empty_blob_can_be_pushed(tmp_path: Path) -> None:
    registry = UploadRegistry()
    async with pushing_to(registry.handle, tmp_path) as setting:
        nothing = Descriptor(media_type="x", digest=Digest.of(b""), size=0)
        assert await setting.push(descriptor=nothing) is Sent.UPLOADED

    assert registry.blobs == {str(nothing.digest): b""}


async def test_a_large_blob_goes_in_chunks(tmp_path: Path) -> None:
    registry = UploadRegistry()
    async with pushing_to(registry.handle, tmp_path, chunking=SMALL) as setting:
        assert await setting.push() is Sent.UPLOADED

    assert registry.blobs == {str(DESCRIPTOR.digest): BLOB}
    assert setting.methods() == ["HEAD", "POST", *["PATCH"] * 11, "PUT"]
    ranges = [request.headers["content-range"] for request in setting.server.requests if request.method == "PATCH"]
    assert ranges == [f"{begin}-{min(begin + 1000, 10_500) - 1}" for begin in range(0, 10_500, 1000)]


async def test_chunks_are_as_large_as_the_registry_wants_them(tmp_path: Path) -> None:
    registry = UploadRegistry(least_bytes=4000)
    async with pushing_to(registry.handle, tmp_path, chunking=SMALL) as setting:
        await setting.push()

    lengths = [
        int(request.headers["content-length"]) for request in setting.server.requests if request.method == "PATCH"
    ]
    assert lengths == [4000, 4000, 2500]
    assert registry.blobs == {str(DESCRIPTOR.digest): BLOB}


@pytest.mark.parametrize("seed", range(25))
async def test_drops_at_random_bytes_send_nothing_twice_that_arrived(seed: int, tmp_path: Path) -> None:
    """Whatever byte a connection breaks at, the upload goes on behind what the registry has by its own word."""
    rng, registry = random.Random(seed), UploadRegistry()

    def cut(request: Request) -> int | None:
        length = int(request.headers.get("content-length", "0"))
        return rng.randrange(length) if length and rng.random() < 0.4 else None

    chunking = SMALL if seed % 2 else Chunking(whole_bytes=20_000)
    async with pushing_to(registry.handle, tmp_path, chunking=chunking, attempts=12) as setting:
        setting.server.cut = cut
        assert await setting.push() is Sent.UPLOADED

    assert registry.blobs == {str(DESCRIPTOR.digest): BLOB}
    assert registry.uploads == {}
    arrived = sum(len(request.body) for request in setting.server.requests)
    begun = setting.methods().count("POST")
    assert arrived <= len(BLOB) + (begun - 1), "an upload begins anew only where all that arrived is one byte"


async def test_drops_without_progress_end_the_push_and_the_upload(tmp_path: Path) -> None:
    registry = UploadRegistry()
    async with pushing_to(registry.handle, tmp_path, chunking=SMALL) as setting:
        setting.server.cut = lambda request: 0 if request.method == "PATCH" else None
        with pytest.raises(Unavailable, match=r"broke|no connection|did not answer"):
            await setting.push()

    assert setting.methods().count("PATCH") == 3
    assert registry.uploads == {}


async def test_an_answer_that_is_lost_does_not_send_the_blob_again(tmp_path: Path) -> None:
    registry = UploadRegistry()

    async def handle(request: Request, stream: Stream) -> None:
        if request.method != "PUT":
            await registry.handle(request, stream)
            return
        registry.blobs[str(DESCRIPTOR.digest)] = request.body
        registry.uploads.clear()

    async with pushing_to(handle, tmp_path) as setting:
        assert await setting.push() is Sent.UPLOADED
    assert setting.methods().count("PUT") == 1


async def test_an_upload_that_the_registry_forgets_begins_anew(tmp_path: Path) -> None:
    registry = UploadRegistry()
    forgotten = False

    async def handle(request: Request, stream: Stream) -> None:
        nonlocal forgotten
        if request.headers.get("content-range", "").startswith("3000-") and not forgotten:
            forgotten = True
            registry.uploads.clear()
        await registry.handle(request, stream)

    async with pushing_to(handle, tmp_path, chunking=SMALL) as setting:
        assert await setting.push() is Sent.UPLOADED
    assert registry.blobs == {str(DESCRIPTOR.digest): BLOB}
    assert setting.methods().count("POST") == 2


async def test_a_registry_that_always_forgets_is_given_up(tmp_path: Path) -> None:
    registry = UploadRegistry()

    async def handle(request: Request, stream: Stream) -> None:
        if request.headers.get("content-range", "").startswith("3000-"):
            registry.uploads.clear()
        await registry.handle(request, stream)

    async with pushing_to(handle, tmp_path, chunking=SMALL) as setting:
        with pytest.raises(Unavailable, match="has lost the upload"):
            await setting.push()
    assert registry.uploads == {}


@pytest.mark.parametrize("claimed", ["0-99999", "garbage", "5-9", "0-" + "9" * 40])
async def test_a_registry_that_counts_wrong_is_not_believed(claimed: str, tmp_path: Path) -> None:
    registry = UploadRegistry()

    async def handle(request: Request, stream: Stream) -> None:
        if request.method == "PATCH":
            await reply(stream, 202, Location=request.target, Range=claimed)
        else:
            await registry.handle(request, stream)

    async with pushing_to(handle, tmp_path, chunking=SMALL) as setting:
        with pytest.raises(Unavailable):
            await setting.push()
    assert registry.blobs == {}


# -- mounts -----------------------------------------------------------------------------------------------------------


async def test_a_blob_of_another_repository_is_mounted(tmp_path: Path) -> None:
    registry = UploadRegistry(mountable={("other/app", str(DESCRIPTOR.digest))})
    async with pushing_to(registry.handle, tmp_path) as setting:
        assert await setting.push(mount_from="other/app") is Sent.MOUNTED

    assert [(request.method, request.target) for request in setting.server.requests] == [
        ("HEAD", f"/v2/some/app/blobs/{DESCRIPTOR.digest}"),
        ("POST", f"{UPLOADS}?mount={DESCRIPTOR.digest}&from=other/app"),
    ]
    assert not any(request.body for request in setting.server.requests)


async def test_a_mount_that_is_not_made_becomes_an_upload(tmp_path: Path) -> None:
    registry = UploadRegistry()
    async with pushing_to(registry.handle, tmp_path) as setting:
        assert await setting.push(mount_from="other/app") is Sent.UPLOADED
    assert setting.methods() == ["HEAD", "POST", "PUT"], "the upload that the registry began is used"


async def test_a_mount_that_is_forbidden_becomes_an_upload(tmp_path: Path) -> None:
    registry = UploadRegistry()

    async def handle(request: Request, stream: Stream) -> None:
        await (reply(stream, 403) if "mount=" in request.target else registry.handle(request, stream))

    async with pushing_to(handle, tmp_path) as setting:
        assert await setting.push(mount_from="secret/app") is Sent.UPLOADED


# -- credentials, and where a registry leads --------------------------------------------------------------------------


async def test_a_token_that_ends_in_the_middle_is_asked_for_anew(tmp_path: Path) -> None:
    """Each token is good for four requests; the scope names both actions, and the repository that a blob is mounted from."""
    registry, good, left, scopes = UploadRegistry(), "none", 0, []

    async def handle(request: Request, stream: Stream) -> None:
        nonlocal good, left
        if request.path == "/token":
            scopes.append(request.target.partition("?")[2])
            good, left = f"token-{len(scopes)}", 4
            await reply(stream, 200, json.dumps({"token": good}).encode())
        elif request.headers.get("authorization") != f"Bearer {good}" or not left:
            challenge = f'Bearer realm="http://{request.headers["host"]}/token",service="s"'
            await reply(stream, 401, WWW_Authenticate=challenge)
        else:
            left -= 1
            await registry.handle(request, stream)

    async with pushing_to(handle, tmp_path, chunking=SMALL) as setting:
        assert await setting.push(mount_from="other/app") is Sent.UPLOADED

    assert registry.blobs == {str(DESCRIPTOR.digest): BLOB}
    assert len(scopes) >= 3
    assert all("some%2Fapp%3Apull%2Cpush" in scope for scope in scopes)
    assert sum("other%2Fapp%3Apull" in scope for scope in scopes) == 1


async def test_no_credentials_follow_an_upload_to_another_host(tmp_path: Path) -> None:
    storage = UploadRegistry()
    async with scripted_registry(storage.handle) as elsewhere:

        async def handle(request: Request, stream: Stream) -> None:
            if "authorization" not in request.headers:
                await reply(stream, 401, WWW_Authenticate='Basic realm="x"')
            elif request.method == "HEAD":
                await reply(stream, 404)
            else:
                storage.uploads["7"] = Upload()
                await reply(stream, 202, Location=f"http://{elsewhere.host}{UPLOADS}7?_state=0")

        async with pushing_to(handle, tmp_path) as setting:
            assert await setting.push() is Sent.UPLOADED

    assert storage.blobs == {str(DESCRIPTOR.digest): BLOB}
    assert [request.method for request in elsewhere.requests] == ["PUT"]
    assert not any("authorization" in request.headers for request in elsewhere.requests)


@pytest.mark.parametrize(
    "where",
    [
        "http://169.254.169.254/latest",
        "file:///etc/passwd",
        "http://user:pw@127.0.0.1:1/x",
        "ftp://127.0.0.1/x",
        "//[::",
    ],
)
async def test_an_upload_is_not_led_astray(where: str, tmp_path: Path) -> None:
    async def handle(request: Request, stream: Stream) -> None:
        await (reply(stream, 404) if request.method == "HEAD" else reply(stream, 202, Location=where))

    async with pushing_to(handle, tmp_path) as setting:
        with pytest.raises((Denied, Corrupt)):
            await setting.push()
    assert setting.methods() == ["HEAD", "POST"]


# -- refusals ---------------------------------------------------------------------------------------------------------


def error(code: str, message: str = "some\nwords") -> bytes:
    return json.dumps({"errors": [{"code": code, "message": message}]}).encode()


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        pytest.param(401, b"", Unauthenticated, "does not accept|wants credentials", id="401"),
        pytest.param(403, error("DENIED"), Denied, "does not let us push to some/app: some words", id="403"),
        pytest.param(404, error("NAME_UNKNOWN"), NotFound, "has no repository some/app", id="404"),
        pytest.param(405, b"<html>", FailedPrecondition, "takes no pushes", id="405"),
        pytest.param(413, b"", FailedPrecondition, "so large a request", id="413"),
        pytest.param(400, error("NAME_INVALID"), FailedPrecondition, "refuses the push.*some words", id="400"),
        pytest.param(400, b"[" * 16_000, FailedPrecondition, "refuses the push", id="nested"),
        pytest.param(400, b"x" * 100_000, FailedPrecondition, "refuses the push", id="endless"),
        pytest.param(418, b'{"errors": [7]}', Unavailable, "status 418", id="odd"),
        pytest.param(503, b"", Unavailable, "status 503", id="503"),
    ],
)
async def test_refusals_say_why(status: int, body: bytes, kind: type[Exception], words: str, tmp_path: Path) -> None:
    async def handle(request: Request, stream: Stream) -> None:
        await (reply(stream, 404) if request.method == "HEAD" else reply(stream, status, body))

    async with pushing_to(handle, tmp_path) as setting:
        with pytest.raises(kind, match=words):
            await setting.push()
        with pytest.raises(kind, match=words):
            await setting.pusher.put_manifest(setting.reference, "x", b"{}", Digest.of(b"{}"))


async def test_damaged_content_is_refused_by_its_digest(tmp_path: Path) -> None:
    registry = UploadRegistry()
    wrong = Descriptor(media_type="x", digest=Digest.of(b"other"), size=len(BLOB))
    async with pushing_to(registry.handle, tmp_path) as setting:
        with pytest.raises(Corrupt, match="what the digest promises"):
            await setting.push(descriptor=wrong)
    assert (registry.blobs, registry.uploads) == ({}, {})


async def test_a_registry_that_takes_a_manifest_for_another_is_told_of(tmp_path: Path) -> None:
    async def handle(_request: Request, stream: Stream) -> None:
        await reply(stream, 201, Docker_Content_Digest=digest_of(b"another"))

    async with pushing_to(handle, tmp_path) as setting:
        with pytest.raises(Corrupt, match="took sha256:"):
            await setting.pusher.put_manifest(setting.reference, "x", b"{}", Digest.of(b"{}"))


# -- cancelling -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["PATCH", "PUT", "GET"])
async def test_a_cancelled_push_ends_its_upload(when: str, tmp_path: Path) -> None:
    registry = UploadRegistry()
    reached = trio.Event()

    async def handle(request: Request, stream: Stream) -> None:
        if request.method == when:
            reached.set()
            await trio.sleep_forever()
        await registry.handle(request, stream)

    async with pushing_to(handle, tmp_path, chunking=SMALL) as setting:
        if when == "GET":
            setting.server.cut = lambda request: 10 if request.method == "PATCH" else None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(setting.push)
            await reached.wait()
            nursery.cancel_scope.cancel()

    assert setting.methods()[-1] == "DELETE"
    assert registry.uploads == {}
