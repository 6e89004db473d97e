"""Reading logs: records, the last lines, everything asked for at once, following, and that output cannot forge a record."""

from __future__ import annotations

import os
import time
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from itertools import product
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from ross.errors import InvalidArgument
from ross.layout import ContainerLayout
from ross.linux.inotify import Watches
from ross.model.logs import LogChunk, LogConfig, LogOptions
from ross.model.records import LogEntry, Printer, Stream, entries, kind_of, time_of
from ross.shim.logfiles import LogFiles
from ross.shim.logs import _BLOCK_BYTES, LogBegin, find_begin, log_end, position_of, read_log

SECOND = 10**9
BEGIN = int(datetime(2026, 11, 24, 8, 6, tzinfo=UTC).timestamp()) * SECOND


def record(text: bytes | str, *, stream: str = "stdout", tag: str = "F", at: int = 0, zone: str = "+00:00") -> bytes:
    """A record as the monitor writes it, so many seconds after the beginning."""
    data = text.encode() if isinstance(text, str) else text
    return f"2026-11-24T08:06:{at:02d}.050269449{zone} {stream} {tag} ".encode() + data + b"\n"


def files_of(directory: Path) -> LogFiles:
    return LogFiles(ContainerLayout(directory=directory), LogConfig(), Watches())


async def chunks(directory: Path, **options: Any) -> list[LogChunk]:
    found = read_log(files_of(directory), LogOptions(**options), ended=lambda: True, wait_ended=trio.sleep_forever)
    async with aclosing(found):
        return [chunk async for chunk in found]


async def read(directory: Path, **options: Any) -> list[LogEntry]:
    return [entry for chunk in await chunks(directory, **options) for entry in entries(chunk)]


async def text(directory: Path, **options: Any) -> bytes:
    return b"".join([entry.data for entry in await read(directory, **options)])


# -- records ----------------------------------------------------------------------------------------------------------


def test_record_is_read_whole() -> None:
    line = record("a b  c", stream="stderr") + record("x", tag="P", at=1, zone="+02:00")
    full, partial = entries(LogChunk(position=1000, records=line))
    assert (full.stream, full.data, full.partial, full.time) == (
        Stream.STDERR,
        b"a b  c\n",
        False,
        BEGIN + 50269449,
    )
    assert (partial.data, partial.partial) == (b"x", True)
    assert partial.time == BEGIN + SECOND - 7200 * SECOND + 50269449
    assert partial.position == 1000 + len(line)


@given(st.binary(max_size=120))
def test_whatever_a_container_prints_is_never_a_record_of_its_own(data: bytes) -> None:
    """Newlines are all that a monitor takes out of it, as the end of a record."""
    lines = data.split(b"\n")
    stored = b"".join(record(line) for line in lines)
    found = list(entries(LogChunk(position=1, records=stored)))
    assert [entry.data for entry in found] == [line + b"\n" for line in lines]
    assert {entry.stream for entry in found} == {Stream.STDOUT}
    assert {entry.time for entry in found} == {BEGIN + 50269449}
    for timestamps in (False, True):
        (run,) = Printer(timestamps=timestamps).feed(stored)
        stamp = b"2026-11-24T08:06:00.050269449Z " if timestamps else b""
        assert run == (Stream.STDOUT, b"".join(stamp + line + b"\n" for line in lines))


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"+00:00 stdout F ",
        b"+00:00 stderr F x",
        record("x").rstrip(b"\n"),
        b"\r" + record("x", stream="stderr").rstrip(b"\n"),
        b" stdout P ",
    ],
)
@pytest.mark.parametrize("zone", ["+00:00", "+02:00"])
def test_what_looks_like_a_record_in_a_line_is_printed_as_it_is(text: bytes, stream: str, zone: str) -> None:
    for rest in (b"", record("p", tag="P"), record("o", stream="stderr"), b"-" * 60 + b"\n"):
        stored = record(text, stream=stream, zone=zone) + record(text, stream=stream, zone=zone) + rest
        for timestamps in (False, True):
            (which, run), *_others = Printer(timestamps=timestamps).feed(stored)
            hour = "08" if zone == "+00:00" else "06"
            stamp = f"2026-11-24T{hour}:06:00.050269449Z ".encode() if timestamps else b""
            assert which is Stream(stream)
            assert run.startswith((stamp + text + b"\n") * 2)


LINES = st.lists(
    st.tuples(
        st.sampled_from(["stdout"] * 4 + ["stderr"]),
        st.sampled_from("FFFP"),
        st.sampled_from(["+00:00"] * 4 + ["+02:00"]),
        st.sampled_from([
            b"",
            b"x",
            b"+00:00 stdout F ",
            record("x", tag="P").rstrip(b"\n"),
            b"\r",
            b"-" * 36 + b" stdout P y",
        ]),
        st.sampled_from([False, False, False, True]),
    ),
    min_size=1,
    max_size=8,
)


@given(LINES, st.booleans())
@settings(deadline=None)
def test_records_are_printed_as_if_each_were_looked_at(
    lines: list[tuple[str, str, str, bytes, bool]], timestamps: bool
) -> None:
    """However they come in pieces."""
    pieces, printed, going_on = [b""], {"stdout": b"", "stderr": b""}, {"stdout": False, "stderr": False}
    for number, (stream, tag, zone, data, next_piece) in enumerate(lines):
        pieces[-1] += record(data, stream=stream, tag=tag, at=number, zone=zone)
        if timestamps and not going_on[stream]:
            printed[stream] += f"2026-11-24T{8 - int(zone[1:3]):02d}:06:{number:02d}.050269449Z ".encode()
        printed[stream] += data + b"\n" * (tag == "F")
        going_on[stream] = tag == "P"
        if next_piece:
            pieces.append(b"")
    printer, found = Printer(timestamps=timestamps), {"stdout": b"", "stderr": b""}
    for piece in pieces:
        for which, data in printer.feed(piece):
            found[which.value] += data
    assert found == printed


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"x",
        b"-" * 80,
        b"2026-99-99T99:99:99.000000000+00:00 stdout F x",
        b"\xff" * 80,
        record("x", stream="stdinx"),
    ],
)
def test_what_is_no_record_is_left_out(junk: bytes) -> None:
    assert kind_of(junk) is None or time_of(junk) is None
    stored = record("a") + junk.rstrip(b"\n") + b"\n" + record("b")
    assert [entry.data for entry in entries(LogChunk(position=1, records=stored))] == [b"a\n", b"b\n"]


def test_lines_of_two_streams_are_printed_with_their_times() -> None:
    stored = (
        record("o", tag="P")
        + record("e", stream="stderr", at=1)
        + record("ut", at=2)
        + record("rr", stream="stderr", tag="P", zone="+01:00")
    )
    out, err = Stream.STDOUT, Stream.STDERR
    assert Printer().feed(stored) == [(out, b"o"), (err, b"e\n"), (out, b"ut\n"), (err, b"rr")]
    assert Printer(timestamps=True).feed(stored) == [
        (out, b"2026-11-24T08:06:00.050269449Z o"),
        (err, b"2026-11-24T08:06:01.050269449Z e\n"),
        (out, b"ut\n"),
        (err, b"2026-11-24T07:06:00.050269449Z rr"),
    ]


# -- what is asked for ------------------------------------------------------------------------------------------------


async def test_all_and_the_last_lines(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(
        b"".join(record(str(number)) for number in range(5)) + record("a", tag="P") + record("b", tag="P") + record("c")
    )
    assert await text(tmp_path) == b"0\n1\n2\n3\n4\nabc\n"
    assert await text(tmp_path, tail=1) == b"abc\n"
    assert await text(tmp_path, tail=2) == b"4\nabc\n"
    assert await text(tmp_path, tail=100) == b"0\n1\n2\n3\n4\nabc\n"
    assert await text(tmp_path, tail=0) == b""
    with (tmp_path / "log").open("ab") as file:
        file.write(record("unfinished", tag="P") + record("torn")[:-3])
    assert await text(tmp_path, tail=2) == b"abc\nunfinished"


async def test_last_lines_of_a_long_log(tmp_path: Path) -> None:
    (tmp_path / "log.7").write_bytes(b"".join(record(f"{number:06d}" + "x" * 50) for number in range(18_000)))
    (tmp_path / "log").write_bytes(b"".join(record(f"{number:06d}" + "x" * 50) for number in range(18_000, 20_000)))
    found = (await text(tmp_path, tail=5000)).split()
    assert len(found) == 5000
    assert found[0].startswith(b"015000")


async def test_line_of_two_streams_is_found_from_its_end(tmp_path: Path) -> None:
    """The other stream's line that stands between its parts is not one of the last."""
    stored = record("x") + record("o", tag="P") + record("e", stream="stderr") + record("ut")
    (tmp_path / "log").write_bytes(stored)
    assert await text(tmp_path, tail=1) == b"out\n"
    assert await text(tmp_path, tail=2) == b"oe\nut\n"
    assert await text(tmp_path, tail=1, stdout=False) == b"e\n"


def expected(stored: list[LogEntry], options: LogOptions) -> list[LogEntry]:
    """What :func:`read_log` should give, said in the simplest way."""
    found = [
        entry
        for entry in stored
        if entry.position > options.after
        and entry.time >= options.since
        and (not options.until or entry.time <= options.until)
        and (options.stdout if entry.stream is Stream.STDOUT else options.stderr)
    ]
    if options.tail < 0:
        return found
    lines: list[list[LogEntry]] = []
    open_lines: dict[Stream, list[LogEntry]] = {}
    for entry in found:
        if entry.stream not in open_lines:
            lines.append(open_lines.setdefault(entry.stream, []))
        open_lines[entry.stream].append(entry)
        if not entry.partial:
            del open_lines[entry.stream]
    by_end = sorted(lines, key=lambda line: line[-1].position)
    kept = by_end[len(by_end) - options.tail :] if options.tail < len(by_end) else by_end
    return sorted((entry for line in kept for entry in line), key=lambda entry: entry.position)


PIECES = st.lists(
    st.tuples(
        st.sampled_from(["stdout", "stderr"]),
        st.sampled_from("FFFP"),
        st.integers(0, 1),
        st.sampled_from([0, 1, 10, 5000]),
        st.sampled_from([False, False, False, True]),
    ),
    min_size=1,
    max_size=14,
)


@given(PIECES, st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_every_combination_of_what_can_be_asked_for(
    pieces: list[tuple[str, str, int, int, bool]], choice: Random
) -> None:
    """Against the simplest program that does the same, on logs of several files."""
    with TemporaryDirectory() as name:
        directory = Path(name)
        data, moment, number = [b""], 0, 1
        for index, (stream, tag, later, size, next_file) in enumerate(pieces):
            moment += later
            data[-1] += record(str(index) + "x" * size, stream=stream, tag=tag, at=moment)
            if next_file:
                data.append(b"")
        stored: list[LogEntry] = []
        for number, content in enumerate(data, 1):
            (directory / ("log" if number == len(data) else f"log.{number}")).write_bytes(content)
            stored += entries(LogChunk(position=position_of(number, 0), records=content))
        times = [0, BEGIN + SECOND, BEGIN + 4 * SECOND]
        combinations = [
            LogOptions(tail=tail, since=since, until=until, stdout=stdout, stderr=stderr, after=after)
            for tail, since, until, (stdout, stderr), after in product(
                (-1, 0, 1, 3),
                times,
                times,
                ((True, True), (True, False), (False, True)),
                (0, stored[len(stored) // 2].position),
            )
        ]

        async def compare() -> None:
            for options in choice.sample(combinations, 25):
                assert await collect(directory, options) == expected(stored, options), options

        trio.run(compare)


async def collect(directory: Path, options: LogOptions) -> list[LogEntry]:
    found = read_log(files_of(directory), options, ended=lambda: True, wait_ended=trio.sleep_forever)
    async with aclosing(found):
        return [entry async for chunk in found for entry in entries(chunk)]


# -- large things -----------------------------------------------------------------------------------------------------


async def test_large_log_comes_in_bounded_pieces_and_whole(tmp_path: Path) -> None:
    stored = b"".join(record(f"{number}" + "y" * (number % 3000)) for number in range(2000))
    (tmp_path / "log").write_bytes(stored)
    found = await chunks(tmp_path)
    assert b"".join(chunk.records for chunk in found) == stored
    assert max(len(chunk.records) for chunk in found) <= _BLOCK_BYTES
    few = await chunks(tmp_path, stdout=False)
    assert few == []


async def test_unwanted_records_are_not_sent(tmp_path: Path) -> None:
    secret = b"".join(record("secret" * 20) for _number in range(200))
    (tmp_path / "log").write_bytes(record("e", stream="stderr") + secret + record("f", stream="stderr") + secret[:500])
    found = await chunks(tmp_path, stdout=False)
    assert b"secret" not in b"".join(chunk.records for chunk in found)
    assert sum(len(chunk.records) for chunk in found) < 1000
    assert [entry.data for chunk in found for entry in entries(chunk)] == [b"e\n", b"f\n"]


async def test_line_without_end_is_no_record_and_hides_none(tmp_path: Path) -> None:
    """A monitor writes none; a disk that is full may leave one."""
    torn = record(b"z" * (3 * _BLOCK_BYTES) + record("forged"))
    (tmp_path / "log").write_bytes(record("a") + torn.replace(b"\n", b" ") + b"\n" + record("b"))
    assert [entry.data for entry in await read(tmp_path)] == [b"a\n", b"b\n"]


# -- going on ---------------------------------------------------------------------------------------------------------


async def test_reading_goes_on_where_it_was(tmp_path: Path) -> None:
    for number, name in ((4, "log.4"), (5, "log.5"), (6, "log")):
        (tmp_path / name).write_bytes(record(f"{number}a") + record(f"{number}b"))
    everything = await read(tmp_path)
    for index, entry in enumerate(everything):
        assert await read(tmp_path, after=entry.position) == everything[index + 1 :]
    (tmp_path / "log.4").unlink()
    found = await read(tmp_path, after=everything[0].position)
    assert [entry.gap for entry in found] == [True, False, False, False]
    found = await read(tmp_path, after=everything[2].position)
    assert [entry.gap for entry in found] == [False] * 3
    for beyond in (position_of(7, 0), position_of(6, 5000), 1 << 62):
        with pytest.raises(InvalidArgument, match="does not go as far"):
            await read(tmp_path, after=beyond)


async def test_gap_in_the_middle_is_told(tmp_path: Path) -> None:
    (tmp_path / "log.1").write_bytes(record("a"))
    (tmp_path / "log.3").write_bytes(b"")
    (tmp_path / "log").write_bytes(record("b"))
    assert [(entry.data, entry.gap) for entry in await read(tmp_path)] == [(b"a\n", False), (b"b\n", True)]


class Follower:
    """Follows a log in the background."""

    def __init__(self, directory: Path, nursery: trio.Nursery, **options: Any) -> None:
        self.files = files_of(directory)
        self.begun = trio.Event()
        """It is known where it begins."""
        self.ended = trio.Event()
        self.found: list[bytes] = []
        self.done = trio.Event()
        nursery.start_soon(self._follow, LogOptions(follow=True, **options))

    async def _follow(self, options: LogOptions) -> None:
        begin = await trio.to_thread.run_sync(find_begin, self.files, options)
        self.begun.set()
        found = read_log(self.files, options, ended=self.ended.is_set, wait_ended=self.ended.wait, begin=begin)
        async with aclosing(found):
            async for chunk in found:
                self.found += [entry.data for entry in entries(chunk)]
        self.done.set()


async def test_following_gives_what_comes_and_ends_with_the_container(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(record("first"))
    async with trio.open_nursery() as nursery:
        follower = Follower(tmp_path, nursery)
        await wait_all_tasks_blocked(0.05)
        with path.open("ab") as file:
            file.write(record("second")[:20])
            file.flush()
            await wait_all_tasks_blocked(0.05)
            file.write(record("second")[20:] + record("last"))
        follower.ended.set()
    assert follower.found == [b"first\n", b"second\n", b"last\n"]


async def test_following_goes_on_in_the_next_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(record("first"))
    async with trio.open_nursery() as nursery:
        followers = [Follower(tmp_path, nursery, tail=tail) for tail in (-1, 0, 5)]
        for follower in followers:
            await follower.begun.wait()
        await wait_all_tasks_blocked(0.05)
        with path.open("ab") as file:
            path.rename(tmp_path / "log.1")
            file.write(record("late"))  # the writer has not noticed yet
        await wait_all_tasks_blocked(0.05)
        path.write_bytes(record("next"))
        for follower in followers:
            follower.files._was_begun()
        await wait_all_tasks_blocked(0.05)
        for follower in followers:
            follower.ended.set()
    assert [follower.found for follower in followers] == [
        [b"first\n", b"late\n", b"next\n"],
        [b"late\n", b"next\n"],
        [b"first\n", b"late\n", b"next\n"],
    ]


class PutAway(LogFiles):
    """One that is put away in the middle of somebody's looking which files there are."""

    def _numbered(self) -> list[int]:
        found = super()._numbered()
        if not found:
            self._layout.log.rename(self._path(1))
            self._layout.log.write_bytes(record("of the next"))
        return found


def test_file_that_is_put_away_while_it_is_opened(tmp_path: Path) -> None:
    """A thread looks for the end of a log while the daemon begins the next file of it."""
    (tmp_path / "log").write_bytes(record("here"))
    fd = PutAway(ContainerLayout(directory=tmp_path), LogConfig(), Watches()).open(1)
    assert fd is not None
    try:
        assert os.read(fd, 1000) == record("here")
    finally:
        os.close(fd)


async def test_reading_begins_where_somebody_has_looked(tmp_path: Path) -> None:
    """What comes between looking and reading is not missed."""
    files = files_of(tmp_path)
    begins = [await trio.to_thread.run_sync(find_begin, files, LogOptions(tail=tail)) for tail in (0, 1)]
    (tmp_path / "log").write_bytes(record("o", tag="P") + record("e", stream="stderr"))
    begins += [await trio.to_thread.run_sync(find_begin, files, LogOptions(tail=tail)) for tail in (0, 1, 2, -1)]
    (tmp_path / "log").rename(tmp_path / "log.1")
    (tmp_path / "log").write_bytes(record("x"))
    found = [[entry.data for chunk in await chunks_from(files, begin) for entry in entries(chunk)] for begin in begins]
    assert found == [[b"o", b"e\n", b"x\n"]] * 2 + [[b"x\n"], [b"e\n", b"x\n"]] + [[b"o", b"e\n", b"x\n"]] * 2


async def chunks_from(files: LogFiles, begin: LogBegin) -> list[LogChunk]:
    found = read_log(files, LogOptions(), ended=lambda: True, wait_ended=trio.sleep_forever, begin=begin)
    async with aclosing(found):
        return [chunk async for chunk in found]


@pytest.mark.parametrize("rotated", [False, True])
async def test_reading_ends_where_the_next_run_begins(tmp_path: Path, *, rotated: bool) -> None:
    path, files = tmp_path / "log", files_of(tmp_path)
    path.write_bytes(record("one") + record("two"))
    end = log_end(files)
    with path.open("ab") as file:
        file.write(record("of the next"))
    if rotated:
        path.rename(tmp_path / "log.1")
        path.write_bytes(record("of the one behind"))
    for position, expected in ((end, [b"one\n", b"two\n"]), (end - len(record("two")), [b"one\n"])):
        found = read_log(
            files,
            LogOptions(follow=True),
            ended=lambda: True,
            wait_ended=trio.sleep_forever,
            end=partial(int, position),
        )
        async with aclosing(found):
            data = [entry.data async for chunk in found for entry in entries(chunk)]
        assert data == expected


async def test_following_ends_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(record("x"))
    async with trio.open_nursery() as nursery:
        follower = Follower(tmp_path, nursery, until=time.time_ns() + SECOND // 10)
        with trio.fail_after(60):
            await follower.done.wait()


async def test_following_can_be_cancelled(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(record("x"))
    watches = files_of(tmp_path)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))  # noqa: ASYNC240 -- of this process
    with trio.move_on_after(0.05) as scope:
        found = read_log(watches, LogOptions(follow=True), ended=lambda: False, wait_ended=trio.sleep_forever)
        async with aclosing(found):
            async for _chunk in found:
                pass
    assert scope.cancelled_caught
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors  # noqa: ASYNC240


async def test_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert await read(tmp_path / "none") == []
    assert await read(tmp_path / "none", tail=3) == []


# -- watches ----------------------------------------------------------------------------------------------------------


async def test_many_watch_with_one_descriptor(tmp_path: Path) -> None:
    watches = Watches()
    told: list[int] = []

    async def watch(number: int, *, task_status: trio.TaskStatus[None]) -> None:
        fd = os.open(tmp_path / str(number % 5), os.O_RDWR | os.O_CREAT)
        try:
            with watches.armed(fd) as one:
                task_status.started()
                await one.changed()
            told.append(number)
        finally:
            os.close(fd)

    async with trio.open_nursery() as nursery:
        for number in range(20):
            await nursery.start(watch, number)
        (tmp_path / "3").write_bytes(b"x")
        await wait_all_tasks_blocked(0.01)
        assert sorted(told) == [3, 8, 13, 18]
        for number in (0, 1, 2, 4):
            (tmp_path / str(number)).write_bytes(b"x")
    assert sorted(told) == list(range(20))
    assert watches._armed == {}


async def test_write_before_the_waiting_is_not_missed(tmp_path: Path) -> None:
    watches = Watches()
    (tmp_path / "x").touch()
    fd = os.open(tmp_path / "x", os.O_RDONLY)
    with watches.armed(fd) as watch, trio.fail_after(60):
        (tmp_path / "x").write_bytes(b"x")
        await watch.changed()
    os.close(fd)
