"""What several clients ask of one container at once: each gets what it asked for, or is told why not."""

from __future__ import annotations

import signal
import subprocess
import time
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Unpack

import pytest
import trio

from ross.client import connect
from ross.errors import FailedPrecondition, NotFound, RossError
from ross.model.containers import ContainerState, WaitCondition
from tests.integration.test_attach import Kept, stuck_until
from tests.integration.test_obstacles import immovable
from tests.support.gates import Gates, gated_daemon
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence

    from ross.client import Container, Engine, Image
    from ross.client.processes import Completed
    from ross.client.specs import CreateOptions
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

DEAF = ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"]


@pytest.fixture(scope="module")
def gates(filesystem: Path, busybox: str) -> Iterator[Gates]:
    directory = filesystem / "gated"
    directory.mkdir()
    with gated_daemon(directory) as gates:
        gates.daemon.ok("pull", "-q", busybox)
        yield gates


@pytest.fixture
async def engine(gates: Gates) -> AsyncIterator[Engine]:
    async with connect(gates.daemon.socket) as connected:
        yield connected


@pytest.fixture
async def image(engine: Engine, busybox: str) -> Image:
    return await engine.images.get(busybox)


async def until_tasks(gates: Gates, condition: Callable[[str], object]) -> str:
    """Wait until the daemon's tasks are so."""
    with trio.fail_after(60):
        while not condition(tasks := await trio.to_thread.run_sync(gates.daemon.ok, "debug", "tasks")):  # noqa: ASYNC110
            await trio.sleep(0.02)
    return tasks


async def under_way(gates: Gates, what: str, container: Container, count: int = 1) -> None:
    """Wait until so many such operations on a container have begun."""
    task = f"{what} {(await container.info()).id[:12]}"
    await until_tasks(gates, lambda tasks: tasks.count(task) >= count)


async def until_state(container: Container, state: ContainerState) -> None:
    with trio.fail_after(60):
        while (await container.info()).state is not state:  # noqa: ASYNC110
            await trio.sleep(0.02)


@asynccontextmanager
async def turn_taken(gates: Gates, container: Container) -> AsyncIterator[None]:
    """Somebody changes the container for the length of the block, while it runs: others wait."""

    async def update() -> None:
        with suppress(FailedPrecondition):  # it may end meanwhile
            await container.update(pids_limit=77)

    gates.shut("before-update")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(update)
        await trio.to_thread.run_sync(gates.until_reached, "before-update")
        try:
            yield
        finally:
            gates.open("before-update")


async def started(image: Image, args: Sequence[str], **options: Unpack[CreateOptions]) -> Container:
    """One that has said something: a signal that comes before is for the runtime, which is there until then."""
    said = trio.Event()

    async def heard(_data: bytes) -> None:
        said.set()

    container = await image.create(args, **options)
    _process = await container.attach(stdout=heard)
    await container.start()
    await said.wait()
    return container


class Asked:
    """Calls that are under way, and what has come of them."""

    def __init__(self) -> None:
        self.failures: list[RossError] = []
        self.done = 0

    async def __call__(self, call: Callable[[], Awaitable[object]]) -> None:
        try:
            await call()
        except RossError as error:
            self.failures.append(error)
        else:
            self.done += 1


@pytest.mark.parametrize("auto_remove", [False, True])
async def test_starts_that_waited_while_it_ended(gates: Gates, image: Image, *, auto_remove: bool) -> None:
    """The first one starts it, and nobody takes that run for what is left of the one before."""
    container = await image.create(["sleep", "1000"], auto_remove=auto_remove)
    await container.start()
    asked = Asked()
    async with trio.open_nursery() as nursery, turn_taken(gates, container):
        for _start in range(2):
            nursery.start_soon(asked, container.start)
        await under_way(gates, "start", container, 2)
        await container.kill()
        await until_state(container, ContainerState.STOPPED)
    assert asked.done == 1, asked.failures
    assert "it runs already" in str(asked.failures[0].hint)
    pid = (await container.info()).pid
    await container.update(pids_limit=78)  # behind whoever waited for a turn
    info = await container.info()
    assert (info.state, info.pid, info.outcome) == (ContainerState.RUNNING, pid, None)
    await container.remove(force=True)


async def test_restarts_at_once(gates: Gates, image: Image) -> None:
    """They stop it together; and whichever starts it has done so for the others."""
    container = await started(image, DEAF)
    before, asked = (await container.info()).pid, Asked()
    async with trio.open_nursery() as nursery:
        for _restart in range(3):
            nursery.start_soon(asked, lambda: container.restart(timeout=1))
    assert asked.done == 3, asked.failures
    info = await container.info()
    assert info.state is ContainerState.RUNNING
    assert info.pid != before
    await container.remove(force=True)


async def test_forced_removal_while_it_is_restarted(gates: Gates, image: Image) -> None:
    """Who starts it first is told by chance, so it is tried some times; gone it is each time."""
    for _time in range(6):
        container = await started(image, DEAF)
        asked = Asked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(asked, lambda: container.restart(timeout=1000))  # noqa: B023 -- over before the next
            await until_state(container, ContainerState.STOPPING)
            await container.remove(force=True)
        assert all(isinstance(failure, NotFound) for failure in asked.failures), asked.failures
        with pytest.raises(NotFound):
            await container.start()


@contextmanager
def slow(daemon: Daemon, call: str, seconds: float, *options: str) -> Iterator[None]:
    """Have the daemon's threads stand still before each such system call, for so long or until the block ends."""
    argv = ["strace", "-f", "-p", str(daemon.pid), "-o", "/dev/null", *options]
    argv += ["-e", f"trace={call}", "-e", f"inject={call}:delay_enter={seconds * 1000:.0f}ms"]
    tracer = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    tasks = Path(f"/proc/{daemon.pid}/task")
    try:
        until(lambda: all(f"TracerPid:\t{tracer.pid}\n" in (task / "status").read_text() for task in tasks.iterdir()))
        yield
    finally:
        tracer.kill()  # asked to end, it may wait for a thread that does not stop; the kernel lets go of them all
        tracer.wait()


def freezers(container_id: str) -> list[Path]:
    return [
        path
        for name in ("freezer.state", "cgroup.freeze")
        for path in Path("/sys/fs/cgroup").rglob(f"*{container_id}*/{name}")
    ]


async def test_stop_ends_the_run_that_it_found(gates: Gates, image: Image) -> None:
    """And not the next one, however long it takes."""
    container = await image.create(["sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.1; done"])
    await container.start()
    freezer, *_others = freezers((await container.info()).id)
    async with trio.open_nursery() as nursery:
        with slow(gates.daemon, "openat", 4, "-P", str(freezer)):
            nursery.start_soon(lambda: container.stop(timeout=1))
            await until_state(container, ContainerState.STOPPED)
            await container.start()
    assert (await container.info()).state is ContainerState.RUNNING
    await container.remove(force=True)


ENDS: Final[dict[str, Callable[[Container], Awaitable[None]]]] = {
    "stop": lambda container: container.stop(),
    "kill": lambda container: container.kill(),
    "remove": lambda container: container.remove(force=True),
}


@pytest.mark.parametrize("end", list(ENDS))
async def test_commit_of_one_that_is_to_end(gates: Gates, image: Image, end: str) -> None:
    """Nobody waits for it, and what begins to move while it is read is no image."""
    container = await started(
        image, ["sh", "-c", "trap 'echo late > /late; exit 7' TERM; echo up; while :; do sleep 0.1; done"]
    )
    asked = Asked()
    gates.shut("behind-pause")
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(asked, container.commit)
            await trio.to_thread.run_sync(gates.until_reached, "behind-pause")
            await ENDS[end](container)
    gates.open("behind-pause")
    assert asked.done == 0
    assert "not held still any more" in asked.failures[0].message
    if end == "stop":
        assert (await container.wait()).exit_code == 7
    if end != "remove":
        await container.remove(force=True)


async def test_commit_of_one_that_is_removed(gates: Gates, image: Image) -> None:
    """What is left of its files is no image either, where it is not held still for that."""
    fill = "mkdir /d; for name in $(seq 300); do : > /d/$name; done; echo up; exec sleep 1000"
    container = await started(image, ["sh", "-c", fill])
    asked = Asked()
    async with trio.open_nursery() as nursery:
        with slow(gates.daemon, "listxattr,flistxattr", 0.1):
            nursery.start_soon(asked, lambda: container.commit(pause=False))
            await trio.sleep(0.5)  # it has read some of them
            await container.remove(force=True)
    assert [type(failure) for failure in asked.failures] == [NotFound]


async def test_health_of_one_that_is_held_still(gates: Gates, image: Image) -> None:
    """A check that gets no answer then says nothing of it."""
    container = await image.create(
        ["sleep", "1000"],
        health_cmd="sleep 0.5",
        health_interval=0.01,
        health_timeout=2,
        health_retries=1,
        health_on_failure="kill",
    )
    await container.start()
    await container.wait(WaitCondition.HEALTHY)
    gates.shut("before-resume")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(container.commit)
        await trio.to_thread.run_sync(gates.until_reached, "before-resume")
        await trio.sleep(3)  # a check was on its way, most likely, and takes too long
        gates.open("before-resume")
    before = time.time_ns()
    with trio.fail_after(60):
        while True:
            info = await container.info()
            assert info.state is ContainerState.RUNNING
            assert info.health is not None
            if info.health.results[-1].started_at > before:
                break
            await trio.sleep(0.02)
    assert {result.exit_code for result in info.health.results} == {0}
    await container.remove(force=True)


async def test_stop_while_its_health_restarts_it(gates: Gates, image: Image) -> None:
    """Nobody has asked for the restart: whoever wants it stopped has it stopped."""
    container = await started(
        image,
        DEAF,
        health_cmd="false",
        health_interval=0.1,
        health_retries=1,
        health_on_failure="restart",
        stop_timeout=1000,
    )
    await until_state(container, ContainerState.STOPPING)
    await container.stop(timeout=0)
    await until_tasks(gates, lambda tasks: "unhealthy" not in tasks)
    assert (await container.info()).state is ContainerState.STOPPED
    await container.remove()


async def test_waiting_for_one_that_cannot_remove_itself(gates: Gates, image: Image) -> None:
    gates.daemon.expect_log("cannot remove itself")
    container = await started(image, ["sh", "-c", "echo up; exec sleep 1000"], auto_remove=True)
    with immovable(gates.daemon.root / "containers" / (await container.info()).id / "immovable"):
        await container.kill()
        with trio.fail_after(60):
            assert (await container.wait()).signal == signal.SIGKILL
    await container.remove()
    assert (await container.wait(WaitCondition.REMOVED)).signal == signal.SIGKILL


async def test_client_that_goes_while_it_is_being_connected(gates: Gates, image: Image) -> None:
    container = await started(image, ["sh", "-c", "echo up; exec sleep 1000"])
    await until_tasks(gates, lambda tasks: "attachment of" not in tasks)
    info = await container.info()
    with slow(gates.daemon, "pread64", 20, "-P", info.log_path):  # in a thread, which nobody can cancel
        async with connect(gates.daemon.socket) as engine, trio.open_nursery() as nursery:
            theirs = await engine.containers.get(info.name)
            nursery.start_soon(partial(theirs.attach, stdout=Kept()))
            before = (await until_tasks(gates, lambda tasks: "ContainerServer.attach" in tasks)).count(" session ")
            nursery.cancel_scope.cancel()
        await until_tasks(gates, lambda tasks: tasks.count(" session ") < before)
    tasks = await until_tasks(gates, lambda tasks: "ContainerServer.attach" not in tasks)
    assert "attachment of" not in tasks
    await container.remove(force=True)


async def test_attach_while_another_reader_has_it_wait(gates: Gates, image: Image) -> None:
    """What keeps the monitor busy is no reason to refuse anybody else."""
    container = await image.create(["sh", "-c", "yes | head -c 8000000; echo end"])
    kept, go = Kept(), trio.Event()
    attached = [await container.attach(stdout=stuck_until(go, kept), pace="block")]
    await container.start()
    await trio.sleep(1)  # by now it waits
    attached.append(await container.attach(stdout=Kept(), pace="drop"))
    go.set()
    for process in attached:
        assert (await process.wait()).exit_code == 0
    assert kept.data.endswith(b"y\nend\n")
    await container.remove()


async def test_exec_that_is_found_while_it_is_begun(gates: Gates, image: Image) -> None:
    """A signal is for the program, and waits for it."""
    container = await started(image, ["sh", "-c", "echo up; exec sleep 1000"])
    asked = Asked()
    results: list[Completed] = []

    async def execute() -> None:
        results.append(await container.exec(["sleep", "1000"]))

    gates.shut("before-exec")
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(execute)
            await trio.to_thread.run_sync(gates.until_reached, "before-exec")
            ((_info, found),) = await container.execs()
            nursery.start_soon(asked, lambda: found.signal("KILL"))
            await until_tasks(gates, lambda tasks: asked.done or "ExecServer.signal" in tasks)
            gates.open("before-exec")
    assert results[0].outcome.signal == signal.SIGKILL
    await container.remove(force=True)


async def test_kill_while_it_is_being_paused(gates: Gates, image: Image) -> None:
    """It ends; and whoever pauses it is told so, and not what the runtime makes of it."""
    container = await started(image, DEAF)
    asked = Asked()
    gates.shut("behind-pause")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asked, container.pause)
        await trio.to_thread.run_sync(gates.until_reached, "behind-pause")
        await container.kill()
        await until_state(container, ContainerState.STOPPED)
        gates.open("behind-pause")
    assert [failure.message for failure in asked.failures] == [
        f"the container {(await container.info()).name} is stopped"
    ]
    await container.remove()
