"""What a process says of itself on its command line is believed of monitors and runtimes alone: a container can say anything too."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ross.linux.process import which
from ross.shim.process_table import id_after, running
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

CONMON = which("conmon") or Path("conmon")
SLEEP = ("sh", "-c", "sleep 600; :")


def forge(daemon: Daemon, busybox: str, *words: str, flags: tuple[str, ...] = ("--user", "65534")) -> None:
    """A container whose process looks like a monitor of ours."""
    said = ("--exit-dir", str(daemon.run / "exits"), *words)
    done = daemon.ross("run", "-d", *flags, busybox, *SLEEP, *said)
    assert done.returncode == 0, done.stderr


def test_containers_that_look_like_monitors_move_nothing(daemon: Daemon, busybox: str, tmp_path: Path) -> None:
    daemon.ross("pull", "-q", busybox)
    daemon.ross("run", "-d", "--name", "victim", busybox, "sleep", "600")
    (victim,) = json.loads(daemon.ross("inspect", "victim").stdout)
    kept = daemon.root.parent / "kept"
    kept.mkdir()
    (kept / "file").touch()
    nobody, beside_us = ("--user", "65534"), ("--pid", "host")
    for flags, words in (
        (nobody, ("--cid", f"../ross/{victim['Id']}")),
        (nobody, ("--cid", "../../kept")),
        (nobody, ("--cid",)),
        (beside_us, ("--cid", "../../kept")),
        (beside_us, ("--cid", "f" * 64)),
        (beside_us, ("--cid", victim["Id"])),
    ):
        forge(daemon, busybox, *words, flags=flags)
    forged = len(daemon.ross("ps", "-q").stdout.split())
    assert forged == 7
    daemon.terminate()
    daemon.start()
    assert len(daemon.ross("ps", "-q").stdout.split()) == forged
    (after,) = json.loads(daemon.ross("inspect", "victim").stdout)
    assert after["State"]["Pid"] == victim["State"]["Pid"]
    assert (kept / "file").exists()
    daemon.ross("rm", "-f", *daemon.ross("ps", "-aq").stdout.split())


def test_users_of_the_host_are_not_believed(daemon: Daemon, tmp_path: Path) -> None:
    """By no name of a program, and not where a program is root's by its file either."""
    about = str(daemon.run / "exits")
    words = ("--exit-dir", about, "--cid", "a" * 64)
    program = tmp_path / "conmon"
    program.write_text("#!/bin/sh\nread line\n")
    program.chmod(0o755)
    by_file = tmp_path / "by-file"
    by_file.write_bytes(Path("/bin/dash").read_bytes())
    by_file.chmod(0o4755)
    for parent in (tmp_path, *tmp_path.parents):
        parent.chmod(parent.stat().st_mode | 0o011)
    begun = [
        subprocess.Popen(
            ["sh", str(program), *words], stdin=subprocess.PIPE, user=65534, extra_groups=[], start_new_session=True
        ),
        subprocess.Popen(
            [str(by_file), "-c", "read line", str(program), *words],
            stdin=subprocess.PIPE,
            user=65534,
            extra_groups=[],
            start_new_session=True,
        ),
        subprocess.Popen(["sh", "-c", "read line", *words], stdin=subprocess.PIPE, start_new_session=True),
        subprocess.Popen([str(program), *words], stdin=subprocess.PIPE, start_new_session=True),
    ]
    try:
        until(lambda: all(about in _argv(one.pid) for one in begun))
        found = dict(running(program, about=about))
        assert set(found) == {begun[2].pid, begun[3].pid}
        assert not dict(running(CONMON, about=about))
        assert id_after("--cid", found[begun[3].pid]) == "a" * 64
    finally:
        for one in begun:
            one.communicate()


def _argv(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def test_an_option_without_an_id_names_nothing() -> None:
    for argv in ([], ["--cid"], ["--cid", "../x"], ["--cid", "A" * 64], ["--cid", "a" * 63]):
        assert not id_after("--cid", argv)
