"""One exchange with a registry: authenticated when it asks for that, and led by redirects without taking credentials along.

Pulling and pushing are built on this. It knows origins, scopes and redirects, and nothing of manifests and blobs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, Self

import httpx
from attrs import define, evolve, frozen

from ross.errors import Corrupt, FailedPrecondition, Unauthenticated, Unavailable
from ross.registry.auth import Authenticator, Scopes, unauthenticated
from ross.registry.certs import read_endpoints
from ross.registry.challenge import parse_challenges
from ross.registry.connections import Connections
from ross.registry.credentials import Credentials, Saved
from ross.registry.endpoint import Endpoint
from ross.registry.hosts import check_destination, registry_origin
from ross.registry.http import answered_within, origin_of, send

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from ross.registry.credentials import CredentialSource
    from ross.registry.endpoint import Capability
    from ross.registry.notices import Notices

Content = bytes | Callable[[], AsyncIterator[bytes]]
"""A request's body. A function is called again for each time that the body has to be sent: after a challenge, after a redirect."""

_MAX_REDIRECTS: Final = 5
_SAFE: Final = frozenset({"GET", "HEAD"})
_KEEPING: Final = frozenset({307, 308})
"""The redirects that promise to keep method and body (RFC 9110, section 15.4)."""


@frozen(kw_only=True)
class Timing:
    """How long a registry may take."""

    connect_seconds: float = 10.0
    silence_seconds: float = 60.0
    """Between two pieces of an answer."""
    document_seconds: float = 120.0
    """For all of a manifest or a token."""
    window_seconds: float = 60.0
    window_bytes: int = 64 << 10
    """A blob that comes slower than ``window_bytes`` in ``window_seconds`` is taken for a connection that has died."""


@define
class _Offered:
    """Credentials on trial: the only ones that an authenticator sees."""

    credentials: Credentials
    asked: bool = False

    async def find(self, host: str) -> Credentials | None:  # noqa: ARG002 -- only one registry is asked
        self.asked = True
        return self.credentials

    async def save(self, host: str, credentials: Credentials) -> Saved:
        self.credentials = credentials
        return Saved(host=host, username=credentials.username, store="", encrypted=False, token=True)


class RegistrySession:
    """Exchanges with all registries. An async context manager; owns the connections."""

    def __init__(
        self,
        credentials: CredentialSource,
        *,
        user_agent: str,
        certs_dir: Sequence[Path] = (),
        insecure_hosts: Collection[str] = (),
        timing: Timing | None = None,
    ) -> None:
        """Make a session.

        Args:
            credentials: Who we are, for whom.
            user_agent: What we say we are.
            certs_dir: Where hosts are configured; the first directory that knows a host counts.
            insecure_hosts: Registries to which the administrator lets Ross speak http.
            timing: How long a registry may take.
        """
        self.timing = timing or Timing()
        self._certs_dir = certs_dir
        self._insecure_hosts = insecure_hosts
        self._connections = Connections(
            user_agent=user_agent,
            connect_seconds=self.timing.connect_seconds,
            silence_seconds=self.timing.silence_seconds,
        )
        self._auth = Authenticator(self._connections, credentials, answer_seconds=self.timing.document_seconds)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._connections.close()

    def endpoints(self, host: str, capability: Capability) -> tuple[Endpoint, ...]:
        """Who may be asked to do something for the registry of a reference, in the order in which to ask.

        Args:
            host: As in the reference, with its port.
            capability: What is to be done.

        Raises:
            InvalidArgument: the host's port is none.
            FailedPrecondition: nobody may, by the host's configuration, or that makes no sense.
        """
        everybody = read_endpoints(self._certs_dir, host, insecure_hosts=self._insecure_hosts)
        found = tuple(endpoint for endpoint in everybody if capability in endpoint.capabilities)
        if not found:
            raise FailedPrecondition(
                f"by its configuration nobody may {capability} for the registry {host}",
                hint=f"look at capabilities in hosts.toml, below {', '.join(str(path) for path in self._certs_dir)}",
            )
        return found

    async def verify(self, host: str, credentials: Credentials) -> tuple[Credentials, bool]:
        """Prove credentials to a registry, before they are kept.

        Returns:
            What to keep: the credentials, or an identity token that the registry's token service gives in exchange; and whether they are
            proved. They are not where the registry asks for none.

        Raises:
            Unauthenticated: the registry does not accept them.
            Unavailable: the registry does not answer, or is none.
            Denied, Corrupt: as :meth:`request`.
        """
        endpoint = self._itself(host)
        offered = _Offered(credentials)
        seconds = self.timing.document_seconds
        auth = Authenticator(self._connections, offered, answer_seconds=seconds, offline=True)
        try:
            with answered_within(seconds, where=f"the registry {host}"):
                await self._greet(auth, endpoint)
                proved = offered.asked
                if not proved:
                    auth.prefer(endpoint, (), credentials)
                    await self._greet(auth, endpoint)
        except Unauthenticated:
            if not offered.asked:
                raise
            raise Unauthenticated(
                f"the registry {host} does not accept this user name and password",
                hint="some registries want an access token in the place of the password",
            ) from None
        return offered.credentials, proved

    def forget(self, host: str) -> None:
        """Use nothing any more that was granted for the credentials of a registry, or for want of them."""
        self._auth.forget(host)

    async def _greet(self, auth: Authenticator, endpoint: Endpoint) -> None:
        """Ask whether it is a registry, and takes us for who we say we are (distribution-spec, "Determining Support")."""
        async with self._exchange(auth, "GET", endpoint, (), "", "", {}, None) as response:
            if response.status_code == 403:
                raise Unauthenticated(f"the registry {endpoint.name} refuses")
            if response.status_code != 200:
                raise Unavailable(
                    f"{endpoint.name} answers as no registry does: with status {response.status_code} below /v2/",
                    hint="is the name right? it is the host, with its port if it has one, without the name of an image",
                )

    def _itself(self, host: str) -> Endpoint:
        """The registry of this very name, never one that serves it: credentials are for whom they are said to be for."""
        configured = read_endpoints(self._certs_dir, host, insecure_hosts=self._insecure_hosts)
        itself = Endpoint(origin=registry_origin(host, insecure_hosts=self._insecure_hosts), name=host)
        found = next((endpoint for endpoint in reversed(configured) if endpoint.name == host), itself)
        head, version, _rest = found.path.partition("/v2")
        return evolve(found, path=head + version)

    @asynccontextmanager
    async def request(
        self,
        method: str,
        endpoint: Endpoint,
        repository: str,
        path: str | httpx.URL,
        *,
        actions: str = "pull",
        more_scopes: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
        content: Content | None = None,
        notices: Notices | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """One request; the response's body is read inside the block. Its status is the caller's business, but for the errors below.

        Args:
            method: ``GET``, ``HEAD``, ``POST``, ...
            endpoint: One of :meth:`endpoints`.
            repository: Without the host, as ``library/alpine``.
            path: Below ``/v2/<repository>/``; or a whole URL that the endpoint has sent us to, see :func:`location`.
            actions: What is to be done to the repository, as in a token's scope: ``pull`` or ``pull,push``.
            more_scopes: What else is needed, as ``repository:other:pull`` for a blob that is mounted from there.
            headers: Of this request; they go along with redirects.
            content: The body. One that is made by a function needs a ``Content-Length`` among the headers, or goes in chunks.
            notices: Gets what the registry says beside the answer.

        Raises:
            Transient: no connection, a dropped one, a timeout, 429 or 5xx; trying again may help.
            Unauthenticated: credentials are wanted and there are none, or they are not accepted.
            Denied: it leads where it must not.
            Unavailable: it redirects without end.
            Corrupt: it redirects to what is no URL, or as no redirect of this method may.
        """
        scopes = (f"repository:{endpoint.scope_name(repository)}:{actions}", *more_scopes)
        exchange = self._exchange(
            self._auth, method, endpoint, scopes, repository, path, headers or {}, content, notices
        )
        async with exchange as response:
            yield response

    @asynccontextmanager
    async def _exchange(
        self,
        auth: Authenticator,
        method: str,
        endpoint: Endpoint,
        scopes: Scopes,
        repository: str,
        path: str | httpx.URL,
        headers: Mapping[str, str],
        content: Content | None,
        notices: Notices | None = None,
    ) -> AsyncIterator[httpx.Response]:
        heard = partial(notices.heard, endpoint.name) if notices is not None else None
        url = path if isinstance(path, httpx.URL) else httpx.URL(endpoint.url(repository, path))
        authorization = auth.header(endpoint.origin, scopes)
        answered = astray = False
        async with AsyncExitStack() as stack:
            for _hop in range(_MAX_REDIRECTS + 2):
                here = origin_of(url)
                # Once led elsewhere, always led by somebody else: what proves who we are does not go where they say, back home included.
                astray = astray or here != endpoint.origin
                ours = not astray
                transport = endpoint.transport if ours else endpoint.transport.elsewhere()
                client = await stack.enter_async_context(self._connections.client(transport, here))
                body = content() if callable(content) else content
                request = client.build_request(
                    method, url, headers=[*(endpoint.headers if ours else ()), *headers.items()], content=body
                )
                if body is not None and not isinstance(body, bytes):
                    request.stream = _Body(body)
                if ours and authorization is not None:
                    request.headers["Authorization"] = authorization
                response = await stack.enter_async_context(send(client, request, heard=heard if ours else None))
                if response.status_code == 401 and ours and not answered:
                    answered = True
                    challenges = parse_challenges(response.headers.get_list("WWW-Authenticate"))
                    await stack.aclose()
                    authorization = await auth.answer(endpoint, scopes, challenges, refused=authorization)
                elif response.is_redirect:
                    _check_redirect(method, response)
                    url = location(response)
                    await stack.aclose()
                elif response.status_code == 401:
                    had_credentials = auth.personal(endpoint.origin, scopes)
                    raise unauthenticated(endpoint.name, had_credentials=had_credentials)
                else:
                    yield response
                    return
        raise Unavailable(f"the registry {endpoint.name} redirects without end")


class _Body(httpx.AsyncByteStream):
    """A request's body, as it is: httpx puts a generator around it, and leaves that to the garbage collector if a connection breaks."""

    def __init__(self, source: AsyncIterator[bytes]) -> None:
        self._source = source

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._source


def location(response: httpx.Response) -> httpx.URL:
    """Where a response leads: a redirect, or an upload that goes on elsewhere.

    Raises:
        Corrupt: it is no URL.
        Denied: a registry has no business leading anybody there.
    """
    here = response.request.url
    try:
        target = here.join(response.headers["Location"])
    except (httpx.InvalidURL, KeyError):
        raise Corrupt(f"{here.host} redirects to what is no URL") from None
    check_destination(origin_of(here), origin_of(target), has_user=bool(target.userinfo), what="redirect")
    return target


def _check_redirect(method: str, response: httpx.Response) -> None:
    if method not in _SAFE and response.status_code not in _KEEPING:
        raise Corrupt(f"{response.request.url.host} redirects a {method} with status {response.status_code}")
