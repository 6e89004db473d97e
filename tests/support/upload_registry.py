"""A registry that takes pushes, strictly: each answer moves the URL of an upload, and chunks come in order or not at all."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from urllib.parse import parse_qs

from attrs import define, field

from tests.support.scripted_registry import Request, Stream, digest_of, reply


@define
class Upload:
    """One that is under way."""

    data: bytearray = field(factory=bytearray)
    state: int = 0


@define
class UploadRegistry:
    """Give :meth:`handle` to a scripted registry."""

    least_bytes: int = 0
    """Of each chunk but the last."""
    mountable: set[tuple[str, str]] = field(factory=set)
    """Pairs of repository and digest."""
    blobs: dict[str, bytes] = field(factory=dict)
    manifests: dict[str, bytes] = field(factory=dict)
    """By ``repository:tag`` and ``repository@digest``."""
    uploads: dict[str, Upload] = field(factory=dict)
    _numbers: Iterator[int] = field(factory=itertools.count)

    async def handle(self, request: Request, stream: Stream) -> None:
        """Answer; a request that was cut is taken as far as it came, and not answered."""
        repository, _, rest = request.path.removeprefix("/v2/").partition("/blobs/")
        if "/manifests/" in request.path:
            await self._manifest(request, stream)
        elif not rest.startswith("uploads/"):
            await reply(stream, 200 if rest in self.blobs else 404)
        elif request.method == "POST":
            await self._begin(repository, request, stream)
        else:
            await self._go_on(repository, rest.removeprefix("uploads/"), request, stream)

    async def _begin(self, repository: str, request: Request, stream: Stream) -> None:
        query = parse_qs(request.target.partition("?")[2])
        digest = query.get("mount", [""])[0]
        if (query.get("from", [""])[0], digest) in self.mountable:
            self.blobs[digest] = b""
            await reply(stream, 201, Location=f"/v2/{repository}/blobs/{digest}", Docker_Content_Digest=digest)
            return
        name = str(next(self._numbers))
        self.uploads[name] = Upload()
        least = {"OCI_Chunk_Min_Length": str(self.least_bytes)} if self.least_bytes else {}
        await reply(stream, 202, Location=f"/v2/{repository}/blobs/uploads/{name}?_state=0", **least)

    async def _go_on(self, repository: str, name: str, request: Request, stream: Stream) -> None:
        upload = self.uploads.get(name)
        if upload is None:
            await reply(stream, 404)
            return
        query = parse_qs(request.target.partition("?")[2])
        if request.method == "DELETE":
            del self.uploads[name]
            await reply(stream, 204)
            return
        if request.method != "GET":
            assert query["_state"] == [str(upload.state)], "an upload's URL is as the last answer said"
            begin = int(request.headers.get("content-range", str(len(upload.data))).partition("-")[0])
            if begin != len(upload.data):
                await reply(stream, 416)
                return
            upload.data += request.body
            if request.cut:
                return
        if request.method == "PUT":
            await self._finish(name, query["digest"][0], stream)
            return
        upload.state += 1
        await reply(
            stream,
            202 if request.method == "PATCH" else 204,
            Location=f"/v2/{repository}/blobs/uploads/{name}?_state={upload.state}",
            Range=f"0-{max(len(upload.data) - 1, 0)}",
        )

    async def _finish(self, name: str, digest: str, stream: Stream) -> None:
        data = bytes(self.uploads.pop(name).data)
        algorithm, _, encoded = digest.partition(":")
        if hashlib.new(algorithm, data).hexdigest() != encoded:
            await reply(stream, 400, json.dumps({"errors": [{"code": "DIGEST_INVALID", "message": "not it"}]}).encode())
            return
        self.blobs[digest] = data
        await reply(stream, 201, Docker_Content_Digest=digest)

    async def _manifest(self, request: Request, stream: Stream) -> None:
        repository, _, name = request.path.removeprefix("/v2/").partition("/manifests/")
        key = f"{repository}{'@' if ':' in name else ':'}{name}"
        if request.method == "HEAD":
            await reply(stream, 200 if key in self.manifests else 404)
            return
        self.manifests[key] = request.body
        await reply(stream, 201, Docker_Content_Digest=digest_of(request.body))
