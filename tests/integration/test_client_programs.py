"""What programs do with the client library: they exit in the midst of it, are cancelled, use several tasks, and outlive a daemon."""

from __future__ import annotations

import asyncio
import errno
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import anyio
import pytest

import ross
from ross.errors import FailedPrecondition, InvalidArgument, NotFound, Reason, RossError, Unavailable
from ross.model.events import Event
from tests.support.archives import BUSYBOX

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.backends import Run
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("way_out", [SystemExit(3), KeyboardInterrupt(), pytest.skip.Exception("not today")])
@pytest.mark.parametrize("inside", ["connection", "events", "logs"])
def test_exit_leaves_a_block_as_it_is(loaded: Daemon, run: Run, way_out: BaseException, inside: str) -> None:
    async def body() -> None:
        async with ross.connect(loaded.socket) as engine, AsyncExitStack() as stack:
            container = await (await engine.images.get(BUSYBOX)).create(["true"])
            stack.push_async_callback(container.discard)
            if inside == "events":
                await stack.enter_async_context(engine.events())
            if inside == "logs":
                await stack.enter_async_context(container.logs(follow=True))
            raise way_out

    with pytest.raises(type(way_out)) as caught:
        run(body)
    assert caught.value is way_out


def test_exit_of_what_is_sent_is_raised_as_it_is(loaded: Daemon, run: Run) -> None:
    async def archive() -> AsyncIterator[bytes]:
        yield b"beginning"
        raise SystemExit(3)

    async def body() -> None:
        async with ross.connect(loaded.socket) as engine:
            with pytest.raises(TypeError, match="async"):
                await engine.images.load([b"no async iterable"])  # type: ignore[arg-type]
            await engine.images.load(archive())

    with pytest.raises(SystemExit, match="3"):
        run(body)


def test_program_that_is_executed_when_the_daemon_dies(daemon: Daemon, archive: Path, run: Run) -> None:
    daemon.ok("load", "-q", "-i", str(archive))

    async def body() -> None:
        async with ross.connect(daemon.socket) as engine:
            container = await (await engine.images.get(BUSYBOX)).create(["sleep", "600"], init=True)
            await container.start()

            async def kill() -> None:
                while len((await container.top()).rows) < 3:  # noqa: ASYNC110 -- processes of a container
                    await anyio.sleep(0.01)
                daemon.kill()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(kill)
                with pytest.raises(Unavailable, match="connection to the daemon was lost"):
                    await container.exec(["sleep", "600"])

    run(body)
    daemon.start()


def test_failure_of_a_run_is_not_hidden_by_what_it_leaves(loaded: Daemon, run: Run) -> None:
    async def body() -> None:
        async with anyio.create_task_group() as tasks:
            async with ross.connect(loaded.socket) as engine:
                image = await engine.images.get(BUSYBOX)

                async def lose() -> None:
                    with pytest.raises(RossError, match="connection to the daemon") as caught:
                        await image.run(["sleep", "600"], name="left", init=True)
                    assert "may be left: the connection to the daemon is closed" in caught.value.__notes__[0]

                tasks.start_soon(lose)
                async with engine.events() as events:
                    async for event in events:
                        if isinstance(event, Event) and event.action == "start":
                            break

    run(body)
    loaded.ok("rm", "-f", "left")


def test_reading_on_behind_the_block_has_ended(loaded: Daemon, run: Run) -> None:
    async def body() -> None:
        async with ross.connect(loaded.socket) as engine:
            async with engine.images.save(BUSYBOX) as chunks:
                assert await anext(chunks)
            assert [chunk async for chunk in chunks] == []

    run(body)


def test_connection_is_opened_and_left_by_different_tasks(loaded: Daemon) -> None:
    """As fixtures of pytest-asyncio do, and the cells of a notebook."""

    async def body() -> None:
        async with AsyncExitStack() as stack:
            engine = await asyncio.create_task(stack.enter_async_context(ross.connect(loaded.socket)))
            assert await asyncio.create_task(engine.images.list())
            await asyncio.create_task(stack.aclose())

    asyncio.run(body())


def test_several_connections_at_a_time(loaded: Daemon, run: Run) -> None:
    async def connect_often() -> None:
        for _ in range(5):
            async with ross.connect(loaded.socket) as engine:
                image = await engine.images.get(BUSYBOX)
                async with ross.connect(loaded.socket) as other:
                    with anyio.move_on_after(0.01):
                        async with engine.events():
                            await anyio.sleep_forever()
                    assert (await image.info()).id == (await (await other.images.get(BUSYBOX)).info()).id
            with pytest.raises(Unavailable, match="no daemon answers"):
                async with ross.connect(f"{loaded.socket}.none"):
                    raise AssertionError("connected to nothing")

    async def body() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(connect_often)

    run(body)


def test_container_of_one_connection_on_another(loaded: Daemon, run: Run) -> None:
    async def body() -> None:
        async with ross.connect(loaded.socket) as engine, ross.connect(loaded.socket) as other:
            container = await (await engine.images.get(BUSYBOX)).create(["true"])
            image = await other.images.get(BUSYBOX)
            for options in ({"pid": container}, {"volumes_from": [container]}):
                with pytest.raises(InvalidArgument, match="of one connection was handed over on another"):
                    await image.create(["true"], **options)
            await container.discard()

    run(body)


@pytest.mark.parametrize("inside", [False, True], ids=["closed", "another"])
def test_what_is_used_behind_its_block(loaded: Daemon, run: Run, inside: bool) -> None:
    async def body() -> None:
        async with ross.connect(loaded.socket) as engine:
            image = await engine.images.get(BUSYBOX)
            pending = engine.images.get(BUSYBOX)
            exported = engine.images.save(BUSYBOX)
        async with AsyncExitStack() as stack:
            if inside:
                await stack.enter_async_context(ross.connect(loaded.socket))
            for use in (engine.info, image.info, lambda: pending, lambda: image.create(["true"])):
                with pytest.raises(FailedPrecondition, match="the connection to the daemon is closed"):
                    await use()
            async with exported as chunks:
                with pytest.raises(FailedPrecondition, match="the connection to the daemon is closed"):
                    await anext(chunks)

    run(body)


def test_what_is_used_in_another_thread(loaded: Daemon, run: Run) -> None:
    async def body() -> None:
        async with ross.connect(loaded.socket) as engine:

            async def use() -> None:
                with pytest.raises(FailedPrecondition, match="belongs to another thread"):
                    await engine.info()

            await anyio.to_thread.run_sync(anyio.run, use)

    run(body)


def test_answer_is_had_twice(loaded: Daemon, run: Run) -> None:
    async def body() -> None:
        async with ross.connect(loaded.socket) as engine:
            pending = engine.images.get(BUSYBOX)
            assert await pending is await pending

    run(body)


def test_call_is_a_task_as_it_is(loaded: Daemon, run: Run) -> None:
    async def body() -> None:
        async with ross.connect(loaded.socket) as engine:
            container = await (await engine.images.get(BUSYBOX)).create(["true"])
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(container.start)
            assert (await container.wait()).exit_code == 0
            with pytest.raises(ExceptionGroup) as failed:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(engine.containers.get, "nobody")
            assert failed.group_contains(NotFound, depth=1)
            slow = await (await engine.images.get(BUSYBOX)).create(["sleep", "600"])
            with anyio.move_on_after(0) as scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(slow.start)
            assert scope.cancelled_caught
            await container.discard()
            await slow.discard()

    run(body)


def test_values_that_no_message_can_have(loaded: Daemon, run: Run) -> None:
    async def body() -> None:
        async with ross.connect(loaded.socket) as engine:
            image = await engine.images.get(BUSYBOX)
            container = await image.create(["true"])
            for use in (
                lambda: container.stop(timeout=0.5),  # type: ignore[arg-type]
                lambda: container.stop(timeout=1 << 40),
                lambda: container.kill(15),  # type: ignore[arg-type]
                lambda: container.rename("a\udc80"),
                lambda: image.create(["true"], memory=1 << 70),
                lambda: image.create(["true"], shm_size=-1),
                lambda: image.create(["sleep", 5]),  # type: ignore[list-item]
            ):
                with pytest.raises(InvalidArgument, match="a value is not one that"):
                    await use()
            for wrong in ({"mounts": ["/tmp:/data"]}, {"ulimits": [("nofile", 1)]}, {"devices": [None]}):
                with pytest.raises(InvalidArgument, match=r"is no (Mount|Ulimit|Device)"):
                    await image.create(["true"], **wrong)
            async with container.logs(tail=1 << 70) as entries:
                with pytest.raises(InvalidArgument, match="a value is not one that"):
                    await anext(entries)
            await container.discard()

    run(body)


LET_GO = """
import gc, sys, anyio, ross

async def main():
    async with ross.connect(sys.argv[1]) as engine:
        for _ in range(50):
            image = await engine.images.get(sys.argv[2])
            cycle = [image, engine.images.get(sys.argv[2])]
            cycle.append(cycle)
            kept = [image]
            del image, cycle
            await anyio.to_thread.run_sync(kept.clear)
            try:
                await engine.images.get("nosuch")
            except ross.RossError as error:
                error.itself = error
        await anyio.to_thread.run_sync(gc.collect)
        assert await engine.images.list()
    print("sound")

anyio.run(main, backend=sys.argv[3])
"""


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_references_are_let_go_of_in_another_thread(loaded: Daemon, backend: str) -> None:
    """KJ would end the process."""
    argv = [sys.executable, "-c", LET_GO, str(loaded.socket), BUSYBOX, backend]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "sound\n"), done.stderr


@pytest.mark.parametrize("words", [("rm", "-f"), ("stop", "-t", "0")], ids=["rm", "stop"])
def test_container_ends_although_its_reader_takes_nothing(loaded: Daemon, run: Run, words: tuple[str, ...]) -> None:
    """The reader has the process wait, but not whoever ends it."""

    async def body() -> None:
        async with ross.connect(loaded.socket) as engine:
            container = await (await engine.images.get(BUSYBOX)).create(["yes"], name="stalled", init=True)
            stalled = anyio.Event()

            async def take_nothing(_data: bytes) -> None:
                stalled.set()
                await anyio.sleep_forever()

            process = await container.attach(stdout=take_nothing, pace="block")
            await container.start()
            await stalled.wait()
            assert await anyio.to_thread.run_sync(partial(loaded.ok, *words, "stalled")) == "stalled\n"
            assert (await process.wait()).signal in {signal.SIGKILL, signal.SIGTERM}
            await container.discard()

    run(body)


def test_output_that_the_program_cannot_take(loaded: Daemon, run: Run) -> None:
    """It is not as if all had been taken."""

    async def take(data: bytes) -> None:
        raise OSError(errno.ENOSPC, f"no space for {data!r}")

    def forget_to_be_async(_data: bytes) -> None:
        return

    async def body() -> None:
        async with ross.connect(loaded.socket) as engine:
            container = await (await engine.images.get(BUSYBOX)).create(["sh", "-c", "echo out; sleep 600"], init=True)
            attached = await container.attach(stdout=take)
            await container.start()
            executed = await container.open_exec(["echo", "out"], stdout=take)
            with pytest.raises(OSError, match="no space for b'out"):
                await executed.wait()
            executed = await container.open_exec(["echo", "out"], stdout=forget_to_be_async)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="await"):
                await executed.wait()
            ((_info, found), *_others) = await container.execs()
            with pytest.raises(FailedPrecondition, match="no connection to the input"):
                await found.write(b"in")
            await container.stop(timeout=0)
            with pytest.raises(OSError, match="no space for b'out"):
                await attached.wait()
            await container.discard()

    run(body)


def test_options_that_mean_nothing_are_refused(loaded: Daemon, run: Run) -> None:
    async def body() -> None:
        async with ross.connect(loaded.socket) as engine:
            image = await engine.images.get(BUSYBOX)
            container = await image.create(["true"])
            with pytest.raises(InvalidArgument, match="no option 'memry'"):
                await container.update(memry=1 << 30)  # type: ignore[call-arg]
            for option in ("cap_add", "dns", "env", "group_add", "mask"):
                with pytest.raises(InvalidArgument, match=f"{option} takes a list, not one text"):
                    image.create(["true"], **{option: "ALL"})  # type: ignore[arg-type]
            with pytest.raises(InvalidArgument, match="list of words"):
                image.create(entrypoint="sh -c")
            with pytest.raises(InvalidArgument, match="a whole spec was given, and options beside it"):
                image.create(spec=(await container.info()).spec, name="other")
            await container.discard()

    run(body)


def test_names_are_found_by_who_looks_for_them() -> None:
    """Before anything of the library was used."""
    looking = """
import ross
assert {"connect", "Engine", "Mount", "RossError", "errors"} <= set(dir(ross))
assert ross.Mount(target="/data").target == "/data"
assert issubclass(ross.errors.NotFound, ross.RossError)
assert "connect" in dir(ross.client)
"""
    subprocess.run([sys.executable, "-c", looking], check=True)


def test_program_connects_again_when_the_daemon_was_restarted(daemon: Daemon, run: Run) -> None:
    async def body() -> None:
        async with ross.connect(daemon.socket) as engine:
            daemon.kill()
            with pytest.raises(Unavailable) as caught:
                await engine.info()
            assert caught.value.reason == Reason.DISCONNECTED
            daemon.start()
            async with ross.connect(daemon.socket) as again:
                await again.info()

    run(body)


def test_what_is_waited_for_when_the_daemon_shuts_down(daemon: Daemon, run: Run) -> None:
    """Its end is no fault of Ross, whichever way it is heard of."""

    async def body() -> None:
        async with ross.connect(daemon.socket) as engine, engine.events() as events, anyio.create_task_group() as tasks:

            async def follow() -> None:
                with pytest.raises(Unavailable) as caught:
                    await anext(events)
                assert caught.value.reason == Reason.DISCONNECTED

            tasks.start_soon(follow)
            with anyio.fail_after(10):
                while not any("next_context" in task.name for task in await engine.tasks()):  # noqa: ASYNC110 -- of another process
                    await anyio.sleep(0.01)
            assert await anyio.to_thread.run_sync(daemon.terminate) == 0
        await anyio.to_thread.run_sync(daemon.start)

    run(body)


def test_run_that_is_cancelled_at_any_point_leaves_nothing(loaded: Daemon, run: Run) -> None:
    async def body() -> None:
        async with ross.connect(loaded.socket) as engine:
            image = await engine.images.get(BUSYBOX)
            before = await engine.containers.list(all=True)
            for milliseconds in range(60):
                with anyio.move_on_after(milliseconds / 1000):
                    await image.run(["true"])
            assert await engine.containers.list(all=True) == before

    run(body)
