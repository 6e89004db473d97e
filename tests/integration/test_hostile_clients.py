"""A daemon under ten thousand connections that mean no good: it serves on, and its memory is what it was."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from ross.wire.loop import open_kj_loop
from ross.wire.schema import schema
from tests.support import hostile
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.support.daemon import Daemon

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


def test_hostile_connections(daemon: Daemon, box: str) -> None:
    before = daemon.open_fds()
    warm, end = hostile.run(daemon, connections=10_000, seed=20_260_124)
    assert daemon.ross("run", "--rm", box, "echo", "still here").stdout == "still here\n"
    until(lambda: daemon.open_fds() <= before)
    assert end < warm * 1.1, f"resident {warm} bytes after the warm-up, {end} at the end"


def test_descriptors_that_nobody_asked_for_are_closed(daemon: Daemon) -> None:
    before = daemon.open_fds()
    for _ in range(20):
        with socket.socket(socket.AF_UNIX) as sock, Path(os.devnull).open() as file:
            sock.connect(str(daemon.socket))
            for _ in range(10):
                try:
                    socket.send_fds(sock, [b"\0"], [file.fileno()] * 10)
                except ConnectionError:  # broken, or reset: it had not read everything
                    break
    daemon.ok("health")
    until(lambda: daemon.open_fds() <= before)


def test_stranger_gets_the_gate_only(daemon: Daemon) -> None:
    """Another user who can reach the socket is told who answers, and nothing else."""
    daemon.socket.chmod(0o666)
    for directory in (daemon.run, *list(daemon.run.parents)[:-2]):
        directory.chmod(directory.stat().st_mode | 0o111)
    # Everything is loaded first: another user may not be allowed to read this interpreter's files.
    script = """
import os, sys, trio, ross.client, ross.client.engine
from ross.errors import Denied
os.setgroups([]); os.setgid(65534); os.setuid(65534)
async def main():
    try:
        async with ross.client.connect(sys.argv[1]):
            print("let in")
    except Denied as error:
        print(error, "/", error.hint)
trio.run(main)
"""
    argv = [sys.executable, "-c", script, str(daemon.socket)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert "does not let you use the engine / run this as root" in done.stdout, done.stderr


@pytest.mark.parametrize("way", ["closes", "cancels"])
def test_clients_that_leave_in_the_middle_of_a_call(daemon: Daemon, box: str, way: str) -> None:
    """What a method answers when its caller has gone goes nowhere; in freed memory it ended the daemon within some 35 tries."""
    daemon.ok("run", "-d", "--name", "held", box, "sleep", "600")
    delays = random.Random(20_261_127)
    for name in ("top", "create", "config"):
        for _ in range(60):
            trio.run(_leave_within, daemon.socket, box, name, way, delays.uniform(0, 0.02))
    daemon.ok("health")
    daemon.ok("rm", "-f", *daemon.ross("ps", "-aq").stdout.split())


async def _leave_within(path: Path, image: str, name: str, way: str, seconds: float) -> None:
    async with open_kj_loop() as loop, loop.connect(path) as connection:
        engine = connection.bootstrap().cast_as(schema.Engine)
        found = (await engine.images().images.get(image)).image
        held = (await engine.containers().containers.get("held")).container
        call = {
            "top": lambda: held.top(columns=""),
            "create": lambda: found.create(spec={"args": ["true"], "network": "none"}),
            "config": found.config,
        }[name]

        async def begin() -> None:
            await call()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin)
            await trio.sleep(seconds)
            if way == "closes":
                connection._transport.close()
            nursery.cancel_scope.cancel()
        if way == "cancels":
            await engine.version()
