"""Connecting to a daemon, on Trio or on asyncio."""

from __future__ import annotations

import errno
import os
from collections.abc import Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import capnp

from ross.client.remote import Home
from ross.errors import Denied, FailedPrecondition, Reason, RossError, Unavailable
from ross.wire.common_loop import common_kj_loop
from ross.wire.convert import from_wire
from ross.wire.errors import to_exception, translated
from ross.wire.listener import open_socket
from ross.wire.loop import caller_from_threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence

    from ross.client.remote import Call
    from ross.wire.listener import Connection

T = TypeVar("T")

DEFAULT_SOCKET: Final = "/run/ross/ross.sock"


class Session:
    """A connection. Ends with the block of :func:`open_session`."""

    def __init__(self, bootstrap: Any, connection: Connection | None, home: Home) -> None:
        self.bootstrap = home.hold(bootstrap)
        self.hold = home.hold
        """Hold an object that came by this connection."""
        self._connection = connection

    @property
    def carries_fds(self) -> bool:
        """Whether file descriptors can travel: on Trio they can."""
        return self._connection is not None

    def send_fds(self, fds: Sequence[int]) -> list[int]:
        """Send duplicates of descriptors ahead of the next message; returns the numbers that name them.

        Raises:
            FailedPrecondition: this connection carries none.
        """
        return self._over_trio().send_fds(fds)

    def claim_fd(self, number: int) -> int:
        """Take over a descriptor that the daemon has sent; the caller closes it.

        Raises:
            FailedPrecondition: this connection carries none.
            KeyError: there is none with this number.
        """
        return self._over_trio().claim_fd(number)

    def _over_trio(self) -> Connection:
        if self._connection is None:
            raise FailedPrecondition("file descriptors cannot travel on this connection", hint="use Trio")
        return self._connection


class Pending(Coroutine[Any, Any, T]):
    """The answer to a call that is on its way. Await it for the answer; dropping it cancels the call.

    It can be a task as it is: ``nursery.start_soon(container.start)``, ``asyncio.create_task(container.start())``.

    ``now`` is the answer already, as far as it is an object of the daemon: calls on it travel right behind this one, in the same
    round trip, and fail with this one's error if it fails.
    """

    def __init__(self, call: Call, wrap: Callable[[Any], T]) -> None:
        self._call = call
        self._wrap = wrap
        self._answers: list[T] = []
        self._task: Coroutine[Any, Any, T] | None = None

    @property
    def now(self) -> T:
        return self._wrap(self._call.now)

    def __await__(self) -> Generator[Any, Any, T]:
        return self._wait().__await__()

    async def _wait(self) -> T:
        if not self._answers:
            self._answers.append(self._wrap(await self._call))
        return self._answers[0]

    def send(self, value: Any) -> Any:
        """Go on, as a task."""
        if self._task is None:
            self._task = self._wait()
        return self._task.send(value)

    def throw(self, *error: Any) -> Any:
        """Go on with an exception, as a task."""
        if self._task is None:
            self._task = self._wait()
        return self._task.throw(*error)

    def close(self) -> None:
        """End, as a task."""
        if self._task is not None:
            self._task.close()


def socket_path(path: str | os.PathLike[str] | None) -> str:
    """Where the daemon is: as given, else ``$ROSS_SOCKET``, else the default."""
    return os.fspath(path) if path is not None else os.environ.get("ROSS_SOCKET") or DEFAULT_SOCKET


@asynccontextmanager
async def open_session(path: str) -> AsyncIterator[Session]:
    """Connect for the length of a block. What the block raises is raised as it is.

    Raises:
        Unavailable: no daemon answers.
        Denied: the socket is not ours to use.
    """
    async with _connected(path) as (bootstrap, connection):
        home = Home(caller_from_threads())
        try:
            yield Session(bootstrap, connection, home)
        finally:
            home.close()


@asynccontextmanager
async def _connected(path: str) -> AsyncIterator[tuple[Any, Connection | None]]:
    async with common_kj_loop(to_exception) as loop:
        if loop is None:
            async with _connected_over_asyncio(path) as bootstrap:
                yield bootstrap, None
            return
        try:
            sock = await open_socket(Path(path))
        except OSError as error:
            raise unreachable(path, error) from None
        async with loop.connect(sock) as connection:
            yield connection.bootstrap(), connection


@asynccontextmanager
async def _connected_over_asyncio(path: str) -> AsyncIterator[Any]:
    try:
        stream = await capnp.AsyncIoStream.create_unix_connection(path)
    except OSError as error:
        raise unreachable(path, error) from None
    client = capnp.TwoPartyClient(stream)
    try:
        yield client.bootstrap()
    finally:
        client.close()
        stream.close()


def unreachable(path: str, error: OSError) -> RossError:
    """The error for a socket that cannot be connected to."""
    if error.errno in {errno.EACCES, errno.EPERM}:
        return Denied(
            f"you may not use the daemon's socket {path}",
            hint="run this as root, or join the group that the socket belongs to: adduser $USER ross",
            reason=Reason.DAEMON_UNREACHABLE,
        )
    why = "nothing listens there" if error.errno == errno.ECONNREFUSED else error.strerror or str(error)
    return Unavailable(
        f"no daemon answers on {path}: {why}",
        hint="start it with: ross daemon (as root), or say where it is with ROSS_SOCKET",
        reason=Reason.DAEMON_UNREACHABLE,
    )


async def answer(call: Awaitable[Any]) -> Any:
    """The answer to a call, or the error that the daemon meant."""
    with translated():
        return await call


async def all_of(call: Awaitable[Any], cls: type[T], field: str) -> tuple[T, ...]:
    """A whole list, of which each answer has as much as there is room for, and a reference to the rest."""
    found: list[T] = []
    while True:
        answered = await answer(call)
        found += [from_wire(cls, one) for one in getattr(answered, field)]
        if not answered._has("rest"):  # noqa: SLF001 -- pycapnp's way to ask for a null pointer
            return tuple(found)
        call = answered.rest.next()
