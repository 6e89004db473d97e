"""Uploads of blobs to a registry (distribution-spec, "Pushing a blob in chunks"), which can go on after a drop.

An upload lives at a URL of the registry's making, which changes with each answer. When to go on and when to begin anew, ``push`` decides.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Final, Self

import httpx
from attrs import define, frozen

from ross.errors import Corrupt, Denied, FailedPrecondition, NotFound, RossError, Unauthenticated
from ross.nursery.cleanup import bounded_cleanup
from ross.registry.refusals import check_digest, refusal
from ross.registry.retry import Transient
from ross.registry.session import location

if TYPE_CHECKING:
    from ross.oci.digest import Digest
    from ross.oci.image import Descriptor
    from ross.oci.reference import Reference
    from ross.registry.exchanges import PushExchanges

ReadAt = Callable[[int, int], Awaitable[bytes]]
"""``read(offset, size)`` of a blob's bytes; fewer only at its end."""

_PIECE_BYTES: Final = 1 << 20
_ABANDON_SECONDS: Final = 5.0
_RANGE: Final = re.compile(r"(?:bytes=)?0-([0-9]{1,18})\Z")


@frozen(kw_only=True)
class Chunking:
    """How blobs are cut."""

    whole_bytes: int = 8 << 20
    """Up to this size a blob is sent in one request."""
    chunk_bytes: int = 32 << 20
    """Of a larger one, so much in one request, unless the registry asks for more: what a drop costs at most is the round trip in which the
    registry is asked how much of it has arrived."""


class UploadLostError(Exception):
    """The registry does not know the upload any more, or not as we do."""


@define
class Upload:
    """An upload under way."""

    url: httpx.URL
    offset: int = 0
    """So much has arrived."""
    least_bytes: int = 0
    """What the registry wants of each chunk but the last."""


class Uploader:
    """Gets one blob to one repository. Whoever begins an upload ends it: with the whole blob, or by :meth:`abandon`."""

    def __init__(
        self,
        exchanges: PushExchanges,
        chunking: Chunking,
        repository: Reference,
        descriptor: Descriptor,
        read: ReadAt,
        report: Callable[[int], None],
    ) -> None:
        """Take what ``read`` gives, and tell ``report`` how much of it the registry has."""
        self.what = f"pushing {descriptor.digest.short} to {repository.repository}"
        """As it is called in errors."""
        self._exchanges = exchanges
        self._chunking = chunking
        self._repository = repository
        self._descriptor = descriptor
        self._read = read
        self._report = report

    async def begin(self, mount_from: str | None) -> Upload | None:
        """Begin an upload; None if the registry had the blob in that other repository and has mounted it.

        Raises:
            RossError: as :meth:`ross.registry.push.RegistryPusher.put_blob`.
        """
        return await self._exchanges.retried(lambda: self._begin(mount_from), what=self.what)

    async def begin_again(self) -> Upload:
        """Begin another upload, since one was lost; errors are those of :meth:`begin`."""
        upload = await self.begin(None)
        if upload is None:
            raise Corrupt(f"the registry {self._repository.host} takes a blob for uploaded before it was sent")
        return upload

    async def _begin(self, mount_from: str | None) -> Upload | None:
        if mount_from is not None:
            path = f"blobs/uploads/?mount={self._descriptor.digest}&from={mount_from}"
            try:
                return await self._post(path, more_scopes=(f"repository:{mount_from}:pull",))
            except (Unauthenticated, Denied, NotFound, FailedPrecondition):
                pass  # a mount saves time; that we may not see the other repository does not matter
        upload = await self._post("blobs/uploads/")
        if upload is None:
            raise Corrupt(f"the registry {self._repository.host} takes a blob for uploaded before it was sent")
        return upload

    async def _post(self, path: str, *, more_scopes: tuple[str, ...] = ()) -> Upload | None:
        headers = {"Content-Length": "0"}
        async with self._exchanges.request(
            self._repository, "POST", path, headers=headers, more_scopes=more_scopes
        ) as response:
            if response.status_code == 201 and "mount=" in path:
                return None
            if response.status_code != 202:
                raise await refusal(response, self._repository)
            least = response.headers.get("OCI-Chunk-Min-Length", "")
            least_bytes = int(least[:12]) if least.isascii() and least.isdigit() else 0
            return Upload(location(response), least_bytes=least_bytes)

    async def send(self, upload: Upload) -> None:
        """Send what is missing of an upload, and its end.

        Raises:
            Transient: it broke off; some more may have arrived.
            UploadLostError: the registry does not take it to its end.
            RossError: as :meth:`ross.registry.push.RegistryPusher.put_blob`.
        """
        descriptor = self._descriptor
        whole = descriptor.size <= max(self._chunking.whole_bytes, upload.least_bytes)
        while not whole and upload.offset < descriptor.size:
            await self._send_chunk(upload)
        left = descriptor.size - upload.offset
        url = _with_digest(upload.url, descriptor.digest)
        headers = {"Content-Length": str(left), "Content-Type": "application/octet-stream"}
        if upload.offset and left:
            headers["Content-Range"] = f"{upload.offset}-{descriptor.size - 1}"
        content = _pieces(self._read, upload.offset, descriptor.size, self._report) if left else b""
        async with self._exchanges.request(self._repository, "PUT", url, headers=headers, content=content) as response:
            if response.status_code in {404, 416}:
                raise UploadLostError
            if response.status_code not in {200, 201, 204}:
                raise await refusal(response, self._repository, digest=descriptor.digest)
            check_digest(response, descriptor.digest, self._repository)

    async def _send_chunk(self, upload: Upload) -> None:
        begin = upload.offset
        end = min(begin + max(self._chunking.chunk_bytes, upload.least_bytes), self._descriptor.size)
        headers = {
            "Content-Length": str(end - begin),
            "Content-Range": f"{begin}-{end - 1}",
            "Content-Type": "application/octet-stream",
        }
        content = _pieces(self._read, begin, end, self._report)
        async with self._exchanges.request(
            self._repository, "PATCH", upload.url, headers=headers, content=content
        ) as response:
            if response.status_code in {404, 416}:
                raise UploadLostError
            if response.status_code not in {202, 204}:
                raise await refusal(response, self._repository)
            upload.url = location(response)
            arrived = _arrived(response, default=end)
        if arrived is None or not begin <= arrived <= end:
            raise UploadLostError
        if arrived == begin:
            raise Transient(f"the registry {self._repository.host} took nothing of what was sent")
        upload.offset = arrived

    async def find_out(self, upload: Upload) -> bool:
        """After a drop: how much has arrived, by the registry's word. False: the upload is not to be gone on with.

        The distribution project's registry of version 2 forgets an upload if a chunk of it broke off half-way: there it begins anew.
        """

        async def ask() -> bool:
            async with self._exchanges.request(self._repository, "GET", upload.url) as response:
                if response.status_code not in {200, 202, 204}:
                    return False
                arrived = _arrived(response, default=None)
                if "Location" in response.headers:
                    upload.url = location(response)
            # Some registries say 0-0 for nothing, where it means one byte: that little is sent anew.
            if arrived is None or arrived <= 1 or arrived > self._descriptor.size:
                return False
            upload.offset = arrived
            return True

        return await self._exchanges.retried(ask, what=f"going on with {self._descriptor.digest.short}")

    async def abandon(self, upload: Upload) -> None:
        """Let the registry forget an upload. If it cannot be told, it forgets by itself some day."""
        with bounded_cleanup(_ABANDON_SECONDS, what=f"ending an upload to {self._repository.host}"):
            try:
                async with self._exchanges.request(self._repository, "DELETE", upload.url):
                    pass
            except RossError:
                return


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
