"""Calls and streams over the wire: KJ on Trio, against plain asyncio and pycapnp, both as two processes on a Unix socket.

    python -m benchmarks.wire [--calls N] [--writes N] [--rounds N]

The rounds of the two alternate; the figure is the ratio of the medians. Above 1 the call is slower than the peer's; for writes the
ratio is of throughput, and below 1 is slower.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import capnp
import trio

from ross.wire.loop import open_kj_loop
from ross.wire.schema import schema

CHUNK = bytes(64 << 10)


class Server(schema.Container.Server):  # type: ignore[misc]
    """``info`` answers a small struct; ``attach`` gives a stream that counts."""

    async def info_context(self, context: Any) -> None:
        context.results.info = {"id": "x", "name": "y"}

    async def attach_context(self, context: Any) -> None:
        context.results.stdin = Counter()


class Counter(schema.ByteStream.Server):  # type: ignore[misc]
    """Takes bytes."""

    async def write_context(self, context: Any) -> None:
        len(context.params.data)

    async def done_context(self, context: Any) -> None:  # noqa: ARG002 -- pycapnp's signature
        return None


async def measure(container: Any, calls: int, writes: int) -> tuple[float, float]:
    """Seconds a call, and MiB a second of writes."""
    await container.info()
    began = time.perf_counter()
    for _ in range(calls):
        await container.info()
    call_seconds = (time.perf_counter() - began) / calls
    stream = (await container.attach()).stdin
    began = time.perf_counter()
    for _ in range(writes):
        await stream.write(data=CHUNK)
    await stream.done()
    return call_seconds, writes * len(CHUNK) / (1 << 20) / (time.perf_counter() - began)


async def serve_trio(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.setblocking(False)
        async with open_kj_loop() as loop:
            await loop.serve(listener, lambda _connection: Server())


async def serve_asyncio(path: str) -> None:
    async def serve(stream: Any) -> None:
        await capnp.TwoPartyServer(stream, bootstrap=Server()).on_disconnect()

    async with capnp.kj_loop():
        server = await capnp.AsyncIoStream.create_unix_server(serve, path)
        await server.serve_forever()


async def run_trio(path: str, calls: int, writes: int) -> tuple[float, float]:
    async with open_kj_loop() as loop, loop.connect(path) as connection:
        return await measure(connection.bootstrap().cast_as(schema.Container), calls, writes)


async def run_asyncio(path: str, calls: int, writes: int) -> tuple[float, float]:
    async with capnp.kj_loop():
        stream = await capnp.AsyncIoStream.create_unix_connection(path)
        client = capnp.TwoPartyClient(stream)
        return await measure(client.bootstrap().cast_as(schema.Container), calls, writes)


def start_server(kind: str, path: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.wire", "--serve", kind, path])
    while not Path(path).exists():
        time.sleep(0.01)
    time.sleep(0.1)
    return process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--writes", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.serve:
        kind, path = options.serve
        trio.run(serve_trio, path) if kind == "trio" else asyncio.run(serve_asyncio(path))
        return
    figures: dict[str, list[tuple[float, float]]] = {"trio": [], "asyncio": []}
    with tempfile.TemporaryDirectory() as directory:
        paths = {kind: str(Path(directory) / kind) for kind in figures}
        servers = [start_server(kind, path) for kind, path in paths.items()]
        try:
            for _ in range(options.rounds):
                figures["trio"].append(trio.run(run_trio, paths["trio"], options.calls, options.writes))
                figures["asyncio"].append(asyncio.run(run_asyncio(paths["asyncio"], options.calls, options.writes)))
        finally:
            for server in servers:
                server.terminate()
                server.wait()
    calls = {kind: statistics.median(call for call, _ in found) * 1e6 for kind, found in figures.items()}
    writes = {kind: statistics.median(write for _, write in found) for kind, found in figures.items()}
    print(f"{'':28}{'KJ on Trio':>12}{'asyncio':>12}{'ratio':>8}   goal")
    print(row("call, us", calls, "at most 1.5"))
    print(row("64 KiB stream writes, MiB/s", writes, "at least 0.6"))


def row(title: str, figures: dict[str, float], goal: str) -> str:
    ratio = figures["trio"] / figures["asyncio"]
    return f"{title:28}{figures['trio']:12.1f}{figures['asyncio']:12.1f}{ratio:8.2f}   {goal}"


if __name__ == "__main__":
    main()
