"""What refers to an image: signatures, SBOMs, attestations (distribution-spec, "Listing Referrers", and the tag schema before it)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar

import httpx

from ross.errors import Corrupt, Denied, Unavailable
from ross.oci import media_types
from ross.oci.codec import MAX_DOCUMENT_BYTES
from ross.oci.image import Descriptor, Index, parse_manifest
from ross.registry.endpoint import Capability
from ross.registry.hosts import check_destination
from ross.registry.http import answered_within, origin_of, read_bounded
from ross.registry.retry import Backoff, RetryPolicy, Transient

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ross.oci.digest import Digest
    from ross.oci.reference import Reference
    from ross.registry.endpoint import Endpoint
    from ross.registry.session import RegistrySession

T = TypeVar("T")

MAX_PAGES: Final = 16
_NEXT: Final = re.compile(r'<([^<>]{1,2000})>[^,<]*;\s*rel="?next"?')
_NO_SUCH_API: Final = frozenset({404, 405})


class ReferrersClient:
    """Asks registries what refers to something. Mirrors are not asked: what they list cannot be verified."""

    def __init__(self, session: RegistrySession, *, policy: RetryPolicy | None = None) -> None:
        self._session = session
        self._policy = policy or RetryPolicy()

    async def referrers(self, repository: Reference, subject: Digest) -> tuple[Descriptor, ...]:
        """The descriptors of all that refers to a manifest or index; from a registry without this API, what its tag schema says.

        Args:
            repository: Where the subject is; the tag does not matter.
            subject: Its digest.

        Raises:
            Unauthenticated, Denied, Unavailable: the registry.
            Corrupt: it answers with something else.
        """
        (*_, endpoint) = self._session.endpoints(repository.host, Capability.RESOLVE)
        found: dict[Digest, Descriptor] = {}
        path: str | httpx.URL = f"referrers/{subject}"
        for _page in range(MAX_PAGES):
            index, following = await self._retried(self._fetch, endpoint, repository, path)
            if index is None and not found:
                tag = f"{subject.algorithm}-{subject.encoded[:64]}"
                index, following = await self._retried(self._fetch, endpoint, repository, f"manifests/{tag}")
            if index is not None:
                found |= {descriptor.digest: descriptor for descriptor in index.manifests}
            if following is None:
                return tuple(found.values())
            path = following
        raise Corrupt(
            f"the registry {endpoint.name} lists the referrers of {subject.short} on more than {MAX_PAGES} pages"
        )

    async def _fetch(
        self, endpoint: Endpoint, repository: Reference, path: str | httpx.URL
    ) -> tuple[Index | None, httpx.URL | None]:
        """One page, and where the next one is; no index where there is nothing of this name."""
        what = f"the list of referrers from {endpoint.name}"
        headers = {"Accept": media_types.OCI_INDEX}
        async with self._session.request("GET", endpoint, repository.path, path, headers=headers) as response:
            if response.status_code in _NO_SUCH_API:
                return None, None
            if response.status_code == 403:
                raise Denied(f"the registry {endpoint.name} does not allow access to {repository.path}")
            if response.status_code != 200:
                raise Unavailable(f"the registry {endpoint.name} answered with status {response.status_code}")
            data = await read_bounded(response, MAX_DOCUMENT_BYTES, what=what)
            document = parse_manifest(data, content_type=response.headers.get("Content-Type"), what=what)
            if not isinstance(document, Index):
                raise Corrupt(f"{what} is not an index")
            return document, _following(response, endpoint)

    async def _retried(self, fetch: Callable[..., Awaitable[T]], *arguments: object) -> T:
        backoff = Backoff(self._policy)
        while True:
            try:
                with answered_within(self._session.timing.document_seconds, where="the registry"):
                    return await fetch(*arguments)
            except Transient as error:
                await backoff.wait(error, what="listing referrers")


def _following(response: httpx.Response, endpoint: Endpoint) -> httpx.URL | None:
    """The next page (RFC 8288), which is at the same registry or nowhere."""
    match = _NEXT.search(response.headers.get("Link", "")[:10_000])
    if match is None:
        return None
    try:
        target = response.request.url.join(match[1])
    except httpx.InvalidURL:
        raise Corrupt(f"the registry {endpoint.name} names a next page that is no URL") from None
    check_destination(endpoint.origin, origin_of(target), has_user=bool(target.userinfo), what="next page")
    if origin_of(target) != endpoint.origin:
        raise Denied(f"the next page of {endpoint.origin} is at {origin_of(target)}, which is refused")
    return target
