"""Pulls, removals and collections at the same time, at any time: nothing that somebody needs is ever missing."""

from __future__ import annotations

import os
import random
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import trio

from ross.errors import RossError
from ross.model.images import PullOptions
from ross.oci.digest import chain_ids
from ross.services.snapshotter import committed_name
from tests.integration.test_cancellation import Services, open_services
from tests.support.images import ImageBuilder, Layer, push

if TYPE_CHECKING:
    from pathlib import Path

    from ross.services.image import Image

pytestmark = pytest.mark.integration
ROUNDS = 200


def missing(services: Services, image: Image) -> list[str]:
    """What an image lacks, in the books and on the disk."""
    layout = services.state
    blobs = [image.manifest.config.digest, *(layer.digest for layer in image.manifest.layers)]
    found = [f"blob {digest}" for digest in blobs if services.store.find(digest) is None]
    found += [f"file {digest}" for digest in blobs if not layout.blob(digest).is_file()]
    found += [f"manifest {one}" for one in (image.digest,) if not layout.manifest(one).is_file()]
    for chain in chain_ids(image.config.rootfs.diff_ids):
        files = services.snapshotter.files(committed_name(chain))
        if services.snapshotter.find(committed_name(chain)) is None or not list(files.iterdir()):
            found.append(f"snapshot {chain}")
    return found


async def test_two_pulls_and_a_removal_of_one_image(filesystem: Path, registry: str) -> None:
    place = filesystem / "collecting"
    place.mkdir()
    shared = Layer().add("shared", os.urandom(3000))
    first = ImageBuilder().layer(shared).layer(Layer().add("one", os.urandom(2000)))
    second = ImageBuilder().layer(first.layers[0][0]).layer(Layer().add("two", os.urandom(2000)))
    names = [push(registry, "test/race:1", first.build()), push(registry, "test/race:2", second.build())]
    chance = random.Random(20)
    lacking: list[str] = []

    async with open_services(place) as services:

        async def pull(name: str, after: float, held_for: float) -> None:
            await trio.sleep(after)
            image = await services.images.pull(name, PullOptions(), lambda _progress: None)
            with image.hold():
                lacking.extend(missing(services, image))
                await trio.sleep(held_for)
                lacking.extend(missing(services, image))

        async def remove(name: str, after: float) -> None:
            await trio.sleep(after)
            with suppress(RossError):
                await services.remover.remove(name, force=False)

        async def collect(after: float) -> None:
            await trio.sleep(after)
            await services.remover.collect()

        def moment() -> float:
            return chance.choice((0.0, chance.uniform(0, 0.002), chance.uniform(0, 0.03)))

        for turn in range(ROUNDS):
            with trio.fail_after(60):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pull, names[0], moment(), moment())
                    nursery.start_soon(pull, names[turn % 2], moment(), moment())
                    nursery.start_soon(remove, names[0], moment())
                    if turn % 3 == 0:
                        nursery.start_soon(remove, names[1], moment())
                    if turn % 2:
                        nursery.start_soon(collect, moment())
            assert not lacking
            assert [what for image in services.images.known() for what in missing(services, image)] == []
        for name in names:
            await remove(name, 0)
        await services.remover.collect()
        assert services.store.blobs() == ()
        assert services.store.manifests() == ()
        assert services.snapshotter.list() == ()
        assert services.leftovers() == []
        assert list(services.store.layout.trash.iterdir()) == []
