"""An HTTP server that does what a test says, byte by byte: a registry that drops, lies, redirects, or never ends."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from attrs import define, field, frozen

from tests.support.loopback import listening, read_head

OCI = "application/vnd.oci.image"


@frozen
class Request:
    """What the client sent."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    cut: bool = False
    """The server has stopped reading in the middle of the body."""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]
Handler = Callable[[Request, Any], Awaitable[None]]
"""Gets a stream of either kind; most tests know which."""


@define
class ScriptedRegistry:
    """Calls a handler for each request and keeps what it saw. One request a connection, so that nothing is left over."""

    port: int
    handler: Handler
    tls: ssl.SSLContext | None = None
    cut: Callable[[Request], int | None] | None = None
    """After how many bytes of a request's body to stop reading; None for none."""
    requests: list[Request] = field(factory=list)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}"

    async def serve(self, plain: trio.SocketStream) -> None:
        stream = trio.SSLStream(plain, self.tls, server_side=True, https_compatible=True) if self.tls else plain
        try:
            async with stream:
                request = await _read_request(stream, self.cut)
                if request is not None:
                    self.requests.append(request)
                    await self.handler(request, stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the client has had enough

    def sent(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]


@asynccontextmanager
async def scripted_registry(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedRegistry]:
    """A server on a free loopback port, for the length of the block; with TLS if it is given a context."""
    async with listening(lambda port: ScriptedRegistry(port, handler, tls)) as server:
        yield server


async def reply(stream: Stream, status: int, body: bytes = b"", /, **headers: str) -> None:
    """One whole answer. Header names are given with ``_`` for ``-``; a length of one's own replaces the right one."""
    await begin(stream, status, **{"Content_Length": str(len(body))} | headers)
    await stream.send_all(body)


async def begin(stream: Stream, status: int, /, **headers: str) -> None:
    """The head of an answer."""
    lines = [f"HTTP/1.1 {status} X", "Connection: close", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
    await stream.send_all("\r\n".join([*lines, "", ""]).encode())


async def _read_request(stream: Stream, cut: Callable[[Request], int | None] | None) -> Request | None:
    found = await read_head(stream)
    if found is None:
        return None
    head, rest = found
    first, *lines = head.split("\r\n")
    method, target, _version = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    length = int(headers.get("content-length", "0"))
    stop = cut(Request(method, target, headers, b"")) if cut is not None else None
    body = bytearray(rest)
    while len(body) < (length if stop is None else min(stop, length)):
        more = await stream.receive_some()
        if not more:
            return None
        body += more
    return Request(method, target, headers, bytes(body[:stop]), cut=stop is not None)


@frozen
class ScriptedImage:
    """A one-platform image as documents and blobs, for a handler to serve."""

    manifest: bytes
    blobs: dict[str, bytes]
    config_digest: str
    layer_digests: tuple[str, ...]


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def make_image(*layers: bytes, architecture: str, **manifest_fields: object) -> ScriptedImage:
    """Layers are plain tar streams, so that each is its own diff ID."""
    digests = tuple(digest_of(layer) for layer in layers)
    rootfs = {"type": "layers", "diff_ids": list(digests)}
    config = json.dumps({"os": "linux", "architecture": architecture, "rootfs": rootfs}).encode()
    document = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": descriptor(config, f"{OCI}.config.v1+json"),
        "layers": [descriptor(layer, f"{OCI}.layer.v1.tar") for layer in layers],
    } | manifest_fields
    blobs = {digest_of(config): config} | dict(zip(digests, layers, strict=True))
    return ScriptedImage(json.dumps(document).encode(), blobs, digest_of(config), digests)


def descriptor(data: bytes, media_type: str, /, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)} | more


async def serve_image(image: ScriptedImage, request: Request, stream: Stream) -> None:
    """Answer as an honest registry does, ranges included."""
    name = request.path.rpartition("/")[2]
    if "/manifests/" in request.path:
        await reply(stream, 200, image.manifest, Content_Type=f"{OCI}.manifest.v1+json")
        return
    blob = image.blobs.get(name)
    if blob is None:
        await reply(stream, 404)
        return
    wanted = request.headers.get("range", "")
    if wanted:
        first, _dash, last = wanted.removeprefix("bytes=").partition("-")
        start, end = int(first), int(last) + 1 if last else len(blob)
        await reply(stream, 206, blob[start:end], Content_Range=f"bytes {start}-{end - 1}/{len(blob)}")
    else:
        await reply(stream, 200, blob)
