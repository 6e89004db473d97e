"""The content store: what gets in is what its digest says, resumes, and survives every way of stopping."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from ross.errors import Corrupt, NotFound
from ross.layout import StateLayout
from ross.oci.digest import Digest
from ross.services.store import ContentStore

if TYPE_CHECKING:
    from pathlib import Path

DATA = b"some content " * 20_000
DIGEST = Digest.of(DATA)


async def opened(root: Path) -> ContentStore:
    store = ContentStore(StateLayout(root=root))
    await store.recover()
    return store


async def test_content_gets_in_and_is_found_by_the_next_daemon(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    async with store.ingest(DIGEST, len(DATA)) as ingest:
        assert ingest is not None
        await ingest.write(DATA)
        await ingest.commit()
    assert store.path(DIGEST).read_bytes() == DATA
    assert not list((tmp_path / "ingest").iterdir())
    again = await opened(tmp_path)
    assert [info.digest for info in again.blobs()] == [DIGEST]
    async with again.ingest(DIGEST, len(DATA)) as none:
        assert none is None


async def test_what_broke_off_goes_on(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    async with store.ingest(DIGEST, len(DATA)) as ingest:
        assert ingest is not None
        await ingest.write(DATA[:100_000])
    store = await opened(tmp_path)
    assert store.ingests.digests() == (DIGEST,)
    async with store.ingest(DIGEST, len(DATA)) as ingest:
        assert ingest is not None
        assert ingest.offset == 100_000
        await ingest.write(DATA[100_000:])
        await ingest.commit()
    assert store.find(DIGEST) is not None


@pytest.mark.parametrize("wrong", [DATA[:-1], b"x" + DATA[1:]])
async def test_wrong_content_is_thrown_away(tmp_path: Path, wrong: bytes) -> None:
    store = await opened(tmp_path)
    with pytest.raises(Corrupt, match="content that should be"):
        async with store.ingest(DIGEST, len(DATA)) as ingest:
            assert ingest is not None
            await ingest.write(wrong)
            await ingest.commit()
    assert store.find(DIGEST) is None
    assert not list((tmp_path / "ingest").iterdir())


async def test_more_than_was_promised_is_refused_before_it_is_written(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    with pytest.raises(Corrupt, match="longer than"):
        async with store.ingest(DIGEST, 10) as ingest:
            assert ingest is not None
            await ingest.write(DATA)
    assert not list((tmp_path / "ingest").iterdir())


async def test_two_pulls_of_one_blob_share_it(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    seen: list[bool] = []

    async def pull() -> None:
        async with store.ingest(DIGEST, len(DATA)) as ingest:
            seen.append(ingest is None)
            if ingest is not None:
                await ingest.write(DATA)
                await ingest.commit()

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(pull)
    assert sorted(seen) == [False, True, True, True, True]
    assert not store.ingests.is_busy(DIGEST)


async def test_waiting_for_another_pull_can_be_cancelled(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    async with store.ingest(DIGEST, len(DATA)), trio.open_nursery() as nursery:

        async def second() -> None:
            async with store.ingest(DIGEST, len(DATA)):
                raise AssertionError("got in")

        nursery.start_soon(second)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert not store.ingests.is_busy(DIGEST)


async def test_cancelled_write_leaves_what_can_be_gone_on_with(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    with trio.CancelScope() as scope:
        async with store.ingest(DIGEST, len(DATA)) as ingest:
            assert ingest is not None
            await ingest.write(DATA[:1000])
            scope.cancel()
            await ingest.write(DATA[1000:])
    assert scope.cancelled_caught
    async with store.ingest(DIGEST, len(DATA)) as ingest:
        assert ingest is not None
        await ingest.write(DATA[ingest.offset :])
        await ingest.commit()


async def test_documents_are_verified_when_they_are_read(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.write(Digest.of(b"{}"), b"{}")
    assert await store.read(Digest.of(b"{}")) == b"{}"
    store.path(Digest.of(b"{}")).write_bytes(b"[]")
    with pytest.raises(Corrupt, match="damaged"):
        await store.read(Digest.of(b"{}"))
    with pytest.raises(NotFound):
        await store.read(DIGEST)
    with pytest.raises(Corrupt):
        await store.write_manifest(DIGEST, b"other")


async def test_start_removes_what_no_record_owns(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    await store.write(Digest.of(b"{}"), b"{}")
    for path in (
        "blobs/sha256/short",
        "blobs/md5/abc",
        f"blobs/sha256/.{DIGEST.encoded}.new",
        "ingest/odd/data",
        "trash/x/y",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x")
    record = tmp_path / "ingest" / f"sha256-{DIGEST.encoded}"
    record.mkdir()
    (record / "metadata.json").write_text('{"digest": 5}')
    store = await opened(tmp_path)
    assert [info.digest for info in store.blobs()] == [Digest.of(b"{}")]
    assert [path.name for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == [Digest.of(b"{}").encoded]
    assert not list((tmp_path / "ingest").iterdir())
    assert not list((tmp_path / "trash").iterdir())


async def test_ingests_that_nobody_goes_on_with_expire(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    other = Digest.of(b"other")
    for digest in (DIGEST, other):
        async with store.ingest(digest, len(DATA)) as ingest:
            assert ingest is not None
            await ingest.write(b"begin")
    os.utime(tmp_path / "ingest" / f"sha256-{DIGEST.encoded}" / "data", (0, 0))
    assert await store.ingests.expire(older_than_seconds=3600) > 0
    assert store.ingests.digests() == (other,)
    async with store.ingest(other, len(DATA)):
        await store.ingests.expire(older_than_seconds=0)
        assert store.ingests.digests() == (other,), "one that is being written to stays"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 70_000), max_size=8), st.booleans())
def test_any_way_of_cutting_it_gives_the_same_content(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], reopen: bool
) -> None:
    root = tmp_path_factory.mktemp("store")

    async def body() -> None:
        store = await opened(root)
        at = 0
        for cut in cuts:
            async with store.ingest(DIGEST, len(DATA)) as ingest:
                assert ingest is not None
                assert ingest.offset == at
                piece = DATA[at : at + cut]
                await ingest.write(piece)
                at += len(piece)
            if reopen:
                store = await opened(root)
        async with store.ingest(DIGEST, len(DATA)) as ingest:
            assert ingest is not None
            await ingest.write(DATA[at:])
            await ingest.commit()
        assert store.path(DIGEST).read_bytes() == DATA

    trio.run(body)


async def test_a_disk_that_is_full_at_the_first_byte_leaves_no_ingest_that_nobody_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = await opened(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("ross.services.ingest.write_atomic", full)
        with pytest.raises(OSError, match="No space"):
            async with store.ingest(Digest.of(b"x"), 1):
                pass
    assert not list(store.layout.ingests.iterdir())
    async with store.ingest(Digest.of(b"x"), 1) as ingest:
        assert ingest is not None


async def test_ingest_that_is_just_being_made_does_not_expire(tmp_path: Path) -> None:
    store = ContentStore(StateLayout(root=tmp_path / "root"))
    await store.recover()
    digest = Digest.of(b"content")
    async with store.ingest(digest, 7) as ingest:
        assert ingest is not None
        (ingest.path.parent / "metadata.json").unlink()  # as it is before its record is written
        await store.ingests.expire(older_than_seconds=0)
        await ingest.write(b"content")
        await ingest.commit()
    assert store.find(digest) is not None


async def test_going_on_with_what_is_large_can_be_given_up(tmp_path: Path) -> None:
    store = await opened(tmp_path)
    directory = store.ingests.path(DIGEST)
    directory.mkdir(parents=True)
    with (directory / "data").open("wb") as file:
        file.truncate(1 << 42)  # which takes an hour to hash

    async def go_on() -> None:
        async with store.ingest(DIGEST, 1 << 42):
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(go_on)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert not store.ingests.is_busy(DIGEST)
    assert (directory / "data").stat().st_size == 1 << 42, "it stays for whoever goes on with it"
