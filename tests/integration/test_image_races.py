"""What one client does to images in the middle of what another does: held there by a registry that does not answer yet."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from attrs import define, field

from ross.model.images import PullOptions
from tests.integration.test_cancellation import Services, open_services
from tests.integration.test_cancellation_storage import checker_of, usage_of
from tests.integration.test_collecting import missing
from tests.support.images import ARCHITECTURE, Layer
from tests.support.scripted_registry import Request, ScriptedImage, make_image, reply, scripted_registry, serve_image

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ross.services.image import Image

pytestmark = pytest.mark.integration


@define
class Stall:
    """Where a request waits."""

    part: str
    """Of their path."""
    status: int = 0
    """What they are answered with at last; 0 for what they asked for."""
    reached: trio.Event = field(factory=trio.Event)
    passed: trio.Event = field(factory=trio.Event)


@define
class Source:
    """A registry, and the engine's services beside it."""

    host: str
    services: Services
    stalls: list[Stall] = field(factory=list)

    async def pull(self, name: str = "app:1") -> Image:
        return await self.services.images.pull(f"{self.host}/{name}", PullOptions(), lambda _progress: None)

    async def pull_unless(self, given_up: trio.CancelScope) -> None:
        """As whoever loses patience."""
        with given_up:
            await self.pull()

    def stall(self, part: str, status: int = 0) -> Stall:
        """Have the next request for something wait."""
        self.stalls.append(Stall(part, status))
        return self.stalls[-1]

    def damage(self, path: Path) -> bytes:
        """Change a byte. Returns what it was."""
        data = path.read_bytes()
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        return data


def layers(*sizes: int) -> list[bytes]:
    return [Layer().add(f"f{number}", os.urandom(size)).tar() for number, size in enumerate(sizes)]


@asynccontextmanager
async def open_source(filesystem: Path, image: ScriptedImage, **others: ScriptedImage) -> AsyncIterator[Source]:
    """A registry of an image, and of some others by repository."""
    place = filesystem / token_hex(4)
    place.mkdir()
    stalls: list[Stall] = []

    async def serve(request: Request, stream: trio.SocketStream) -> None:
        stall = next((one for one in stalls if one.part in request.path and not one.reached.is_set()), None)
        if stall is not None:
            stall.reached.set()
            await stall.passed.wait()
            if stall.status:
                await reply(stream, stall.status)
                return
        await serve_image(others.get(request.path.split("/")[2], image), request, stream)

    with trio.fail_after(120):
        async with scripted_registry(serve) as registry, open_services(place) as services:
            yield Source(registry.host, services, stalls)
            assert services.leftovers() == []


async def test_nothing_is_collected_of_an_image_whose_manifest_is_mended(filesystem: Path) -> None:
    async with open_source(filesystem, make_image(*layers(1000, 1000), architecture=ARCHITECTURE)) as source:
        services = source.services
        image = await source.pull()
        path = services.state.manifest(image.digest)
        whole = source.damage(path)
        stall = source.stall(f"/manifests/{image.digest}")

        async with trio.open_nursery() as nursery:

            async def mend() -> None:
                report = await checker_of(services, usage_of(services)).check(repair=True)
                assert [finding.repaired for finding in report.findings] == [True]

            nursery.start_soon(mend)
            await stall.reached.wait()
            removed = await services.remover.collect()
            stall.passed.set()

        assert removed.deleted == ()
        assert missing(services, image) == []
        assert path.read_bytes() == whole


@pytest.mark.parametrize("status", [0, 404], ids=["comes", "does not come"])
async def test_layer_is_there_for_others_while_it_is_mended(filesystem: Path, status: int) -> None:
    async with open_source(filesystem, make_image(*layers(1000, 1000), architecture=ARCHITECTURE)) as source:
        services = source.services
        image = await source.pull()
        layer = image.manifest.layers[0].digest
        whole = source.damage(services.state.blob(layer))
        stall = source.stall(f"/blobs/{layer}", status)

        async with trio.open_nursery() as nursery:

            async def mend() -> None:
                report = await checker_of(services, usage_of(services)).check(repair=True)
                assert {finding.repaired for finding in report.findings if finding.kind == "blob"} == {not status}

            nursery.start_soon(mend)
            await stall.reached.wait()
            assert missing(services, image) == []
            nursery.start_soon(source.pull, "app:2")  # waits for it too
            await trio.testing.wait_all_tasks_blocked(0.05)
            stall.passed.set()

        assert missing(services, image) == []
        assert services.images.get(f"{source.host}/app:2").digest == image.digest
        if not status:
            assert services.state.blob(layer).read_bytes() == whole
        assert services.store.ingests.digests() == ()
        assert (await usage_of(services).strangers()) == frozenset()


async def test_check_that_is_given_up_leaves_alone_who_brings_in_the_same(filesystem: Path) -> None:
    async with open_source(filesystem, make_image(*layers(1000, 1000), architecture=ARCHITECTURE)) as source:
        services = source.services
        image = await source.pull("one/app:1")
        await source.pull("two/app:1")
        layer = image.manifest.layers[0].digest
        whole = source.damage(services.state.blob(layer))
        first, second = source.stall(f"/blobs/{layer}", 404), source.stall(f"/blobs/{layer}")
        checking = trio.CancelScope()

        async with trio.open_nursery() as nursery:

            async def mend() -> None:
                with checking:
                    await checker_of(services, usage_of(services)).check(repair=True)

            nursery.start_soon(mend)
            await first.reached.wait()
            nursery.start_soon(source.pull, "three/app:1")
            await trio.testing.wait_all_tasks_blocked(0.05)
            first.passed.set()  # now the check would ask for the second name, and waits for the pull
            await second.reached.wait()
            await trio.testing.wait_all_tasks_blocked(0.05)
            checking.cancel()
            await trio.testing.wait_all_tasks_blocked(0.05)
            second.passed.set()

        assert services.images.get(f"{source.host}/three/app:1").digest == image.digest
        assert services.state.blob(layer).read_bytes() == whole


async def test_pulls_beside_each_other_find_a_damaged_config(filesystem: Path) -> None:
    async with open_source(filesystem, make_image(*layers(1000), architecture=ARCHITECTURE)) as source:
        image = await source.pull()
        path = source.services.state.blob(image.manifest.config.digest)
        # One thread for all: so one pull looks at it just when the other has seen that it is damaged.
        trio.to_thread.current_default_thread_limiter().total_tokens = 1

        for _round in range(20):
            whole = source.damage(path)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(source.pull, "app:1")
                nursery.start_soon(source.pull, "app:2")
            assert path.read_bytes() == whole


async def test_pulls_that_wait_for_another_ones_layer_take_no_place_of_a_download(filesystem: Path) -> None:
    shared, other = (make_image(*layers(1000, 2000), architecture=ARCHITECTURE) for _number in range(2))
    async with open_source(filesystem, shared, other=other) as source:
        stall = source.stall(f"/blobs/{shared.layer_digests[1]}")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(source.pull, "app:0")
            await stall.reached.wait()
            for number in range(1, 7):
                nursery.start_soon(source.pull, f"app:{number}")
            await trio.testing.wait_all_tasks_blocked(0.05)

            await source.pull("other:1")

            assert not stall.passed.is_set()
            stall.passed.set()

        names = {name for image in source.services.images.list() for name in image.names}
        assert names == {f"{source.host}/{name}" for name in ("other:1", *(f"app:{number}" for number in range(7)))}
