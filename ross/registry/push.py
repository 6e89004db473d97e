"""Pushing to a registry (distribution-spec, "Pushing"): blobs as uploads that can go on after a drop, then manifests.

An upload lives at a URL of the registry's making, which changes with each answer. Whoever begins one ends it: with the whole blob, or
by a ``DELETE``, so that no registry is left with half of one.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import httpx
from attrs import define, frozen

from ross.errors import (
    Corrupt,
    Denied,
    FailedPrecondition,
    NotFound,
    RossError,
    Unauthenticated,
    Unavailable,
)
from ross.nursery.cleanup import bounded_cleanup
from ross.registry.endpoint import Capability
from ross.registry.http import answered_within, read_bounded
from ross.registry.notices import Notices, Notify
from ross.registry.retry import Backoff, RetryPolicy, Transient
from ross.registry.session import location

if TYPE_CHECKING:
    from ross.oci.digest import Digest
    from ross.oci.image import Descriptor
    from ross.oci.reference import Reference
    from ross.registry.endpoint import Endpoint
    from ross.registry.session import Content, RegistrySession

T = TypeVar("T")
ReadAt = Callable[[int, int], Awaitable[bytes]]
"""``read(offset, size)`` of a blob's bytes; fewer only at its end."""

_PIECE_BYTES: Final = 1 << 20
_ABANDON_SECONDS: Final = 5.0
_MAX_ERROR_BYTES: Final = 16 << 10
_RANGE: Final = re.compile(r"(?:bytes=)?0-([0-9]{1,18})\Z")


class Sent(Enum):
    """How a blob got to the registry."""

    UPLOADED = "uploaded"
    MOUNTED = "mounted"
    EXISTED = "existed"


@frozen(kw_only=True)
class Chunking:
    """How blobs are cut."""

    whole_bytes: int = 8 << 20
    """Up to this size a blob is sent in one request."""
    chunk_bytes: int = 32 << 20
    """Of a larger one, so much in one request, unless the registry asks for more: what a drop costs at most is the round trip in which the
    registry is asked how much of it has arrived."""


class _UploadLostError(Exception):
    """The registry does not know the upload any more, or not as we do."""


@define
class _Upload:
    """An upload under way."""

    url: httpx.URL
    offset: int = 0
    """So much has arrived."""
    least_bytes: int = 0
    """What the registry wants of each chunk but the last."""


class RegistryPusher:
    """Pushes to all registries."""

    def __init__(
        self,
        session: RegistrySession,
        *,
        policy: RetryPolicy | None = None,
        chunking: Chunking | None = None,
        notices: Notices | None = None,
    ) -> None:
        self._session = session
        self._notices = notices
        self._policy = policy or RetryPolicy()
        self._chunking = chunking or Chunking()

    def telling(self, notify: Notify) -> RegistryPusher:
        """The same, for one push: ``notify`` is told what the registry has to say."""
        notices = Notices(notify)
        return RegistryPusher(self._session, policy=self._policy, chunking=self._chunking, notices=notices)

    # -- what is there ------------------------------------------------------------------------------------------------

    async def has_blob(self, repository: Reference, digest: Digest) -> bool:
        """The registry has the blob, in this repository.

        Raises:
            As :meth:`put_manifest`.
        """
        return await self._has(repository, f"blobs/{digest}")

    async def has_manifest(self, repository: Reference, digest: Digest, *, media_type: str) -> bool:
        """The registry has the manifest, in this repository.

        Raises:
            As :meth:`put_manifest`.
        """
        return await self._has(repository, f"manifests/{digest}", headers={"Accept": media_type})

    async def _has(self, repository: Reference, path: str, *, headers: Mapping[str, str] | None = None) -> bool:
        async def ask() -> bool:
            async with self._exchange(repository, "HEAD", path, headers=headers) as response:
                if response.status_code not in {200, 404}:
                    raise await _refusal(response, repository)
                return response.status_code == 200

        return await self._retried(ask, what=f"looking for {path}")

    # -- manifests ----------------------------------------------------------------------------------------------------

    async def put_manifest(self, reference: Reference, media_type: str, data: bytes, digest: Digest) -> None:
        """Let a tag of the registry, or the manifest's own digest, denote a manifest.

        Args:
            reference: With the tag or the digest.
            media_type: Of the manifest.
            data: The manifest, byte for byte.
            digest: What it hashes to.

        Raises:
            Unauthenticated: the registry wants credentials.
            Denied: it does not let us push there, or it leads where it must not.
            NotFound: it has no such repository and makes none.
            FailedPrecondition: it refuses the manifest.
            Unavailable: it does not answer.
            Corrupt: it took the manifest for another.
        """
        path = f"manifests/{reference.digest or reference.tag}"

        async def put() -> None:
            headers = {"Content-Type": media_type}
            async with self._exchange(reference, "PUT", path, headers=headers, content=data) as response:
                if response.status_code not in {200, 201, 202, 204}:
                    raise await _refusal(response, reference)
                _check_digest(response, digest, reference)

        await self._retried(put, what=f"pushing the manifest of {reference}")

    # -- blobs --------------------------------------------------------------------------------------------------------

    async def put_blob(
        self,
        repository: Reference,
        descriptor: Descriptor,
        read: ReadAt,
        *,
        mount_from: str | None,
        report: Callable[[int], None],
    ) -> Sent:
        """See that the registry has a blob: because it has it already, by a mount from another repository, or by an upload.

        Cancelling ends the upload that is under way.

        Args:
            repository: Where it is to be; the tag does not matter.
            descriptor: Of the blob.
            read: The blob's bytes.
            mount_from: Another repository of the same registry that probably has it.
            report: Told how many bytes the registry has.

        Raises:
            As :meth:`put_manifest`.
            Corrupt: the registry says that the bytes are not what the digest promises.
        """
        if await self.has_blob(repository, descriptor.digest):
            return Sent.EXISTED
        what = f"pushing {descriptor.digest.short} to {repository.repository}"
        upload = await self._retried(lambda: self._begin(repository, descriptor.digest, mount_from), what=what)
        if upload is None:
            return Sent.MOUNTED
        backoff = Backoff(self._policy)
        furthest = 0
        try:
            while True:
                try:
                    await self._send(repository, descriptor, upload, read, report)
                    return Sent.UPLOADED
                except Transient as error:
                    if upload.offset > furthest:
                        furthest = upload.offset
                        backoff.progressed()
                    await backoff.wait(error, what=what)
                    known = await self._find_out(repository, descriptor, upload)
                except _UploadLostError:
                    await backoff.wait(Transient(f"the registry {repository.host} has lost the upload"), what=what)
                    known = False
                if not known:
                    if await self.has_blob(repository, descriptor.digest):
                        return Sent.UPLOADED  # only the answer was lost
                    await self._abandon(repository, upload)
                    upload = await self._again(repository, descriptor.digest, what=what)
                report(upload.offset)
        except BaseException:
            await self._abandon(repository, upload)  # noqa: ASYNC120 -- bounded and shielded
            raise

    async def _begin(self, repository: Reference, digest: Digest, mount_from: str | None) -> _Upload | None:
        """Begin an upload; None if the registry had the blob elsewhere and has mounted it."""
        if mount_from is not None:
            path = f"blobs/uploads/?mount={digest}&from={mount_from}"
            try:
                return await self._post(repository, path, more_scopes=(f"repository:{mount_from}:pull",))
            except (Unauthenticated, Denied, NotFound, FailedPrecondition):
                pass  # a mount saves time; that we may not see the other repository does not matter
        upload = await self._post(repository, "blobs/uploads/")
        if upload is None:
            raise Corrupt(f"the registry {repository.host} takes a blob for uploaded before it was sent")
        return upload

    async def _again(self, repository: Reference, digest: Digest, *, what: str) -> _Upload:
        upload = await self._retried(lambda: self._begin(repository, digest, None), what=what)
        if upload is None:
            raise Corrupt(f"the registry {repository.host} takes a blob for uploaded before it was sent")
        return upload

    async def _post(self, repository: Reference, path: str, *, more_scopes: tuple[str, ...] = ()) -> _Upload | None:
        headers = {"Content-Length": "0"}
        async with self._exchange(repository, "POST", path, headers=headers, more_scopes=more_scopes) as response:
            if response.status_code == 201 and "mount=" in path:
                return None
            if response.status_code != 202:
                raise await _refusal(response, repository)
            least = response.headers.get("OCI-Chunk-Min-Length", "")
            least_bytes = int(least[:12]) if least.isascii() and least.isdigit() else 0
            return _Upload(location(response), least_bytes=least_bytes)

    async def _send(
        self,
        repository: Reference,
        descriptor: Descriptor,
        upload: _Upload,
        read: ReadAt,
        report: Callable[[int], None],
    ) -> None:
        """What is missing of an upload, and its end."""
        whole = descriptor.size <= max(self._chunking.whole_bytes, upload.least_bytes)
        while not whole and upload.offset < descriptor.size:
            await self._send_chunk(repository, descriptor, upload, read, report)
        left = descriptor.size - upload.offset
        url = _with_digest(upload.url, descriptor.digest)
        headers = {"Content-Length": str(left), "Content-Type": "application/octet-stream"}
        if upload.offset and left:
            headers["Content-Range"] = f"{upload.offset}-{descriptor.size - 1}"
        content = _pieces(read, upload.offset, descriptor.size, report) if left else b""
        async with self._exchange(repository, "PUT", url, headers=headers, content=content) as response:
            if response.status_code in {404, 416}:
                raise _UploadLostError
            if response.status_code not in {200, 201, 204}:
                raise await _refusal(response, repository, digest=descriptor.digest)
            _check_digest(response, descriptor.digest, repository)

    async def _send_chunk(
        self,
        repository: Reference,
        descriptor: Descriptor,
        upload: _Upload,
        read: ReadAt,
        report: Callable[[int], None],
    ) -> None:
        begin = upload.offset
        end = min(begin + max(self._chunking.chunk_bytes, upload.least_bytes), descriptor.size)
        headers = {
            "Content-Length": str(end - begin),
            "Content-Range": f"{begin}-{end - 1}",
            "Content-Type": "application/octet-stream",
        }
        content = _pieces(read, begin, end, report)
        async with self._exchange(repository, "PATCH", upload.url, headers=headers, content=content) as response:
            if response.status_code in {404, 416}:
                raise _UploadLostError
            if response.status_code not in {202, 204}:
                raise await _refusal(response, repository)
            upload.url = location(response)
            arrived = _arrived(response, default=end)
        if arrived is None or not begin <= arrived <= end:
            raise _UploadLostError
        if arrived == begin:
            raise Transient(f"the registry {repository.host} took nothing of what was sent")
        upload.offset = arrived

    async def _find_out(self, repository: Reference, descriptor: Descriptor, upload: _Upload) -> bool:
        """After a drop: how much has arrived, by the registry's word. False: the upload is not to be gone on with.

        The distribution project's registry of version 2 forgets an upload if a chunk of it broke off half-way: there it begins anew.
        """

        async def ask() -> bool:
            async with self._exchange(repository, "GET", upload.url) as response:
                if response.status_code not in {200, 202, 204}:
                    return False
                arrived = _arrived(response, default=None)
                if "Location" in response.headers:
                    upload.url = location(response)
            # Some registries say 0-0 for nothing, where it means one byte: that little is sent anew.
            if arrived is None or arrived <= 1 or arrived > descriptor.size:
                return False
            upload.offset = arrived
            return True

        return await self._retried(ask, what=f"going on with {descriptor.digest.short}")

    async def _abandon(self, repository: Reference, upload: _Upload) -> None:
        """Let the registry forget an upload. If it cannot be told, it forgets by itself some day."""
        with bounded_cleanup(_ABANDON_SECONDS, what=f"ending an upload to {repository.host}"):
            try:
                async with self._exchange(repository, "DELETE", upload.url):
                    pass
            except RossError:
                return

    # -- exchanges ----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _exchange(
        self,
        repository: Reference,
        method: str,
        path: str | httpx.URL,
        *,
        headers: Mapping[str, str] | None = None,
        content: Content | None = None,
        more_scopes: tuple[str, ...] = (),
    ) -> AsyncIterator[httpx.Response]:
        endpoint = self._endpoint(repository)
        async with self._session.request(
            method,
            endpoint,
            repository.path,
            path,
            actions="pull,push",
            more_scopes=more_scopes,
            headers=headers,
            content=content,
            notices=self._notices,
        ) as response:
            yield response

    def _endpoint(self, repository: Reference) -> Endpoint:
        (endpoint, *_) = self._session.endpoints(repository.host, Capability.PUSH)
        return endpoint

    async def _retried(self, action: Callable[[], Awaitable[T]], *, what: str) -> T:
        backoff = Backoff(self._policy)
        while True:
            try:
                with answered_within(self._session.timing.document_seconds, where="the registry"):
                    return await action()
            except Transient as error:
                await backoff.wait(error, what=what)


def _pieces(read: ReadAt, begin: int, end: int, report: Callable[[int], None]) -> Callable[[], AsyncIterator[bytes]]:
    """The body of an upload; made anew when it has to be sent again."""
    return lambda: _Pieces(read, begin, end, report)


class _Pieces:
    """Part of a blob, piece by piece. No generator: nobody would close it where a connection breaks."""

    def __init__(self, read: ReadAt, begin: int, end: int, report: Callable[[int], None]) -> None:
        self._read = read
        self._offset = begin
        self._end = end
        self._report = report

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        self._report(self._offset)
        if self._offset >= self._end:
            raise StopAsyncIteration
        piece = await self._read(self._offset, min(_PIECE_BYTES, self._end - self._offset))
        if not piece:
            raise Corrupt("a blob of the store is shorter than it was")
        self._offset += len(piece)
        return piece


def _with_digest(url: httpx.URL, digest: Digest) -> httpx.URL:
    """An upload's URL with the digest behind what else it says: the rest is the registry's, and stays as it is byte for byte."""
    query = url.query.decode("ascii")
    return url.copy_with(query=f"{query}{'&' if query else ''}digest={digest}".encode())


def _arrived(response: httpx.Response, *, default: int | None) -> int | None:
    """How many bytes have arrived, by the ``Range`` header."""
    text = response.headers.get("Range")
    if text is None:
        return default
    match = _RANGE.match(text.strip())
    return int(match[1]) + 1 if match else None


def _check_digest(response: httpx.Response, digest: Digest, repository: Reference) -> None:
    announced = response.headers.get("Docker-Content-Digest")
    if announced is not None and announced.partition(":")[0] == digest.algorithm and announced != str(digest):
        raise Corrupt(f"the registry {repository.host} took {digest} for {announced[:140]!r}")


async def _refusal(response: httpx.Response, repository: Reference, *, digest: Digest | None = None) -> RossError:
    """The error for a status that ends a push, with the registry's own words where it has some."""
    status, host = response.status_code, repository.host
    code, said = await _said(response)
    words = f": {said}" if said else ""
    if code == "DIGEST_INVALID":
        what = f"the blob {digest}" if digest is not None else "the manifest"
        return Corrupt(
            f"the registry {host} does not find in {what} what the digest promises{words}",
            hint="the blob in the store may be damaged: remove the image and pull it again",
        )
    if status in {401, 403} or code == "DENIED":
        return Denied(
            f"the registry {host} does not let us push to {repository.path}{words}",
            hint=f"do the credentials allow it? log in again: ross login {host}",
        )
    if status == 404:
        return NotFound(f"the registry {host} has no repository {repository.path}, and makes none{words}")
    if status == 405 or code == "UNSUPPORTED":
        return FailedPrecondition(
            f"the registry {host} takes no pushes{words}", hint="it may be a mirror, or read-only"
        )
    if status == 413:
        return FailedPrecondition(f"the registry {host}, or a proxy before it, refuses so large a request{words}")
    if status in {400, 409, 412, 422}:
        return FailedPrecondition(f"the registry {host} refuses the push to {repository.path}{words}")
    return Unavailable(f"the registry {host} answered with status {status}{words}")


async def _said(response: httpx.Response) -> tuple[str, str]:
    """The code and the message of an error as registries give it (distribution-spec, "Error Codes")."""
    try:
        document: Any = json.loads(await read_bounded(response, _MAX_ERROR_BYTES, what="an error"))
        error = document["errors"][0]
        code, message = str(error.get("code", ""))[:40], " ".join(str(error.get("message", "")).split())[:200]
    except (Corrupt, ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return "", ""
    return code, message
