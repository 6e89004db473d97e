"""Room on the disk: what is refused below the floor, and the reserve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ross.errors import ResourceExhausted
from ross.layout import StateLayout
from ross.oci.digest import Digest
from ross.services.space import RESERVE_BYTES, DiskSpace
from ross.services.store import ContentStore

if TYPE_CHECKING:
    from pathlib import Path

HUGE = 1 << 60


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
