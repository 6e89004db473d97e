"""The daemon is killed while something is executed: what was to go on goes on and is found again, what was to end ends."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from ross.client import connect
from tests.support.waiting import until

if TYPE_CHECKING:
    from ross.client import Exec
    from ross.model.execs import ExecInfo
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

ROUNDS = int(os.environ.get("ROSS_ROUNDS", "2"))


def processes(needle: str) -> list[int]:
    """Processes with this word on their command lines, but for monitors, runtimes and command lines of ours."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                words = (path / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0] == b"sleep" and needle.encode() in words:
                found.append(int(path.name))
    return found


async def execs(daemon: Daemon) -> dict[tuple[str, ...], tuple[ExecInfo, Exec]]:
    async with connect(daemon.socket) as engine:
        found = await (await engine.containers.get("box")).execs()
        return {info.args: (info, one) for info, one in found}


async def test_daemon_is_killed_while_programs_are_executed(daemon: Daemon, box: str, tmp_path: Path) -> None:
    daemon.ok("run", "-d", "--name", "box", "-v", f"{tmp_path}:/told", box, "sleep", "100000")
    tell = "until [ -e /told/{} ]; do sleep 0.05; done; exit {}"
    for word, code in (("ends", "7"), ("stays", "8")):
        daemon.ok("exec", "-d", "box", "sh", "-c", tell.format(word, code))
    client = daemon.popen("exec", "box", "sleep", "271828")
    until(lambda: len(processes("271828")) == 1)
    ending = (await execs(daemon))["sh", "-c", tell.format("ends", "7")][0]
    daemon.kill()
    assert client.wait(60) == 125
    for pipe in (client.stdin, client.stdout, client.stderr):  # whose other ends what was executed has, to the end
        assert pipe is not None
        pipe.close()
    (tmp_path / "ends").touch()
    until(lambda: not Path(f"/proc/{ending.pid}").exists())
    daemon.start()
    until(lambda: not processes("271828"))
    async with connect(daemon.socket) as engine:
        container = await engine.containers.get("box")
        found = {info.args[-1]: one for info, one in await container.execs()}
        with trio.fail_after(60):
            ended = await found[tell.format("ends", "7")].wait()
            assert (ended.exit_code, ended.error) == (7, "")
            assert (await found["271828"].wait()).signal == 1
            going_on = found[tell.format("stays", "8")]
            assert (await going_on.info()).outcome is None
            (tmp_path / "stays").touch()
            assert (await going_on.wait()).exit_code == 8


def test_daemon_is_killed_at_any_moment_of_an_exec(daemon: Daemon, box: str) -> None:
    """Whatever was executed by then is found again, with its record, or was never begun."""
    seed = int(os.environ.get("ROSS_SEED", "4"))
    rng = random.Random(seed)
    daemon.ok("run", "-d", "--name", "box", box, "sleep", "100000")
    for number in range(ROUNDS):
        word = f"31{number:05}"
        client = daemon.popen("exec", "-d", "box", "sleep", word)
        until((daemon.run / "execs").exists)
        deadline = time.monotonic() + 10
        while not any((daemon.run / "execs").iterdir()) and client.poll() is None and time.monotonic() < deadline:
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, 0.06))
        daemon.kill()
        client.communicate(timeout=60)
        daemon.start()
        records = {path.name for path in (daemon.run / "execs").iterdir()}
        found = trio.run(execs, daemon)
        running = {info.args[-1] for info, _exec in found.values() if info.outcome is None}
        assert not processes(word) or word in running, (seed, number)
        assert records >= {info.id for info, _exec in found.values() if info.outcome is None}
        for pid in processes(word):
            os.kill(pid, 9)
        until(lambda: not any((daemon.run / "execs").iterdir()))
