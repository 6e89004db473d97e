"""Who the engine is to registries: logging in, logging out, and who it is where.

Credentials are proved before they are kept, and what was granted for the old ones is forgotten. No task, and no state of its own.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ross.errors import InvalidArgument, NotFound
from ross.model.registries import RegistryLogin
from ross.oci.reference import parse_host
from ross.registry.credentials import Credentials

if TYPE_CHECKING:
    from ross.registry.credentials import CredentialStore, Saved
    from ross.registry.session import RegistrySession
    from ross.services.events import Events

logger = logging.getLogger(__name__)

_MAX_CHARACTERS: Final = 16_384


class Registries:
    """The engine's credentials for registries."""

    def __init__(self, *, session: RegistrySession, credentials: CredentialStore, events: Events) -> None:
        self._session = session
        self._credentials = credentials
        self._events = events

    async def login(self, registry: str, username: str, password: str) -> tuple[RegistryLogin, bool]:
        """Prove credentials to a registry and keep them; without a user name, prove those that are kept.

        Returns:
            What is kept now, and whether it is proved: it is not where the registry asks for no credentials.

        Raises:
            InvalidArgument: the registry's name is none, or the user name or password cannot be one.
            NotFound: there is no user name, and nothing is kept.
            Unauthenticated: the registry does not accept them; what was kept before stays.
            Unavailable: the registry does not answer, or is none.
            FailedPrecondition: they cannot be kept.
        """
        host = parse_host(registry)
        if username or password:
            _check(username, password)
            offered = Credentials(username=username, password=password)
        else:
            offered = await self._kept(host)
        proved_credentials, proved = await self._session.verify(host, offered)
        saved = await self._credentials.save(host, proved_credentials)
        self._session.forget(host)
        logger.info("logged in to %s as %s", host, saved.username or "the holder of a token")
        self._events.publish("registry", "login", subject=host, name=host)
        return _login(saved), proved

    async def logout(self, registry: str) -> bool:
        """Forget the credentials for a registry. False: there were none.

        Raises:
            InvalidArgument: the registry's name is none.
            FailedPrecondition: what keeps them failed.
        """
        host = parse_host(registry)
        found = await self._credentials.erase(host)
        self._session.forget(host)
        if found:
            logger.info("logged out of %s", host)
            self._events.publish("registry", "logout", subject=host, name=host)
        return found

    async def list(self) -> tuple[RegistryLogin, ...]:
        """To which registries the engine is known, by name.

        Raises:
            FailedPrecondition: what keeps the credentials failed.
        """
        return tuple(_login(saved) for saved in await self._credentials.list())

    async def _kept(self, host: str) -> Credentials:
        kept = await self._credentials.find(host)
        if kept is None:
            raise NotFound(f"there are no credentials for {host}", hint=f"give a user name: ross login -u USER {host}")
        return kept


def _check(username: str, password: str) -> None:
    """Refuse what HTTP has no way to say (RFC 7617, section 2). Neither is quoted: people mix them up."""
    if not username or not password:
        raise InvalidArgument(f"the {'password' if username else 'user name'} is empty")
    if max(len(username), len(password)) > _MAX_CHARACTERS:
        raise InvalidArgument(f"the user name or the password is longer than {_MAX_CHARACTERS} characters")
    if ":" in username:
        raise InvalidArgument("the user name has a colon, which none can have")
    # A password may well have several lines: that of a Google service account is a JSON document.
    if not username.isprintable() or "\0" in password:
        raise InvalidArgument("the user name or the password has control characters, which none can have")


def _login(saved: Saved) -> RegistryLogin:
    return RegistryLogin(
        registry=saved.host,
        username=saved.username,
        store=saved.store,
        encrypted=saved.encrypted,
        token=saved.token,
    )
