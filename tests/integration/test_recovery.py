"""The daemon is killed, and so are clients: containers go on, nothing is lost, nothing is left."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

import ross
from ross.errors import RossError
from tests.support import chaos, container_chaos, image_chaos
from tests.support.daemon import running_daemon
from tests.support.faulty_registry import faulty_registry
from tests.support.images import ImageBuilder, Layer, busybox_layer, push
from tests.support.terminal import Terminal
from tests.support.waiting import baseline, until

if TYPE_CHECKING:
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

COUNT_UNTIL = "i=0; until [ -e /told/{} ]; do echo $i; i=$((i+1)); sleep 0.01; done; echo $i; exit 42"


def test_containers_go_on_without_the_daemon(daemon: Daemon, box: str, tmp_path: Path) -> None:
    """They count until they are told to end, so that a slow machine cannot end them too early."""
    flags = ["-v", f"{tmp_path}:/told:ro"]
    for name in ("one", "two"):
        daemon.ross("run", "-d", "--name", name, *flags, box, "sh", "-c", COUNT_UNTIL.format("all"))
    daemon.ross("run", "-d", "--name", "ended", *flags, box, "sh", "-c", COUNT_UNTIL.format("first"))
    ended = json.loads(daemon.ross("inspect", "ended").stdout)[0]["Id"]
    until(lambda: all(daemon.ok("logs", name).count("\n") > 1 for name in ("one", "two", "ended")))
    daemon.kill()
    (tmp_path / "first").touch()
    until((daemon.run / "exits" / ended).exists)
    daemon.start()
    until(lambda: running(daemon) == {"one", "two"})
    (tmp_path / "all").touch()
    assert daemon.ross("wait", "one", "two", "ended").stdout == "42\n42\n42\n"
    for name in ("one", "two", "ended"):
        numbers = [int(line) for line in daemon.ross("logs", name).stdout.split()]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > 1


def running(daemon: Daemon) -> set[str]:
    return {info["name"] for info in json.loads(daemon.ok("ps", "--format", "json"))}


@pytest.mark.parametrize("ended_before", [False, True])
def test_a_run_that_was_not_recorded_before_the_daemon_was_killed(
    daemon: Daemon, box: str, tmp_path: Path, *, ended_before: bool
) -> None:
    """The daemon may be killed between the start of a process and the record of it; the process may end before the next daemon."""
    script = "until [ -e /told/all ]; do sleep 0.01; done; exit 42"
    daemon.ross("create", "--name", "early", "-v", f"{tmp_path}:/told:ro", box, "sh", "-c", script)
    (before,) = json.loads(daemon.ross("inspect", "early").stdout)
    record = daemon.root / "containers" / before["Id"] / "metadata.json"
    unrecorded = record.read_bytes()
    daemon.ross("start", "early")
    pid = json.loads(daemon.ross("inspect", "early").stdout)[0]["State"]["Pid"]
    daemon.kill()
    record.write_bytes(unrecorded)
    if ended_before:
        (tmp_path / "all").touch()
        until(lambda: not Path(f"/proc/{pid}").exists())
        until((daemon.run / "exits" / before["Id"]).exists)
    daemon.start()
    (tmp_path / "all").touch()
    assert daemon.ross("wait", "early").stdout == "42\n"
    (info,) = json.loads(daemon.ross("inspect", "early").stdout)
    assert before["Created"] < info["State"]["StartedAt"] < info["State"]["FinishedAt"]
    daemon.ok("start", "early")
    assert daemon.ross("wait", "early").stdout == "42\n"


def test_a_run_that_was_recorded_and_not_taken_down_is_not_taken_for_another(daemon: Daemon, box: str) -> None:
    """It is recorded, and told of, before its runtime is asked to forget it: the daemon is killed in between."""
    daemon.ross("create", "--name", "done", box, "sh", "-c", "sleep 0.2; exit 7")

    async def kill_at_its_end() -> None:
        async with ross.connect(daemon.socket) as engine:
            container = await engine.containers.get("done")
            await container.start()
            await container.wait()
            daemon.kill()

    for _round in range(3):
        with suppress(RossError):
            trio.run(kill_at_its_end)
        (path,) = (daemon.root / "containers").glob("*/metadata.json")
        record = json.loads(path.read_bytes())
        assert record["outcome"]["exit_code"] == 7
        daemon.start()
        assert json.loads(path.read_bytes()) == record
        assert daemon.ross("wait", "done").stdout == "7\n"


@pytest.mark.parametrize("left", ["nothing", "a part"])
def test_a_container_whose_files_were_not_made_before_the_daemon_was_killed(
    daemon: Daemon, box: str, tmp_path: Path, left: str
) -> None:
    """Its record comes first. Its files are made by the next daemon, before anybody asks for them."""
    daemon.ross("create", "--name", "new", box, "cat", "/etc/hostname")
    identity = json.loads(daemon.ross("inspect", "new").stdout)[0]["Id"]
    daemon.kill()
    snapshot = daemon.root / "snapshots" / identity
    if left == "nothing":
        shutil.rmtree(snapshot)
    else:
        (snapshot / "metadata.json").unlink()
        shutil.rmtree(snapshot / "fs")
    daemon.start()
    assert (snapshot / "metadata.json").exists()
    daemon.ok("cp", "new:/bin/busybox", str(tmp_path))
    assert daemon.ross("start", "-a", "new").stdout == f"{identity[:12]}\n"


KILLED_RUNTIME = """#!/bin/sh
case " $* " in
*" create "*) [ -e {trouble} ] && {{ sleep 600 & echo $! > {orphan}; kill -9 $$; }} ;;
esac
exec runc "$@"
"""
"""What a runtime leaves that is killed when its container is nearly made: a process that has its error output open, and says nothing."""


def test_a_runtime_that_is_killed_leaves_no_start_hanging(filesystem: Path, busybox: str, tmp_path: Path) -> None:
    """conmon waits for what the runtime may have to say, until nobody has its error output any more."""
    trouble, orphan, runtime = (tmp_path / name for name in ("trouble", "orphan", "runtime"))
    runtime.write_text(KILLED_RUNTIME.format(trouble=trouble, orphan=orphan))
    runtime.chmod(0o755)
    directory = filesystem / "killed-runtime"
    directory.mkdir()
    with running_daemon(directory, settings={"ROSS_RUNTIME": str(runtime)}) as daemon:
        daemon.ok("pull", "-q", busybox)
        daemon.ross("create", "--name", "made", busybox, "true")
        (identity,) = (path.name for path in (daemon.root / "containers").iterdir())
        trouble.touch()
        failed = daemon.ross("start", "made")
        assert failed.returncode == 1
        assert "was ended before it had created the container" in failed.stderr
        assert not (daemon.run / "monitors" / identity).exists()
        os.kill(int(orphan.read_text()), signal.SIGKILL)
        trouble.unlink()
        daemon.ok("start", "-a", "made")
        daemon.ok("rm", "made")


def test_what_a_killed_monitor_has_not_named_yet_keeps_no_daemon_from_beginning(daemon: Daemon, box: str) -> None:
    daemon.ross("create", "--name", "made", box, "true")
    (identity,) = (path.name for path in (daemon.root / "containers").iterdir())
    daemon.kill()
    left = daemon.run / "monitors" / identity
    left.mkdir(parents=True)
    (left / "pid.X1Y2Z3").write_text("1")
    daemon.start()
    assert not left.exists()
    daemon.ok("start", "-a", "made")


def test_orderly_end_leaves_containers_running(daemon: Daemon, box: str) -> None:
    daemon.ross("run", "-d", "--name", "stays", box, "sleep", "600")
    assert daemon.terminate() == 0
    daemon.start()
    (info,) = json.loads(daemon.ross("ps", "--format", "json").stdout)
    assert (info["name"], info["state"]) == ("stays", "running")
    daemon.ok("stop", "-t", "0", "stays")


def test_second_daemon_on_a_root_is_told_who_holds_it(daemon: Daemon) -> None:
    done = daemon.ross("daemon", "--root", str(daemon.root), "--run", str(daemon.run) + "2")
    assert done.returncode == 1
    assert f"in use by another daemon, process {daemon.pid}" in done.stderr
    assert "hint: " in done.stderr


def test_killed_monitor_is_told(daemon: Daemon, box: str, tmp_path: Path) -> None:
    """Once its container has ended, however long that takes."""
    script = "until [ -e /told/end ]; do sleep 0.01; done; exit 7"
    daemon.ok("run", "-d", "--name", "orphan", "-v", f"{tmp_path}:/told:ro", box, "sh", "-c", script)
    identity = json.loads(daemon.ross("inspect", "orphan").stdout)[0]["Id"]
    pid = int((daemon.run / "monitors" / identity / "monitor.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    (tmp_path / "end").touch()
    assert daemon.ross("wait", "orphan").stdout == "255\n"
    (info,) = json.loads(daemon.ross("inspect", "orphan").stdout)
    assert "its monitor was killed" in info["State"]["Error"]


def test_damaged_record_costs_one_container_and_not_the_daemon(daemon: Daemon, box: str) -> None:
    for name in ("good", "bad"):
        daemon.ross("create", "--name", name, box, "true")
    bad = json.loads(daemon.ross("inspect", "bad").stdout)[0]["Id"]
    daemon.terminate()
    (daemon.root / "containers" / bad / "metadata.json").write_text('{"id": 5')
    daemon.expect_log("container record")
    daemon.expect_log("no record that can be read")
    daemon.start()
    assert daemon.ross("ps", "-aq").stdout.count("\n") == 1
    daemon.ok("start", "good")
    assert daemon.ross("wait", "good").stdout == "0\n"


@pytest.mark.parametrize("what", ["pull", "wait", "logs", "run", "run -it"])
def test_killed_client_leaves_nothing_in_the_daemon(daemon: Daemon, box: str, registry: str, what: str) -> None:
    big = push(
        registry, "test/slow:1", ImageBuilder().layer(Layer().add("x", os.urandom(60_000_000)), compression="").build()
    )
    daemon.ross("run", "-d", "--name", "long", box, "sleep", "600")
    before = baseline(daemon)
    words = {
        "pull": ["pull", big],
        "wait": ["wait", "long"],
        "logs": ["logs", "-f", "long"],
        "run": ["run", "-i", "--name", "mine", box, "cat"],
        "run -it": ["run", "-it", "--name", "mine", box, "sh"],
    }[what]
    terminal = Terminal(daemon, *words) if "-it" in words else None
    client = terminal or daemon.popen(*words)
    until(lambda: daemon.open_fds() > before[0])
    if what.startswith("run"):
        until(lambda: "mine" in daemon.ross("ps").stdout)
    elif what == "pull":
        until(lambda: any((daemon.root / "ingest").iterdir()) or daemon.ross("images", "-q").stdout.count("\n") > 1)
    if terminal is not None:
        terminal.read_until(b"# ")
    client.kill()
    if isinstance(client, subprocess.Popen):
        client.communicate()
    if what.startswith("run"):
        daemon.ross("rm", "-f", "mine")
    until(lambda: baseline(daemon) == before)
    if what == "pull":
        daemon.ok("pull", "-q", big)


@pytest.mark.timeout(600)
def test_kills_at_random_moments(filesystem: Path, registry: str) -> None:
    directory = filesystem / "chaos"
    directory.mkdir()
    assert chaos.run(directory, registry, rounds=8, seed=20_260_124) == []


@pytest.mark.timeout(600)
def test_kills_at_random_moments_of_work_on_images(filesystem: Path, registry: str) -> None:
    directory = filesystem / "image-chaos"
    directory.mkdir()
    with faulty_registry() as source:
        assert image_chaos.run(directory, source, registry, rounds=6, seed=20_261_124) == []


def test_image_survives_and_is_collected_with_its_last_user(daemon: Daemon, box: str, registry: str) -> None:
    other = push(registry, "test/other:1", ImageBuilder().layer(busybox_layer()).layer(Layer().add("x", b"y")).build())
    daemon.ross("pull", "-q", other)
    daemon.ross("create", "--name", "user", other, "true")
    assert "in use by the container user" in daemon.ross("rmi", other).stderr
    daemon.ok("rmi", "-f", other)
    daemon.kill()
    daemon.start()
    daemon.ok("start", "-a", "user")
    daemon.ross("rm", "user")
    daemon.ross("rmi", box)
    snapshots = [path.name for path in (daemon.root / "snapshots").iterdir() if path.name != "empty"]
    assert snapshots == []
    assert list((daemon.root / "blobs/sha256").iterdir()) == []


@pytest.mark.timeout(600)
def test_container_chaos(filesystem: Path, registry: str) -> None:
    directory = filesystem / "container-chaos"
    directory.mkdir()
    assert container_chaos.run(directory, registry, rounds=8, seed=20_261_125, containers=6) == []
