"""Pulling from a registry (distribution-spec, "Pulling manifests" and "Pulling blobs")."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

import httpx
from attrs import frozen

from ross.errors import Corrupt, Denied, NotFound, Unavailable
from ross.oci import media_types
from ross.oci.codec import MAX_DOCUMENT_BYTES
from ross.oci.digest import Digest
from ross.oci.image import Descriptor
from ross.registry.auth import Authenticator, unauthenticated
from ross.registry.challenge import parse_challenges
from ross.registry.hosts import check_destination, registry_origin
from ross.registry.http import origin_of, read_bounded, send
from ross.registry.retry import Backoff, RetryPolicy, Transient

if TYPE_CHECKING:
    from ross.oci.reference import Reference
    from ross.registry.credentials import CredentialStore

T = TypeVar("T")

CHUNK_BYTES: Final = 1 << 20
_MAX_REDIRECTS: Final = 5
_CONNECT_SECONDS: Final = 10.0
_SILENCE_SECONDS: Final = 60.0
_LOOPBACK: Final = ("all://localhost", "all://127.0.0.1", "all://[::1]")


@frozen(kw_only=True)
class ResolvedManifest:
    """What a reference denotes: an index or a manifest, verified."""

    descriptor: Descriptor
    data: bytes


class BlobStream:
    """A blob on its way."""

    def __init__(self, response: httpx.Response, offset: int, left: int, host: str) -> None:
        self.offset = offset
        """Where it begins: 0 if the registry sends the whole although a part was asked for."""
        self._response = response
        self._left = left
        self._host = host

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, in large pieces.

        Raises:
            Corrupt: there are more than the descriptor says.
            Transient: the connection broke.
        """
        try:
            async for chunk in self._response.aiter_raw(CHUNK_BYTES):
                self._left -= len(chunk)
                if self._left < 0:
                    raise Corrupt(f"the registry {self._host} sends more of a blob than its descriptor says")
                yield chunk
        except httpx.TimeoutException:
            raise Transient(f"the registry {self._host} stopped sending") from None
        except httpx.TransportError:
            raise Transient(f"the connection to the registry {self._host} broke") from None
        if self._left:
            raise Transient(f"the registry {self._host} sent {self._left} bytes of a blob too few")


class RegistryClient:
    """A client of all registries. An async context manager; owns the connections."""

    def __init__(
        self,
        credentials: CredentialStore,
        *,
        user_agent: str,
        insecure_hosts: Collection[str] = (),
        policy: RetryPolicy | None = None,
    ) -> None:
        self._insecure_hosts = insecure_hosts
        self._policy = policy or RetryPolicy()
        self._client = httpx.AsyncClient(
            headers={"User-Agent": user_agent, "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(_SILENCE_SECONDS, connect=_CONNECT_SECONDS, pool=None),
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=30),
            # A proxy of the environment is for other machines.
            mounts={pattern: httpx.AsyncHTTPTransport() for pattern in _LOOPBACK},
        )
        self._auth = Authenticator(self._client, credentials)

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, traceback)

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
            async with self._get(repository, path, accept=(descriptor.media_type,)) as response:
                data = await read_bounded(
                    response, min(descriptor.size, MAX_DOCUMENT_BYTES), what=f"the manifest {descriptor.digest}"
                )
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
        async with self._get(repository, f"blobs/{descriptor.digest}", offset=offset) as response:
            begins = _offset(response, offset, descriptor.size, repository.host)
            yield BlobStream(response, begins, descriptor.size - begins, repository.host)

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
        """GET below ``/v2/<name>/``: authenticated when asked to, following redirects without taking credentials along."""
        origin = registry_origin(reference.host, insecure_hosts=self._insecure_hosts)
        name = reference.path
        scope = f"repository:{name}:pull"
        url = httpx.URL(f"{origin}/v2/{name}/{path}")
        headers = ({"Accept": ", ".join(accept)} if accept else {}) | ({"Range": f"bytes={offset}-"} if offset else {})
        authorization = self._auth.header(origin, scope)
        answered = False
        async with AsyncExitStack() as stack:
            for _hop in range(_MAX_REDIRECTS + 2):
                here = origin_of(url)
                request = self._client.build_request("GET", url, headers=headers)
                if authorization is not None and here == origin:
                    request.headers["Authorization"] = authorization
                response = await stack.enter_async_context(send(self._client, request))
                if response.status_code == 401 and here == origin and not answered:
                    answered = True
                    challenges = parse_challenges(response.headers.get_list("WWW-Authenticate"))
                    await stack.aclose()
                    authorization = await self._auth.answer(origin, reference.host, scope, challenges)
                    continue
                if response.is_redirect:
                    target = _redirected(url, response)
                    check_destination(here, origin_of(target), has_user=bool(target.userinfo), what="redirect")
                    await stack.aclose()
                    url = target
                    continue
                _check_status(response, reference, path)
                yield response
                return
        raise Unavailable(f"the registry {reference.host} redirects without end")


def _redirected(url: httpx.URL, response: httpx.Response) -> httpx.URL:
    try:
        return url.join(response.headers["Location"])
    except (httpx.InvalidURL, KeyError):
        raise Corrupt(f"{url.host} redirects to what is no URL") from None


def _check_status(response: httpx.Response, reference: Reference, path: str) -> None:
    if response.status_code in {200, 206}:
        return
    if response.status_code == 401:
        raise unauthenticated(reference.host, had_credentials=True)
    if response.status_code == 403:
        raise Denied(
            f"the registry {reference.host} does not allow access to {reference.path}",
            hint="is the name right, and do the credentials allow it?",
        )
    if response.status_code in {404, 416}:
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
    digest = reference.digest or (Digest.parse(announced) if announced else Digest.of(data))
    _verify(data, digest, what)
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    return ResolvedManifest(descriptor=Descriptor(media_type=kind, digest=digest, size=len(data)), data=data)


def _verify(data: bytes, digest: Digest, what: str) -> None:
    found = Digest.of(data, algorithm=digest.algorithm)
    if found != digest:
        raise Corrupt(
            f"{what} should be {digest} and is {found}",
            hint="the registry or something on the way to it serves wrong content",
        )


def _offset(response: httpx.Response, asked: int, size: int, host: str) -> int:
    """Where the body begins: what was asked for, if the registry understood that; else 0."""
    if response.headers.get("Content-Encoding", "identity").lower() not in {"", "identity"}:
        raise Corrupt(f"the registry {host} sends a blob in an encoding that was not asked for")
    if response.status_code != 206:
        return 0
    if response.headers.get("Content-Range", "").replace(" ", "") != f"bytes{asked}-{size - 1}/{size}":
        raise Corrupt(f"the registry {host} sends another part of a blob than was asked for")
    return asked
