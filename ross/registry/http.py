"""Single HTTP exchanges: failures as Ross's errors, bodies bounded."""

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager, contextmanager, suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Final

import httpx
import trio

from ross.errors import Corrupt, InvalidArgument, Unavailable
from ross.registry.hosts import Origin
from ross.registry.reads import read_in_large_pieces
from ross.registry.retry import Transient, parse_retry_after

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

_CLOSE_SECONDS: Final = 5.0
"""Closing waits for nobody; TLS may take a moment to say goodbye."""
_LIMITS: Final = httpx.Limits(max_connections=64, max_keepalive_connections=16, keepalive_expiry=30)


def origin_of(url: httpx.URL) -> Origin:
    """The origin of a URL."""
    return Origin(url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme, 0))


def new_client(
    *,
    user_agent: str,
    connect_seconds: float,
    silence_seconds: float,
    context: ssl.SSLContext,
    proxy: str | None,
    use_environment: bool,
) -> httpx.AsyncClient:
    """A client that keeps no cookies, and follows no redirects of its own accord.

    Args:
        user_agent: Who we say we are.
        connect_seconds: How long a connection may take to come about.
        silence_seconds: How long nothing may come.
        context: What is trusted: never the bundle that httpx brings along, which knows nothing of the CA that an administrator has
            installed.
        proxy: In the place of the one that the environment names.
        use_environment: Go through the proxy that the environment names, if it does.

    Raises:
        InvalidArgument: the proxy cannot be used.
    """
    try:
        client = httpx.AsyncClient(
            headers={"User-Agent": user_agent, "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(silence_seconds, connect=connect_seconds, pool=None),
            limits=_LIMITS,
            verify=context,
            # What one registry sets must not come back to it, or to a sibling of its domain, with another pull.
            cookies=CookieJar(policy=DefaultCookiePolicy(allowed_domains=[])),
            proxy=proxy,
            trust_env=use_environment,
        )
    except (ValueError, ImportError) as error:
        raise InvalidArgument(
            f"the proxy that the environment names cannot be used: {_cause(error)}",
            hint="look at HTTP_PROXY, HTTPS_PROXY and ALL_PROXY; Ross speaks to http proxies",
        ) from None
    read_in_large_pieces(client)
    return client


@asynccontextmanager
async def send(
    client: httpx.AsyncClient, request: httpx.Request, *, heard: Callable[[httpx.Response], None] | None = None
) -> AsyncIterator[httpx.Response]:
    """Send a request; the response's body is read inside the block.

    Args:
        client: Who sends it.
        request: With everything that belongs to it.
        heard: Told of the response's head, also where its status is an error.

    Raises:
        Transient: no connection, a dropped one, a timeout, 429 or 5xx; trying again may help.
        Unavailable: the certificate is not trusted, or the answer is not HTTP.
    """
    where = origin_of(request.url)
    try:
        response = await client.send(request, stream=True)
        try:
            if heard is not None:
                heard(response)
            if response.status_code == 429 or response.status_code >= 500:
                raise Transient(
                    f"{where.authority} answered with status {response.status_code}",
                    hint="it is overloaded, or limits how often one may ask" if response.status_code == 429 else None,
                    retry_after_seconds=parse_retry_after(response.headers.get("Retry-After")),
                )
            yield response
        finally:
            await response.aclose()
    except httpx.TimeoutException:
        raise Transient(f"{where.authority} did not answer in time") from None
    except httpx.ConnectError as error:
        if _is_certificate(error):
            raise Unavailable(
                f"the certificate of {where.authority} is not trusted: {_cause(error)}",
                hint=f"install its CA certificate in the system's store, or as /etc/ross/certs.d/{where.authority}/ca.crt",
            ) from None
        raise Transient(
            f"no connection to {where.authority}: {_cause(error)}", hint="is the name right, and the registry up?"
        ) from None
    except httpx.TransportError as error:
        raise Transient(f"the connection to {where.authority} broke: {_cause(error)}") from None
    except httpx.InvalidURL as error:
        raise Corrupt(f"{where.authority} gave a URL that is none: {error}") from None


async def read_bounded(response: httpx.Response, limit: int, *, what: str) -> bytes:
    """The whole body, as it was sent: a body that would have to be inflated first could be of any size.

    Raises:
        Corrupt: it is longer than ``limit`` bytes, or encoded although that was not asked for.
    """
    if response.headers.get("Content-Encoding", "identity").lower() not in {"", "identity"}:
        raise Corrupt(f"{what} comes in an encoding that was not asked for")
    body = bytearray()
    async with raw_body(response) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > limit:
                raise Corrupt(f"{what} is longer than {limit} bytes, which is refused")
    return bytes(body)


@asynccontextmanager
async def raw_body(response: httpx.Response) -> AsyncIterator[AsyncIterator[bytes]]:
    """The body as it is sent; it may be left before its end."""
    source = response.aiter_raw()
    try:
        yield source
    finally:
        # httpx and httpcore stack five generators here, and closing the outermost closes no other: the rest would be left to the
        # garbage collector, which Trio rightly warns of. Reading on from the closed connection fails at once, through all of them.
        with trio.move_on_after(_CLOSE_SECONDS, shield=True):
            await response.aclose()
            with suppress(httpx.TransportError, httpx.StreamError):
                async for _rest in source:
                    pass


@contextmanager
def answered_within(seconds: float, *, where: str) -> Iterator[None]:
    """Bounds a whole exchange of something small, so that no server holds one open by a byte now and then.

    Raises:
        Transient: the time is over.
    """
    with trio.move_on_after(seconds) as scope:
        yield
    if scope.cancelled_caught:
        raise Transient(f"{where} did not answer in full within {seconds:g} s")


def _cause(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


def _is_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
