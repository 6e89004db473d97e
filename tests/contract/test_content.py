"""The content store: what containerd's test suite asks of one, and what ours promises beyond; for the service and for a client."""

from __future__ import annotations

import hashlib
import os
import time
from typing import TYPE_CHECKING

import pytest
import trio

from ross.errors import AlreadyExists, Corrupt, FailedPrecondition, InvalidArgument, NotFound, RossError, Unavailable
from ross.oci.digest import Digest
from tests.support.content import ContentUnderTest, open_client, open_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.daemon import Daemon

KEEP = "ross.gc.root"
pytestmark = pytest.mark.integration


@pytest.fixture(params=["service", "client"])
async def content(request: pytest.FixtureRequest, filesystem: Path, daemon: Daemon) -> AsyncIterator[ContentUnderTest]:
    """The content store, in which each test leaves nothing."""
    opened = open_service(filesystem / "content") if request.param == "service" else open_client(daemon.socket)
    async with opened as found:
        yield found
        for info in await found.list():
            await found.update(info.digest, forget=[KEEP])
        for status in await found.ingests():
            await found.abort(status.digest)
        await found.collect()
        assert await found.list() == ()


def fresh(size: int = 1000, algorithm: str = "sha256") -> tuple[bytes, Digest]:
    data = os.urandom(size)
    return data, Digest(algorithm, hashlib.new(algorithm, data).hexdigest())


async def let_go(content: ContentUnderTest) -> None:
    """Wait until nobody writes: a writer that was dropped is closed a moment later."""
    with trio.fail_after(10):
        while any(status.active for status in await content.ingests()):  # noqa: ASYNC110 -- nobody tells a client
            await trio.sleep(0.01)


async def put(content: ContentUnderTest, data: bytes, **labels: str) -> Digest:
    """Bring content in that stays."""
    digest = Digest.of(data)
    async with content.write(digest, len(data)) as writer:
        await writer.write(data)
        await writer.commit(labels={KEEP: "", **labels})
    return digest


@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_what_is_written_is_read(content: ContentUnderTest, size: int, algorithm: str) -> None:
    data, digest = fresh(size, algorithm)
    began = time.time_ns()
    async with content.write(digest, size) as writer:
        assert writer.offset == 0
        assert await writer.write(data) == size
        info = await writer.commit(labels={"a": "1"})
        assert (info.digest, info.size_bytes, info.kind, info.labels) == (digest, size, "blob", {"a": "1"})
        assert info.created_at >= began - 10**9
        assert await content.read(digest) == data
        assert await content.info(digest) == info
        assert info in await content.list()
        assert not await content.ingests()


async def test_nothing_is_there_before_the_commit(content: ContentUnderTest) -> None:
    data, digest = fresh()
    async with content.write(digest, len(data)) as writer:
        await writer.write(data)
        with pytest.raises(NotFound):
            await content.info(digest)
        with pytest.raises(NotFound):
            await content.read(digest)
        with pytest.raises(NotFound):
            await content.update(digest, labels={"a": "1"})
        with pytest.raises(NotFound):
            await content.remove(digest)


async def test_what_broke_off_goes_on_where_it_stopped(content: ContentUnderTest) -> None:
    data, digest = fresh(500_000)
    for end in (100_000, 350_000):
        async with content.write(digest, len(data)) as writer:
            await writer.write(data[writer.offset : end])
        (status,) = await content.ingests()
        assert (status.digest, status.offset, status.total_bytes) == (digest, end, len(data))
        assert not status.active
        assert status.updated_at >= status.started_at > 0
    async with content.write(digest, len(data)) as writer:
        assert writer.offset == 350_000
        await writer.write(data[350_000:])
        await writer.commit()
        assert await content.read(digest) == data


async def test_status_follows_the_writer(content: ContentUnderTest) -> None:
    data, digest = fresh()
    before = time.time_ns()
    async with content.write(digest, len(data)) as writer:
        (began,) = await content.ingests()
        assert (began.offset, began.active) == (0, True)
        assert began.started_at >= before - 10**9
        await writer.write(data[:400])
        (later,) = await content.ingests()
        assert (later.offset, later.total_bytes, later.started_at) == (400, len(data), began.started_at)


async def test_one_writer_at_a_time(content: ContentUnderTest) -> None:
    data, digest = fresh()
    async with content.write(digest, len(data)) as writer:
        with pytest.raises(Unavailable, match="somebody else is bringing in"):
            async with content.write(digest, len(data)):
                raise AssertionError("got in")
        with pytest.raises(FailedPrecondition):
            await content.abort(digest)
        other, its = fresh()
        async with content.write(its, len(other)) as second:
            await second.write(other)
        await writer.write(data)
        await writer.commit()
        with pytest.raises(AlreadyExists):
            async with content.write(digest, len(data)):
                raise AssertionError("got in")


async def test_writer_begins_anew(content: ContentUnderTest) -> None:
    data, digest = fresh()
    async with content.write(digest, len(data)) as writer:
        await writer.write(b"wrong")
        await writer.restart()
        assert writer.offset == 0
        await writer.write(data)
        await writer.commit()
        assert await content.read(digest) == data


async def test_write_must_go_on_where_it_stopped(content: ContentUnderTest) -> None:
    data, digest = fresh()
    async with content.write(digest, len(data)) as writer:
        await writer.write(data[:100])
        for offset in (0, 99, 101, 1 << 40):
            with pytest.raises(InvalidArgument, match="goes on at 100"):
                await writer.write(data[100:], offset=offset)
        await writer.write(data[100:], offset=100)
        await writer.commit()


@pytest.mark.parametrize("wrong", ["short", "other", "long"])
async def test_wrong_content_is_refused_and_nothing_is_kept(content: ContentUnderTest, wrong: str) -> None:
    data, digest = fresh()
    sent = {"short": data[:-1], "other": b"x" * len(data), "long": data + b"x"}[wrong]
    async with content.write(digest, len(data)) as writer:
        with pytest.raises(Corrupt):
            await writer.write(sent)
            await writer.commit()
    assert await content.ingests() == ()
    with pytest.raises(NotFound):
        await content.info(digest)
    async with content.write(digest, len(data)) as writer:
        assert writer.offset == 0


async def test_writer_that_is_done_does_nothing_more(content: ContentUnderTest) -> None:
    data, digest = fresh()
    async with content.write(digest, len(data)) as writer:
        await writer.write(data)
        await writer.commit()
        for again in (writer.commit, writer.restart):
            with pytest.raises(FailedPrecondition, match="closed"):
                await again()
        with pytest.raises(RossError):
            await writer.write(b"x", offset=len(data))


async def test_abort_throws_away(content: ContentUnderTest) -> None:
    data, digest = fresh()
    async with content.write(digest, len(data)) as writer:
        await writer.write(data[:500])
    await content.abort(digest)
    assert await content.ingests() == ()
    with pytest.raises(NotFound):
        await content.abort(digest)
    async with content.write(digest, len(data)) as writer:
        assert writer.offset == 0


@pytest.mark.parametrize(
    ("offset", "length"), [(0, -1), (0, 0), (1, 10), (2_999_999, 5), (3_000_000, -1), (1_000_000, -1)]
)
async def test_reader_begins_anywhere(content: ContentUnderTest, offset: int, length: int) -> None:
    data, _digest = fresh(3_000_000)
    digest = await put(content, data)
    end = len(data) if length < 0 else offset + length
    assert await content.read(digest, offset=offset, length=length) == data[offset:end]


async def test_reading_behind_the_end_is_refused(content: ContentUnderTest) -> None:
    digest = await put(content, b"0123456789")
    with pytest.raises(InvalidArgument, match="10 bytes"):
        await content.read(digest, offset=11)


async def test_labels(content: ContentUnderTest) -> None:
    digest = await put(content, fresh()[0], a="1", b="2")
    created = await content.info(digest)
    changed = await content.update(digest, labels={"b": "3", "c": ""}, forget=["a", "never"])
    assert changed.labels == {KEEP: "", "b": "3", "c": ""}
    assert changed.updated_at >= created.updated_at
    assert changed.created_at == created.created_at
    assert await content.info(digest) == changed


@pytest.mark.parametrize(
    "labels",
    [
        {"k": "x" * 4096},
        {"x" * 5000: ""},
        {"": "x"},
        {"a=b": "c"},
        {"\n": "x"},
        {str(number): "" for number in range(100)},
    ],
    ids=["large value", "large key", "no key", "equals", "control", "many"],
)
async def test_labels_are_few_and_small(content: ContentUnderTest, labels: dict[str, str]) -> None:
    data, other = fresh()
    digest = await put(content, b"labelled" + data)
    before = await content.info(digest)
    with pytest.raises(InvalidArgument):
        await content.update(digest, labels=labels)
    assert await content.info(digest) == before
    async with content.write(other, len(data)) as writer:
        await writer.write(data)
        with pytest.raises(InvalidArgument):
            await writer.commit(labels=labels)
        await writer.commit()


async def test_labels_go_with_their_content(content: ContentUnderTest) -> None:
    data, _digest = fresh()
    digest = await put(content, data, a="1")
    await content.update(digest, forget=[KEEP])
    await content.remove(digest)
    again = await put(content, data)
    assert (await content.info(again)).labels == {KEEP: ""}


async def test_walk_with_filters(content: ContentUnderTest) -> None:
    one, two, three = [await put(content, os.urandom(50), **labels) for labels in ({"a": "1"}, {"a": "2"}, {"b": "1"})]

    async def found(**wanted: object) -> set[Digest]:
        return {info.digest for info in await content.list(**wanted)}  # type: ignore[arg-type]

    assert await found() == {one, two, three}
    assert await found(labels=["a"]) == {one, two}
    assert await found(labels=["a=1"]) == {one}
    assert await found(labels=["a", "b"]) == set()
    assert await found(kind="blob") == {one, two, three}
    assert await found(kind="manifest") == set()
    assert await found(digest_prefix=str(one)[:20]) == {one}
    assert await found(digest_prefix="sha512:") == set()
    listed = [info.digest for info in await content.list()]
    assert listed == sorted(listed)


async def test_what_is_kept_is_not_removed_and_the_rest_is_collected(content: ContentUnderTest) -> None:
    kept = await put(content, fresh()[0])
    with pytest.raises(FailedPrecondition, match="in use"):
        await content.remove(kept)
    await content.collect()
    await content.info(kept)
    await content.update(kept, forget=[KEEP])
    await content.collect()
    with pytest.raises(NotFound):
        await content.info(kept)


async def test_what_is_held_by_its_writer_is_not_collected(content: ContentUnderTest) -> None:
    data, digest = fresh()
    async with content.write(digest, len(data)) as writer:
        await writer.write(data)
        await writer.commit()
        await content.collect()
        with pytest.raises(FailedPrecondition):
            await content.remove(digest)
        assert await content.read(digest) == data
    assert await content.remove(digest) == len(data) or await content.list() == ()


async def test_many_at_the_same_time(content: ContentUnderTest) -> None:
    contents = [os.urandom(10_000 + number) for number in range(16)]

    async def one(data: bytes) -> None:
        digest = Digest.of(data)
        async with content.write(digest, len(data)) as writer:
            for start in range(0, len(data), 3000):
                await writer.write(data[start : start + 3000])
            await writer.commit(labels={KEEP: ""})
        assert await content.read(digest) == data

    async with trio.open_nursery() as nursery:
        for data in contents:
            nursery.start_soon(one, data)
    assert len(await content.list()) == len(contents)


async def test_writer_that_is_cancelled_leaves_an_ingest(content: ContentUnderTest) -> None:
    data, digest = fresh()
    with trio.CancelScope() as scope:
        async with content.write(digest, len(data)) as writer:
            await writer.write(data[:300])
            scope.cancel()
            await writer.write(data[300:])
    assert scope.cancelled_caught
    await let_go(content)
    async with content.write(digest, len(data)) as writer:
        await writer.write(data[writer.offset :])
        await writer.commit()


async def test_client_that_goes_away_lets_go(daemon: Daemon) -> None:
    data, digest = fresh()
    with trio.CancelScope() as scope:
        async with open_client(daemon.socket) as first, first.write(digest, len(data)) as writer:
            await writer.write(data[:300])
            scope.cancel()
            await trio.lowlevel.checkpoint()
    async with open_client(daemon.socket) as second:
        await let_go(second)
        (status,) = await second.ingests()
        assert (status.digest, status.offset) == (digest, 300)
        await second.abort(digest)


async def test_labels_and_ingests_outlive_the_daemon(filesystem: Path) -> None:
    data, digest = fresh()
    half, its = fresh()
    (filesystem / "again").mkdir()
    async with open_service(filesystem / "again") as first:
        kept = await put(first, data, a="1")
        async with first.write(its, len(half)) as writer:
            await writer.write(half[:10])
    stray = filesystem / "again" / "labels" / f"sha256-{'0' * 64}.json"
    stray.write_text("{}")
    async with open_service(filesystem / "again") as second:
        assert (await second.info(kept)).labels == {KEEP: "", "a": "1"}
        assert [status.digest for status in await second.ingests()] == [its]
    assert not stray.exists()
    assert kept == digest
