"""Registries: logging in to them, and out of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen

from ross.client.connection import answer
from ross.model.registries import RegistryLogin
from ross.wire.convert import from_wire

if TYPE_CHECKING:
    from ross.client.connection import Session


@frozen(kw_only=True)
class LoggedIn:
    """What a login has come to."""

    login: RegistryLogin
    proved: bool
    """The registry has accepted the credentials; false where it asks for none."""


class Registries:
    """The engine's credentials for registries."""

    def __init__(self, session: Session, capability: Any) -> None:
        self._session = session
        self._capability = capability

    async def login(self, registry: str = "", *, username: str = "", password: str = "") -> LoggedIn:
        """Prove credentials to a registry, then keep them where Docker does: ``await engine.registries.login("ghcr.io", username=...,
        password=...)``.

        Args:
            registry: A host as people type it; Docker Hub if empty.
            username: Who; if empty, the credentials that are kept are proved once more.
            password: Or an access token.

        Raises:
            Unauthenticated: the registry does not accept them.
            NotFound: there is no user name, and nothing is kept.
            FailedPrecondition: they cannot be kept.
        """
        call = self._capability.login(registry=registry, username=username, password=password)
        answered = await answer(call)
        return LoggedIn(login=from_wire(RegistryLogin, answered.login), proved=answered.proved)

    async def logout(self, registry: str = "") -> bool:
        """Forget the credentials for a registry, Docker Hub if it is empty. False: there were none.

        Raises:
            FailedPrecondition: what keeps them failed.
        """
        found: bool = (await answer(self._capability.logout(registry=registry))).found
        return found

    async def list(self) -> tuple[RegistryLogin, ...]:
        """To which registries the engine is known, by name.

        Raises:
            FailedPrecondition: what keeps the credentials failed.
        """
        return tuple(from_wire(RegistryLogin, login) for login in (await answer(self._capability.list())).logins)
