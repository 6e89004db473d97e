"""What happens to a daemon that runs for years on many hosts: mistakes in its unit, upgrades, signals, a reader of its log that hangs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from attrs import asdict

from ross.linux.mount import mount_overlay, unmount
from ross.linux.pidfd import identify
from ross.linux.process import which
from tests.support.archives import BUSYBOX
from tests.support.daemon import command, running_daemon
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration


def _pid(daemon: Daemon, name: str) -> int:
    return int(daemon.ok("inspect", "-f", "{{.State.Pid}}", name))


def _refused(daemon: Daemon, root: Path, run: Path) -> str:
    """What a daemon says with this root and run directory, where it must not start."""
    done = daemon.ross("daemon", "--root", str(root), "--run", str(run))
    assert done.returncode == 1
    assert "hint: " in done.stderr
    return done.stderr


def _fill(fd: int) -> None:
    """Write to a pipe until it takes nothing more."""
    with suppress(BlockingIOError):
        while True:
            os.write(fd, b"x" * 4096)


def test_run_directory_of_another_daemon_is_left_alone(daemon: Daemon, box: str, tmp_path: Path) -> None:
    daemon.ok("run", "-d", "--name", "runs", box, "sleep", "100000")
    before = _pid(daemon, "runs")
    said = _refused(daemon, tmp_path / "other", daemon.run)
    assert f"the run directory {daemon.run} is in use by another daemon, process {daemon.pid}" in said
    assert _pid(daemon, "runs") == before


def test_socket_of_another_daemon_is_left_alone(daemon: Daemon, tmp_path: Path) -> None:
    own = ["--root", str(daemon.root.parent / "other"), "--run", str(tmp_path / "run")]
    done = daemon.ross("daemon", *own, "--socket", str(daemon.socket))
    assert done.returncode == 1
    assert f"the socket {daemon.socket} cannot be made: another process listens there" in done.stderr
    daemon.ok("ps")


def test_lock_that_is_no_file_is_told(daemon: Daemon) -> None:
    daemon.terminate()
    lock = daemon.root / "lock"
    lock.unlink()
    lock.mkdir()
    assert f"{lock} cannot be opened, which keeps others from the root" in _refused(daemon, daemon.root, daemon.run)
    lock.rmdir()
    daemon.start()


def test_another_root_ends_no_containers_that_run(daemon: Daemon, box: str) -> None:
    daemon.ok("run", "-d", "--name", "runs", box, "sleep", "100000")
    before = _pid(daemon, "runs")
    daemon.terminate()
    said = _refused(daemon, daemon.root.parent / "other", daemon.run)
    assert f"has containers of another root, {daemon.root}" in said
    assert str(daemon.run / "owner") in said
    daemon.start()
    assert _pid(daemon, "runs") == before


def test_run_directory_without_containers_goes_over_to_another_root(daemon: Daemon) -> None:
    daemon.terminate()
    first, daemon.root = daemon.root, daemon.root.parent / "other"
    daemon.start()
    daemon.terminate()
    daemon.root = first
    daemon.start()


def test_root_that_is_moved_keeps_its_containers(daemon: Daemon, box: str) -> None:
    daemon.ok("run", "-d", "--name", "runs", box, "sleep", "100000")
    before = _pid(daemon, "runs")
    daemon.terminate()
    moved = daemon.root.rename(daemon.root.with_name("moved"))
    daemon.root = moved
    daemon.start()
    assert _pid(daemon, "runs") == before


def test_root_and_run_directory_behind_links(daemon: Daemon, box: str, tmp_path: Path) -> None:
    daemon.terminate()
    for name in ("root", "run"):
        (tmp_path / name).symlink_to(getattr(daemon, name))
    real, daemon.root, daemon.run = (daemon.root, daemon.run), tmp_path / "root", tmp_path / "run"
    daemon.start()
    daemon.ok("run", "-d", "--name", "runs", box, "sleep", "100000")
    before = _pid(daemon, "runs")
    daemon.terminate()
    daemon.root, daemon.run = real
    daemon.start()
    daemon.ok("exec", "runs", "true")
    assert _pid(daemon, "runs") == before


def test_root_of_a_later_version_is_refused_and_loses_nothing(daemon: Daemon, box: str) -> None:
    daemon.ok("run", "--name", "data", box, "sh", "-c", "echo precious > /file")
    daemon.ok("run", "-d", "--name", "runs", box, "sleep", "100000")
    before = _pid(daemon, "runs")
    daemon.terminate()
    written = daemon.root / "format"
    number = int(written.read_text())
    written.write_text(f"{number + 1}\n")
    records = {path: path.read_text() for path in (daemon.root / "containers").glob("*/metadata.json")}
    for path, text in records.items():
        path.write_text(json.dumps({**json.loads(text), "field_of_a_later_version": 1}))
    said = _refused(daemon, daemon.root, daemon.run)
    assert f"its format is {number + 1}, and this version knows {number}" in said
    for path, text in records.items():
        path.write_text(text)
    written.write_text(f"{number}\n")
    daemon.start()
    assert _pid(daemon, "runs") == before
    assert daemon.ok("cp", "data:/file", "-")


def test_log_that_nobody_reads_holds_nobody_up(daemon: Daemon, box: str, tmp_path: Path) -> None:
    daemon.terminate()
    fifo = tmp_path / "stderr"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    _fill(reader)
    daemon.start(under=["sh", "-c", f'exec "$@" 2>{fifo}', "sh"])
    assert daemon.ok("run", "--rm", box, "echo", "hi") == "hi\n"
    os.read(reader, 1 << 20)
    assert daemon.terminate() == 0
    assert "ross.daemon: shutting down" in os.read(reader, 1 << 20).decode()
    os.close(reader)
    daemon.start()


def test_closed_streams_are_nobody_elses(daemon: Daemon, box: str) -> None:
    """A supervisor that closes them all: what the daemon opens next does not take their place."""
    daemon.terminate()
    daemon.start(under=["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"])
    for fd in range(3):
        assert str(Path(f"/proc/{daemon.pid}/fd/{fd}").readlink()) == os.devnull
    assert daemon.ok("run", "--rm", box, "echo", "hi") == "hi\n"
    assert daemon.terminate() == 0
    daemon.start()


def test_client_whose_streams_are_closed(daemon: Daemon, box: str) -> None:
    words = ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", *command("run", "--rm", "-i", box, "sh", "-c", "cat; echo end")]
    done = subprocess.run(words, env=daemon.environment(), stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"end\n"


def test_hangup_does_not_end_the_daemon(daemon: Daemon) -> None:
    os.kill(daemon.pid, signal.SIGHUP)
    until(lambda: "SIGHUP: settings are read at the start only" in daemon.log)
    daemon.ok("ps")


def test_daemon_that_answers_nobody_says_where_it_is(daemon: Daemon) -> None:
    os.kill(daemon.pid, signal.SIGUSR1)
    until(lambda: "Current thread" in daemon.log and "ross/daemon.py" in daemon.log)
    daemon.ok("ps")


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    """A runtime that can be removed."""
    found = which("runc")
    assert found is not None
    return Path(shutil.copy(found, tmp_path / "runtime"))


def test_runtime_is_missing_for_a_while(daemon: Daemon, box: str, runtime: Path) -> None:
    """As while it is upgraded: containers run on and can be ended, and what needs it says so."""
    daemon.terminate()
    daemon.start(settings={"ROSS_RUNTIME": str(runtime)})
    for name in ("runs", "ends"):
        daemon.ok("run", "-d", "--name", name, box, "sleep", "100000")
    daemon.ok("run", "-d", "--name", "again", "--restart", "always", box, "sleep", "100000")
    daemon.ok(
        "run", "-d", "--name", "checked", "--health-cmd", "true", "--health-interval", "100ms", box, "sleep", "100000"
    )
    until(lambda: daemon.ok("inspect", "-f", "{{.State.Health.Status}}", "checked") == "healthy\n")
    away = runtime.rename(runtime.with_name("away"))
    daemon.expect_log("the container again could not be started again: the runtime cannot be executed")
    os.kill(_pid(daemon, "again"), signal.SIGKILL)
    for words in (["exec", "runs", "true"], ["pause", "runs"], ["run", "--rm", box, "true"]):
        assert f"there is no program {runtime} any more" in daemon.ross(*words).stderr, words
    until(lambda: daemon.ok("inspect", "-f", "{{.State.Health.Status}}", "checked") == "unhealthy\n")
    daemon.ok("stop", "-t", "0", "ends")
    daemon.ok("rm", "ends")
    away.rename(runtime)
    until(lambda: daemon.ok("inspect", "-f", "{{.State.Status}}", "again") == "running\n")
    until(lambda: daemon.ok("inspect", "-f", "{{.State.Health.Status}}", "checked") == "healthy\n")
    daemon.ok("exec", "runs", "true")


def test_too_many_open_files_are_told_of_once(daemon: Daemon) -> None:
    daemon.terminate()
    daemon.start(under=["prlimit", "--nofile=64:64"])
    daemon.expect_log("cannot accept connections for now")
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(daemon.socket))
        until(lambda: "cannot accept" in daemon.log)
        time.sleep(1)  # in which it tries again some times
    daemon.ok("ps")
    assert daemon.log.count("cannot accept") == 1


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with Ross."""
    with subprocess.Popen(["sleep", "100000"]) as process:
        yield process
        process.kill()


def test_processes_of_an_earlier_boot_are_not_taken_for_those_that_have_their_numbers_now(
    daemon: Daemon, box: str, stranger: subprocess.Popen[bytes]
) -> None:
    stranger_now = identify(stranger.pid)
    assert stranger_now is not None
    daemon.ok("run", "-d", "--name", "ran", box, "sleep", "100000")
    daemon.kill()
    (record,) = (daemon.root / "containers").glob("*/metadata.json")
    document = json.loads(record.read_text())
    for who in ("monitor", "process"):
        os.kill(document["run"][who]["pid"], signal.SIGKILL)
        document["run"][who] = asdict(stranger_now)
    document["run"]["boot"] = "another"
    record.write_text(json.dumps(document))
    daemon.start()
    assert daemon.ok("wait", "ran") == "255\n"
    assert daemon.ok("inspect", "-f", "{{.State.Error}}", "ran") == "the host was restarted while it ran\n"
    assert stranger.poll() is None


def test_run_directory_that_outlives_a_reboot_ends_nobody(daemon: Daemon, stranger: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    owner, executed = daemon.run / "owner", daemon.run / "execs" / "0"
    owner.write_text(json.dumps({**json.loads(owner.read_text()), "boot": "another"}))
    executed.mkdir()
    for name in ("pid", "monitor.pid"):
        (executed / name).write_text(str(stranger.pid))
    daemon.start()
    assert not executed.exists()
    assert stranger.poll() is None


def test_record_that_the_disk_does_not_give_costs_nothing(daemon: Daemon, box: str) -> None:
    daemon.ok("run", "-d", "--name", "runs", box, "sh", "-c", "echo precious > /file; exec sleep 100000")
    before = _pid(daemon, "runs")
    daemon.terminate()
    (record,) = (daemon.root / "containers").glob("*/metadata.json")
    kept = record.rename(record.with_name("kept"))
    record.symlink_to(record)  # ELOOP, as it were EIO
    daemon.expect_log("is left for another start")
    daemon.start()
    assert daemon.ok("ps", "-aq") == ""
    daemon.terminate()
    kept.rename(record)
    daemon.start()
    assert _pid(daemon, "runs") == before
    assert daemon.ok("exec", "runs", "cat", "/file") == "precious\n"


def test_log_says_why_a_container_is_restarted_no_more(daemon: Daemon, box: str) -> None:
    daemon.ok("run", "-d", "--name", "fails", "--restart", "on-failure:2", box, "sh", "-c", "exit 3")
    assert daemon.ok("wait", "fails") == "3\n"
    assert (
        daemon.log.count("the container fails has ended with exit code 3, and is not restarted after 2 restarts") == 1
    )


def test_root_on_an_overlay_is_told_as_what_is_wrong(filesystem: Path, archive: Path) -> None:
    """As in a container that has no volume for it."""
    lower, upper, work, merged = (filesystem / name for name in ("lower", "upper", "work", "merged"))
    for path in (lower, upper, work, merged):
        path.mkdir()
    mount_overlay(merged, lower=[lower], upper=upper, work=work)
    try:
        with running_daemon(merged) as daemon:
            daemon.ok("load", "-q", "-i", str(archive))
            done = daemon.ross("run", "--rm", BUSYBOX, "true")
            assert done.returncode == 125
            assert f"the filesystem of {daemon.root} is none that an overlay can write to" in done.stderr
            assert "hint: have the daemon's --root on ext4" in done.stderr
            assert daemon.ok("ps", "-aq") == ""
    finally:
        unmount(merged)
