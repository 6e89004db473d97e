"""The record of a container on the disk: what is newest is there, and nothing of one that is removed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import trio

import ross
from ross.errors import NotFound, RossError
from ross.model.containers import RestartPolicy
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ross.client import Container, Engine, Image
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration


@pytest.fixture
async def engine(daemon: Daemon) -> AsyncIterator[Engine]:
    async with ross.connect(daemon.socket) as connected:
        yield connected


@pytest.fixture
async def image(engine: Engine, busybox: str) -> Image:
    return await engine.images.pull(busybox)


async def test_an_end_is_not_overwritten_by_an_update_or_a_new_name(daemon: Daemon, image: Image) -> None:
    """What is written durably takes its time in a thread, and may be older than what is written then."""
    for turn in range(8):
        box = await image.create(["sh", "-c", "read x; exit 7"], stdin=True, network="none")
        process = await box.attach(stdin=True)
        await box.start()
        async with trio.open_nursery() as nursery:
            ended = trio.Event()
            nursery.start_soon(_change, box, turn, ended)
            await trio.sleep(0.02)
            await process.write(b"x\n")
            await box.wait()
            ended.set()  # a change that is under way is made, whether or not anybody waits for it
        info = await box.info()
        written = daemon.root / "containers" / info.id / "metadata.json"
        await trio.to_thread.run_sync(until, lambda path=written, name=info.name: _has_ended(path, name))
        await box.remove()


def _has_ended(written: Path, name: str) -> bool:
    record = json.loads(written.read_bytes())
    return record["run"] is None and record["outcome"]["exit_code"] == 7 and record["name"] == name


async def _change(box: Container, turn: int, ended: trio.Event) -> None:
    number = 0
    while not ended.is_set():
        number += 1
        if number % 3:
            await box.update(restart=RestartPolicy())
        else:
            await box.rename(f"turn-{turn}-{number}")


async def test_a_reference_to_what_is_removed_brings_nothing_back(daemon: Daemon, engine: Engine, image: Image) -> None:
    stale = []
    for _ in range(3):
        box = await image.create(["true"], name="web", network="none")
        stale.append(box)
        await box.remove()
    living = await image.create(["sleep", "600"], name="web", network="none")
    await living.start()
    for box in stale:
        for act in (box.kill, lambda box=box: box.kill("TERM"), box.stop, box.start, box.remove, box.pause):
            with pytest.raises(NotFound, match="has been removed"):
                await act()
    there = [path.name for path in (daemon.root / "containers").iterdir()]
    assert there == [(await living.info()).id]
    await living.remove(force=True)
    with pytest.raises(RossError):
        await engine.containers.get("web")
