"""A client that brings content in, and does nothing any more, while others wait for that very content."""

from __future__ import annotations

import math
import os
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
import trio

import ross.services.content
from ross.errors import FailedPrecondition, Unavailable
from ross.layout import StateLayout
from ross.oci.digest import Digest
from ross.services.collector import Collector
from ross.services.content import Content
from ross.services.pins import Pins
from ross.services.snapshotter import Snapshotter
from ross.services.store import ContentStore

if TYPE_CHECKING:
    from pathlib import Path

DATA = os.urandom(1000)
DIGEST = Digest.of(DATA)


@pytest.fixture
async def store(tmp_path: Path) -> ContentStore:
    store = ContentStore(StateLayout(root=tmp_path))
    await store.recover()
    return store


@pytest.fixture
def content(store: ContentStore, tmp_path: Path) -> Content:
    pins = Pins()
    collector = Collector(store=store, snapshotter=Snapshotter(StateLayout(root=tmp_path)), pins=pins)
    return Content(store=store, collector=collector, pins=pins)


async def test_idle_writer_gives_way_to_who_waits(
    store: ContentStore, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = await content.write(DIGEST, len(DATA))
    await idle.write(DATA[:500], offset=0)
    monkeypatch.setattr(ross.services.content, "_IDLE_SECONDS", 0.0)
    with trio.fail_after(30):
        async with store.ingest(DIGEST, len(DATA)) as ingest:
            assert ingest is not None
            assert ingest.offset == 500
            with pytest.raises(FailedPrecondition, match="others bring it in"):
                await idle.write(DATA[500:], offset=500)
            await ingest.write(DATA[500:])
            await ingest.commit()
    await idle.close()
    assert (await content.info(DIGEST)).size_bytes == len(DATA)
    assert not store.ingests.is_busy(DIGEST)


async def test_idle_writer_gives_way_to_another_client(content: Content, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ross.services.content, "_IDLE_SECONDS", math.inf)
    idle = await content.write(DIGEST, len(DATA))
    with pytest.raises(Unavailable, match="somebody else is bringing in"):
        await content.write(DIGEST, len(DATA))
    monkeypatch.setattr(ross.services.content, "_IDLE_SECONDS", 0.0)
    second = await content.write(DIGEST, len(DATA))
    with pytest.raises(FailedPrecondition, match="others bring it in"):
        await idle.commit()
    await idle.close()
    await second.write(DATA, offset=0)
    await second.commit()
    await second.close()


async def test_writer_that_goes_on_is_waited_for(
    store: ContentStore, content: Content, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ross.services.content, "_IDLE_SECONDS", math.inf)
    writer = await content.write(DIGEST, len(DATA))
    found: list[object] = []

    async def wait() -> None:
        async with AsyncExitStack() as stack:
            found.append(await stack.enter_async_context(store.ingest(DIGEST, len(DATA))))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(1.5)  # whoever waits has looked
        await writer.write(DATA, offset=0)
        await writer.commit()
        await writer.close()
    assert found == [None], "it is there"
