"""``Containers`` and ``Container``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakKeyDictionary

from ross.capabilities.files import FileWritingServer
from ross.capabilities.loading import FeedServer
from ross.capabilities.pages import ContainerPagesServer, Pages, Said, say
from ross.capabilities.processes import ProcessServer, begin_exec, claimed, found_execs, given, sink_of
from ross.model.checkpoints import CheckpointOptions, RestoreOptions
from ross.model.containers import AttachOptions, ContainerFilter, ContainerUpdate, WaitCondition
from ross.model.files import CommitOptions
from ross.model.logs import LogChunk, LogOptions
from ross.services.feed import Feed
from ross.wire.bytestream import ByteStreamServer, ByteStreamSink
from ross.wire.convert import from_wire, to_wire
from ross.wire.schema import schema
from ross.wire.serving import Served

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from ross.capabilities.session import Session
    from ross.model.containers import ContainerInfo
    from ross.model.snapshots import SnapshotChange
    from ross.model.stats import ContainerStats
    from ross.services.container import Container
    from ross.services.engine import Engine

T = TypeVar("T")
_SPARE_MESSAGES: Final = 64


class Messages:
    """What was said of containers, as it was said: who lists a thousand of which two have changed waits for two to be put into words."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[ContainerInfo, Said]] = {}

    def of(self, info: ContainerInfo) -> Said:
        """The struct of a container."""
        known = self._said.get(info.id)
        if known is None or known[0] != info:
            known = self._said[info.id] = info, say(info)
        return known[1]

    def forget_all_but(self, known: Collection[str]) -> None:
        """Let go of what was said of containers that are gone, as soon as they are the greater part."""
        if len(self._said) > 2 * len(known) + _SPARE_MESSAGES:
            self._said = {identity: said for identity, said in self._said.items() if identity in known}


_messages: WeakKeyDictionary[Engine, Messages] = WeakKeyDictionary()


def _options(kind: type[T], params: Any) -> T:
    return from_wire(kind, params.options) if given(params, "options") else kind()


class ContainersServer(Served, schema.Containers.Server):  # type: ignore[misc]  # the schema is loaded at run time
    """The directory of containers, for one connection."""

    def __init__(self, engine: Engine, session: Session) -> None:
        self._engine = engine
        self._containers = engine.containers
        self._session = session

    async def get_context(self, context: Any) -> None:
        container = self._containers.get(context.params.name)
        context.results.container = ContainerServer(container, self._session, self._engine)

    async def list_context(self, context: Any) -> None:
        wanted = from_wire(ContainerFilter, context.params.filter)
        found = self._containers.list(wanted)
        if wanted.sizes:
            found = await self._containers.measure(found)
        messages = _messages.setdefault(self._engine, Messages())
        Pages("containers", ContainerPagesServer, messages.of).answer(context.results, found)
        messages.forget_all_but(self._containers.ids)


class ContainerServer(Served, schema.Container.Server):  # type: ignore[misc]
    """One container. Dropping it means nothing to the container."""

    def __init__(self, container: Container, session: Session, engine: Engine) -> None:
        self._container = container
        self._session = session
        self._engine = engine

    async def info_context(self, context: Any) -> None:
        context.results.info = to_wire(self._container.described)

    async def start_context(self, context: Any) -> None:
        with claimed(self._session, stdio=context.params.stdio, fds=context.params.fds) as handed:
            await self._container.start(handed)

    async def wait_context(self, context: Any) -> None:
        condition = WaitCondition(str(context.params.condition))
        context.results.outcome = to_wire(await self._container.wait(condition))

    async def stop_context(self, context: Any) -> None:
        await self._container.stop(signal=context.params.signal, grace_seconds=context.params.graceSeconds)

    async def signal_context(self, context: Any) -> None:
        await self._container.signal(context.params.signal)

    async def attach_context(self, context: Any) -> None:
        params = context.params
        options = from_wire(AttachOptions, params.options) if given(params, "options") else AttachOptions()
        attachment = await self._container.attach(
            options, stdout=sink_of(params, "stdout"), stderr=sink_of(params, "stderr")
        )
        context.results.process = ProcessServer(attachment, self._session)
        context.results.stdin = ByteStreamServer(attachment.write_stdin, done=attachment.close_stdin)

    async def logs_context(self, context: Any) -> None:
        sink = context.params.sink
        options = from_wire(LogOptions, context.params.options) if given(context.params, "options") else LogOptions()

        async def write(chunk: LogChunk) -> None:
            await sink.write(chunk=to_wire(chunk))

        await self._container.logs(options, write)

    async def remove_context(self, context: Any) -> None:
        await self._container.remove(force=context.params.force)

    async def pause_context(self, context: Any) -> None:  # noqa: ARG002 -- pycapnp's signature
        await self._container.pause()

    async def resume_context(self, context: Any) -> None:  # noqa: ARG002 -- as above
        await self._container.resume()

    async def restart_context(self, context: Any) -> None:
        await self._container.restart(signal=context.params.signal, grace_seconds=context.params.graceSeconds)

    async def rename_context(self, context: Any) -> None:
        await self._container.rename(context.params.name)

    async def update_context(self, context: Any) -> None:
        await self._container.update(from_wire(ContainerUpdate, context.params.update))

    async def stat_context(self, context: Any) -> None:
        params = context.params
        context.results.file = to_wire(await self._container.files.stat(bytes(params.path), follow=params.follow))

    async def readFiles_context(self, context: Any) -> None:  # noqa: N802 -- pycapnp's spelling
        params, sink = context.params, ByteStreamSink(context.params.sink)
        await self._container.files.read(
            bytes(params.path), name=bytes(params.name), follow=params.follow, write=sink.write
        )
        await sink.done()

    async def writeFiles_context(self, context: Any) -> None:  # noqa: N802
        params, feed = context.params, Feed(self._session)
        context.results.stream = FeedServer(feed, self._session)
        context.results.writing = FileWritingServer(
            self._container, feed, self._session, path=bytes(params.path), keep_owners=params.keepOwners
        )

    async def exportFiles_context(self, context: Any) -> None:  # noqa: N802
        sink = ByteStreamSink(context.params.sink)
        await self._container.files.export(sink.write)
        await sink.done()

    async def diff_context(self, context: Any) -> None:
        sink = context.params.sink

        async def write(found: Sequence[SnapshotChange]) -> None:
            await sink.write(changes=[to_wire(change) for change in found])

        await self._container.files.diff(write)

    async def commit_context(self, context: Any) -> None:
        from ross.capabilities.images import ImageServer  # which makes containers

        image = await self._container.commit(from_wire(CommitOptions, context.params.options))
        context.results.image = ImageServer(self._engine, self._session, image)

    async def exec_context(self, context: Any) -> None:
        await begin_exec(self._container, context, self._session)

    async def execs_context(self, context: Any) -> None:
        context.results.execs = found_execs(self._container, self._session)

    async def identify_context(self, context: Any) -> None:
        self._session.answer(bytes(context.params.nonce), self._container)

    async def stats_context(self, context: Any) -> None:
        sink = context.params.sink

        async def write(stats: ContainerStats) -> None:
            await sink.write(stats=to_wire(stats))

        await self._container.stats.sample(context.params.intervalMs, write)

    async def checkpoint_context(self, context: Any) -> None:
        await self._container.checkpoint(_options(CheckpointOptions, context.params))

    async def restore_context(self, context: Any) -> None:
        await self._container.restore(_options(RestoreOptions, context.params))

    async def top_context(self, context: Any) -> None:
        context.results.processes = to_wire(await self._container.top(context.params.columns))
