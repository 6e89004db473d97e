"""The engine: what a connection begins with."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Final

from ross.client.connection import answer, open_session, socket_path
from ross.errors import Denied, FailedPrecondition
from ross.model.engine import EngineInfo, Role, TaskInfo, VersionInfo
from ross.wire.convert import from_wire
from ross.wire.schema import schema

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from ross.client.connection import Session
    from ross.client.containers import Containers
    from ross.client.content import Content
    from ross.client.events import Events
    from ross.client.images import Images
    from ross.client.registries import Registries
    from ross.client.snapshots import Snapshots
    from ross.client.storage import Storage
    from ross.model.events import EventFilter
    from ross.model.images import RemovedImages

PROTOCOL: Final = 1
"""The least that a daemon must speak."""


class Engine:
    """A daemon. Made by :func:`connect`; good until the block ends."""

    def __init__(self, session: Session, version: VersionInfo) -> None:
        self._session = session
        self._capability = session.hold(session.bootstrap.capability.cast_as(schema.Engine))
        self.version = version
        """Who answered, what it speaks, and what it lets us do."""

    # Each is imported and fetched when it is first used: the start of a command line pays for what it needs.

    @cached_property
    def images(self) -> Images:
        """What containers are made of."""
        from ross.client.images import Images

        return Images(self._session, self._session.hold(self._capability.images().now.images))

    @cached_property
    def containers(self) -> Containers:
        """Every container of the engine."""
        from ross.client.containers import Containers

        return Containers(self._session, self._session.hold(self._capability.containers().now.containers))

    @cached_property
    def snapshots(self) -> Snapshots:
        """What root filesystems are made of."""
        from ross.client.snapshots import Snapshots

        return Snapshots(self._session.hold(self._capability.snapshots().now.snapshots))

    @cached_property
    def registries(self) -> Registries:
        """To whom the engine is known: logging in and out."""
        from ross.client.registries import Registries

        return Registries(self._session, self._session.hold(self._capability.registries().now.registries))

    @cached_property
    def content(self) -> Content:
        """The content store: blobs and manifests by digest."""
        from ross.client.content import Content

        return Content(self._session.hold(self._capability.content().now.content))

    @cached_property
    def storage(self) -> Storage:
        """What the engine keeps on its disk: how much, what can go, whether it is sound."""
        from ross.client.storage import Storage

        return Storage(self._session.hold(self._capability.storage().now.storage))

    async def info(self) -> EngineInfo:
        """The engine and its host."""
        return from_wire(EngineInfo, (await answer(self._capability.info())).info)

    async def tasks(self) -> tuple[TaskInfo, ...]:
        """The daemon's live task tree, parents before children."""
        found = (await answer(self._capability.tasks())).tasks
        return tuple(from_wire(TaskInfo, task) for task in found)

    async def collect(self) -> RemovedImages:
        """Remove what nothing references."""
        from ross.model.images import RemovedImages

        return from_wire(RemovedImages, (await answer(self._capability.collect())).removed)

    async def shutdown(self) -> None:
        """Begin an orderly shutdown of the daemon; containers keep running."""
        await answer(self._capability.shutdown())

    def events(
        self, *, after: int = 0, since: int = 0, until: int = 0, wanted: EventFilter | None = None
    ) -> AbstractAsyncContextManager[Events]:
        """What happens, from now on if nothing else is said: ``async with engine.events() as events: async for event in events: ...``

        Whatever happens once the block is entered is told, each event once and in its order; what is missing is told by an
        :class:`~ross.model.events.EventGap` in its place.

        Args:
            after: Behind the event with this sequence number: ``events.position`` of an earlier reading, also of an earlier daemon.
            since: From this time on, in nanoseconds since the epoch; what happened before the daemon began is not known.
            until: To this time; 0 for no end.
            wanted: Only these.
        """
        from ross.client.events import open_events
        from ross.model.events import EventFilter, EventOptions

        options = EventOptions(filter=wanted or EventFilter(), after=after, since=since, until=until)
        return open_events(self._capability, options)


@asynccontextmanager
async def connect(path: str | os.PathLike[str] | None = None) -> AsyncIterator[Engine]:
    """Connect to a daemon for the length of a block; what is held of it ends with the block, containers do not.

    Args:
        path: Its socket; ``$ROSS_SOCKET`` if absent, else ``/run/ross/ross.sock``.

    Raises:
        Unavailable: no daemon answers.
        Denied: the peer may not have the engine.
        FailedPrecondition: the daemon is too old.
    """
    where = socket_path(path)
    async with open_session(where) as session:
        version = await _version(session)
        if version.role is not Role.ENGINE:
            raise Denied(
                f"the daemon on {where} does not let you use the engine",
                hint="run this as root, or join the group that the socket belongs to: adduser $USER ross",
            )
        if version.protocol < PROTOCOL:
            raise FailedPrecondition(
                f"the daemon on {where} speaks protocol {version.protocol}, this client needs {PROTOCOL}",
                hint="update the daemon",
            )
        yield Engine(session, version)


async def _version(session: Session) -> VersionInfo:
    gate = session.hold(session.bootstrap.capability.cast_as(schema.Gate))
    return from_wire(VersionInfo, (await answer(gate.version())).version)
