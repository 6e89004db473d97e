"""A server and a client over a real socket pair, in one loop."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from ross.wire.errors import to_exception
from ross.wire.listener import Connection, connect
from ross.wire.listener import _serve_one as serve_one
from ross.wire.loop import open_kj_loop

if TYPE_CHECKING:
    from ross.wire.limits import Limits

Pair = Callable[..., AbstractAsyncContextManager[Connection]]


@pytest.fixture
def pair() -> Pair:
    """``async with pair(server) as connection``: a client's connection to a server object, or to what a function makes."""

    @asynccontextmanager
    async def open_pair(server: Any, *, limits: Limits | None = None) -> AsyncIterator[Connection]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        async with open_kj_loop(limits, translate=to_exception) as loop, trio.open_nursery() as nursery:
            bootstrap = server if callable(server) else lambda _connection: server
            nursery.start_soon(serve_one, loop, theirs, bootstrap)
            async with connect(loop, ours) as connection:
                yield connection
            nursery.cancel_scope.cancel()

    return open_pair
