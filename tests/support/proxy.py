"""A tiny HTTP proxy on loopback: forwards to where a test says names are, and keeps what it saw."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import trio
from attrs import define, field

from tests.support.loopback import listening, read_head


@define
class Proxy:
    """Knows where names are, which nobody else does."""

    port: int
    places: Mapping[str, int]
    """Loopback ports by ``host:port``."""
    refuses: bool = False
    """It wants a password that nobody has."""
    heads: list[str] = field(factory=list)
    """What it was asked, with all headers."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def asked(self) -> list[str]:
        """The first line of each request."""
        return [head.partition("\r\n")[0] for head in self.heads]

    async def serve(self, client: trio.SocketStream) -> None:
        async with client:
            request = await read_head(client)
            if request is None:
                return
            head, rest = request
            self.heads.append(head)
            method, target, _version = head.partition("\r\n")[0].split(" ")
            place = target if method == "CONNECT" else target.removeprefix("http://").partition("/")[0]
            port = self.places.get(place if ":" in place else f"{place}:80")
            if self.refuses or port is None:
                status = "407 Proxy Authentication Required" if self.refuses else "502 Bad Gateway"
                await client.send_all(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
                return
            async with await trio.open_tcp_stream("127.0.0.1", port) as server:
                if method == "CONNECT":
                    await client.send_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    lines = [line for line in head.split("\r\n") if not line.lower().startswith("proxy-")]
                    lines[0] = f"{method} {target.partition('/')[2].partition('/')[2].partition('/')[2]} HTTP/1.1"
                    lines[0] = lines[0].replace(" ", " /", 1)
                    await server.send_all("\r\n".join([*lines, "", ""]).encode())
                await server.send_all(rest)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_pass, server, client, nursery.cancel_scope)
                    nursery.start_soon(_pass, client, server, nursery.cancel_scope)


@asynccontextmanager
async def running_proxy(places: Mapping[str, int], *, refuses: bool = False) -> AsyncIterator[Proxy]:
    """A proxy on a free loopback port, for the length of the block."""
    async with listening(lambda port: Proxy(port, places, refuses)) as proxy:
        yield proxy


async def _pass(source: trio.SocketStream, target: trio.SocketStream, scope: trio.CancelScope) -> None:
    try:
        async for data in source:
            await target.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    scope.cancel()
