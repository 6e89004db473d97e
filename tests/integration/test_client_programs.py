"""What programs do with the client library: they exit in the midst of it, are cancelled, use several tasks, and outlive a daemon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import ross
from ross.errors import Unavailable
from tests.support.archives import BUSYBOX

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


@pytest.fixture(params=["trio", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run an async function on each of the two."""
    return lambda function: anyio.run(function, backend=request.param)


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
