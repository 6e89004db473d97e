"""``Registries``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ross.wire.convert import to_wire
from ross.wire.schema import schema
from ross.wire.serving import Served

if TYPE_CHECKING:
    from ross.services.registries import Registries


class RegistriesServer(Served, schema.Registries.Server):  # type: ignore[misc]  # the schema is loaded at run time
    """The engine's credentials for registries, for one connection."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    async def login_context(self, context: Any) -> None:
        params = context.params
        login, proved = await self._registries.login(params.registry, params.username, params.password)
        context.results.login = to_wire(login)
        context.results.proved = proved

    async def logout_context(self, context: Any) -> None:
        context.results.found = await self._registries.logout(context.params.registry)

    async def list_context(self, context: Any) -> None:
        context.results.logins = [to_wire(login) for login in await self._registries.list()]
