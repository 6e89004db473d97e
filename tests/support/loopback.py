"""Servers on loopback that run in the test's own loop, for the length of a block."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Server(Protocol):
    """Whatever answers connections."""

    async def serve(self, stream: trio.SocketStream, /) -> None: ...


S = TypeVar("S", bound=Server)


@asynccontextmanager
async def listening(make: Callable[[int], S]) -> AsyncIterator[S]:
    """A server on a free port, which ``make`` is told."""
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        server = make(listener.socket.getsockname()[1])
        await nursery.start(trio.serve_listeners, server.serve, [listener])
        try:
            yield server
        except Exception as error:  # noqa: BLE001 -- raised again below, where no nursery wraps it into a group
            failure = error
        finally:
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def read_head(stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> tuple[str, bytes] | None:
    """The head of an HTTP request, and what has come behind it; None if it does not come."""
    data = bytearray()
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some()
        if not more:
            return None
        data += more
    head, _, rest = bytes(data).partition(b"\r\n\r\n")
    return head.decode("latin-1"), rest
