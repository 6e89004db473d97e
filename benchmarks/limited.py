"""A registry behind a line that gives each connection so many bytes a second, as content delivery networks do; a process of its own.

python -m benchmarks.limited HOST:PORT BYTES_PER_SECOND          prints its own HOST:PORT
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PIECE = 256 << 10
_HELD = 1 << 20
"""What the kernel may hold of a connection: as much as comes in a moment, so that the limit is felt at once."""


def _forward(source: socket.socket, target: socket.socket, rate: float) -> None:
    """Until one side is closed. The bytes stay in the kernel: this costs the machine nearly nothing."""
    reader, writer = os.pipe()
    free_at = time.monotonic()
    with suppress(OSError):
        while count := os.splice(source.fileno(), writer, _PIECE):
            if rate:
                free_at = max(free_at, time.monotonic() - 0.05) + count / rate
            while count:
                count -= os.splice(reader, target.fileno(), count)
            time.sleep(max(0.0, free_at - time.monotonic()))
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    for fd in (reader, writer):
        os.close(fd)


def _serve(client: socket.socket, upstream: tuple[str, int], rate: float) -> None:
    with client, socket.create_connection(upstream) as server:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _HELD)
        back = threading.Thread(target=_forward, args=(client, server, 0.0), daemon=True)
        back.start()
        _forward(server, client, rate)
        back.join()


def main() -> None:
    host, _colon, port = sys.argv[1].rpartition(":")
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"127.0.0.1:{listener.getsockname()[1]}", flush=True)
    while True:
        client, _peer = listener.accept()
        threading.Thread(target=_serve, args=(client, (host, int(port)), float(sys.argv[2])), daemon=True).start()


@contextmanager
def limited(registry: str, bytes_per_second: int) -> Iterator[str]:
    """Where the registry is behind such a line, for the length of a block; the registry itself if there is no limit."""
    if not bytes_per_second:
        yield registry
        return
    argv = [sys.executable, "-m", "benchmarks.limited", registry, str(bytes_per_second)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
