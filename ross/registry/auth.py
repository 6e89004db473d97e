"""Answering a registry's challenge: Basic (RFC 7617), and Bearer tokens as the distribution project specifies them.

A token belongs to the origin and the scopes that it was asked for. Credentials go to the registry that they are for, or to the token
service that this registry names, over TLS unless both are on this machine.
"""

from __future__ import annotations

import json
import logging
import re
from contextlib import AsyncExitStack
from math import isfinite, nan
from typing import TYPE_CHECKING, Any, Final

import httpx
import trio
from attrs import frozen

from ross.errors import Corrupt, Denied, RossError, Unauthenticated
from ross.registry.credentials import Credentials
from ross.registry.hosts import Origin, check_destination
from ross.registry.http import answered_within, origin_of, read_bounded, send

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ross.registry.challenge import Challenge
    from ross.registry.connections import Connections
    from ross.registry.credentials import CredentialSource
    from ross.registry.endpoint import Endpoint

logger = logging.getLogger(__name__)

_CLIENT_ID: Final = "ross"
_SCHEMES: Final = frozenset({"basic", "bearer"})
_DEFAULT_LIFETIME_SECONDS: Final = 60.0
_MARGIN_SECONDS: Final = 10.0
_MAX_TOKEN_BYTES: Final = 256 << 10
_TOKEN: Final = re.compile(r"[\x21-\x7e]+\Z")
"""What may stand in a header as it is; anything else could end the header, or be quoted in an error."""


Scopes = tuple[str, ...]
"""What a token lets one do, as ``repository:library/alpine:pull``; the one that matters first."""


@frozen
class _Granted:
    header: str
    expires_at: float
    """In Trio's time."""
    personal: bool
    """Credentials went into it; else it is what anybody gets."""
    host: str
    """Whose credentials are used, or would be."""


class Authenticator:
    """Headers for registries, asked for when a registry wants one and kept as long as they are good."""

    def __init__(
        self, connections: Connections, credentials: CredentialSource, *, answer_seconds: float, offline: bool = False
    ) -> None:
        """Make an authenticator.

        Args:
            connections: Ways to token services.
            credentials: Who we are; gets the identity tokens that are given in exchange.
            answer_seconds: How long a token service may take.
            offline: Ask for an identity token, which is kept in the place of the password.
        """
        self._offline = offline
        self._connections = connections
        self._credentials = credentials
        self._answer_seconds = answer_seconds
        self._granted: dict[tuple[Origin, Scopes], _Granted] = {}
        self._asking: dict[tuple[Origin, Scopes], trio.Lock] = {}

    def header(self, origin: Origin, scopes: Scopes) -> str | None:
        """The ``Authorization`` header that was last good here, if it still should be."""
        granted = self._granted.get((origin, scopes))
        if granted is None or granted.expires_at <= trio.current_time():
            return None
        return granted.header

    def prefer(self, endpoint: Endpoint, scopes: Scopes, credentials: Credentials) -> None:
        """Send credentials to a registry that does not ask for any."""
        if credentials.basic:
            granted = _Granted(credentials.basic, float("inf"), personal=True, host=endpoint.name)
            self._granted[endpoint.origin, scopes] = granted

    def forget(self, host: str) -> None:
        """Forget what was granted for the credentials of a registry, or for want of them."""
        for key in [key for key, granted in self._granted.items() if granted.host == host]:
            del self._granted[key]

    def _drop_stale(self) -> None:
        now = trio.current_time()
        for key in [key for key, granted in self._granted.items() if granted.expires_at <= now]:
            del self._granted[key]

    def personal(self, origin: Origin, scopes: Scopes) -> bool:
        """Stored credentials went into the header that is in use."""
        granted = self._granted.get((origin, scopes))
        return granted is not None and granted.personal

    async def answer(
        self, endpoint: Endpoint, scopes: Scopes, challenges: Sequence[Challenge], *, refused: str | None
    ) -> str:
        """A new header, for a registry that has refused the last one or none.

        Args:
            endpoint: The registry that asks.
            scopes: What is to be done, as ``repository:path:pull``.
            challenges: What it asks for.
            refused: The header that it did not accept. Where another task has got a new one meanwhile, that is the answer: the
                layers of one pull ask once, not each for itself.

        Raises:
            Unauthenticated: credentials are wanted and there are none, or they are not accepted.
            Denied: the token service is somewhere it must not be.
            Unavailable: the token service does not answer.
        """
        key = (endpoint.origin, scopes)
        lock = self._asking.setdefault(key, trio.Lock())
        try:
            async with lock:
                present = self.header(endpoint.origin, scopes)
                if present is not None and present != refused:
                    return present
                self._drop_stale()
                self._granted.pop(key, None)
                granted = self._granted[key] = await self._ask(endpoint, scopes, challenges)
                return granted.header
        finally:
            if not lock.locked() and not lock.statistics().tasks_waiting:
                self._asking.pop(key, None)

    async def _ask(self, endpoint: Endpoint, scopes: Scopes, challenges: Sequence[Challenge]) -> _Granted:
        if challenges and not any(challenge.scheme in _SCHEMES for challenge in challenges):
            offered = ", ".join(sorted({challenge.scheme[:20] for challenge in challenges})[:5])
            raise Unauthenticated(
                f"the registry {endpoint.name} wants an authentication that Ross does not know: {offered}"
            )
        credentials = await self._credentials.find(endpoint.name)
        for challenge in challenges:
            if challenge.scheme == "bearer":
                return await self._bearer(endpoint, scopes, challenge, credentials)
            if challenge.scheme == "basic" and credentials is not None and credentials.basic:
                return _Granted(credentials.basic, float("inf"), personal=True, host=endpoint.name)
        raise unauthenticated(endpoint.name, had_credentials=credentials is not None)

    async def _bearer(
        self, endpoint: Endpoint, scopes: Scopes, challenge: Challenge, credentials: Credentials | None
    ) -> _Granted:
        host = endpoint.name
        realm = challenge.parameters.get("realm", "")
        try:
            url = httpx.URL(realm)
        except httpx.InvalidURL:
            raise Corrupt(f"the registry {host} names a token service that is no URL") from None
        check_destination(endpoint.origin, origin_of(url), has_user=bool(url.userinfo), what="token realm")
        service = challenge.parameters.get("service", "")
        # A registry may name a scope of its own making (Amazon's is called "aws"). Which repositories are meant, and what is to be
        # done to them, is ours to say.
        own = challenge.parameters.get("scope", "")
        wanted = [*scopes, *(one for one in own.split() if not one.startswith("repository:"))]
        body = await self._token(endpoint, url, service, wanted, credentials)
        granted, refresh_token = _granted(body, host, personal=credentials is not None)
        if credentials is not None and refresh_token and (self._offline or credentials.identity_token):
            await self._keep(host, credentials, refresh_token)
        return granted

    async def _keep(self, host: str, credentials: Credentials, refresh_token: str) -> None:
        """Keep what a token service gives in the place of a password, or of the last such token."""
        if refresh_token == credentials.identity_token:
            return
        try:
            await self._credentials.save(host, Credentials(username=credentials.username, identity_token=refresh_token))
        except RossError as error:
            logger.warning(
                "the new identity token of %s is lost, the old one may not be good any more: %s", host, error
            )

    async def _token(
        self, endpoint: Endpoint, url: httpx.URL, service: str, scopes: Sequence[str], credentials: Credentials | None
    ) -> bytes:
        """What the token service answers. Another origin than the registry's gets neither its headers nor our certificate, and is
        verified even where the registry itself is not."""
        ours = origin_of(url) == endpoint.origin
        transport = endpoint.transport if ours else endpoint.transport.elsewhere()
        headers = list(endpoint.headers) if ours else []
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(self._connections.client(transport, origin_of(url)))
            if credentials is not None and credentials.identity_token:
                form = {
                    "grant_type": "refresh_token",
                    "service": service,
                    "scope": " ".join(scopes),
                    "client_id": _CLIENT_ID,
                    "refresh_token": credentials.identity_token,
                }
                request = client.build_request("POST", url, data=form, headers=headers)
            else:
                query: dict[str, str | list[str]] = {"scope": list(scopes)} if scopes else {}
                query |= {"service": service} if service else {}
                if self._offline and credentials is not None:
                    query |= {"account": credentials.username, "client_id": _CLIENT_ID, "offline_token": "true"}
                request = client.build_request("GET", url.copy_merge_params(query), headers=headers)
                if credentials is not None and credentials.basic:
                    request.headers["Authorization"] = credentials.basic
            stack.enter_context(answered_within(self._answer_seconds, where=f"the token service of {endpoint.name}"))
            response = await stack.enter_async_context(send(client, request))
            if response.status_code in {400, 401, 403}:
                raise unauthenticated(endpoint.name, had_credentials=credentials is not None)
            if response.status_code != 200:
                raise Denied(f"the token service of {endpoint.name} answered with status {response.status_code}")
            return await read_bounded(response, _MAX_TOKEN_BYTES, what=f"the token of {endpoint.name}")


def unauthenticated(host: str, *, had_credentials: bool) -> Unauthenticated:
    """The error for a registry that wants to know who we are."""
    if had_credentials:
        return Unauthenticated(
            f"the registry {host} does not accept the stored credentials for this image",
            hint=f"is the name right? else log in again: ross login {host}",
        )
    return Unauthenticated(
        f"the registry {host} wants credentials for this image, or it does not exist there",
        hint=f"is the name right? else log in: ross login {host}",
    )


def _granted(body: bytes, host: str, *, personal: bool) -> tuple[_Granted, str]:
    """What a token service grants, and the refresh token that it may give with it."""
    try:
        document: Any = json.loads(body)
        token = document.get("token") or document.get("access_token")
        lifetime = float(document.get("expires_in") or _DEFAULT_LIFETIME_SECONDS)
        refresh_token = document.get("refresh_token")
    except (ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        token = refresh_token = None
        lifetime = nan
    if not isinstance(token, str) or not _TOKEN.match(token) or not isfinite(lifetime):
        raise Corrupt(f"the token service of {host} gave an answer that is no token")
    expires_at = trio.current_time() + max(lifetime - _MARGIN_SECONDS, 1.0)
    usable = isinstance(refresh_token, str) and _TOKEN.match(refresh_token)
    return _Granted(f"Bearer {token}", expires_at, personal=personal, host=host), refresh_token if usable else ""
