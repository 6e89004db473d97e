"""Single HTTP exchanges: failures as Ross's errors, bodies bounded."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from ross.errors import Corrupt, Unavailable
from ross.registry.hosts import Origin
from ross.registry.retry import Transient, parse_retry_after


def origin_of(url: httpx.URL) -> Origin:
    """The origin of a URL."""
    return Origin(url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme, 0))


@asynccontextmanager
async def send(client: httpx.AsyncClient, request: httpx.Request) -> AsyncIterator[httpx.Response]:
    """Send a request; the response's body is read inside the block.

    Raises:
        Transient: no connection, a dropped one, a timeout, 429 or 5xx; trying again may help.
        Unavailable: the certificate is not trusted, or the answer is not HTTP.
    """
    where = origin_of(request.url)
    try:
        response = await client.send(request, stream=True)
        try:
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
                hint="install its CA certificate in the system's store",
            ) from None
        raise Transient(
            f"no connection to {where.authority}: {_cause(error)}", hint="is the name right, and the registry up?"
        ) from None
    except httpx.TransportError as error:
        raise Transient(f"the connection to {where.authority} broke: {_cause(error)}") from None
    except httpx.InvalidURL as error:
        raise Corrupt(f"{where.authority} gave a URL that is none: {error}") from None


async def read_bounded(response: httpx.Response, limit: int, *, what: str) -> bytes:
    """The whole body.

    Raises:
        Corrupt: it is longer than ``limit`` bytes.
    """
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > limit:
            raise Corrupt(f"{what} is longer than {limit} bytes, which is refused")
    return bytes(body)


def _cause(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


def _is_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError) or "CERTIFICATE_VERIFY_FAILED" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
