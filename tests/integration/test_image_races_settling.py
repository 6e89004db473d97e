"""What was pulled gets to the disk behind the pull, whatever keeps one of the names from getting there."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from tests.integration.test_image_races import layers, open_source
from tests.support.images import ARCHITECTURE, Layer
from tests.support.scripted_registry import make_image

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.integration.test_image_races import Source

pytestmark = pytest.mark.integration


@asynccontextmanager
async def open_settling(filesystem: Path) -> AsyncIterator[Source]:
    """Three images, and a settler."""
    one, two, three = (make_image(*layers(1000), architecture=ARCHITECTURE) for _number in range(3))
    async with open_source(filesystem, one, two=two, three=three) as source, trio.open_nursery() as nursery:
        nursery.start_soon(source.services.images.settle_forever)
        await trio.testing.wait_all_tasks_blocked()
        yield source
        nursery.cancel_scope.cancel()


def tag_file(source: Source, name: str) -> Path:
    return source.services.state.tags / source.host / name.replace(":", "/:")


def pending(source: Source) -> list[Path]:
    return list(source.services.state.pending.glob("*"))


async def until(source: Source, name: str) -> None:
    """Wait until a name is on the disk."""
    while not tag_file(source, name).is_file():  # noqa: ASYNC110
        await trio.sleep(0.01)


async def test_name_that_cannot_be_written_keeps_no_other_from_the_disk(
    filesystem: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_settling(filesystem) as source:
        wrong = tag_file(source, "one:1")
        wrong.mkdir(parents=True)
        await source.pull("one:1")
        await source.pull("two:1")
        await until(source, "two:1")
        assert len(pending(source)) == 1

        wrong.rmdir()
        await source.pull("three:1")  # at the latest behind the next pull it is tried again
        await until(source, "three:1")
        await until(source, "one:1")
    assert pending(source) == []
    assert caplog.text.count("cannot be made durable") == 1


async def test_end_does_not_wait_for_a_name_that_cannot_be_written(
    filesystem: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_settling(filesystem) as source:
        tag_file(source, "one:1").mkdir(parents=True)
        await source.pull("one:1")
        await source.pull("two:1")
        await until(source, "two:1")
    assert "abandoned" not in caplog.text


async def test_name_that_cannot_be_taken_away_stays(filesystem: Path) -> None:
    async with open_settling(filesystem) as source:
        wrong = tag_file(source, "one:1")
        wrong.mkdir(parents=True)
        image = await source.pull("one:1")
        await source.pull("two:1")
        with pytest.raises(OSError, match=":1"):
            await source.services.remover.remove(f"{source.host}/one:1", force=False)

        assert source.services.images.get(f"{source.host}/one:1").digest == image.digest
        source.services.images.tag(image, "again:1")
        wrong.rmdir()
        await source.pull("three:1")
        await until(source, "one:1")


@pytest.mark.parametrize("settled", [True, False])
async def test_image_whose_name_cannot_be_written_is_not_there(filesystem: Path, settled: bool) -> None:
    image = make_image(*layers(1000), architecture=ARCHITECTURE)
    async with open_source(filesystem, image) as source:
        services = source.services
        if settled:  # all of it is there already, so that the name is written at once
            await source.pull("two:1")
        tag_file(source, "one:1").mkdir(parents=True)
        with pytest.raises(OSError, match=":1"):
            await source.pull("one:1")

        assert [found.names for found in services.images.list()] == [(f"{source.host}/two:1",)] * settled
        if settled:
            await services.remover.remove(f"{source.host}/two:1", force=False)
        await services.remover.collect()
        assert services.store.blobs() == ()


async def test_name_waits_for_documents_that_are_not_on_the_disk(filesystem: Path) -> None:
    """Nothing but the config and the manifest of the second image is new."""
    layer = Layer().add("f", b"x").tar()
    first, second = (
        make_image(layer, architecture=ARCHITECTURE),
        make_image(layer, architecture=ARCHITECTURE, annotations={"a": "b"}),
    )
    async with open_source(filesystem, first, second=second) as source, trio.open_nursery() as nursery:
        nursery.start_soon(source.services.images.settle_forever)
        await trio.testing.wait_all_tasks_blocked()
        await source.pull("first:1")
        await until(source, "first:1")

        await source.pull("second:1")

        assert not tag_file(source, "second:1").exists()
        assert len(pending(source)) == 1
        await until(source, "second:1")
        await source.pull("second:2")
        assert tag_file(source, "second:2").exists(), "of this nothing is new"
        nursery.cancel_scope.cancel()
