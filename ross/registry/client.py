"""Pulling from a registry (distribution-spec, "Pulling manifests" and "Pulling blobs")."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final, Self, TypeVar

import httpx
import trio
from attrs import frozen

from ross.errors import Corrupt, Denied, InvalidArgument, NotFound, Unavailable
from ross.oci import media_types
from ross.oci.codec import MAX_DOCUMENT_BYTES
from ross.oci.digest import Digest
from ross.oci.image import Descriptor, Index, parse_manifest
from ross.registry.endpoint import Capability
from ross.registry.http import answered_within, raw_body, read_bounded
from ross.registry.retry import Backoff, RetryPolicy, Transient

if TYPE_CHECKING:
    from ross.oci.reference import Reference
    from ross.registry.session import RegistrySession, Timing

T = TypeVar("T")

CHUNK_BYTES: Final = 1 << 20
"""How much of a blob is handed on at once: each piece costs its taker a switch to a thread."""
_CHUNK_SECONDS: Final = 0.5
"""After so long a smaller piece is handed on, for the sake of progress bars and of what a broken connection would lose."""


@frozen(kw_only=True)
class ResolvedManifest:
    """What a reference denotes: an index or a manifest, verified."""

    descriptor: Descriptor
    data: bytes


class BlobStream:
    """A blob on its way."""

    def __init__(self, source: AsyncIterator[bytes], offset: int, left: int, host: str, timing: Timing) -> None:
        self.offset = offset
        """Where it begins: 0 if the registry sends the whole although a part was asked for."""
        self._source = source
        self._failure: Transient | Corrupt | None = None
        self._left = left
        self._host = host
        self._pace = _Pace(timing)

    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, in large pieces. What came before a failure is handed on before the failure is told.

        Raises:
            Corrupt: there are more than the descriptor says.
            Transient: the connection broke, or became too slow to be called one.
        """
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        begun = trio.current_time()
        while self._failure is None and size < CHUNK_BYTES and trio.current_time() - begun < _CHUNK_SECONDS:
            part = await self._part()
            if not part:
                break
            parts.append(part)
            size += len(part)
        if parts:
            return b"".join(parts)
        if self._failure is not None:
            raise self._failure
        raise StopAsyncIteration

    async def _part(self) -> bytes:
        """What comes next, empty at the end; a failure is kept for later, so that nothing that came before it is lost."""
        try:
            part = await anext(self._source, b"")
            self._take(part)
        except httpx.TimeoutException:
            self._failure = Transient(f"the registry {self._host} stopped sending")
        except httpx.TransportError:
            self._failure = Transient(f"the connection to the registry {self._host} broke")
        except (Transient, Corrupt) as error:
            self._failure = error
        else:
            return part
        return b""

    def _take(self, part: bytes) -> None:
        self._left -= len(part)
        if self._left < 0:
            raise Corrupt(f"the registry {self._host} sends more of a blob than its descriptor says")
        if not part and self._left:
            raise Transient(f"the registry {self._host} sent {self._left} bytes of a blob too few")
        if not self._pace.keeps_up(len(part)):
            raise Transient(f"the registry {self._host} sends too slowly to ever end")


class _Pace:
    """Tells a slow connection from one that is only kept open: so many bytes in each stretch of time."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._begun = trio.current_time()
        self._seen = 0

    def keeps_up(self, count: int) -> bool:
        self._seen += count
        now = trio.current_time()
        if now - self._begun < self._timing.window_seconds:
            return True
        enough = self._seen >= self._timing.window_bytes
        self._begun, self._seen = now, 0
        return enough


class RegistryClient:
    """Pulls from all registries."""

    def __init__(self, session: RegistrySession, *, policy: RetryPolicy | None = None) -> None:
        self.session = session
        self._policy = policy or RetryPolicy()
        self._timing = session.timing

    async def resolve(self, reference: Reference) -> ResolvedManifest:
        """The index or manifest that a reference denotes.

        Raises:
            NotFound: the registry has no such image.
            Unauthenticated: it wants credentials.
            Denied: it does not let us, or it leads where it must not.
            Unavailable: it does not answer.
            Corrupt: what it sends is not what it says.
        """
        wanted = str(reference.digest or reference.tag or "latest")

        async def fetch() -> ResolvedManifest:
            with answered_within(self._timing.document_seconds, where=f"the registry {reference.host}"):
                async with self._get(reference, f"manifests/{wanted}", accept=media_types.ACCEPT) as response:
                    data = await read_bounded(response, MAX_DOCUMENT_BYTES, what=f"the manifest of {reference}")
                    return _resolved(reference, response, data)

        return await self._retried(fetch, what=f"resolving {reference}")

    async def manifest(self, repository: Reference, descriptor: Descriptor) -> bytes:
        """A manifest by its descriptor, verified.

        Raises:
            As :meth:`resolve`.
        """

        async def fetch() -> bytes:
            path = f"manifests/{descriptor.digest}"
            bound = min(descriptor.size, MAX_DOCUMENT_BYTES)
            data = b""
            with answered_within(self._timing.document_seconds, where=f"the registry {repository.host}"):
                async with self._get(repository, path, accept=(descriptor.media_type,)) as response:
                    data = await read_bounded(response, bound, what=f"the manifest {descriptor.digest}")
            _verify(data, descriptor.digest, f"the manifest {descriptor.digest} from {repository.host}")
            return data

        return await self._retried(fetch, what=f"fetching the manifest {descriptor.digest.short}")

    @asynccontextmanager
    async def blob(
        self, repository: Reference, descriptor: Descriptor, *, offset: int = 0
    ) -> AsyncIterator[BlobStream]:
        """One attempt at a blob, from ``offset`` on. What arrives is not verified.

        Only the registry itself is asked: the ``urls`` of a descriptor are never followed.

        Raises:
            Transient: no connection, or it broke; trying again may help.
            As :meth:`resolve`.
        """
        path = f"blobs/{descriptor.digest}"
        async with AsyncExitStack() as stack:
            response = await stack.enter_async_context(self._get(repository, path, offset=offset))
            begins = _begins(response, offset, descriptor.size)
            if begins is None:
                # The registry does not do ranges as the standard has them. The whole is longer, and right.
                await stack.aclose()
                response = await stack.enter_async_context(self._get(repository, path))
                begins = 0
            _check_blob(response, descriptor.size - begins, repository.host)
            source = await stack.enter_async_context(raw_body(response))
            yield BlobStream(source, begins, descriptor.size - begins, repository.host, self._timing)

    def backoff(self) -> Backoff:
        """The waits between the attempts at one blob."""
        return Backoff(self._policy)

    async def _retried(self, fetch: Callable[[], Awaitable[T]], *, what: str) -> T:
        backoff = self.backoff()
        while True:
            try:
                return await fetch()
            except Transient as error:
                await backoff.wait(error, what=what)

    @asynccontextmanager
    async def _get(
        self, reference: Reference, path: str, *, accept: Collection[str] = (), offset: int = 0
    ) -> AsyncIterator[httpx.Response]:
        """GET below ``/v2/<name>/``."""
        headers = ({"Accept": ", ".join(accept)} if accept else {}) | ({"Range": f"bytes={offset}-"} if offset else {})
        (endpoint, *_) = self.session.endpoints(reference.host, Capability.PULL)
        async with self.session.request("GET", endpoint, reference.path, path, headers=headers) as response:
            _check_status(response, reference, path, ranged=bool(offset))
            yield response


def _check_status(response: httpx.Response, reference: Reference, path: str, *, ranged: bool) -> None:
    if response.status_code == 200 or (ranged and response.status_code in {206, 416}):
        return
    if response.status_code == 403:
        raise Denied(
            f"the registry {reference.host} does not allow access to {reference.path}",
            hint="is the name right, and do the credentials allow it?",
        )
    if response.status_code == 404:
        if path.startswith("manifests/"):
            raise NotFound(
                f"{reference} does not exist: the registry {reference.host} knows no such image",
                hint="check the name and the tag",
            )
        raise NotFound(f"the registry {reference.host} lacks {path} of {reference.path}: the image there is incomplete")
    raise Unavailable(f"the registry {reference.host} answered with status {response.status_code}")


def _resolved(reference: Reference, response: httpx.Response, data: bytes) -> ResolvedManifest:
    what = f"the manifest of {reference}"
    announced = response.headers.get("Docker-Content-Digest")
    try:
        promised = Digest.parse(announced) if announced else None
    except InvalidArgument as error:
        raise Corrupt(f"{what} is announced with what is no digest: {error}") from None
    for digest in (reference.digest, promised):
        if digest is not None:
            _verify(data, digest, what)
    declared = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    document = parse_manifest(data, content_type=declared, what=what)
    kind = document.media_type or (declared if declared in media_types.ACCEPT else "")
    if not kind:
        kind = media_types.OCI_INDEX if isinstance(document, Index) else media_types.OCI_MANIFEST
    digest = reference.digest or promised or Digest.of(data)
    return ResolvedManifest(descriptor=Descriptor(media_type=kind, digest=digest, size=len(data)), data=data)


def _verify(data: bytes, digest: Digest, what: str) -> None:
    found = Digest.of(data, algorithm=digest.algorithm)
    if found != digest:
        raise Corrupt(
            f"{what} should be {digest} and is {found}",
            hint="the registry or something on the way to it serves wrong content",
        )


def _begins(response: httpx.Response, asked: int, size: int) -> int | None:
    """Where the body begins: where it was asked to, or at 0; None if it is another part, or none."""
    if response.status_code == 200:
        return 0
    promised = response.headers.get("Content-Range", "").strip().lower()
    if response.status_code == 206 and promised in {f"bytes {asked}-{size - 1}/{size}", f"bytes {asked}-{size - 1}/*"}:
        return asked
    return None


def _check_blob(response: httpx.Response, expected: int, host: str) -> None:
    if response.headers.get("Content-Encoding", "identity").lower() not in {"", "identity"}:
        raise Corrupt(f"the registry {host} sends a blob in an encoding that was not asked for")
    announced = response.headers.get("Content-Length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > expected:
        raise Corrupt(f"the registry {host} announces more of a blob than its descriptor says")
