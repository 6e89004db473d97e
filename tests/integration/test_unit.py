"""The unit in ``contrib``, under a real systemd: containers outlive the daemon whatever is done to its unit.

Where systemd does not run there is nothing to test with; the session ``vm`` of nox runs this where it does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.archives import BUSYBOX
from tests.support.daemon import Daemon
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

CHECKOUT = Path(__file__).parents[2]
UNIT = "ross-of-tests.service"
COUNTS = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.2; done"
SECONDS = 120
"""A machine without a processor of its own is slow."""


def systemctl(*words: str) -> str:
    done = subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def main_pid() -> int:
    return int(systemctl("show", "--property", "MainPID", "--value", UNIT))


def state() -> str:
    return systemctl("show", "--property", "ActiveState", "--value", UNIT)


@pytest.fixture
def unit(filesystem: Path, archive: Path, tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that systemd has started as the unit says, but for its directories and where its program is."""
    program = tmp_path / "ross"
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH="{os.pathsep.join([str(CHECKOUT), *sys.path])}" exec {sys.executable} -m ross "$@"\n'
    )
    program.chmod(0o755)
    daemon = Daemon(filesystem)
    text = (CHECKOUT / "contrib/ross.service").read_text()
    words = f"{program} daemon --root {daemon.root} --run {daemon.run}"
    changed = text.replace("ExecStart=/opt/ross/bin/ross daemon\n", f"ExecStart={words}\n")
    assert changed != text
    path = Path("/run/systemd/system", UNIT)
    path.write_text(changed)
    systemctl("daemon-reload")
    try:
        systemctl("start", UNIT)
        daemon.ok("load", "-q", "-i", str(archive))
        yield daemon
        for identity in daemon.ok("ps", "-aq").split():
            daemon.ok("rm", "-f", identity)
    finally:
        systemctl("stop", UNIT)
        path.unlink()
        systemctl("daemon-reload")


def pid_of(daemon: Daemon, name: str) -> int:
    return int(daemon.ok("inspect", "-f", "{{.State.Pid}}", name))


def numbers(daemon: Daemon) -> list[int]:
    return [int(line) for line in daemon.ok("logs", "counts").split()]


def test_containers_outlive_whatever_is_done_to_the_unit(unit: Daemon) -> None:
    unit.ok("run", "-d", "--name", "counts", BUSYBOX, "sh", "-c", COUNTS)
    container, (monitor,) = pid_of(unit, "counts"), unit.monitors()
    seen = 0

    def goes_on() -> None:
        nonlocal seen
        assert (pid_of(unit, "counts"), unit.monitors()) == (container, {monitor})
        assert unit.ok("exec", "counts", "echo", "well") == "well\n"
        until(lambda: len(numbers(unit)) > seen, seconds=SECONDS)
        found = numbers(unit)
        assert found == list(range(len(found)))
        seen = len(found)

    first = main_pid()
    systemctl("restart", UNIT)  # which returns when the daemon answers
    goes_on()
    assert main_pid() != first

    systemctl("stop", UNIT)
    assert Path("/proc", str(container)).exists()
    systemctl("start", UNIT)
    goes_on()

    killed = main_pid()
    os.kill(killed, signal.SIGKILL)
    until(lambda: main_pid() not in {0, killed} and state() == "active", seconds=SECONDS)
    goes_on()


def test_limits_of_the_unit_are_not_those_of_containers(unit: Daemon) -> None:
    """Neither the memory of a container nor its processes count as the daemon's."""
    unit.ok("run", "-d", "--name", "sleeps", BUSYBOX, "sleep", "100000")
    group = systemctl("show", "--property", "ControlGroup", "--value", UNIT)
    assert group in Path(f"/proc/{main_pid()}/cgroup").read_text()
    assert group not in Path(f"/proc/{pid_of(unit, 'sleeps')}/cgroup").read_text()
    score = Path(f"/proc/{pid_of(unit, 'sleeps')}/oom_score_adj").read_text().strip()
    assert (score, Path(f"/proc/{main_pid()}/oom_score_adj").read_text().strip()) == ("0", "-500")
