"""Connections: accepting them, making them, and what ends with them. Imports nothing of Ross."""

from __future__ import annotations

import errno
import logging
import os
import socket
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import capnp
import trio

from ross.wire.background import open_background
from ross.wire.credentials import Credentials, peer_credentials
from ross.wire.ledger import Ledger
from ross.wire.owner import Owner
from ross.wire.transport import Transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from ross.wire.loop import KjLoop

logger = logging.getLogger(__name__)

_OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_RETRY_SECONDS: Final = 0.1


class Connection:
    """One peer. The runtime makes them; ``nursery`` ends with the connection and is where its own tasks may live."""

    def __init__(self, peer: Credentials, transport: Transport, nursery: trio.Nursery) -> None:
        self.peer = peer
        self.nursery = nursery
        self._transport = transport
        self._client: Any = None

    @property
    def closed(self) -> trio.Event:
        """Set when the peer is gone, or the connection was closed."""
        return self._transport.closed

    def bootstrap(self) -> Any:
        """The peer's bootstrap capability, to be cast to its interface. On the connecting side only."""
        return self._client.bootstrap()

    def send_fds(self, fds: Iterable[int]) -> list[int]:
        """Send duplicates of file descriptors along with the next message; returns the numbers that name them."""
        return self._transport.send_fds(fds)

    def claim_fd(self, number: int) -> int:
        """Take over a file descriptor that the peer has sent; the caller closes it.

        Raises:
            KeyError: there is none with this number, or it was claimed already.
        """
        return self._transport.fds.claim(number)


async def serve(
    loop: KjLoop,
    listener: socket.socket,
    bootstrap: Callable[[Connection], Any],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept connections for ever, each in a task of its own.

    Args:
        loop: The loop that runs.
        listener: A listening, non-blocking Unix stream socket; stays the caller's.
        bootstrap: Makes the object that a new connection begins with. If it raises, that connection is closed.
    """
    open_connections = 0
    refusing = False

    async def handle(sock: socket.socket) -> None:
        nonlocal open_connections, refusing
        try:
            await _serve_one(loop, sock, bootstrap)
        finally:
            open_connections -= 1
            refusing = False

    async with trio.open_nursery() as nursery:
        task_status.started()
        while True:
            sock = await _accept(listener)
            if open_connections >= loop.limits.connections:
                sock.close()
                if not refusing:
                    logger.warning("refusing connections: %d are open", open_connections)
                    refusing = True
                continue
            open_connections += 1
            nursery.start_soon(handle, sock, name="connection")


async def _accept(listener: socket.socket) -> socket.socket:
    told = False
    while True:
        try:
            await trio.lowlevel.wait_readable(listener)
            sock, _address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError, InterruptedError):
            continue
        except OSError as error:
            if error.errno not in _OUT_OF_RESOURCES:
                raise
            if not told:
                logger.warning("cannot accept connections for now: %s", os.strerror(error.errno or 0))
                told = True
            await trio.sleep(_RETRY_SECONDS)
            continue
        return sock


async def _serve_one(loop: KjLoop, sock: socket.socket, bootstrap: Callable[[Connection], Any]) -> None:
    with sock:
        try:
            peer = peer_credentials(sock)
        except OSError:
            return
        async with _open(loop, sock, peer, reads_while_writing=False) as (connection, stream):
            try:
                server = bootstrap(connection)
            except Exception:
                logger.exception("no bootstrap for a connection of process %d", peer.pid)
                return
            rpc = capnp.TwoPartyServer(
                stream,
                bootstrap=server,
                traversal_limit_in_words=loop.limits.message_bytes // 8,
                nesting_limit=loop.limits.nesting,
            )
            del server
            try:
                await _ended(connection, rpc)
            finally:
                rpc.close()
                loop.run_ready()


@asynccontextmanager
async def connect(loop: KjLoop, target: Path | str | socket.socket) -> AsyncIterator[Connection]:
    """Connect to a server for the life of the block. What the peer holds of ours, and the other way round, ends with it.

    Args:
        loop: The loop that runs.
        target: The path of a Unix socket, or a connected socket, which is then ours.

    Raises:
        OSError: the path cannot be connected to.
    """
    sock = target if isinstance(target, socket.socket) else await open_socket(Path(target))
    with sock:
        async with _open(loop, sock, peer_credentials(sock), reads_while_writing=True) as (connection, stream):
            rpc = capnp.TwoPartyClient(
                stream, traversal_limit_in_words=loop.limits.message_bytes // 8, nesting_limit=loop.limits.nesting
            )
            connection._client = rpc  # noqa: SLF001 -- set here and read there, in one module
            try:
                yield connection
            finally:
                rpc.close()
                loop.run_ready()


async def open_socket(path: Path) -> socket.socket:
    """A socket that is connected to ``path``, to be handed to :func:`connect`.

    Raises:
        OSError: it cannot be connected to.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        await trio.lowlevel.checkpoint()
        while True:
            try:
                sock.connect(os.fspath(path))
            except BlockingIOError:  # the server's backlog is full (unix(7): EAGAIN); there is nothing to wait on
                await trio.sleep(_RETRY_SECONDS / 10)
                continue
            return sock
    except BaseException:
        sock.close()
        raise


@asynccontextmanager
async def _open(
    loop: KjLoop, sock: socket.socket, peer: Credentials, *, reads_while_writing: bool
) -> AsyncIterator[tuple[Connection, Any]]:
    """A connection with its nursery and KJ's stream over the socket; everything of it is gone after the block."""
    async with open_background() as nursery:
        ledger = None if reads_while_writing else Ledger()
        owner = Owner(nursery, loop.limits, ledger)
        transport = Transport(
            sock,
            nursery=nursery,
            limits=loop.limits,
            run=partial(loop.run_as, owner),
            ledger=ledger,
            reads_while_writing=reads_while_writing,
        )
        streams: list[Any] = []
        protocol = capnp.AsyncIoStream._connect(streams.append)  # noqa: SLF001 -- pycapnp's way to take a foreign transport
        transport.attach(protocol)
        try:
            yield Connection(peer, transport, nursery), streams[0]
        finally:
            streams.pop().close()
            loop.run_ready()


async def _ended(connection: Connection, rpc: Any) -> None:
    """Wait until the peer is gone, or KJ has given the connection up because of what the peer sent."""
    async with trio.open_nursery() as nursery:

        async def disconnected() -> None:
            await rpc.on_disconnect()
            nursery.cancel_scope.cancel()

        nursery.start_soon(disconnected, name="wire disconnect")
        await connection.closed.wait()
        nursery.cancel_scope.cancel()
