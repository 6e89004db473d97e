"""The ring of events: what is told, what is missing and said to be, where a reading goes on, and what is wanted of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from ross.errors import InvalidArgument
from ross.layout import StateLayout
from ross.model.events import Event, EventFilter, EventGap, EventOptions
from ross.services import events as module
from ross.services.epochs import Epoch, EpochRecord, begin_epoch, end_epoch
from ross.services.events import Events, Reader

if TYPE_CHECKING:
    from pathlib import Path

FROM_NOW = EventOptions()


def happen(events: Events, *names: str) -> None:
    for name in names:
        events.publish("container", "start", subject=name * 64, name=name)


def names(reader: Reader) -> list[str]:
    """Everything that is there, by name; a gap by what it says is lost."""
    found, position = [], 0
    while True:
        batch = reader.ready(position)
        found += [f"-{batch.gap.lost}"] if batch.gap is not None else []
        found += [event.name for event in batch.events]
        if batch.position == position or batch.ended:
            return found
        position = batch.position


# -- the ring -----------------------------------------------------------------------------------------------------------


def test_sequence_rises_by_one_below_the_number_of_the_daemon() -> None:
    events = Events(epoch=Epoch(number=3))
    reader = events.open(FROM_NOW)
    happen(events, "a", "b")
    assert [event.sequence for event in reader.ready().events] == [(3 << 40) + 1, (3 << 40) + 2]


def test_reading_begins_now_unless_it_is_told_otherwise() -> None:
    events = Events()
    happen(events, "a")
    reader = events.open(FROM_NOW)
    happen(events, "b")
    assert names(reader) == ["b"]


def test_asking_again_for_the_same_gives_the_same() -> None:
    events = Events()
    reader = events.open(FROM_NOW)
    happen(events, "a", "b")
    first = reader.ready()
    assert reader.ready() == first
    happen(events, "c")
    assert [event.name for event in reader.ready().events] == ["a", "b", "c"]
    assert [event.name for event in reader.ready(first.position).events] == ["c"]


def test_what_left_the_ring_before_it_was_read_is_a_gap() -> None:
    events = Events(kept=3)
    reader = events.open(FROM_NOW)
    happen(events, *"abcdefg")
    assert names(reader) == ["-4", "e", "f", "g"]


def test_slow_reader_costs_nothing_and_holds_nobody_up() -> None:
    events = Events(kept=10)
    readers = [events.open(FROM_NOW) for _number in range(50)]
    for number in range(100):
        happen(events, str(number % 10))
    assert len(events._ring) == 10
    assert all(names(reader)[0] == "-90" for reader in readers)


def test_ring_is_bounded_by_what_it_holds_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 10_000)
    events = Events()
    reader = events.open(FROM_NOW)
    for number in range(20):
        events.publish("container", "start", subject=str(number), labels={"big": "x" * 3000})
    batch = reader.ready()
    assert batch.gap == EventGap(lost=17)
    assert [event.subject for event in batch.events] == ["17", "18", "19"]
    assert events._bytes <= 10_000


def test_one_event_that_is_too_large_for_the_ring_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_BYTES", 100)
    events = Events()
    reader = events.open(FROM_NOW)
    events.publish("container", "start", subject="x", labels={"big": "x" * 3000})
    assert len(reader.ready().events) == 1


def test_batches_are_bounded_and_lose_nothing() -> None:
    events = Events()
    reader = events.open(FROM_NOW)
    for number in range(200):
        events.publish("container", "start", subject=str(number), name=str(number))
    assert len(reader.ready().events) == 64
    assert names(reader) == [str(number) for number in range(200)]


@given(st.integers(1, 8), st.lists(st.integers(0, 12), max_size=12))
def test_reader_sees_every_event_once_or_counted_in_a_gap(kept: int, steps: list[int]) -> None:
    events = Events(kept=kept)
    reader = events.open(FROM_NOW)
    position, seen, lost, happened = 0, list[int](), 0, 0
    for step in [*steps, 0]:
        for _number in range(step):
            happened += 1
            events.publish("container", "start", subject=str(happened))
        batch = reader.ready(position)
        lost += batch.gap.lost if batch.gap is not None else 0
        seen += [int(event.subject) for event in batch.events]
        position = batch.position
    assert seen == sorted(set(seen))
    assert len(seen) + lost == happened


# -- waiting ------------------------------------------------------------------------------------------------------------


async def test_reader_waits_for_the_next_one() -> None:
    events = Events()
    reader = events.open(EventOptions(filter=EventFilter(containers=("b",))))
    found: list[str] = []

    async def read() -> None:
        found.extend(event.name for event in (await reader.next()).events)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        happen(events, "a")
        await trio.testing.wait_all_tasks_blocked()
        assert found == []
        happen(events, "b")
    assert found == ["b"]


async def test_cancelled_reader_leaves_nothing_and_misses_nothing() -> None:
    events = Events()
    reader = events.open(FROM_NOW)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.next)
        await trio.testing.wait_all_tasks_blocked()
        assert len(events._news) == 1
        nursery.cancel_scope.cancel()
    assert len(events._news) == 0
    happen(events, "a")
    assert names(reader) == ["a"]


async def test_what_nobody_wants_is_no_gap_for_who_asks_again() -> None:
    events = Events(kept=4)
    reader = events.open(EventOptions(filter=EventFilter(containers=("z",))))
    for _round in range(3):
        with trio.move_on_after(0):
            await reader.next()
        assert reader.ready().events == ()
        happen(events, "a", "b", "c")
    happen(events, "z")
    assert names(reader) == ["z"]


async def test_reading_ends_at_its_time() -> None:
    events = Events()
    until = time.time_ns() + 100_000_000
    reader = events.open(EventOptions(until=until))
    happen(events, "a")
    first = await reader.next()
    assert ([event.name for event in first.events], first.ended) == (["a"], False)
    with trio.fail_after(60):
        last = await reader.next(first.position)
    assert (last.events, last.ended) == ((), True)
    assert time.time_ns() >= until


async def test_what_happened_behind_the_end_is_not_told() -> None:
    events = Events()
    happen(events, "a")
    until = time.time_ns()
    while time.time_ns() == until:
        pass
    happen(events, "b")
    batch = await events.open(EventOptions(since=1, until=until)).next()
    assert ([event.name for event in batch.events], batch.ended) == (["a"], True)


# -- going on -----------------------------------------------------------------------------------------------------------


def test_reading_goes_on_behind_any_event() -> None:
    events = Events()
    happen(events, *"abcd")
    base = events.last - 4
    for number in range(5):
        assert names(events.open(EventOptions(after=base + number))) == list("abcd"[number:])


def test_nothing_goes_on_behind_an_event_that_has_not_been() -> None:
    events = Events()
    happen(events, "a")
    for after in (events.last + 1, 2 << 40):
        with pytest.raises(InvalidArgument, match="no event has the sequence number"):
            events.open(EventOptions(after=after))
        with pytest.raises(InvalidArgument, match="no event has the sequence number"):
            events.open(FROM_NOW).ready(after)


def test_since_begins_with_what_is_not_older() -> None:
    events = Events()
    happen(events, "a", "b")
    (_first, second) = events._ring
    while time.time_ns() == second.time:
        pass
    later = time.time_ns()
    happen(events, "c")
    assert names(events.open(EventOptions(since=1))) == ["a", "b", "c"]
    assert names(events.open(EventOptions(since=later))) == ["c"]


def test_since_says_what_it_does_not_know() -> None:
    events = Events(kept=2)
    happen(events, "a", "b", "c")
    assert names(events.open(EventOptions(since=1))) == ["-0", "b", "c"]
    assert names(events.open(EventOptions(since=events._ring[0].time + 1))) in (["c"], ["b", "c"])


def test_daemon_before_that_ended_in_order_has_told_how_many_there_were() -> None:
    events = Events(epoch=Epoch(number=5, before=EpochRecord(number=4, last=10)))
    happen(events, "a")
    assert names(events.open(EventOptions(after=(4 << 40) + 10))) == ["a"]
    assert names(events.open(EventOptions(after=(4 << 40) + 7))) == ["-3", "a"]


@pytest.mark.parametrize(
    "before",
    [None, EpochRecord(number=4), EpochRecord(number=3, last=10), EpochRecord(number=4, last=2)],
    ids=["unknown", "killed", "another", "less than was seen"],
)
def test_daemon_before_that_has_told_nothing_leaves_a_gap(before: EpochRecord | None) -> None:
    events = Events(epoch=Epoch(number=5, before=before))
    happen(events, "a")
    assert names(events.open(EventOptions(after=(4 << 40) + 5))) == ["-0", "a"]


# -- the number of the daemon -------------------------------------------------------------------------------------------


def test_each_daemon_has_a_higher_number(tmp_path: Path) -> None:
    layout = StateLayout(root=tmp_path)
    first = begin_epoch(layout)
    assert (first.number, first.before) == (1, None)
    assert begin_epoch(layout) == Epoch(number=2, before=EpochRecord(number=1))
    end_epoch(layout, Epoch(number=2), last=17)
    assert begin_epoch(layout) == Epoch(number=3, before=EpochRecord(number=2, last=17))


def test_number_that_cannot_be_read_is_replaced_by_a_higher_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    layout = StateLayout(root=tmp_path)
    layout.epoch.write_text("{broken")
    epoch = begin_epoch(layout)
    assert 400_000 < epoch.number < 1 << 24
    assert "cannot be read" in caplog.text
    caplog.clear()
    assert begin_epoch(layout).number == epoch.number + 1


def test_what_a_crash_leaves_of_the_number_is_removed(tmp_path: Path) -> None:
    layout = StateLayout(root=tmp_path)
    (tmp_path / ".epoch.abcd.new").write_text("{")
    begin_epoch(layout)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch"]


# -- filters ------------------------------------------------------------------------------------------------------------

Published = tuple[str, str, str, str, dict[str, str], dict[str, str]]
IMAGE_ID = "sha256:" + "ab" * 32
WEB: Published = (
    "container",
    "start",
    "c0ffee" + "0" * 58,
    "web",
    {"tier": "front", "app": "shop"},
    {"image": "alpine:3"},
)
JOB: Published = (
    "container",
    "die",
    "decade" + "0" * 58,
    "job",
    {"tier": "back"},
    {"image": "docker.io/library/busybox:latest"},
)
PULL: Published = ("image", "pull", IMAGE_ID, "docker.io/library/alpine:3", {"app": "os"}, {})
LOGIN: Published = ("registry", "login", "reg.example:5000", "reg.example:5000", {}, {})


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (EventFilter(), "start die pull login"),
        (EventFilter(kinds=("image",)), "pull"),
        (EventFilter(kinds=("image", "registry")), "pull login"),
        (EventFilter(actions=("die", "pull")), "die pull"),
        (EventFilter(kinds=("container",), actions=("pull",)), ""),
        (EventFilter(containers=("web",)), "start"),
        (EventFilter(containers=("we", "decade")), "start die"),
        (EventFilter(containers=("c0ffee",)), "start"),
        (EventFilter(containers=("reg",)), ""),
        (EventFilter(containers=("sha256",)), ""),
        (EventFilter(images=("alpine",)), "start pull"),
        (EventFilter(images=("alpine:3",)), "start pull"),
        (EventFilter(images=("alpine:4",)), ""),
        (EventFilter(images=("docker.io/library/alpine:3",)), "start pull"),
        (EventFilter(images=("busybox", "alpine:4")), "die"),
        (EventFilter(images=(IMAGE_ID,)), "pull"),
        (EventFilter(images=("ab" * 6,)), "pull"),
        (EventFilter(images=("UPPER/ case",)), ""),
        (EventFilter(labels=("app",)), "start pull"),
        (EventFilter(labels=("app=shop",)), "start"),
        (EventFilter(labels=("app", "tier=front")), "start"),
        (EventFilter(labels=("app", "tier=back")), ""),
    ],
    ids=str,
)
def test_filters(wanted: EventFilter, expected: str) -> None:
    events = Events()
    reader = events.open(EventOptions(filter=wanted))
    for kind, action, subject, name, labels, attributes in (WEB, JOB, PULL, LOGIN):
        events.publish(kind, action, subject=subject, name=name, labels=labels, **attributes)  # type: ignore[arg-type]
    found: tuple[Event, ...] = reader.ready().events
    assert " ".join(event.action for event in found) == expected
