"""What a push says to a registry: one request after the other, to whoever takes pushes for it; and again when it did not get through."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from ross.registry.endpoint import Capability
from ross.registry.http import answered_within
from ross.registry.retry import Backoff, RetryPolicy, Transient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    import httpx

    from ross.oci.reference import Reference
    from ross.registry.endpoint import Endpoint
    from ross.registry.notices import Notices
    from ross.registry.session import Content, RegistrySession

T = TypeVar("T")


class PushExchanges:
    """Exchanges of pushes, with all registries."""

    def __init__(self, session: RegistrySession, *, policy: RetryPolicy, notices: Notices | None) -> None:
        self._session = session
        self._policy = policy
        self._notices = notices

    @asynccontextmanager
    async def request(
        self,
        repository: Reference,
        method: str,
        path: str | httpx.URL,
        *,
        headers: Mapping[str, str] | None = None,
        content: Content | None = None,
        more_scopes: tuple[str, ...] = (),
    ) -> AsyncIterator[httpx.Response]:
        """One request, once; arguments and errors are those of :meth:`RegistrySession.request`."""
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

    async def retried(self, action: Callable[[], Awaitable[T]], *, what: str) -> T:
        """Do something small, and again while only the way to the registry is at fault; ``what`` it is stands in the error."""
        backoff = Backoff(self._policy)
        while True:
            try:
                with answered_within(self._session.timing.document_seconds, where="the registry"):
                    return await action()
            except Transient as error:
                await backoff.wait(error, what=what)
