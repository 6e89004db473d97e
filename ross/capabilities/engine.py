"""``Engine`` and ``Gate``: what a connection begins with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ross.capabilities.containers import ContainersServer
from ross.capabilities.content import ContentServer
from ross.capabilities.events import EventReaderServer
from ross.capabilities.images import ImagesServer
from ross.capabilities.registries import RegistriesServer
from ross.capabilities.snapshots import SnapshotsServer
from ross.capabilities.storage import StorageServer
from ross.model.engine import Role
from ross.model.events import EventOptions
from ross.services.engine import version_info
from ross.wire.convert import from_wire, to_wire
from ross.wire.schema import schema
from ross.wire.serving import Served

if TYPE_CHECKING:
    from ross.capabilities.session import Session
    from ross.services.engine import Engine


class GateServer(Served, schema.Gate.Server):  # type: ignore[misc]  # the schema is loaded at run time
    """For a peer that may not have the engine."""

    async def version_context(self, context: Any) -> None:
        context.results.version = to_wire(version_info(Role.GATE))


class EngineServer(Served, schema.Engine.Server):  # type: ignore[misc]
    """The whole engine, for one connection."""

    def __init__(self, engine: Engine, session: Session) -> None:
        self._engine = engine
        self._session = session

    async def version_context(self, context: Any) -> None:
        context.results.version = to_wire(version_info(Role.ENGINE))

    async def info_context(self, context: Any) -> None:
        context.results.info = to_wire(self._engine.info())

    async def images_context(self, context: Any) -> None:
        context.results.images = ImagesServer(self._engine, self._session)

    async def containers_context(self, context: Any) -> None:
        context.results.containers = ContainersServer(self._engine, self._session)

    async def registries_context(self, context: Any) -> None:
        context.results.registries = RegistriesServer(self._engine.registries)

    async def content_context(self, context: Any) -> None:
        context.results.content = ContentServer(self._engine.content, self._session)

    async def storage_context(self, context: Any) -> None:
        context.results.storage = StorageServer(self._engine.storage)

    async def snapshots_context(self, context: Any) -> None:
        for_root = self._session.peer.uid in {0, os.geteuid()}
        context.results.snapshots = SnapshotsServer(self._engine.snapshots, for_root=for_root)

    async def events_context(self, context: Any) -> None:
        reader = self._engine.events.open(from_wire(EventOptions, context.params.options))
        context.results.reader = EventReaderServer(reader)
        context.results.position = reader.begin

    async def tasks_context(self, context: Any) -> None:
        context.results.tasks = [to_wire(task) for task in self._engine.tasks()]

    async def collect_context(self, context: Any) -> None:
        context.results.removed = to_wire(await self._engine.collect())

    async def shutdown_context(self, context: Any) -> None:  # noqa: ARG002 -- pycapnp's signature
        self._engine.shutdown()
