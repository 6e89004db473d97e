"""Checkpoints that cannot be made or restored: why is said, the container is as it was, and nothing is left of it.

None of it takes a CRIU that works.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import trio

import ross
from ross.errors import FailedPrecondition, NotFound
from ross.linux.process import which
from tests.support.archives import BUSYBOX
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

NO_KERNEL = """#!/bin/sh
echo "Error (criu/vdso.c:381): vdso: Unexpected rt vDSO area bounds" >&2
echo "Error (criu/crtools.c:260): Could not initialize kernel features detection." >&2
exit 1
"""
"""What CRIU 3.17 does on a kernel that is too new for it."""


@pytest.fixture(scope="module")
def _no_criu() -> Iterator[None]:
    """There is none, for as long as it takes; where one is installed, something that cannot be executed is in its place."""
    criu = which("criu")
    if criu is not None:
        subprocess.run(["mount", "--bind", "/dev/null", criu], check=True)
    yield
    if criu is not None:
        subprocess.run(["umount", criu], check=True)


@pytest.fixture(scope="module")
def daemon(_no_criu: None, loaded: Daemon) -> Daemon:
    """One for all, which finds no CRIU."""
    return loaded


@pytest.fixture
def up(daemon: Daemon) -> Iterator[str]:
    """A container that runs."""
    daemon.ok("run", "-d", "--name", "up", BUSYBOX, "sleep", "600")
    yield "up"
    daemon.ok("rm", "-f", "up")


def refused(daemon: Daemon, *words: str) -> str:
    done = daemon.ross(*words)
    assert done.returncode == 1, done.stdout
    return done.stderr


def state(daemon: Daemon, name: str) -> dict[str, Any]:
    return dict(json.loads(daemon.ok("inspect", name))[0]["State"])


def files_of(daemon: Daemon, name: str) -> set[str]:
    """What is kept of a container."""
    identity = daemon.ok("inspect", "--format", "{{.Id}}", name).strip()
    return {path.name for path in (daemon.root / "containers" / identity).iterdir()}


def test_without_criu(daemon: Daemon, up: str) -> None:
    before, files = state(daemon, up), files_of(daemon, up)
    for words in (("checkpoint", up), ("container", "checkpoint", "-R", up)):
        said = refused(daemon, *words)
        assert (
            "the container up cannot be checkpointed: CRIU, which makes and restores checkpoints, is not installed"
            in said
        )
        assert "hint: apt install criu" in said
    assert state(daemon, up) == before
    assert before["Status"] == "running"
    assert (before["Checkpointed"], before["Restored"], before["CheckpointPath"]) == (False, False, "")
    assert files_of(daemon, up) == files
    assert daemon.ok("exec", up, "echo", "well") == "well\n"


def test_criu_that_does_not_work_with_the_kernel(daemon: Daemon, up: str, tmp_path: Path) -> None:
    program = tmp_path / "criu"
    program.write_text(NO_KERNEL)
    program.chmod(0o755)
    daemon.terminate()
    daemon.start(settings={"PATH": f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin"})
    try:
        said = refused(daemon, "checkpoint", up)
        assert "CRIU does not work with this kernel, says criu check: vdso: Unexpected rt vDSO area bounds" in said
        assert "hint: install a version of CRIU that knows this kernel" in said
        assert daemon.ok("exec", up, "echo", "well") == "well\n"
        assert not any("checkpoint" in name for name in files_of(daemon, up))
        found = daemon.ross("doctor", "--format", "json")
        assert isinstance(json.loads(found.stdout), list)
    finally:
        daemon.terminate()
        daemon.start()


def test_in_the_wrong_state(daemon: Daemon, up: str) -> None:
    daemon.ok("create", "--name", "new", BUSYBOX, "true")
    assert "is created: only of one that runs" in refused(daemon, "checkpoint", "new")
    assert "the container new has no checkpoint" in refused(daemon, "restore", "new")
    daemon.ok("start", "new")
    daemon.ok("wait", "new")
    assert "hint: first: ross start new" in refused(daemon, "checkpoint", "new")
    said = refused(daemon, "restore", "new")
    assert "the container new has no checkpoint" in said
    assert "hint: make one while it runs: ross checkpoint new" in said
    daemon.ok("rm", "new")
    daemon.ok("pause", up)
    assert "hint: first: ross unpause up" in refused(daemon, "checkpoint", up)
    daemon.ok("unpause", up)
    said = refused(daemon, "restore", up)
    assert "the container up is running and cannot be restored" in said
    assert "hint: stop it first" in said


def test_with_the_memory_of_another(daemon: Daemon, up: str) -> None:
    daemon.ok("run", "-d", "--name", "shares", "--ipc", f"container:{up}", BUSYBOX, "sleep", "600")
    assert "has its memory with another one" in refused(daemon, "checkpoint", "shares")
    daemon.ok("rm", "-f", "shares")


@pytest.mark.parametrize(
    ("flags", "said", "hint"),
    [
        (["--rm"], "would be removed with its checkpoint", "--leave-running"),
        (["--log-driver", "passthrough"], "has the streams of whoever started it", "--log-driver"),
        (["--userns", "auto"], "has users of its own", "--userns"),
        (["--pid", "host"], "has not its own processes only", "--pid"),
    ],
)
def test_of_a_kind_that_cannot_be_restored(daemon: Daemon, flags: list[str], said: str, hint: str) -> None:
    daemon.ok("run", "-d", "--name", "kind", *flags, BUSYBOX, "sleep", "600")
    error = refused(daemon, "checkpoint", "kind")
    assert said in error
    assert hint in error.partition("hint: ")[2]
    assert state(daemon, "kind")["Status"] == "running"
    daemon.ok("rm", "-f", "kind")


async def test_while_something_is_executed(daemon: Daemon, up: str) -> None:
    with trio.fail_after(120):
        async with ross.connect(daemon.socket) as engine:
            container = engine.containers.get(up).now
            executed = await container.open_exec(["sleep", "600"])
            with pytest.raises(FailedPrecondition, match="something is executed in it") as caught:
                await container.checkpoint()
            assert "ross top up" in (caught.value.hint or "")
            await executed.signal("KILL")
            await executed.wait()
            with pytest.raises(FailedPrecondition, match="not installed"):
                await container.checkpoint()


async def test_a_removed_one_is_not_found(daemon: Daemon) -> None:
    with trio.fail_after(120):
        async with ross.connect(daemon.socket) as engine:
            container = await (await engine.images.get(BUSYBOX)).create(["true"])
            await container.remove()
            with pytest.raises(NotFound):
                await container.checkpoint()
            with pytest.raises(NotFound):
                await container.restore()


def test_what_a_daemon_that_was_killed_was_making(daemon: Daemon, up: str) -> None:
    """A part of a checkpoint goes, and the container is let go on; what has the name of a whole one and is none goes too."""
    identity = daemon.ok("inspect", "--format", "{{.Id}}", up).strip()
    directory = daemon.root / "containers" / identity
    daemon.expect_log("removing the checkpoint in")
    for name in ("checkpoint", "checkpoint.part"):
        (directory / name / "images").mkdir(parents=True)
    daemon.kill()
    daemon.start()
    assert state(daemon, up)["Status"] == "running"
    assert not any("checkpoint" in name for name in files_of(daemon, up))
    until(lambda: not any((daemon.root / "trash").iterdir()))


def test_flags_that_it_takes(daemon: Daemon) -> None:
    for words in (("checkpoint",), ("container", "checkpoint")):
        shown = daemon.ok(*words, "--help")
        assert all(
            flag in shown for flag in ("--keep", "-k", "--leave-running", "-R", "--tcp-established", "--file-locks")
        )
        assert "--export" not in shown
    assert "--import" not in daemon.ok("restore", "--help")
    assert "no container" in refused(daemon, "checkpoint", "nobody")
