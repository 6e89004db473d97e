"""Layers that two pulls share, or that are moved, thrown away or left in the middle of being unpacked."""

from __future__ import annotations

import json
import os
import signal
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from attrs import define

from ross.linux.archive.limits import ArchiveLimits
from ross.linux.archive.workers import Workers
from ross.oci.digest import Digest
from tests.integration.test_collecting import missing
from tests.integration.test_image_races import layers, open_source
from tests.support.images import ARCHITECTURE, ImageBuilder, Layer
from tests.support.scripted_registry import ScriptedImage, make_image

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.integration


def one_layer(tar: bytes, compression: str) -> ScriptedImage:
    built = ImageBuilder().layer(tar, compression=compression).build()
    document = json.loads(built.manifest)
    layer, config = document["layers"][0]["digest"], document["config"]["digest"]
    return ScriptedImage(built.manifest, built.blobs, config, (layer,))


async def test_pull_that_cannot_clear_up_leaves_its_layers_to_others(
    filesystem: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = make_image(*layers(1000, 1000), architecture=ARCHITECTURE)
    async with open_source(filesystem, image) as source:
        services = source.services
        stall = source.stall(f"/blobs/{image.layer_digests[1]}")
        given_up = trio.CancelScope()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(source.pull_unless, given_up)
            await stall.reached.wait()
            with trio.fail_after(60):
                while not list(services.state.snapshots.glob("unpack-*/fs/f0")):  # noqa: ASYNC110
                    await trio.sleep(0.01)
            services.state.trash.rmdir()
            services.state.trash.touch()  # so nothing can be taken away
            given_up.cancel()
            nursery.start_soon(source.pull, "app:2")
            await trio.testing.wait_all_tasks_blocked(0.05)
            services.state.trash.unlink()
            stall.passed.set()

        assert missing(services, services.images.get(f"{source.host}/app:2")) == []
        assert "cannot be removed" in caplog.text
        for info in services.snapshotter.list():
            if info.name.startswith("unpack-"):
                await services.snapshotter.remove(info.name)


async def test_layer_that_is_just_moved_to_its_place_is_unpacked_from_there(filesystem: Path) -> None:
    """It is in neither place as far as the books say, for a moment: here as long as it takes to remove what lies beside it."""
    tar = Layer().add("f", os.urandom(2_000_000)).tar()
    plain, packed = one_layer(tar, ""), one_layer(tar, "+gzip")
    digest = Digest.parse(packed.layer_digests[0])
    async with open_source(filesystem, plain, packed=packed) as source:
        services = source.services
        claiming, moving = source.stall(f"/blobs/{plain.layer_digests[0]}"), source.stall(f"/blobs/{digest}")
        given_up = trio.CancelScope()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(source.pull_unless, given_up)
            await claiming.reached.wait()
            nursery.start_soon(source.pull, "packed:1")  # unpacks to the same, and waits for the first one's layer
            await moving.reached.wait()
            for number in range(20_000):
                (services.store.ingests.path(digest) / str(number)).touch()
            moving.passed.set()
            while not services.state.blob(digest).exists():  # noqa: ASYNC110
                await trio.sleep(0.001)
            given_up.cancel()

        assert missing(services, services.images.get(f"{source.host}/packed:1")) == []


@define
class Unpacking:
    """A blob, and workers to unpack it."""

    directory: Path
    workers: Workers

    async def apply(self, name: str, arrived: trio.Event | None = None) -> None:
        """Unpack it; it comes in with that event."""
        tar = (self.directory / "blob").read_bytes()

        async def arrivals(_seen: int) -> int:
            if arrived is not None:
                await arrived.wait()
            return len(tar)

        (self.directory / name).mkdir()
        with (self.directory / "blob").open("rb") as blob:
            await self.workers.apply(
                blob.fileno(),
                self.directory / name,
                size_bytes=len(tar),
                algorithm="sha256",
                limits=ArchiveLimits(),
                arrivals=arrivals,
                progress=unheard,
            )
        assert (self.directory / name / "f").read_bytes() == b"x"


@asynccontextmanager
async def open_unpacking(directory: Path, *, count: int) -> AsyncIterator[Unpacking]:
    (directory / "blob").write_bytes(Layer().add("f", b"x").tar())
    before = children()
    with trio.fail_after(60):
        workers = Workers(count=count)
        async with workers.session():
            yield Unpacking(directory, workers)
    assert children() == before


async def test_worker_that_ends_while_it_has_nothing_to_do_is_missed_by_nobody(tmp_path: Path) -> None:
    before = children()
    async with open_unpacking(tmp_path, count=1) as unpacking:
        await unpacking.apply("one")
        (worker,) = children() - before
        os.kill(worker, signal.SIGKILL)
        await trio.to_thread.run_sync(os.waitid, os.P_PID, worker, os.WEXITED | os.WNOWAIT)

        await unpacking.apply("two")


async def test_layer_that_does_not_come_in_keeps_no_other_from_being_unpacked(tmp_path: Path) -> None:
    arrived = trio.Event()
    async with open_unpacking(tmp_path, count=1) as unpacking, trio.open_nursery() as nursery:
        nursery.start_soon(unpacking.apply, "stalled", arrived)
        await trio.testing.wait_all_tasks_blocked(0.01)
        await unpacking.apply("whole")
        arrived.set()


async def test_layer_that_is_given_up_while_it_waits_to_go_on_leaves_its_turn(tmp_path: Path) -> None:
    arrived, arriving = trio.Event(), trio.Event()
    async with open_unpacking(tmp_path, count=1) as unpacking:
        for number in range(3):
            given_up = trio.CancelScope()
            async with trio.open_nursery() as nursery:

                async def stall(name: str, scope: trio.CancelScope = given_up) -> None:
                    with scope:
                        await unpacking.apply(name, arrived)

                nursery.start_soon(stall, f"stalled{number}")
                await trio.testing.wait_all_tasks_blocked(0.01)
                nursery.start_soon(
                    unpacking.apply, f"arriving{number}", arriving
                )  # has the turn that the first one leaves
                await trio.testing.wait_all_tasks_blocked(0.01)
                given_up.cancel()
                arriving.set()
        await unpacking.apply("last")


def children() -> set[int]:
    return {int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def unheard(_packed: int) -> None:
    """Nobody looks."""
