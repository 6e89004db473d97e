"""Bodies come in large pieces, which httpx has no setting for."""

from __future__ import annotations

import ssl
from functools import partial

import trio

from ross.registry.http import new_client, raw_body, send

BODY = bytes(range(256)) * (32 << 10)


async def serve(stream: trio.SocketStream) -> None:
    async with stream:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)


async def test_bodies_come_in_large_pieces(nursery: trio.Nursery) -> None:
    (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
    port = listener.socket.getsockname()[1]
    client = new_client(
        user_agent="test",
        connect_seconds=5,
        silence_seconds=5,
        context=ssl.create_default_context(),
        proxy=None,
        use_environment=False,
    )
    async with client, send(client, client.build_request("GET", f"http://127.0.0.1:{port}/")) as response:
        async with raw_body(response) as source:
            pieces = [piece async for piece in source]
    assert b"".join(pieces) == BODY
    assert max(map(len, pieces)) > 64 << 10
