"""Checkpoints by CRIU, and restoring from them: processes go on where they were, whatever befalls the engine meanwhile.

What is refused without a CRIU that works is in ``test_checkpoint_refused.py``. The session ``vm`` of nox runs this where there is one.
"""

from __future__ import annotations

import json
import os
import signal
import stat
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

import ross
from ross.errors import FailedPrecondition, NotFound, RossError
from ross.linux.mount import mounts_below
from ross.model.containers import ContainerState, WaitCondition
from ross.model.mounts import Mount, MountKind
from ross.shim.process_table import everybody
from tests.support.archives import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ross.client import Container
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

SECONDS = 590
COUNTING = "n=0; while :; do n=$((n + 1)); echo $n; sleep 0.2; done"
PYTHON = """
import socket, sys, time
server = here = None
{held}
there = server and server.accept()[0]
number = 0
while True:
    number += 1
    if here:
        here.sendall(number.to_bytes(4, "big"))
    print(int.from_bytes(there.recv(4), "big") if there else number, flush=True)
    time.sleep(0.2)
"""
OF_THE_HOST = {"": "/usr", "/lib": "/lib", "/lib64": "/lib64"}
"""What Python is made of, which is not in the image."""
RUNNING, STOPPED = ContainerState.RUNNING, ContainerState.STOPPED


@pytest.fixture(scope="module")
def daemon(loaded: Daemon) -> Daemon:
    """One for all."""
    return loaded


@asynccontextmanager
async def counting_until(
    daemon: Daemon, program: str | list[str] = COUNTING, **options: Any
) -> AsyncIterator[tuple[Container, Path]]:
    """A container that counts, and where its files are."""
    args = ["sh", "-c", program] if isinstance(program, str) else program
    async with ross.connect(daemon.socket) as engine:
        container = await (await engine.images.get(BUSYBOX)).create(args, name="one", **options)
        directory = daemon.root / "containers" / (await container.info()).id
        await container.start()
        await to(lambda: numbers(directory))
        yield container, directory


@asynccontextmanager
async def counting(
    daemon: Daemon, program: str | list[str] = COUNTING, **options: Any
) -> AsyncIterator[tuple[Container, Path]]:
    """The same, for the length of a block: nothing of it is left behind that."""
    with trio.fail_after(SECONDS):
        try:
            async with counting_until(daemon, program, **options) as (container, directory):
                yield container, directory
        finally:
            with trio.CancelScope(shield=True):
                await removed(daemon)
        assert not directory.exists()


async def removed(daemon: Daemon) -> None:
    async with ross.connect(daemon.socket) as engine:
        with suppress(NotFound):
            await engine.containers.get("one").now.discard()


async def to(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    while not condition():  # noqa: ASYNC110 -- there is nothing to wait on
        await trio.sleep(0.005)


def files_of(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if "checkpoint" in path.name}


def numbers(directory: Path) -> list[int]:
    """What it has counted, by its log; a line that is being written is left out."""
    lines = (directory / "log").read_text().rpartition("\n")[0].splitlines() if (directory / "log").exists() else []
    words = [line.split()[-1] for line in lines]
    return [int(word) for word in words if word.isdigit()]


async def counts_on(directory: Path) -> None:
    """It counts, on from where it was, in the same log: no number is left out, and none comes again."""
    before = len(numbers(directory))
    await to(lambda: len(numbers(directory)) > before + 1)
    found = numbers(directory)
    assert found == list(range(1, len(found) + 1))


def modes_of(images: Path) -> tuple[set[int], set[int]]:
    """Who may do what with the images of a checkpoint: with their directories, and with them."""
    directories, files = (images.parent, images), tuple(images.iterdir())
    assert any(images.glob("pages-*.img"))
    found = [{stat.S_IMODE(path.lstat().st_mode) for path in paths} for paths in (directories, files)]
    return found[0], found[1]


def read(path: str) -> str:
    return Path(path).read_text()


def criu_of(directory: Path) -> list[int]:
    """CRIU at work on a container."""
    return [pid for pid, _argv in everybody() if is_criu_in(pid, directory)]


def is_criu_in(pid: int, directory: Path) -> bool:
    process = Path("/proc", str(pid))
    with suppress(OSError):
        return (process / "comm").read_text() == "criu\n" and (process / "cwd").readlink().is_relative_to(directory)
    return False


def runtimes_of(directory: Path) -> list[int]:
    """The runtime that makes a checkpoint of a container."""
    return [pid for pid, argv in everybody() if "checkpoint" in argv and argv[-1] == directory.name]


async def test_goes_on_where_it_was(daemon: Daemon) -> None:
    """Its memory, its log, its limits, its policy, its health; and everything that is done with a container that runs."""
    options: dict[str, Any] = {
        "restart": "always",
        "memory": 64 << 20,
        "pids_limit": 40,
        "sysctls": {"net.ipv4.ip_forward": "1"},
        "add_hosts": ["there:10.1.2.3"],
        "health_cmd": "true",
        "health_interval": 1.0,
    }
    async with counting(daemon, **options) as (container, directory):
        outcomes = []
        async with trio.open_nursery() as nursery:

            async def waited() -> None:
                outcomes.append(await container.wait())

            nursery.start_soon(waited)
            await container.checkpoint()
        info = await container.info()
        assert (info.state, outcomes) == (STOPPED, [info.outcome])
        assert info.outcome is not None
        assert (info.outcome.exit_code, info.outcome.checkpointed) == (137, True)
        assert info.checkpoint is not None
        assert modes_of(Path(info.checkpoint.path)) == ({0o700}, {0o600})
        assert not list(mounts_below(directory))

        await container.restore()
        await counts_on(directory)
        info = await container.info()
        assert (info.state, info.checkpoint, info.restored_at) == (RUNNING, None, info.started_at)
        assert files_of(directory) == set()
        shown = ("/etc/hosts", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/pids.max", "/proc/sys/net/ipv4/ip_forward")
        done = await container.exec(["sh", "-c", f"ifconfig lo; cat {' '.join(shown)}"])
        assert b"inet addr:127.0.0.1" in done.stdout
        assert b"UP LOOPBACK RUNNING" in done.stdout
        assert b"10.1.2.3" in done.stdout
        assert done.stdout.split()[-3:] == [str(64 << 20).encode(), b"40", b"1"]
        assert (await container.sample()).pids.count
        await container.wait(WaitCondition.HEALTHY)
        await container.restart(timeout=0)
        await to(lambda: numbers(directory).count(1) == 2)
        assert not (await container.info()).restored_at


def test_as_it_is_typed(daemon: Daemon) -> None:
    """And neither its policy nor a daemon that begins starts what was checkpointed."""

    def ok(*words: str) -> str:
        done = daemon.ross(*words, timeout=SECONDS)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def state() -> dict[str, Any]:
        return dict(json.loads(ok("inspect", "typed"))[0]["State"])

    ok("run", "-d", "--name", "typed", "--restart", "always", BUSYBOX, "sleep", "600")
    assert ok("checkpoint", "-k", "typed") == "typed\n"
    was = state()
    assert (was["Status"], was["Checkpointed"], was["Restored"]) == ("exited", True, False)
    assert was["CheckpointedAt"] == was["FinishedAt"]
    assert "Dumping finished successfully" in Path(was["CheckpointLog"]).read_text()
    daemon.terminate()
    daemon.start()
    assert state() == was
    assert ok("system", "check").endswith("all right\n")
    assert ok("container", "restore", "typed") == "typed\n"
    now = state()
    assert (now["Status"], now["Checkpointed"], now["Restored"]) == ("running", False, True)
    assert (now["RestoredAt"], now["CheckpointPath"]) == (now["StartedAt"], "")
    ok("rm", "-f", "typed")


async def test_left_running_and_restored_later_again_and_again(daemon: Daemon) -> None:
    """From one that is kept; a start in between begins at the beginning, and the next one takes its place."""
    async with counting(daemon) as (container, directory):
        await container.checkpoint(leave_running=True)
        at = numbers(directory)[-1]
        assert (await container.info()).state is RUNNING
        await counts_on(directory)
        await container.stop(timeout=0)
        outcome = (await container.info()).outcome
        assert outcome is not None
        assert not outcome.checkpointed
        for _again in range(2):
            lines = len(numbers(directory))
            await container.restore(keep=True)
            await to_more(directory, lines)
            assert numbers(directory)[lines] <= at + 1
            stored = (await container.info()).checkpoint
            assert stored is not None
            assert "Restore finished successfully" in read(stored.restore_log_path)
            await container.stop(timeout=0)
        await container.start()
        await to(lambda: numbers(directory).count(1) == 2)
        assert files_of(directory) == {"checkpoint"}
        await container.checkpoint()
        lines = len(numbers(directory))
        await container.restore()
        await to_more(directory, lines)
        assert numbers(directory)[lines] == numbers(directory)[lines - 1] + 1
        assert files_of(directory) == set()


async def to_more(directory: Path, lines: int) -> None:
    await to(lambda: len(numbers(directory)) > lines)


@pytest.mark.parametrize(
    "options",
    [
        {"terminal": True},
        {"stdin": True, "user": "1000:1000", "read_only": True, "mounts": [Mount(kind=MountKind.TMPFS, target="/t")]},
        {"privileged": True, "mounts": [Mount(kind=MountKind.BIND, source="/var/tmp", target="/host")]},
    ],
    ids=["terminal", "user", "privileged"],
)  # fmt: skip
async def test_kinds_of_containers(daemon: Daemon, options: dict[str, Any]) -> None:
    async with counting(daemon, **options) as (container, directory):
        await container.checkpoint()
        await container.restore()
        await counts_on(directory)


async def test_a_terminal_is_attached_to_behind_it(daemon: Daemon) -> None:
    async with counting(daemon, "echo 1; read name; echo hello $name; exit 3", terminal=True) as (
        container,
        _directory,
    ):
        await container.checkpoint()
        await container.restore()
        said = bytearray()

        async def write(data: bytes) -> None:
            said.extend(data)
            await trio.lowlevel.checkpoint()

        process = await container.attach(stdin=True, stdout=write)
        await process.write(b"you\n")
        assert (await process.wait()).exit_code == 3
        assert b"hello you" in said


@pytest.mark.parametrize(
    ("held", "flag"),
    [
        ("import fcntl; file = open('/lock', 'w'); fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)", "--file-locks"),
        ("server = socket.create_server(('127.0.0.1', 99)); here = socket.create_connection(('127.0.0.1', 99))", "--tcp-established"),
    ],
    ids=["locks", "connections"],
)  # fmt: skip
async def test_what_has_to_be_asked_for(daemon: Daemon, held: str, flag: str) -> None:
    """A lock, and a connection, by which each number gets to where it is printed."""
    mounts = [Mount(kind=MountKind.BIND, source=f"/usr{of}", target=to) for of, to in OF_THE_HOST.items()]
    async with counting(daemon, ["python3", "-c", PYTHON.format(held=held)], mounts=mounts) as (container, directory):
        with pytest.raises(
            FailedPrecondition, match="the container one cannot be checkpointed: CRIU cannot do it"
        ) as caught:
            await container.checkpoint()
        assert caught.value.hint == f"try again with {flag}"
        assert files_of(directory) == set()
        await counts_on(directory)
        asked: dict[str, Any] = {flag.strip("-").replace("-", "_"): True}
        await container.checkpoint(**asked)
        await container.restore(**asked)
        await counts_on(directory)


async def test_what_criu_does_not_take(daemon: Daemon) -> None:
    mounts = [
        Mount(kind=MountKind.BIND, source="/var/tmp", target="/out"),
        Mount(kind=MountKind.BIND, source="/var", target="/out/in"),
    ]
    async with counting(daemon, mounts=mounts) as (container, directory):
        with pytest.raises(
            FailedPrecondition, match=r"CRIU cannot do it: .* doesn't have a proper root mount"
        ) as caught:
            await container.checkpoint()
        assert caught.value.hint == "it takes no mounts inside of mounts"
        assert files_of(directory) == set()
        await counts_on(directory)


async def test_given_up(daemon: Daemon) -> None:
    """Cancelled, or stopped, while CRIU hangs: nothing is left of it, and nobody else waits for it."""
    async with counting(daemon) as (container, directory):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(container.checkpoint)
            await hang(directory)
            assert (await container.info()).state is RUNNING
            nursery.cancel_scope.cancel()
        await to(lambda: not files_of(directory) and not criu_of(directory))
        await counts_on(directory)
        async with trio.open_nursery() as nursery:

            async def given_up() -> None:
                with pytest.raises(FailedPrecondition, match="was given up"):
                    await container.checkpoint()

            nursery.start_soon(given_up)
            await hang(directory)
            await container.stop(timeout=0)
        assert not files_of(directory)
        assert not criu_of(directory)
        outcome = (await container.info()).outcome
        assert outcome is not None
        assert (outcome.exit_code, outcome.checkpointed) == (137, False)


async def hang(directory: Path) -> None:
    """Stop the runtime once CRIU is at work, which waits for its word before it ends anything; and CRIU too, so that it never notices."""
    await to(lambda: runtimes_of(directory))
    (runtime,) = runtimes_of(directory)
    await to((directory / "checkpoint.part/dump.log").exists)
    os.kill(runtime, signal.SIGSTOP)
    await to(lambda: criu_of(directory))
    for criu in criu_of(directory):
        os.kill(criu, signal.SIGSTOP)


def moments(daemon: Daemon, directory: Path) -> dict[str, Callable[[], object]]:
    """By its name, whether a moment has come."""
    part = directory / "checkpoint.part"
    return {
        "begun": part.exists,
        "log": (part / "dump.log").exists,
        "pages": lambda: any(part.glob("images/pages-*.img")),
        "all": (part / "images/inventory.img").exists,
        "restoring": lambda: json.loads((directory / "metadata.json").read_text())["restoring"],
        "restore log": (directory / "bundle/restore.log").exists,
        "runtime": (daemon.run / "runtime" / directory.name / "state.json").exists,
    }


@asynccontextmanager
async def killed(daemon: Daemon, moment: str, *, restoring: bool) -> AsyncIterator[tuple[Container, Path]]:
    """A container whose daemon was killed at a moment of its checkpoint, or of its restore; and the next daemon has begun."""
    with trio.fail_after(SECONDS):
        try:
            async with counting_until(daemon) as (container, directory):
                if restoring:
                    await container.checkpoint()
                doing = container.restore if restoring else container.checkpoint
                has_come = moments(daemon, directory)[moment]
                async with trio.open_nursery() as nursery:

                    async def done() -> None:
                        with suppress(RossError):
                            await doing()

                    nursery.start_soon(done)
                    await to(lambda: has_come() or (not restoring and (directory / "checkpoint").exists()))
                    daemon.kill()
            await trio.to_thread.run_sync(daemon.start)
            async with ross.connect(daemon.socket) as engine:
                assert not criu_of(directory)
                yield engine.containers.get("one").now, directory
        finally:
            with trio.CancelScope(shield=True):
                await removed(daemon)


@pytest.mark.parametrize("moment", ["begun", "log", "pages", "all"])
async def test_daemon_killed_while_it_is_made(daemon: Daemon, moment: str) -> None:
    """Whenever that is: either it goes on without one, or it has stopped with a whole one."""
    async with killed(daemon, moment, restoring=False) as (container, directory):
        if (await container.info()).checkpoint is not None:
            assert (await container.wait()).checkpointed
            assert files_of(directory) == {"checkpoint"}
            await container.restore()
        assert (await container.info()).state is RUNNING
        assert files_of(directory) == set()
        await counts_on(directory)


@pytest.mark.parametrize("moment", ["restoring", "restore log", "runtime"])
async def test_daemon_killed_while_it_is_restored(daemon: Daemon, moment: str) -> None:
    """Either it runs and its checkpoint is gone, or it has stopped with it."""
    async with killed(daemon, moment, restoring=True) as (container, directory):
        if (await container.info()).state is STOPPED:
            assert files_of(directory) == {"checkpoint"}
            assert not list(mounts_below(directory))
            await container.restore()
        assert files_of(directory) == set()
        assert not (directory / "bundle/restore.log").exists()
        await counts_on(directory)
