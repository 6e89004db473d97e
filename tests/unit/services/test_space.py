"""Room on the disk: what is refused below the floor, and the reserve."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
import trio

from ross.errors import ResourceExhausted
from ross.layout import StateLayout
from ross.oci.digest import Digest
from ross.services.space import RESERVE_BYTES, DiskSpace
from ross.services.spool import open_spool
from ross.services.store import ContentStore

if TYPE_CHECKING:
    from pathlib import Path

HUGE = 1 << 60


class Unchanging(DiskSpace):
    """A disk on which 400 MiB are free, whatever else is going on."""

    def free_bytes(self) -> int:
        return 400 << 20


def test_floor_is_small_on_a_small_disk(tmp_path: Path) -> None:
    space = DiskSpace(StateLayout(root=tmp_path))
    assert 0 < space.floor_bytes <= 256 << 20
    space.require(0, what="nothing")


def test_what_would_go_below_the_floor_is_refused(tmp_path: Path) -> None:
    space = DiskSpace(StateLayout(root=tmp_path), floor_bytes=1)
    space.require(1, what="little")
    with pytest.raises(ResourceExhausted, match=r"MiB are free, .* MiB are needed, and 0 MiB must stay free") as caught:
        space.require(HUGE, what="much")
    assert "ross system prune" in (caught.value.hint or "")
    assert caught.value.facts["needed_bytes"] == HUGE


def test_what_is_on_its_way_keeps_the_room_that_it_still_needs(tmp_path: Path) -> None:
    space = Unchanging(StateLayout(root=tmp_path), floor_bytes=100 << 20)
    with space.promise(200 << 20, what="first") as first:
        with pytest.raises(
            ResourceExhausted,
            match="400 MiB are free, 200 MiB of it for what is on its way, 101 MiB are needed, and 100",
        ):
            space.require(101 << 20, what="second")
        first.left_bytes -= 1 << 20
        with space.promise(101 << 20, what="second") as second:
            assert space.promised_bytes == 300 << 20
            second.check(300 << 20)  # of what is promised, everybody may take
            with pytest.raises(ResourceExhausted):
                second.check(301 << 20)
    assert space.promised_bytes == 0
    space.require(300 << 20, what="alone")


def test_floor_of_nothing_refuses_nothing(tmp_path: Path) -> None:
    DiskSpace(StateLayout(root=tmp_path), floor_bytes=0).require(HUGE, what="much")


def test_reserve_is_really_there_and_given_up_in_full(tmp_path: Path) -> None:
    layout = StateLayout(root=tmp_path)
    space = DiskSpace(layout, floor_bytes=0)
    with space.room_to_remove():
        assert not layout.reserve.exists()
    assert layout.reserve.stat().st_blocks * 512 >= RESERVE_BYTES
    space.make_reserve()
    space.give_up_reserve()
    space.give_up_reserve()
    assert not layout.reserve.exists()


def test_there_is_no_reserve_without_room(tmp_path: Path) -> None:
    layout = StateLayout(root=tmp_path)
    DiskSpace(layout, floor_bytes=HUGE).make_reserve()
    assert not layout.reserve.exists()


async def test_ingests_beside_each_other_do_not_begin_unless_all_can_end(tmp_path: Path) -> None:
    layout = StateLayout(root=tmp_path)
    store = ContentStore(layout, space=Unchanging(layout, floor_bytes=100 << 20))
    await store.recover()
    digests = [Digest.of(b"%d" % number) for number in range(10)]
    store.require_room(dict.fromkeys(digests, 30 << 20), what="an image")
    with pytest.raises(ResourceExhausted, match="for an image: 400 MiB are free, 310 MiB are needed, and 100 MiB"):
        store.require_room(dict.fromkeys(digests, 31 << 20), what="an image")

    async with AsyncExitStack() as stack:
        for digest in digests[:4]:
            await stack.enter_async_context(store.ingest(digest, 70 << 20))
        for digest in digests[4:]:
            with pytest.raises(ResourceExhausted, match="280 MiB of it for what is on its way, 70 MiB are needed"):
                await stack.enter_async_context(store.ingest(digest, 70 << 20))
        store.require_room({digests[0]: 70 << 20, digests[9]: 20 << 20}, what="one that is on its way, and a small one")
        await store.write(Digest.of(b"small"), b"small")
    assert store.space.promised_bytes == 0


async def test_what_is_on_the_disk_already_needs_no_room(tmp_path: Path) -> None:
    layout, data = StateLayout(root=tmp_path), b"x" * 1000
    store = ContentStore(layout, space=DiskSpace(layout, floor_bytes=0))
    await store.recover()
    async with open_spool(store, purpose="test") as spool:
        spooled = await trio.to_thread.run_sync(lambda: spool.add([data], expected_bytes=len(data)))
        store.space._floor_bytes = HUGE
        await store.adopt(spooled.digest, spooled.path, spooled.size_bytes)
        with pytest.raises(ResourceExhausted, match="for the archive"):
            spool.add([data], expected_bytes=len(data))
    assert await store.read(Digest.of(data)) == data


async def test_pull_does_not_begin_below_the_floor_and_stops_where_it_is_reached(tmp_path: Path) -> None:
    layout, data = StateLayout(root=tmp_path), b"x" * 1000
    space = DiskSpace(layout, floor_bytes=1)
    store = ContentStore(layout, space=space)
    await store.recover()
    with pytest.raises(ResourceExhausted):
        async with store.ingest(Digest.of(data), HUGE):
            raise AssertionError("begun")
    with pytest.raises(ResourceExhausted):
        async with store.ingest(Digest.of(data), len(data)) as ingest:
            assert ingest is not None
            await ingest.write(data[:500])
            space._floor_bytes = HUGE
            await ingest.write(data[500:])
    space._floor_bytes = 0
    async with store.ingest(Digest.of(data), len(data)) as ingest:
        assert ingest is not None
        assert ingest.offset == 500, "what was there is gone on with"
        await ingest.write(data[500:])
        await ingest.commit()
