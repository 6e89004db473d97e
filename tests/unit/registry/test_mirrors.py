"""Mirrors: who is asked for what, what goes to whom, and what happens when one fails."""

from __future__ import annotations

import base64
import json
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from ross.errors import FailedPrecondition, NotFound, RossError
from ross.oci.digest import Digest
from ross.oci.image import Descriptor
from ross.oci.reference import Reference
from ross.registry.client import RegistryClient, Remote
from ross.registry.credentials import CredentialStore
from ross.registry.endpoint import Capability
from ross.registry.retry import RetryPolicy, Transient
from ross.registry.session import RegistrySession, Timing
from tests.support.scripted_registry import (
    OCI,
    Handler,
    Request,
    ScriptedRegistry,
    make_image,
    reply,
    scripted_registry,
    serve_image,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    import trio

IMAGE = make_image(b"a layer" * 1000, architecture="amd64")
BLOB = IMAGE.blobs[IMAGE.layer_digests[0]]
LAYER = Descriptor(media_type=f"{OCI}.layer.v1.tar", digest=Digest.parse(IMAGE.layer_digests[0]), size=len(BLOB))


async def honest(request: Request, stream: trio.SocketStream) -> None:
    await serve_image(IMAGE, request, stream)


def answering(status: int, body: bytes = b"", **headers: str) -> Handler:
    async def handle(request: Request, stream: trio.SocketStream) -> None:
        await reply(stream, status, body, **headers)

    return handle


def breaking_at(count: int) -> Handler:
    """Drops the connection after so many bytes of a blob."""

    async def handle(request: Request, stream: trio.SocketStream) -> None:
        if "/manifests/" in request.path:
            await honest(request, stream)
        else:
            await reply(stream, 200, BLOB[:count], Content_Length=str(len(BLOB)))

    return handle


class Setting:
    """A registry and its mirrors, in the order in which they are asked."""

    def __init__(self, session: RegistrySession, mirrors: list[ScriptedRegistry], server: ScriptedRegistry) -> None:
        self.session = session
        self.mirrors = mirrors
        self.server = server

    def open(self, *, digest: str = "") -> Remote:
        client = RegistryClient(self.session, policy=RetryPolicy(attempts=3, initial_seconds=0))
        name = f"{self.server.host}/some/app"
        return client.open(Reference.parse(f"{name}@{digest}" if digest else f"{name}:1"))

    async def read(self, remote: Remote, *, offset: int = 0) -> bytes:
        """What comes in one attempt."""
        got = b""
        try:
            async with remote.blob(LAYER, offset=offset) as stream:
                async for chunk in stream.chunks():
                    got += chunk
        except Transient:
            assert len(got) < len(BLOB) - offset
        return got

    @property
    def asked(self) -> list[int]:
        """How often each was asked, the registry last."""
        return [len(one.requests) for one in (*self.mirrors, self.server)]


@asynccontextmanager
async def mirrored(
    tmp_path: Path,
    mirrors: list[Handler],
    server: Handler,
    *,
    lines: str = "",
    known: bool = False,
    configure: Callable[[list[ScriptedRegistry]], str] | None = None,
) -> AsyncIterator[Setting]:
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(scripted_registry(handler)) for handler in (*mirrors, server)]
        *others, itself = opened
        text = "".join(f'[host."{one.url}"]\n{lines}\n' for one in others)
        directory = tmp_path / "certs.d" / itself.host
        directory.mkdir(parents=True)
        (directory / "hosts.toml").write_text(configure(others) if configure else text)
        auths = {one.host: {"auth": base64.b64encode(f"user-of-{one.port}:p".encode()).decode()} for one in opened}
        (tmp_path / "config.json").write_text(json.dumps({"auths": auths if known else {}}))
        session = await stack.enter_async_context(
            RegistrySession(
                CredentialStore(tmp_path / "config.json"),
                user_agent="test",
                certs_dir=[tmp_path / "certs.d"],
                timing=Timing(connect_seconds=2),
            )
        )
        yield Setting(session, others, itself)


async def test_the_first_mirror_that_has_it_serves_it_all(tmp_path: Path) -> None:
    async with mirrored(tmp_path, [answering(404), honest], answering(500)) as setting:
        remote = setting.open()
        resolved = await remote.resolve()
        assert await remote.manifest(resolved.descriptor) == IMAGE.manifest
        assert await setting.read(remote) == BLOB

    assert setting.asked == [3, 3, 0]
    (first, *_) = setting.mirrors[1].requests
    assert first.target == f"/v2/some/app/manifests/1?ns={setting.server.host}"


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(answering(500), id="broken"),
        pytest.param(answering(429, Retry_After="3600"), id="limited"),
        pytest.param(answering(401, WWW_Authenticate='Basic realm="x"'), id="private"),
        pytest.param(answering(403), id="forbidden"),
        pytest.param(answering(302, Location="http://169.254.169.254/"), id="astray"),
        pytest.param(answering(200, b"<html>"), id="another-thing"),
    ],
)
async def test_a_mirror_that_fails_is_passed_over_for_the_rest_of_the_pull(broken: Handler, tmp_path: Path) -> None:
    async with mirrored(tmp_path, [broken], honest) as setting:
        remote = setting.open()
        await remote.resolve()
        await setting.read(remote)

    assert setting.asked == [1, 2]
    assert all("ns=" not in request.target for request in setting.server.requests)


async def test_a_mirror_that_is_not_there_is_passed_over(tmp_path: Path) -> None:
    def configure(mirrors: list[ScriptedRegistry]) -> str:
        return '[host."http://127.0.0.1:1"]\ndial_timeout = "1s"\n'

    async with mirrored(tmp_path, [], honest, configure=configure) as setting:
        assert (await setting.open().resolve()).data == IMAGE.manifest


async def test_only_a_mirror_that_may_resolve_is_asked_what_a_tag_denotes(tmp_path: Path) -> None:
    async with mirrored(tmp_path, [honest], honest, lines='capabilities = ["pull"]') as setting:
        remote = setting.open()
        resolved = await remote.resolve()
        await remote.manifest(resolved.descriptor)
        await setting.read(remote)
        by_digest = setting.open(digest=str(resolved.descriptor.digest))
        await by_digest.resolve()

    assert setting.asked == [3, 1]
    assert all("sha256:" in request.path for request in setting.mirrors[0].requests)


async def test_only_a_host_that_may_push_is_offered_for_pushing(tmp_path: Path) -> None:
    async with mirrored(tmp_path, [honest], honest, lines='capabilities = ["pull", "resolve"]') as setting:
        (endpoint,) = setting.session.endpoints(setting.server.host, Capability.PUSH)
        assert endpoint.name == setting.server.host

    def configure(mirrors: list[ScriptedRegistry]) -> str:
        return 'capabilities = ["pull"]'

    async with mirrored(tmp_path / "two", [], honest, configure=configure) as setting:
        with pytest.raises(FailedPrecondition, match="nobody may push"):
            setting.session.endpoints(setting.server.host, Capability.PUSH)
        with pytest.raises(FailedPrecondition, match="nobody may say what tags"):
            await setting.open().resolve()


async def test_a_layer_that_breaks_off_goes_on_at_the_next(tmp_path: Path) -> None:
    async with mirrored(tmp_path, [breaking_at(1000), breaking_at(0)], honest) as setting:
        remote = setting.open()
        assert await setting.read(remote) == BLOB[:1000]
        assert await setting.read(remote, offset=1000) == b""
        assert await setting.read(remote, offset=1000) == BLOB[1000:]

    (request,) = setting.server.requests
    assert request.headers["range"] == "bytes=1000-"


async def test_when_the_registry_breaks_off_too_the_mirrors_are_asked_again(tmp_path: Path) -> None:
    async with mirrored(tmp_path, [breaking_at(1000)], breaking_at(1000)) as setting:
        remote = setting.open()
        for _ in range(3):
            await setting.read(remote)

    assert setting.asked == [2, 1]


async def test_a_mirror_that_serves_wrong_content_is_not_asked_for_it_again(tmp_path: Path) -> None:
    async with mirrored(tmp_path, [answering(200, b"x" * len(BLOB))], honest) as setting:
        remote = setting.open()
        assert await setting.read(remote) != BLOB
        assert remote.distrust(LAYER.digest)
        assert await setting.read(remote) == BLOB
        assert not remote.distrust(LAYER.digest), "whoever is last has no other to go to"


async def test_a_mirror_cannot_serve_another_manifest_by_digest(tmp_path: Path) -> None:
    lie = make_image(b"malice", architecture="amd64")
    async with mirrored(tmp_path, [answering(200, lie.manifest)], honest, lines='capabilities = ["pull"]') as setting:
        remote = setting.open()
        resolved = await remote.resolve()
        assert await remote.manifest(resolved.descriptor) == IMAGE.manifest

    assert setting.asked == [1, 2]


async def test_when_all_fail_the_registry_is_told_first_and_the_mirrors_too(tmp_path: Path) -> None:
    async with mirrored(tmp_path, [answering(403)], answering(404)) as setting:
        with pytest.raises(NotFound) as caught:
            await setting.open().resolve()

    words = str(caught.value)
    assert words.index("knows no such image") < words.index(f"its mirror {setting.mirrors[0].host}: the registry")


async def test_passing_trouble_everywhere_is_tried_again_from_the_first(tmp_path: Path) -> None:
    async with mirrored(tmp_path, [answering(503)], answering(503)) as setting:
        with pytest.raises(RossError, match="status 503"):
            await setting.open().resolve()

    assert setting.asked == [3, 3]


# -- what goes to whom ------------------------------------------------------------------------------------------------


async def wants_basic(request: Request, stream: trio.SocketStream) -> None:
    await reply(stream, 401, WWW_Authenticate='Basic realm="r"')


async def test_each_host_gets_its_own_credentials_only(tmp_path: Path) -> None:
    """Proof for features 5.2, "token/scope confusion": the credentials of a registry never reach its mirror, nor the reverse."""
    async with mirrored(tmp_path, [wants_basic, wants_basic], wants_basic, known=True) as setting:
        with pytest.raises(RossError, match="does not accept the stored credentials"):
            await setting.open().resolve()

    for one in (*setting.mirrors, setting.server):
        refused, answered = one.requests
        assert "authorization" not in refused.headers
        scheme, _, pair = answered.headers["authorization"].partition(" ")
        assert (scheme, base64.b64decode(pair)) == ("Basic", f"user-of-{one.port}:p".encode())


async def test_a_mirror_without_credentials_of_its_own_gets_none(tmp_path: Path) -> None:
    async with mirrored(tmp_path, [wants_basic], wants_basic) as setting:
        auth = {"auth": base64.b64encode(b"me:secret").decode()}
        (tmp_path / "config.json").write_text(json.dumps({"auths": {setting.server.host: auth}}))
        with pytest.raises(RossError):
            await setting.open().resolve()

    (asked,) = setting.mirrors[0].requests
    assert "authorization" not in asked.headers


async def test_headers_go_to_their_host_only(tmp_path: Path) -> None:
    """Proof for CVE-2020-15157 (features 5.2), for what else proves who we are: a header of hosts.toml does not follow a redirect, nor go
    to a token service elsewhere, nor to the next host."""
    async with scripted_registry(answering(200, b'{"token":"t"}')) as elsewhere:

        async def mirror(request: Request, stream: trio.SocketStream) -> None:
            if "authorization" in request.headers:
                await reply(stream, 307, Location=f"{elsewhere.url}/storage")
            else:
                await reply(stream, 401, WWW_Authenticate=f'Bearer realm="{elsewhere.url}/token"')

        def configure(mirrors: list[ScriptedRegistry]) -> str:
            return f'[host."{mirrors[0].url}"]\n[host."{mirrors[0].url}".header]\nx-key = ["secret", "two"]\n'

        async with mirrored(tmp_path, [mirror], honest, configure=configure) as setting:
            await setting.open().resolve()

    assert [request.headers["x-key"] for request in setting.mirrors[0].requests] == ["two", "two"]
    assert [request.path for request in elsewhere.requests] == ["/token", "/storage"]
    assert all("x-key" not in request.headers for request in (*elsewhere.requests, *setting.server.requests))


async def test_a_registry_below_a_path_is_asked_for_the_scope_that_it_knows(tmp_path: Path) -> None:
    async def mirror(request: Request, stream: trio.SocketStream) -> None:
        if request.path == "/token":
            await reply(stream, 200, b'{"token":"t"}')
        elif "authorization" in request.headers:
            await honest(request, stream)
        else:
            await reply(stream, 401, WWW_Authenticate=f'Bearer realm="http://{request.headers["host"]}/token"')

    def configure(mirrors: list[ScriptedRegistry]) -> str:
        return f'[host."{mirrors[0].url}/v2/proxy"]\noverride_path = true\n'

    async with mirrored(tmp_path, [mirror], answering(500), configure=configure) as setting:
        await setting.open().resolve()

    assert setting.mirrors[0].sent("/v2/proxy/some/app/manifests/1")
    (asked,) = setting.mirrors[0].sent("/token")
    assert asked.target == "/token?scope=repository%3Aproxy%2Fsome%2Fapp%3Apull"
