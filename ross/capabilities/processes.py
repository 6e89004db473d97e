"""``Process`` and ``Exec``: what runs in a container, and the connections to it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from ross.capabilities.pages import say
from ross.errors import InvalidArgument
from ross.linux.fds import close_all
from ross.model.containers import AttachOptions
from ross.model.execs import ExecOptions
from ross.shim.handed import Handed
from ross.wire.bytestream import ByteStreamServer, ByteStreamSink
from ross.wire.convert import from_wire, to_wire
from ross.wire.schema import schema
from ross.wire.serving import Served

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ross.capabilities.session import Session
    from ross.services.attachment import Attachment
    from ross.services.container import Container
    from ross.services.exec import Exec

_LISTED_BYTES: Final = 4 << 10
"""What one of a list may take, of which there are as many as a container may have processes."""


class ProcessServer(Served, schema.Process.Server):  # type: ignore[misc]
    """One attachment. Dropping it detaches; so does the end of the connection."""

    def __init__(self, attachment: Attachment, session: Session) -> None:
        self._attachment = attachment
        self._holding = session.hold(attachment.detach)

    def __del__(self) -> None:
        self._holding.release()

    async def wait_context(self, context: Any) -> None:
        context.results.outcome = to_wire(await self._attachment.wait())

    async def signal_context(self, context: Any) -> None:
        await self._attachment.signal(context.params.signal)

    async def resize_context(self, context: Any) -> None:
        await self._attachment.resize(rows=context.params.rows, columns=context.params.columns)


class ExecServer(Served, schema.Exec.Server):  # type: ignore[misc]
    """One program that is executed. When nobody holds one of these any more, it goes as it was declared to."""

    def __init__(self, executed: Exec, attachment: Attachment | None, session: Session) -> None:
        self._exec = executed
        self._attachment = attachment
        self._session = session
        executed.hold()

        async def let_go() -> None:  # knows nothing of this object, which the session would keep alive
            if attachment is not None:
                await attachment.detach()
            await executed.let_go()

        self._holding = session.hold(let_go)

    def __del__(self) -> None:
        self._holding.release()

    async def info_context(self, context: Any) -> None:
        context.results.info = to_wire(self._exec.info)

    async def wait_context(self, context: Any) -> None:
        waited_for = self._attachment if self._attachment is not None else self._exec
        context.results.outcome = to_wire(await waited_for.wait())

    async def signal_context(self, context: Any) -> None:
        await self._exec.signal(context.params.signal)

    async def resize_context(self, context: Any) -> None:
        await self._exec.resize(rows=context.params.rows, columns=context.params.columns)

    async def attach_context(self, context: Any) -> None:
        params = context.params
        options = from_wire(AttachOptions, params.options) if given(params, "options") else AttachOptions()
        attachment = await self._exec.attach(
            options, stdout=sink_of(params, "stdout"), stderr=sink_of(params, "stderr")
        )
        context.results.process = ProcessServer(attachment, self._session)
        context.results.stdin = ByteStreamServer(attachment.write_stdin, done=attachment.close_stdin)


async def begin_exec(container: Container, context: Any, session: Session) -> None:
    """``Container.exec``: claim the descriptors that came with it, and hand out what was begun."""
    params = context.params
    options = from_wire(ExecOptions, params.options)
    with claimed(session, stdio=options.stdio, fds=options.fds) as handed:
        executed, attachment = await container.execs.begin(
            options, stdout=sink_of(params, "stdout"), stderr=sink_of(params, "stderr"), handed=handed
        )
    try:
        context.results.exec = ExecServer(executed, attachment, session)
        if attachment is not None:
            context.results.stdin = ByteStreamServer(attachment.write_stdin, done=attachment.close_stdin)
    finally:
        await executed.let_go()  # the reference holds it now


def found_execs(container: Container, session: Session) -> list[dict[str, Any]]:
    """``Container.execs``: each with a reference to it."""
    return [
        {"info": say(one.info, most_bytes=_LISTED_BYTES).message, "exec": ExecServer(one, None, session)}
        for one in container.execs.list()
    ]


@contextmanager
def claimed(session: Session, *, stdio: Iterable[int] = (), fds: Iterable[int] = ()) -> Iterator[Handed]:
    """The descriptors with these numbers, which came with a call, for the length of a block.

    Raises:
        InvalidArgument: one has not come, or is claimed already.
    """
    streams, behind = tuple(stdio), tuple(fds)
    own: list[int] = []
    try:
        try:
            for number in (*streams, *behind):
                own.append(session.claim_fd(number))  # noqa: PERF401 -- what was claimed is closed if the next one cannot be
        except KeyError:
            raise InvalidArgument("a file descriptor that the call names did not come with it") from None
        yield Handed(stdio=own[: len(streams)], fds=own[len(streams) :])
    finally:
        close_all(own)


def sink_of(params: Any, name: str) -> ByteStreamSink | None:
    """A parameter that is a ``ByteStream``; None if it is null."""
    return ByteStreamSink(getattr(params, name)) if given(params, name) else None


def given(params: Any, name: str) -> bool:
    """Whether a pointer of the parameters is not null."""
    return bool(params._has(name))  # noqa: SLF001 -- pycapnp's own spelling
