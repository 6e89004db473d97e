"""Being connected to a container while it is being started: nothing is missed, and nobody waits for what does not come."""

from __future__ import annotations

import os
import shlex
import signal
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from ross.client import connect
from ross.errors import FailedPrecondition, Unavailable
from ross.model.containers import ContainerState
from tests.integration.test_attach import COUNT, Kept, numbers
from tests.support.daemon import running_daemon
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from ross.client import Container
    from ross.client.processes import PaceName
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

RUNTIME = """#!/bin/sh
case " $* " in
*" create "*) [ -e {held} ] && {{ touch {called}; while [ -e {held} ]; do sleep 0.01; done; }} ;;
esac
exec runc "$@"
"""


class Hold:
    """Has the monitor be stopped when the daemon hears that it has created a container: as on a host that is busy with others."""

    daemon: Daemon

    def __init__(self, directory: Path) -> None:
        self.called, self._held, self.runtime = (directory / name for name in ("called", "held", "runtime"))
        self.runtime.write_text(
            RUNTIME.format(**{name: shlex.quote(str(directory / name)) for name in ("held", "called")})
        )
        self.runtime.chmod(0o755)
        self._held.touch()

    @asynccontextmanager
    async def monitor_stopped(self, container: Container) -> AsyncIterator[int]:
        """Start it in the background; gives its first process, which waits to begin. The monitor goes on with the block's end."""
        directory = self.daemon.run / "monitors" / (await container.info()).id
        async with trio.open_nursery() as nursery:
            nursery.start_soon(container.start)
            await trio.to_thread.run_sync(until, self.called.exists)
            with stopped(self.daemon.pid):
                self._held.unlink()
                await trio.to_thread.run_sync(until, (directory / "pid").exists)
                await trio.sleep(0.5)  # it has answered, and waits for what may come
                monitor = int((directory / "monitor.pid").read_text())
                os.kill(monitor, signal.SIGSTOP)
            try:
                await trio.sleep(0.5)  # it is started, if it does not wait for its monitor
                yield int((directory / "pid").read_text())
            finally:
                os.kill(monitor, signal.SIGCONT)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def hold(filesystem: Path, busybox: str, tmp_path: Path) -> Iterator[Hold]:
    hold = Hold(tmp_path)
    directory = filesystem / f"held{len(list(filesystem.iterdir()))}"
    directory.mkdir()
    with running_daemon(directory, settings={"ROSS_RUNTIME": str(hold.runtime)}) as hold.daemon:
        hold.daemon.ok("pull", "-q", busybox)
        yield hold


async def test_nothing_is_missed_however_late_the_monitor_comes(hold: Hold, busybox: str) -> None:
    """It takes one connection at a time, and between two of them moves the output to those that it has."""
    paces: tuple[PaceName, ...] = ("block", "drop", "block")
    kept = [Kept() for _pace in paces]
    async with connect(hold.daemon.socket) as engine:
        container = await (await engine.images.get(busybox)).create(["sh", "-c", COUNT])
        attached = [
            await container.attach(stdout=one, pace=pace, on_gap=one.gap) for one, pace in zip(kept, paces, strict=True)
        ]
        async with hold.monitor_stopped(container):
            pass
        for process in attached:
            assert (await process.wait()).exit_code == 0
        assert [one.data for one in kept] == [numbers(20000)] * len(paces)
        await container.remove()


async def test_attach_while_others_are_being_connected(hold: Hold, busybox: str) -> None:
    first, second = Kept(), Kept()
    async with connect(hold.daemon.socket) as engine:
        container = await (await engine.images.get(busybox)).create(["sh", "-c", "sleep 1; echo here"])
        attached = [await container.attach(stdout=first, pace="block")]
        async with hold.monitor_stopped(container):
            attached.append(await container.attach(stdout=second, pace="block"))
        with trio.fail_after(30):
            for process in attached:
                assert (await process.wait()).exit_code == 0
        assert first.data == second.data == b"here\n"
        await container.remove()


async def test_start_that_fails_behind_the_connection_is_told_to_everybody(hold: Hold, busybox: str) -> None:
    paces: tuple[PaceName, ...] = ("log", "drop", "block")
    async with connect(hold.daemon.socket) as engine:
        container = await (await engine.images.get(busybox)).create(["echo", "here"])
        kept = [Kept() for _pace in paces]
        attached = [await container.attach(stdout=one, pace=pace) for one, pace in zip(kept, paces, strict=True)]
        with pytest.raises(ExceptionGroup) as told:
            async with hold.monitor_stopped(container) as process:
                os.kill(process, signal.SIGKILL)
        (failed,) = told.value.exceptions
        assert isinstance(failed, FailedPrecondition)
        for one in attached:
            with trio.fail_after(30), pytest.raises(FailedPrecondition) as caught:
                await one.wait()
            assert caught.value.message == failed.message
        again = Kept()
        attached.append(await container.attach(stdout=again))
        await container.start()
        assert (await attached[-1].wait()).exit_code == 0
        await container.remove()
        assert again.data == b"here\n"
        assert [one.data for one in kept] == [b""] * len(paces), "of the next start they have nothing"


async def test_monitor_that_stays_stopped_fails_the_start(hold: Hold, busybox: str) -> None:
    async with connect(hold.daemon.socket) as engine:
        container = await (await engine.images.get(busybox)).create(["true"])
        process = await container.attach(stdout=Kept(), pace="block")
        with pytest.raises(ExceptionGroup) as told:
            async with hold.monitor_stopped(container):
                with pytest.raises(Unavailable, match="monitor has not answered for 10 s"):
                    await process.wait()
        assert told.group_contains(Unavailable, depth=1)
        assert (await container.info()).state is ContainerState.CREATED
        await container.remove()
