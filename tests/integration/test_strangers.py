"""What other users of the host get to: no file of the root or the run directory, whatever was done, and no memory of the daemon."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.images import ImageBuilder, busybox_layer, push

if TYPE_CHECKING:
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

NOBODY: Final = 65534
STRANGER: Final = f"""
import os, sys
os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
def reach(path):
    yield lambda: os.lstat(path)
    yield lambda: os.listdir(path)
    yield lambda: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    yield lambda: os.close(os.open(path, os.O_PATH | os.O_NOFOLLOW))
    yield lambda: os.access(path, os.X_OK) and os.execv(path, [path])
    yield lambda: os.close(os.open(path + "/.stranger", os.O_CREAT | os.O_WRONLY))
for line in sys.stdin.buffer.read().split(b"\\0"):
    path = os.fsdecode(line)
    for number, attempt in enumerate(reach(path)):
        try:
            found = attempt()
        except OSError:
            continue
        if found is not False:
            print(number, path)
"""
"""Prints what it can do with the paths that it is given."""


def everything(*tops: Path) -> list[str]:
    found = []
    for top in tops:
        for directory, directories, files in os.walk(top):
            found += [directory, *(str(Path(directory, name)) for name in (*directories, *files))]
    return found


def reached(paths: list[str]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER], input="\0".join(paths), capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


@pytest.mark.timeout(240)
def test_cve_2021_41089_41091_41103_2024_25621_strangers_reach_nothing_whatever_was_done(
    daemon: Daemon, registry: str, tmp_path: Path
) -> None:
    layer = busybox_layer().add("bin/root", Path("/bin/true").read_bytes(), mode=0o6755).directory("open", mode=0o1777)
    layer.add("open/all", b"secret", mode=0o666).add("log", b"#!/bin/sh\n", mode=0o777)
    setuid = push(registry, "test/setuid:1", ImageBuilder().layer(layer).build())
    saved = tmp_path / "saved.tar"
    tree = tmp_path / "tree.tar"
    tree.write_bytes(busybox_layer().add("bin/root", b"#!/bin/sh\n", mode=0o4755).tar())
    # fmt: off
    steps = [
        ("pull", "-q", setuid),
        ("tag", setuid, f"{registry}/test/setuid:2"),
        ("push", "-q", f"{registry}/test/setuid:2"),
        ("save", "-o", str(saved), setuid),
        ("create", "--name", "made", setuid, "true"),
        ("run", "-d", "--name", "runs", setuid, "sh", "-c", "cp -p /bin/root /made; chmod 4755 /made; sleep 600"),
        ("logs", "runs"),
        ("import", str(tree), "imported:1"),
        ("stop", "-t", "0", "runs"),
        ("start", "runs"),
        ("rm", "-f", "made", "runs"),
        ("rmi", setuid, f"{registry}/test/setuid:2"),
        ("load", "-i", str(saved)),
        ("system", "check", "--repair"),
        ("run", "-d", "--name", "stays", setuid, "sleep", "600"),
        ("kill the daemon",),
        ("system", "prune", "-f"),
    ]
    # fmt: on
    for words in steps:
        if words == ("kill the daemon",):
            daemon.kill()
            daemon.start()
        else:
            done = daemon.ross(*words)
            assert done.returncode == 0, (words, done.stderr)
        paths = everything(daemon.root, daemon.run)
        # The socket's name is for everybody to see, and to connect to if its mode says so. The directory may be entered, but not read.
        allowed = {f"0 {daemon.run}", f"3 {daemon.run}", f"0 {daemon.socket}", f"3 {daemon.socket}", f"0 {daemon.root}"}
        allowed |= {f"3 {daemon.root}", f"4 {daemon.run}"}
        assert set(reached(paths)) - allowed == set(), words
        assert stat.S_IMODE(daemon.root.stat().st_mode) == 0o700
    programs = [path for path in daemon.root.glob("snapshots/*/fs/bin/root") if path.stat().st_mode & stat.S_ISUID]
    assert programs, "there is something to reach"


def test_a_stranger_who_can_reach_something_is_seen(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "x").write_text("x")
    place = tmp_path
    while place != place.parent and not place.stat().st_mode & stat.S_IXOTH:
        place.chmod(0o755)
        place = place.parent
    Path("/dev/shm/ross-stranger").write_text("x")
    try:
        assert reached(["/dev/shm/ross-stranger"]) == [f"{number} /dev/shm/ross-stranger" for number in (0, 2, 3)]
    finally:
        Path("/dev/shm/ross-stranger").unlink()


def with_core(argv: list[str], directory: Path) -> list[str]:
    """A program run in a directory, with as large a core allowed as may be."""
    return ["sh", "-c", 'ulimit -c "$(ulimit -Hc)" && cd "$1" && shift && exec "$@"', "sh", str(directory), *argv]


def dumps_core(pid: int, number: int) -> bool:
    """End a child by a signal; whether the kernel has written its memory down."""
    os.kill(pid, number)
    found = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert found is not None
    assert found.si_status == number
    return found.si_code == os.CLD_DUMPED


def test_daemon_that_is_aborted_leaves_no_core_and_shows_its_memory_to_nobody(daemon: Daemon, tmp_path: Path) -> None:
    argv = with_core([sys.executable, "-c", "print(flush=True); import time; time.sleep(600)"], tmp_path)
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as control:
        assert control.stdout is not None
        control.stdout.readline()
        assert dumps_core(control.pid, signal.SIGABRT), (
            "this host dumps no core of anybody: the test would prove nothing"
        )
    daemon.terminate()
    for number in (signal.SIGABRT, signal.SIGSEGV, signal.SIGQUIT):
        daemon.start(under=with_core([], tmp_path))
        private = [
            f"/proc/{daemon.pid}/{name}" for name in ("environ", "mem", "maps", "fd", "fd/0", "cwd", "root", "io")
        ]
        assert [line for line in reached(private) if line[0] not in "03"] == [], "names may be seen"
        before = set(tmp_path.iterdir())
        assert not dumps_core(daemon.pid, number)
        daemon.kill()
        assert set(tmp_path.iterdir()) == before
    daemon.expect_log(".")
    daemon.start()


def test_containers_are_dumpable_as_ever(daemon: Daemon, box: str) -> None:
    """The daemon's memory is its own affair: nothing of that is inherited by what it starts."""
    daemon.ross("run", "-d", "--name", "one", box, "sleep", "600")
    (info,) = json.loads(daemon.ross("inspect", "one").stdout)
    pid = info["State"]["Pid"]
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert next(line for line in limits.splitlines() if "core file" in line).split()[4:6] != ["0", "0"]
