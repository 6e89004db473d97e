"""Restart policies, with ``wait``, and changes of health: Docker's behaviour, a case a row.

Every row without a start period was tried against Docker 20.10 with the client of 28.2, too; what differs there stands with the test.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

COUNTED = "n=$(($(cat /n 2>/dev/null || echo 0) + 1)); echo $n > /n; "
"""The number of this run, or check, from 1 on."""


def begin(daemon: Daemon, name: str, box: str, flags: str, script: str) -> None:
    daemon.ok("run", "-d", "--name", name, *shlex.split(flags), box, "sh", "-c", script)


def state(daemon: Daemon, name: str) -> dict[str, Any]:
    (info,) = json.loads(daemon.ross("inspect", name).stdout)
    return {**info["State"], "RestartCount": info["RestartCount"]}


# -- restart policies -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "script", "code", "restarts"),
    [
        ("no", "exit 0", 0, 0),
        ("no", "exit 5", 5, 0),
        ("on-failure", "exit 0", 0, 0),
        ("on-failure", "[ $n = 2 ] || exit 5", 0, 1),
        ("on-failure:1", "exit 5", 5, 1),
        ("on-failure:3", "exit $((10 + n))", 14, 3),
        ("on-failure:3", "[ $n = 3 ] || exit 5", 0, 2),
        ("on-failure:1", "exec sh -c 'exit 137'", 137, 1),
    ],
)
def test_policies_that_come_to_an_end(
    one_daemon: Daemon, name: str, busybox: str, policy: str, script: str, code: int, restarts: int
) -> None:
    """``wait`` tells the last code: Docker's would come back at the first end of a run."""
    begin(one_daemon, name, busybox, f"--restart {policy}", f"{COUNTED} {script}")
    assert one_daemon.ross("wait", name).stdout == f"{code}\n"
    found = state(one_daemon, name)
    assert (found["Status"], found["ExitCode"], found["RestartCount"]) == ("exited", code, restarts)


def test_start_begins_to_count_anew(one_daemon: Daemon, name: str, busybox: str) -> None:
    begin(one_daemon, name, busybox, "--restart on-failure:1", f"{COUNTED} exit $n")
    assert one_daemon.ross("wait", name).stdout == "2\n"
    one_daemon.ross("start", name)
    assert one_daemon.ross("wait", name).stdout == "4\n"
    assert state(one_daemon, name)["RestartCount"] == 1


@pytest.mark.parametrize(
    ("policy", "script", "line"),
    [
        ("always", "exit 0", "stop BOX"),
        ("always", "exit 5", "update --restart no BOX"),
        ("unless-stopped", "exit 0", "stop BOX"),
        ("unless-stopped", "exit 0", "rm -f BOX"),
        ("on-failure", "exit 5", "stop BOX"),
    ],
)
def test_policies_without_an_end(
    one_daemon: Daemon, name: str, busybox: str, policy: str, script: str, line: str
) -> None:
    """Until somebody ends them; whoever waits hears of it."""
    begin(one_daemon, name, busybox, f"--restart {policy}", f"sleep 0.1; {script}")
    until(lambda: state(one_daemon, name)["RestartCount"] >= 2)
    waiting = one_daemon.popen("wait", name)
    one_daemon.ok(*line.replace("BOX", name).split())
    code, _errors = waiting.communicate(timeout=60)
    if line.startswith("rm"):
        assert one_daemon.ross("inspect", name).returncode == 1
        return
    assert code in {b"0\n", b"5\n", b"137\n", b"143\n"}
    until(lambda: state(one_daemon, name)["Status"] == "exited")


@pytest.mark.parametrize(
    ("policy", "line", "code"),
    [
        ("always", "stop BOX", 10),
        ("unless-stopped", "stop BOX", 10),
        ("always", "kill BOX", 137),
        ("on-failure", "kill BOX", 137),
        ("always", "kill -s TERM BOX", 10),
        ("always --stop-signal TERM", "kill -s USR1 BOX", None),
        ("on-failure:5 --stop-signal TERM", "kill -s USR1 BOX", None),
    ],
)
def test_what_was_ended_on_purpose_stays_so(
    one_daemon: Daemon, name: str, busybox: str, policy: str, line: str, code: int | None
) -> None:
    """By SIGKILL or the signal that stops it; what another signal ends is started again, if its policy says so.

    With Docker only where it was said which signal stops it: else any is taken for that.
    """
    script = "trap 'exit 10' TERM; trap 'exit 11' USR1; echo ready; while :; do sleep 0.05; done"
    begin(one_daemon, name, busybox, f"--restart {policy}", script)
    until(lambda: one_daemon.ross("logs", name).stdout)
    one_daemon.ok(*line.replace("BOX", name).split())
    if code is None:
        until(lambda: state(one_daemon, name)["RestartCount"] == 1)
        return
    assert one_daemon.ross("wait", name).stdout == f"{code}\n"
    found = state(one_daemon, name)
    assert (found["Status"], found["ExitCode"], found["RestartCount"]) == ("exited", code, 0)


# -- health -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "results", "changes", "streak"),
    [
        ("--health-retries 2", "0 0 0", "healthy", 0),
        ("--health-retries 2", "1 1 1", "unhealthy", 3),
        ("--health-retries 2", "0 1 0 1 0", "healthy", 0),
        ("--health-retries 2", "0 1 1 0 0", "healthy unhealthy healthy", 0),
        ("--health-retries 1", "1 0 1 0", "unhealthy healthy unhealthy healthy", 0),
        ("--health-retries 1", "2 0", "unhealthy healthy", 0),
        ("--health-retries 2 --health-start-period 1000s START", "1 1 1 1", "", 0),
        ("--health-retries 2 --health-start-period 1000s START", "1 1 1 0", "healthy", 0),
        ("--health-retries 2 --health-start-period 1000s START", "1 1 1 0 1 1", "healthy unhealthy", 2),
    ],
)
def test_changes_of_health(
    one_daemon: Daemon, name: str, busybox: str, flags: str, results: str, changes: str, streak: int
) -> None:
    """The checks come to these results, one after the other; the next hangs."""
    check = f"{COUNTED} set -- {results}; [ $n -le $# ] || exec sleep 1000; shift $((n - 1)); exit $1"
    flags = flags.replace("START", "--health-start-interval 100ms")
    begin(
        one_daemon,
        name,
        busybox,
        f"--health-interval 100ms {flags} --health-cmd {shlex.quote(check)}",
        "exec sleep 1000",
    )
    last = str(len(results.split()) + 1)
    until(lambda: one_daemon.ross("exec", name, "cat", "/n").stdout.strip() == last)

    health = state(one_daemon, name)["Health"]
    assert health["Status"] == (changes.split() or ["starting"])[-1]
    assert health["FailingStreak"] == streak
    assert [str(one["ExitCode"]) for one in health["Log"]] == results.split()[-5:]
    words = (
        "events",
        "--since",
        "10m",
        "--until",
        "0s",
        "--filter",
        f"container={name}",
        "--filter",
        "event=health_status",
    )
    seen = one_daemon.ross(*words, "--format", "{{.Action}}").stdout
    assert seen.split("\n")[:-1] == [f"health_status: {one}" for one in changes.split()]
    one_daemon.ross("kill", name)
