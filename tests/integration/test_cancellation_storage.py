"""Looking after the root, cancelled while it waits: nothing is half done, and nothing is left behind."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from ross.errors import RossError
from ross.model.containers import ContainerSpec
from ross.model.images import PullOptions
from ross.model.storage import PruneOptions
from ross.services.checker import Checker
from ross.services.events import Events
from ross.services.pruner import Pruner
from ross.services.usage import Usage
from tests.integration.test_cancellation import Services, cancelled_at, open_services, settled
from tests.support.images import ImageBuilder, Layer, busybox_layer, push

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration
MOMENTS = (0.0, 0.001, 0.004, 0.015, 0.05)


@pytest.fixture(scope="module")
def image(registry: str) -> str:
    """An image that takes a moment to look at."""
    big = Layer().add("big", bytes(range(256)) * 60_000)
    return push(registry, "test/looked-after:1", ImageBuilder().layer(busybox_layer()).layer(big).build())


def checker_of(services: Services, usage: Usage) -> Checker:
    puller = services.images._puller
    return Checker(
        layout=services.state,
        store=services.store,
        snapshotter=services.snapshotter,
        unpacker=puller._unpacker,
        puller=puller,
        collector=services.remover._collector,
        images=services.images,
        containers=services.containers,
        usage=usage,
    )


def usage_of(services: Services) -> Usage:
    return Usage(
        layout=services.state,
        store=services.store,
        snapshotter=services.snapshotter,
        images=services.images,
        containers=services.containers,
    )


async def test_measuring_checking_and_mending(filesystem: Path, image: str) -> None:
    place = filesystem / "looked-after"
    place.mkdir()
    async with open_services(place) as services:
        await services.images.pull(image, PullOptions(), lambda _progress: None)
        usage = usage_of(services)
        checker = checker_of(services, usage)
        largest = max(services.store.blobs(), key=lambda info: info.size_bytes)
        for seconds in MOMENTS:
            await cancelled_at(seconds, usage.measure)

            async def mend() -> None:
                await checker.check(repair=True)

            damaged = bytearray(services.state.blob(largest.digest).read_bytes())
            damaged[100] ^= 1
            services.state.blob(largest.digest).write_bytes(damaged)
            await cancelled_at(seconds, mend)
            assert services.leftovers() == []
            assert services.store.find(largest.digest) is not None, "it is never lost"
        await mend()
        assert (await checker.check(repair=False)).findings == ()
        assert (await usage.measure()).rows[-1].size_bytes == 0, "nothing is unknown"


async def test_pruning(filesystem: Path, image: str) -> None:
    place = filesystem / "pruned"
    place.mkdir()
    async with open_services(place) as services:
        pruner = Pruner(
            remover=services.remover, containers=services.containers, usage=usage_of(services), events=Events()
        )
        for seconds in MOMENTS:
            with suppress(RossError):
                pulled = await services.images.pull(image, PullOptions(), lambda _progress: None)
                await services.containers.create(pulled, ContainerSpec(args=("true",)))

            async def prune() -> None:
                await pruner.prune(PruneOptions(all=True))

            await cancelled_at(seconds, prune)
            await settled(services)
            await prune()
            await settled(services)
            assert services.leftovers() == []
            assert services.store.blobs() == ()
