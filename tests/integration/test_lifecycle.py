"""Pausing, restarting, renaming, updating, waiting, restart policies, creating again: as their users type them."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

import ross
from ross.client.specs import parse_restart
from ross.errors import AlreadyExists, InvalidArgument, RossError
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

TRAP = "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done"


def inspect(daemon: Daemon, name: str) -> dict[str, Any]:
    (info,) = json.loads(daemon.ross("inspect", name).stdout)
    return dict(info)


def status(daemon: Daemon, name: str) -> str:
    return str(inspect(daemon, name)["State"]["Status"])


def is_quiet(daemon: Daemon, name: str) -> bool:
    """Whether nothing is logged for a while."""
    before = daemon.ok("logs", name)
    time.sleep(0.3)
    return daemon.ok("logs", name) == before


def refused(daemon: Daemon, *words: str) -> str:
    done = daemon.ross(*words)
    assert done.returncode not in {0, 70}, done.stdout
    assert "Traceback" not in done.stderr
    return str(done.stderr)


def test_pause_freezes_and_unpause_goes_on(daemon: Daemon, box: str) -> None:
    daemon.ok("run", "-d", "--name", "one", box, "sh", "-c", "while :; do echo x; sleep 0.01; done")
    until(lambda: daemon.ok("logs", "one"))
    assert daemon.ok("pause", "one") == "one\n"
    assert status(daemon, "one") == "paused"
    assert "(Paused)" in daemon.ok("ps")
    until(lambda: is_quiet(daemon, "one"))  # what was in the monitor's pipe comes yet
    before = daemon.ok("logs", "one")
    assert "it is paused already" in refused(daemon, "pause", "one")
    assert "ross unpause" in refused(daemon, "start", "one")
    assert "remove it with --force" in refused(daemon, "rm", "one")
    assert daemon.ok("unpause", "one") == "one\n"
    until(lambda: daemon.ok("logs", "one") != before)
    assert "running, not paused" in refused(daemon, "unpause", "one")
    daemon.ok("pause", "one")
    daemon.ok("rm", "-f", "one")
    assert "no container" in refused(daemon, "pause", "one")


def test_paused_container_is_stopped_by_its_signal(daemon: Daemon, box: str) -> None:
    """A frozen process notices no signal: it is let go on."""
    daemon.ok("run", "-d", "--name", "one", box, "sh", "-c", TRAP)
    until(lambda: "up" in daemon.ok("logs", "one"))
    daemon.ok("pause", "one")
    daemon.ok("stop", "one")
    assert inspect(daemon, "one")["State"]["ExitCode"] == 7
    daemon.ok("start", "one")
    daemon.ok("pause", "one")
    daemon.ok("kill", "one")
    assert daemon.ok("wait", "one") == "137\n"


def test_pause_survives_the_daemon(daemon: Daemon, box: str) -> None:
    daemon.ok("run", "-d", "--name", "one", box, "sleep", "600")
    daemon.ok("pause", "one")
    daemon.kill()
    daemon.start()
    assert status(daemon, "one") == "paused"
    daemon.ok("unpause", "one")
    assert status(daemon, "one") == "running"


def test_restart_is_a_stop_and_a_start(daemon: Daemon, box: str) -> None:
    daemon.ok("run", "-d", "--name", "one", box, "sh", "-c", TRAP)
    until(lambda: "up" in daemon.ok("logs", "one"))
    before = inspect(daemon, "one")["State"]["Pid"]
    assert daemon.ok("restart", "one") == "one\n"
    after = inspect(daemon, "one")
    assert after["State"]["Status"] == "running"
    assert after["State"]["Pid"] != before
    until(lambda: daemon.ok("logs", "one") == "up\nup\n")
    daemon.ok("stop", "one")
    daemon.ok("restart", "-t", "0", "one")
    assert status(daemon, "one") == "running"


def test_rename(daemon: Daemon, box: str) -> None:
    daemon.ok("run", "-d", "--name", "one", box, "sleep", "600")
    daemon.ok("create", "--name", "two", box)
    daemon.ok("rename", "one", "three")
    assert "no such object: one" in refused(daemon, "inspect", "one")
    assert "is taken" in refused(daemon, "rename", "two", "three")
    assert "not allowed" in refused(daemon, "rename", "two", "a/b")
    daemon.kill()
    daemon.start()
    assert status(daemon, "three") == "running"
    daemon.ok("create", "--name", "one", box)


def test_no_name_hides_an_id(daemon: Daemon, box: str) -> None:
    """As in Docker a whole id comes first, then a name; and nobody gets a name by which another one could be meant."""
    victim = daemon.ok("run", "-d", "--name", "victim", box, "sleep", "600").strip()
    other = daemon.ok("create", "--name", "other", box).strip()
    for name, why in (
        (victim, "looks like an id"),
        ("0" * 64, "looks like an id"),
        (victim[:12], "another"),
        (victim[:30], "another"),
    ):
        assert why in refused(daemon, "rename", "other", name)
        assert why in refused(daemon, "create", "--name", name, box)
        assert why in refused(daemon, "create", "--replace", "--name", name, box)
    assert daemon.ok("exec", victim[:12], "hostname") == f"{victim[:12]}\n"
    daemon.ok("rename", other, other[:12])
    assert inspect(daemon, other[:12])["Id"] == other
    daemon.ok("create", "--name", "0123456789abcdef", box)
    daemon.ok("rename", "0123456789abcdef", victim[:11])
    assert inspect(daemon, victim[:11])["Id"] != victim, "a name comes before the beginning of an id"

    record = daemon.root / "containers" / other / "metadata.json"
    daemon.terminate()
    record.write_text(record.read_text().replace(f'"{other[:12]}"', f'"{victim}"'))
    daemon.start()
    assert inspect(daemon, other)["Name"] == victim, "as an earlier daemon let it be called"
    assert inspect(daemon, victim)["Name"] == "victim"


def test_update_changes_a_live_container(daemon: Daemon, box: str) -> None:
    script = "while :; do cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; sleep 0.05; done"
    daemon.ok("run", "-d", "--name", "one", "-m", "64m", box, "sh", "-c", script)
    until(lambda: daemon.ok("logs", "-n", "1", "one") == f"{64 << 20}\n")
    daemon.ok("update", "-m", "128m", "--cpus", "0.5", "--pids-limit", "77", "--restart", "on-failure:3", "one")
    until(lambda: daemon.ok("logs", "-n", "1", "one") == f"{128 << 20}\n")
    limits = inspect(daemon, "one")["HostConfig"]
    assert (limits["Memory"], limits["NanoCpus"], limits["PidsLimit"]) == (128 << 20, 500_000_000, 77)
    assert limits["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    daemon.ok("update", "--memory", "-1", "one")
    until(lambda: int(daemon.ok("logs", "-n", "1", "one").replace("max", str(1 << 60))) > 1 << 40)
    assert "nothing to change" in refused(daemon, "update", "one")
    assert "too small" in refused(daemon, "update", "-m", "1m", "one")
    daemon.ok("restart", "-t", "0", "one")
    assert inspect(daemon, "one")["HostConfig"]["PidsLimit"] == 77


def test_wait_for_the_next_exit_and_for_removal(daemon: Daemon, box: str) -> None:
    daemon.ok("create", "--name", "one", box, "sh", "-c", "exit 3")
    assert daemon.ok("wait", "one") == "0\n"
    waiting = [daemon.popen("wait", "--condition", condition, "one") for condition in ("next-exit", "removed")]
    until(lambda: daemon.ok("debug", "tasks").count("ContainerServer.wait") == len(waiting))
    daemon.ok("start", "one")
    assert waiting[0].communicate()[0] == b"3\n"
    assert waiting[1].poll() is None
    assert daemon.ok("wait", "one") == "3\n"
    daemon.ok("rm", "one")
    assert waiting[1].communicate()[0] == b"3\n"


def test_next_exit_of_one_that_has_ended(daemon: Daemon, box: str) -> None:
    """Is that of its next run, or none."""
    daemon.ok("run", "-d", "--name", "one", box, "sh", "-c", "echo >> /runs; exit $(wc -l < /runs)")
    assert daemon.ok("wait", "one") == "1\n"

    def wait_for_the_next() -> subprocess.Popen[bytes]:
        waiting = daemon.popen("wait", "--condition", "next-exit", "one")
        until(lambda: waiting.poll() is not None or "ContainerServer.wait" in daemon.ok("debug", "tasks"))
        return waiting

    waiting = wait_for_the_next()
    daemon.ok("start", "one")
    assert waiting.communicate()[0] == b"2\n"
    waiting = wait_for_the_next()
    daemon.ok("rm", "one")
    assert b"was removed before it was started" in waiting.communicate()[1]


def test_one_that_removes_itself_outlives_a_restart(daemon: Daemon, box: str) -> None:
    """And who waits for it is told of its last run."""
    script = "[ -e /ran ] && exit 5; touch /ran; exec sleep 600"
    daemon.ok("run", "-d", "--rm", "--name", "once", box, "sh", "-c", script)
    until(lambda: daemon.ross("exec", "once", "test", "-e", "/ran").returncode == 0)
    waiting = daemon.popen("wait", "once")
    until(lambda: "ContainerServer.wait" in daemon.ok("debug", "tasks"))
    daemon.ok("restart", "-t", "0", "once")
    assert waiting.communicate(timeout=60)[0] == b"5\n"
    assert not daemon.ok("ps", "-aq")


def test_one_that_removes_itself_is_gone_when_it_cannot_be_started(daemon: Daemon, box: str) -> None:
    daemon.ok("create", "--rm", "--name", "never", box, "/nosuch")
    assert "no program '/nosuch'" in refused(daemon, "start", "never")
    assert not daemon.ok("ps", "-aq")
    daemon.ok("create", "--rm", "--name", "never", box, "/nosuch")
    assert "no program '/nosuch'" in refused(daemon, "restart", "never")
    assert not daemon.ok("ps", "-aq")


def test_on_failure_gives_up_after_its_retries(daemon: Daemon, box: str) -> None:
    daemon.ok("run", "-d", "--restart", "on-failure:2", "--name", "one", box, "sh", "-c", "echo again; exit 5")
    assert daemon.ok("wait", "one") == "5\n"
    info = inspect(daemon, "one")
    assert info["RestartCount"] == 2
    assert info["State"]["Status"] == "exited"
    assert daemon.ok("logs", "one") == "again\n" * 3
    daemon.ok("run", "-d", "--restart", "on-failure", "--name", "good", box, "true")
    assert daemon.ok("wait", "good") == "0\n"
    assert inspect(daemon, "good")["RestartCount"] == 0


def test_always_restarts_until_somebody_stops_it(daemon: Daemon, box: str) -> None:
    daemon.ok("run", "-d", "--restart", "always", "--name", "one", box, "true")
    until(lambda: inspect(daemon, "one")["RestartCount"] >= 3)
    until(lambda: "Restarting (0)" in daemon.ok("ps"))
    daemon.ok("stop", "one")
    assert status(daemon, "one") == "exited"
    count = inspect(daemon, "one")["RestartCount"]
    time.sleep(1)
    assert inspect(daemon, "one")["RestartCount"] == count
    daemon.ok("start", "one")
    until(lambda: status(daemon, "one") == "restarting")
    daemon.ok("rm", "-f", "one")


@pytest.mark.parametrize(
    ("policy", "by_hand", "expected"),
    [
        ("always", True, "running"),
        ("unless-stopped", True, "exited"),
        ("unless-stopped", False, "running"),
        ("on-failure", True, "exited"),
        ("no", False, "exited"),
    ],
)
def test_what_a_daemon_starts_when_it_begins(
    daemon: Daemon, box: str, tmp_path: Path, policy: str, expected: str, *, by_hand: bool
) -> None:
    """A container that ended without a daemon is restarted by the next one, as its policy says; one that was stopped seldom."""
    script = "[ -e /told/end ] && { rm /told/end; exit 4; }; while [ ! -e /told/end ]; do sleep 0.02; done; rm /told/end; exit 4"
    daemon.ok("run", "-d", "--restart", policy, "--name", "one", "-v", f"{tmp_path}:/told", box, "sh", "-c", script)
    if by_hand:
        daemon.ok("stop", "-t", "0", "one")
        daemon.kill()
    else:
        daemon.kill()
        (tmp_path / "end").touch()
        until(lambda: not (tmp_path / "end").exists())
    daemon.start()
    until(lambda: status(daemon, "one") == expected)


def test_policies_are_parsed_and_checked(daemon: Daemon, box: str) -> None:
    assert str(parse_restart("on-failure:4")) == "on-failure:4"
    assert str(parse_restart("unless-stopped")) == "unless-stopped"
    for text in ("sometimes", "always:3", "on-failure:x", "on-failure:-1"):
        with pytest.raises(InvalidArgument):
            parse_restart(text)
        assert "restart polic" in refused(daemon, "create", "--restart", text, box)
    assert "leave out --rm" in refused(daemon, "create", "--rm", "--restart", "always", box)


def test_replace_puts_a_container_in_the_place_of_another(daemon: Daemon, box: str) -> None:
    first = daemon.ok("run", "-d", "--name", "one", box, "sleep", "600")
    assert "--replace" in refused(daemon, "create", "--name", "one", box)
    second = daemon.ok("run", "-d", "--replace", "--name", "one", box, "sleep", "600")
    assert first != second
    assert daemon.ok("ps", "-aq", "--no-trunc") == second


async def test_create_with_a_key_is_done_once(daemon: Daemon, box: str) -> None:
    async with ross.connect(daemon.socket) as engine:
        image = await engine.images.get(box)
        first = await (await image.create(["true"], key="job 7")).info()
        again = await (await image.create(["true"], key="job 7")).info()
        assert first.id == again.id
        with pytest.raises(AlreadyExists, match="in another way"):
            await image.create(["false"], key="job 7")
        await engine.containers.get(first.name).now.remove()
        assert (await (await image.create(["false"], key="job 7")).info()).id != first.id


async def test_a_held_reference_tells_the_outcome_after_removal(daemon: Daemon, box: str) -> None:
    async with ross.connect(daemon.socket) as engine:
        container = await (await engine.images.get(box)).create(["sh", "-c", "exit 6"], auto_remove=True)
        await container.start()
        assert (await container.wait()).exit_code == 6
        assert (await container.info()).state.value == "removed"
        for operation in (container.pause, container.restart, container.start, lambda: container.rename("x")):
            with pytest.raises(RossError, match="has been removed"):
                await operation()
