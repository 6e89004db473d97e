"""``--preserve-fds``: a process has descriptors of whoever starts it, as they are, and nothing else."""

from __future__ import annotations

import os
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest
import trio

import ross
from ross.errors import InvalidArgument
from ross.shim.handed import MOST_FDS
from tests.support.daemon import command
from tests.support.waiting import baseline, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

OPEN = "for fd in 0 1 2 3 4 5 6 7 8 9; do if [ -L /proc/$$/fd/$fd ]; then echo $fd; fi; done"
"""What the shell has open; its own, for a terminal, begin at 10."""


@pytest.fixture(scope="module")
def beside(shared: Daemon, busybox: str) -> Iterator[str]:
    """A container that something can be executed in."""
    shared.ok("run", "-d", "--name", "beside", busybox, "sleep", "100000")
    yield "beside"
    shared.ross("rm", "-f", "beside")


def in_shell(shared: Daemon, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A shell's script, in which ``"$@"`` is our command line."""
    return subprocess.run(
        ["bash", "-c", script, "bash", *command(*words)],
        env=shared.environment(),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("streams", ["piped", "passthrough", "terminal", "exec", "exec on a terminal"])
def test_they_reach_the_process_and_are_all_that_does(
    shared: Daemon, busybox: str, beside: str, tmp_path: Path, streams: str
) -> None:
    (tmp_path / "in").write_text("from the host\n")
    (tmp_path / "other").write_text("")
    begun = {
        "piped": ("run", "--rm", "--preserve-fds", "2", busybox),
        "passthrough": ("run", "--rm", "--log-driver", "passthrough", "--preserve-fds", "2", busybox),
        "terminal": ("run", "--rm", "-t", "--preserve-fds", "2", busybox),
        "exec": ("exec", "--preserve-fds", "2", beside),
        "exec on a terminal": ("exec", "-t", "--preserve-fds", "2", beside),
    }[streams]
    script = f'read line <&3; echo "$line, and back" >&4; {OPEN}'
    done = in_shell(shared, f'"$@" 3<{tmp_path}/in 4>{tmp_path}/out 5<{tmp_path}/other', *begun, "sh", "-c", script)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").read_text() == "from the host, and back\n"
    assert done.stdout.split() == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_those_that_are_not_open_are_told(shared: Daemon, busybox: str, beside: str, verb: str) -> None:
    target = busybox if verb == "run" else beside
    done = in_shell(shared, '"$@" 3</dev/null', verb, "--preserve-fds", "2", target, "true")
    assert done.returncode == 125
    assert "and 4 is not open" in done.stderr
    assert "ross ... 4<FILE" in done.stderr
    none = in_shell(shared, '"$@"', verb, "--preserve-fds", "-1", target, "true")
    assert (none.returncode, "no number of descriptors" in none.stderr) == (125, True)


def test_a_socket_works_both_ways_and_ends_with_the_container(shared: Daemon, busybox: str) -> None:
    before = baseline(shared)
    ours, theirs = socket.socketpair()

    async def talk() -> None:
        async with ross.connect(shared.socket) as engine:
            image = await engine.images.get(busybox)
            box = await image.create(["sh", "-c", "read x <&3; echo $x $x >&3; exec 3>&-; sleep 0.1"], network="none")
            await box.start(fds=[theirs.fileno()])
            theirs.close()
            ours.sendall(b"word\n")
            assert (await box.wait()).exit_code == 0
            await box.remove()

    trio.run(talk)
    with ours, ours.makefile("rb") as received:
        assert received.read() == b"word word\n"
    until(lambda: baseline(shared) == before)


def test_what_leads_out_of_the_container_is_refused_and_none_is_kept(shared: Daemon, busybox: str) -> None:
    before = baseline(shared)
    null = os.open(os.devnull, os.O_RDONLY)
    directory, path = os.open("/", os.O_RDONLY | os.O_DIRECTORY), os.open("/etc/hostname", os.O_PATH)

    async def refused() -> None:
        async with ross.connect(shared.socket) as engine:
            image = await engine.images.get(busybox)
            box = await image.create(["sleep", "600"], network="none")
            for fds, message in (
                ([null, directory], "the descriptor 4 is a directory"),
                ([path], "a way out"),
                ([null] * (MOST_FDS + 1), "cannot be handed 29"),
            ):
                with pytest.raises(InvalidArgument, match=message):
                    await box.start(fds=fds)
            await box.start(fds=[null] * MOST_FDS)
            with pytest.raises(InvalidArgument, match="the descriptor 3 is a directory"):
                await box.open_exec(["true"], fds=[directory])
            listed = await box.exec(["ls", "/proc/1/fd"])
            assert sorted(map(int, listed.stdout.split())) == list(range(3 + MOST_FDS))
            await box.remove(force=True)

    trio.run(refused)
    for fd in (null, directory, path):
        os.close(fd)
    until(lambda: baseline(shared) == before)


def test_a_restart_by_policy_has_none(shared: Daemon, busybox: str) -> None:
    script = f"[ -e /again ] && {{ {OPEN} >/new; mv /new /seen; exec sleep 600; }}; touch /again; cat <&3; exit 1"
    words = ("run", "--name", "once", "--restart", "on-failure", "--preserve-fds", "1", busybox, "sh", "-c", script)
    first = in_shell(shared, '"$@" 3< <(echo given)', *words)
    assert (first.returncode, first.stdout) == (1, "given\n"), first.stderr
    until(lambda: shared.ross("exec", "once", "test", "-s", "/seen").returncode == 0)
    assert shared.ross("exec", "once", "cat", "/seen").stdout.split() == ["0", "1", "2"]
    shared.ross("rm", "-f", "once")
