"""Pulling from a registry (distribution-spec, "Pulling manifests" and "Pulling blobs"), and from its mirrors before it."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from attrs import frozen

from ross.errors import Corrupt, Denied, FailedPrecondition, InvalidArgument, NotFound, RossError, Unavailable
from ross.oci import media_types
from ross.oci.codec import MAX_DOCUMENT_BYTES
from ross.oci.digest import Digest
from ross.oci.image import Descriptor, Index, parse_manifest
from ross.registry.blobs import BlobStream, NoRanges, begins_at, check_blob, is_part
from ross.registry.endpoint import Capability, Endpoint
from ross.registry.http import answered_within, raw_body, read_bounded
from ross.registry.notices import Notices, Notify, unheard
from ross.registry.retry import Backoff, RetryPolicy, Transient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence

    import httpx

    from ross.oci.reference import Reference
    from ross.registry.session import RegistrySession

logger = logging.getLogger(__name__)

T = TypeVar("T")


@frozen(kw_only=True)
class ResolvedManifest:
    """What a reference denotes: an index or a manifest, verified."""

    descriptor: Descriptor
    data: bytes


class RegistryClient:
    """Pulls from all registries."""

    def __init__(self, session: RegistrySession, *, policy: RetryPolicy | None = None) -> None:
        self.session = session
        self._policy = policy or RetryPolicy()

    def open(self, reference: Reference, *, notify: Notify = unheard) -> Remote:
        """What a reference denotes, wherever it is served, for the length of one pull.

        Args:
            reference: With a tag or a digest.
            notify: Told what the registry and its mirrors have to say beside that.

        Raises:
            InvalidArgument: the host's port is none.
            FailedPrecondition: the host's configuration makes no sense, or lets nobody pull.
        """
        return Remote(self.session, reference, self._policy, Notices(notify))


class Remote:
    """One image of a registry. Mirrors are asked in their order, the registry last; made for one pull, and remembers for its length
    which of them failed. No task of its own.

    A mirror is trusted with what can be verified. Only one that has the capability ``resolve`` is asked what a tag denotes.
    """

    def __init__(self, session: RegistrySession, reference: Reference, policy: RetryPolicy, notices: Notices) -> None:
        self.reference = reference
        self._notices = notices
        self._session = session
        self._timing = session.timing
        self._policy = policy
        self._pulling = session.endpoints(reference.host, Capability.PULL)
        self._resolving = tuple(
            one for one in self._pulling if reference.digest or Capability.RESOLVE in one.capabilities
        )
        self._failed: set[Endpoint] = set()
        """Not asked again before everybody else has failed too."""
        self._broken: dict[Digest, set[Endpoint]] = {}
        """Whose connection broke while a blob came; the next one goes on where it stopped."""
        self._wrong: dict[Digest, set[Endpoint]] = {}
        """Who served wrong bytes of a blob; never asked for it again."""
        self._served: dict[Digest, set[Endpoint]] = {}
        """Who served the bytes that are there of a blob."""
        self._serving: dict[Digest, Endpoint] = {}
        """Who was the last to begin to serve a blob."""
        self._narrow: set[Endpoint] = set()
        """Not asked for windows any more."""

    def __str__(self) -> str:
        return str(self.reference)

    async def resolve(self) -> ResolvedManifest:
        """The index or manifest that the reference denotes.

        Raises:
            NotFound: the registry has no such image.
            Unauthenticated: it wants credentials.
            Denied: it does not let us, or it leads where it must not.
            Unavailable: it does not answer.
            Corrupt: what it sends is not what it says.
        """
        reference = self.reference
        if not self._resolving:
            raise FailedPrecondition(
                f"by its configuration nobody may say what tags of the registry {reference.host} denote",
                hint="give a host of its hosts.toml the capability resolve, or name the image by its digest",
            )
        wanted = str(reference.digest or reference.tag or "latest")

        async def fetch(endpoint: Endpoint) -> ResolvedManifest:
            with answered_within(self._timing.document_seconds, where=f"the registry {endpoint.name}"):
                async with self._get(endpoint, f"manifests/{wanted}", accept=media_types.ACCEPT) as response:
                    data = await read_bounded(response, MAX_DOCUMENT_BYTES, what=f"the manifest of {reference}")
                    return _resolved(reference, response, data)

        return await self._retried(self._resolving, fetch, what=f"resolving {reference}")

    async def manifest(self, descriptor: Descriptor) -> bytes:
        """A manifest by its descriptor, verified.

        Raises:
            As :meth:`resolve`.
        """

        async def fetch(endpoint: Endpoint) -> bytes:
            path = f"manifests/{descriptor.digest}"
            bound = min(descriptor.size, MAX_DOCUMENT_BYTES)
            data = b""
            with answered_within(self._timing.document_seconds, where=f"the registry {endpoint.name}"):
                async with self._get(endpoint, path, accept=(descriptor.media_type,)) as response:
                    data = await read_bounded(response, bound, what=f"the manifest {descriptor.digest}")
            _verify(data, descriptor.digest, f"the manifest {descriptor.digest} from {endpoint.name}")
            return data

        return await self._retried(self._pulling, fetch, what=f"fetching the manifest {descriptor.digest.short}")

    @asynccontextmanager
    async def blob(
        self, descriptor: Descriptor, *, offset: int = 0, end: int | None = None
    ) -> AsyncIterator[BlobStream]:
        """One attempt at a blob, from ``offset`` on; what is behind ``end`` is not needed, but may come. What arrives is not verified.

        Where the connection breaks, the next attempt goes to whoever comes next. Only the registry and its mirrors are asked: the ``urls``
        of a descriptor are never followed.

        Raises:
            Transient: no connection, or it broke; trying again may help.
            As :meth:`resolve`.
        """
        digest = descriptor.digest
        broken = self._broken.setdefault(digest, set())
        unfit = broken | self._wrong.get(digest, set())
        candidates = [*(one for one in self._pulling[:-1] if one not in unfit), self._pulling[-1]]
        async with AsyncExitStack() as stack:

            async def begin(endpoint: Endpoint) -> tuple[Endpoint, BlobStream]:
                async with AsyncExitStack() as opening:
                    stream = await opening.enter_async_context(
                        self._stream(endpoint, descriptor, offset, end or descriptor.size)
                    )
                    stack.push_async_exit(opening.pop_all().__aexit__)
                return endpoint, stream

            endpoint, stream = await self._first(candidates, begin, what=f"{digest.short} of {self.reference}")
            served = self._served.setdefault(digest, set())
            if not stream.offset:
                served.clear()
            served.add(endpoint)
            self._serving[digest] = endpoint
            try:
                yield stream
            except Transient:
                if endpoint is self._pulling[-1]:
                    broken.clear()  # they may have recovered
                else:
                    broken.add(endpoint)
                raise

    @asynccontextmanager
    async def window(self, descriptor: Descriptor, begin: int, end: int) -> AsyncIterator[BlobStream]:
        """A part of a blob, beside the stream of it that is under way, from who serves that. One attempt, which is not made if
        it is known to be in vain: what fails is for the stream to fetch.

        Raises:
            NoRanges: parts are not served there, or not any more.
            As :meth:`blob`.
        """
        endpoint = self._serving.get(descriptor.digest)
        if endpoint is None or endpoint in self._narrow:
            raise NoRanges(f"windows of {descriptor.digest.short} of {self.reference} are not to be had")
        path = f"blobs/{descriptor.digest}"
        async with AsyncExitStack() as stack:
            try:
                response = await stack.enter_async_context(self._get(endpoint, path, begin=begin, end=end))
                if not is_part(response, begin, end, descriptor.size):
                    raise NoRanges(f"the registry {endpoint.name} does not serve windows of blobs")
                check_blob(response, end - begin, endpoint.name)
            except RossError as error:
                logger.info("no more windows from %s: %s", endpoint.name, error)
                self._narrow.add(endpoint)
                raise
            source = await stack.enter_async_context(raw_body(response))
            self._served.setdefault(descriptor.digest, set()).add(endpoint)
            yield BlobStream(source, begin, end - begin, endpoint.name, self._timing)

    def distrust(self, digest: Digest) -> bool:
        """A blob came out wrong: never ask the mirrors for it again that served it. False: no mirror had part in it."""
        wrong = self._wrong.setdefault(digest, set())
        found = self._served.pop(digest, set()) - wrong - {self._pulling[-1]}
        wrong |= found
        for endpoint in found:
            logger.warning("%s serves wrong content for %s of %s", endpoint.name, digest, self.reference)
        return bool(found)

    def backoff(self) -> Backoff:
        """The waits between the attempts at one blob."""
        return Backoff(self._policy, delayed=partial(self._notices.delayed, self.reference.host))

    async def _retried(
        self, endpoints: Sequence[Endpoint], fetch: Callable[[Endpoint], Awaitable[T]], *, what: str
    ) -> T:
        backoff = self.backoff()
        while True:
            try:
                return await self._first(endpoints, fetch, what=what)
            except Transient as error:
                await backoff.wait(error, what=what)

    async def _first(self, endpoints: Sequence[Endpoint], fetch: Callable[[Endpoint], Awaitable[T]], *, what: str) -> T:
        """What the first endpoint says that has an answer; the last one's failure, which tells of the others' too, if none has."""
        failures: list[tuple[Endpoint, RossError]] = []
        for endpoint in endpoints[:-1]:
            if endpoint in self._failed:
                continue
            try:
                return await fetch(endpoint)
            except RossError as error:
                logger.info("%s from the mirror %s failed: %s", what, endpoint.name, error)
                failures.append((endpoint, error))
                if not isinstance(error, NotFound):
                    self._failed.add(endpoint)
                    self._notices.passed_over(endpoint.name, error)
        try:
            return await fetch(endpoints[-1])
        except RossError as error:
            self._failed.clear()  # they may have recovered when it is tried again
            raise _explained(error, failures) from None

    @asynccontextmanager
    async def _stream(
        self, endpoint: Endpoint, descriptor: Descriptor, offset: int, end: int
    ) -> AsyncIterator[BlobStream]:
        path, size = f"blobs/{descriptor.digest}", descriptor.size
        async with AsyncExitStack() as stack:
            bound = end if end < size else 0
            response = await stack.enter_async_context(self._get(endpoint, path, begin=offset, end=bound))
            begins: int | None = offset
            if not is_part(response, offset, end, size):
                begins, end = begins_at(response, offset, size), size
            if begins is None and bound:
                # It makes nothing of an end; it may go on from the offset all the same.
                await stack.aclose()
                response = await stack.enter_async_context(self._get(endpoint, path, begin=offset))
                begins = begins_at(response, offset, size)
            if begins is None:
                # The registry does not do ranges as the standard has them. The whole is longer, and right.
                await stack.aclose()
                response = await stack.enter_async_context(self._get(endpoint, path))
                begins = 0
            check_blob(response, end - begins, endpoint.name)
            source = await stack.enter_async_context(raw_body(response))
            yield BlobStream(source, begins, end - begins, endpoint.name, self._timing)

    @asynccontextmanager
    async def _get(
        self, endpoint: Endpoint, path: str, *, accept: Collection[str] = (), begin: int = 0, end: int = 0
    ) -> AsyncIterator[httpx.Response]:
        """GET below ``/v2/<name>/``, from ``begin`` on, to before ``end`` if there is one."""
        ranged = bool(begin or end)
        headers = {"Accept": ", ".join(accept)} if accept else {}
        if ranged:
            headers["Range"] = f"bytes={begin}-{end - 1 if end else ''}"
        exchange = self._session.request(
            "GET", endpoint, self.reference.path, path, headers=headers, notices=self._notices
        )
        async with exchange as response:
            _check_status(response, endpoint, self.reference, path, ranged=ranged)
            yield response


def _explained(error: RossError, failures: Iterable[tuple[Endpoint, RossError]]) -> RossError:
    """The registry's failure, with those of its mirrors."""
    for endpoint, failure in failures:
        error.message += f"; before that, its mirror {endpoint.name}: {failure.message}"
    return error


def _check_status(
    response: httpx.Response, endpoint: Endpoint, reference: Reference, path: str, *, ranged: bool
) -> None:
    if response.status_code == 200 or (ranged and response.status_code in {206, 416}):
        return
    if response.status_code == 403:
        raise Denied(
            f"the registry {endpoint.name} does not allow access to {reference.path}",
            hint="is the name right, and do the credentials allow it?",
        )
    if response.status_code == 404:
        if path.startswith("manifests/"):
            raise NotFound(
                f"{reference} does not exist: the registry {endpoint.name} knows no such image",
                hint="check the name and the tag",
            )
        raise NotFound(f"the registry {endpoint.name} lacks {path} of {reference.path}: the image there is incomplete")
    raise Unavailable(f"the registry {endpoint.name} answered with status {response.status_code}")


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
