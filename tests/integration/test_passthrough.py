"""``--log-driver passthrough``: a container's streams are those of whoever starts it, and nothing stands between."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

import ross
from ross.errors import FailedPrecondition, InvalidArgument, RossError
from tests.support.daemon import command
from tests.support.waiting import baseline, until

if TYPE_CHECKING:
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

FLAGS = ("--log-driver", "passthrough")


def test_the_streams_are_our_very_own(shared: Daemon, busybox: str) -> None:
    script = "for fd in 0 1 2; do readlink /proc/self/fd/$fd; done; exit 7"
    ends = [os.pipe() for _ in range(3)]
    ours = [str(Path(f"/proc/self/fd/{fd}").readlink()) for fd in (ends[0][0], ends[1][1], ends[2][1])]
    running = subprocess.Popen(
        command("run", "--rm", "-i", *FLAGS, busybox, "sh", "-c", script),
        env=shared.environment(),
        stdin=ends[0][0],
        stdout=ends[1][1],
        stderr=ends[2][1],
    )
    assert running.wait() == 7
    os.close(ends[1][1])
    assert os.read(ends[1][0], 4096).decode().splitlines() == ours
    for fd in (*ends[0], ends[1][0], *ends[2]):
        os.close(fd)


def test_bytes_go_through_both_ways_and_the_end_of_each_is_seen(shared: Daemon, busybox: str) -> None:
    data = os.urandom(1 << 20) * 16
    words = command("run", "--rm", "-i", *FLAGS, busybox, "sh", "-c", "cat; echo done >&2")
    done = subprocess.run(words, env=shared.environment(), input=data, capture_output=True, check=True)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()
    assert done.stderr == b"done\n"


def test_files_and_closed_inputs(shared: Daemon, busybox: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with out.open("wb") as file:
        words = command("run", "--rm", *FLAGS, busybox, "sh", "-c", "cat; seq 1 100000")
        subprocess.run(words, env=shared.environment(), stdin=subprocess.PIPE, stdout=file, check=True)
    assert out.read_text().splitlines() == [str(number) for number in range(1, 100_001)]
    assert out.stat().st_uid == os.getuid()


def test_what_needs_a_monitor_in_between_says_that_there_is_none(shared: Daemon, busybox: str) -> None:
    shared.ok("run", "-d", "--name", "quiet", *FLAGS, busybox, "sleep", "600")
    for words, message in (
        (("logs", "quiet"), "keeps no log"),
        (("attach", "quiet"), "are those of whoever started it"),
        (("run", "-t", *FLAGS, busybox, "true"), "a terminal takes their place"),
        (("create", *FLAGS, "--log-opt", "max-size=1m", busybox), "no option 'max-size'"),
    ):
        refused = shared.ross(*words)
        assert refused.returncode != 0, words
        assert message in refused.stderr, words
    inside = shared.ross("exec", "quiet", "sh", "-c", "for fd in 0 1 2; do readlink /proc/1/fd/$fd; done")
    assert inside.stdout.split() == ["/dev/null"] * 3
    (info,) = json.loads(shared.ross("inspect", "quiet").stdout)
    assert info["HostConfig"]["LogConfig"]["Type"] == "passthrough"
    assert info["LogPath"] == ""
    shared.ross("rm", "-f", "quiet")


def test_start_attached_and_a_failed_start(shared: Daemon, busybox: str) -> None:
    shared.ross("create", "--name", "again", "-i", *FLAGS, busybox, "cat")
    for text in ("one\n", "two\n"):
        assert shared.ross("start", "-a", "-i", "again", input=text).stdout == text
    shared.ok("rm", "again")
    missing = shared.ross("run", "--rm", *FLAGS, busybox, "/no/such/program")
    assert missing.returncode == 127
    assert json.loads(shared.ross("ps", "-a", "--format", "json").stdout) == []


def test_signals_are_handed_on(shared: Daemon, busybox: str) -> None:
    script = "trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    words = command("run", "--rm", *FLAGS, busybox, "sh", "-c", script)
    with subprocess.Popen(words, env=shared.environment(), stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        running.send_signal(signal.SIGTERM)
        assert running.stdout.read() == b"got\n"
        assert running.wait() == 3


def test_output_and_outcome_survive_the_daemon(daemon: Daemon, busybox: str) -> None:
    daemon.ross("pull", "-q", busybox)
    script = "echo before; read go; echo after; exit 5"
    words = command("run", "--name", "survivor", "-i", *FLAGS, busybox, "sh", "-c", script)
    with subprocess.Popen(
        words, env=daemon.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        assert running.stdout.readline() == b"before\n"
        daemon.kill()
        running.stdin.write(b"\n")
        running.stdin.flush()
        assert running.stdout.readline() == b"after\n"
        assert running.wait() == 125
    daemon.start()
    assert daemon.ross("wait", "survivor").stdout == "5\n"
    daemon.ross("rm", "survivor")


def test_wrong_descriptors_are_refused_and_none_is_kept(shared: Daemon, busybox: str, tmp_path: Path) -> None:
    before = baseline(shared)

    async def refused() -> None:
        async with ross.connect(shared.socket) as engine:
            image = await engine.images.get(busybox)
            plain = await image.create(["true"], network="none")
            passing = await image.create(["true"], network="none", log_driver="passthrough")
            null = os.open(os.devnull, os.O_RDWR)
            with (tmp_path / "file").open("wb") as file:
                for box, stdio, message in (
                    (plain, [null] * 3, "its monitor's"),
                    (passing, [null] * 2, "three standard streams"),
                    (passing, [null, null, file.fileno()], "only pipes"),
                ):
                    with pytest.raises(InvalidArgument, match=message):
                        await box.start(stdio=stdio)
            await passing.start(stdio=[null] * 3)
            os.close(null)
            assert (await passing.wait()).exit_code == 0
            with pytest.raises(FailedPrecondition):
                await passing.attach(stdout=_nowhere)
            for box in (plain, passing):
                await box.remove()

    trio.run(refused)
    until(lambda: baseline(shared) == before)


async def _nowhere(_data: bytes) -> None:
    return


def test_a_start_that_nobody_waits_for_any_more_keeps_its_streams_and_leaks_none(shared: Daemon, busybox: str) -> None:
    before = baseline(shared)
    read_end, write_end = os.pipe()

    async def leave() -> None:
        async with ross.connect(shared.socket) as engine:
            image = await engine.images.get(busybox)
            box = await image.create(["echo", "still here"], name="left", network="none", log_driver="passthrough")
            null = os.open(os.devnull, os.O_RDWR)
            starting = box.start(stdio=[null, write_end, write_end])
            await box.info()  # answered behind what was asked before
            with trio.move_on_after(0):
                await starting
            os.close(null)
            os.close(write_end)
            with trio.move_on_after(30):
                await box.wait()
            try:
                await box.remove()
            except RossError:
                pytest.fail("it was not started to the end")

    trio.run(leave)
    with os.fdopen(read_end, "rb") as output:
        assert output.read() == b"still here\n"
    until(lambda: baseline(shared) == before)


def test_a_restart_by_policy_has_no_streams(shared: Daemon, busybox: str) -> None:
    script = "[ -e /again ] && exec sleep 600; touch /again; echo once; exit 1"
    words = ("run", "--name", "back", "--restart", "on-failure", *FLAGS, busybox, "sh", "-c", script)
    first = shared.ross(*words)
    assert (first.returncode, first.stdout) == (1, "once\n")
    until(lambda: shared.ross("exec", "back", "readlink", "/proc/1/fd/1").stdout == "/dev/null\n")
    shared.ross("rm", "-f", "back")
