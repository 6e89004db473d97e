"""Reading the monitor's log: records, the last lines, following, and that output cannot forge a record."""

from __future__ import annotations

from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from ross.model.logs import LogOptions, Stream
from ross.shim.logs import parse_record, read_log

TIME = "2026-11-24T08:06:54.050269449+00:00"


def line(text: str, *, stream: str = "stdout", tag: str = "F", time: str = TIME) -> bytes:
    return f"{time} {stream} {tag} {text}\n".encode()


def test_record_is_read_whole() -> None:
    entry = parse_record(line("a b  c", stream="stderr")[:-1])
    assert entry is not None
    assert (entry.stream, entry.data, entry.partial, entry.time) == (
        Stream.STDERR,
        b"a b  c\n",
        False,
        1795507614050269449,
    )
    partial = parse_record(line("x", tag="P", time="2026-11-24T10:06:54+02:00")[:-1])
    assert partial is not None
    assert (partial.data, partial.partial, partial.time) == (b"x", True, 1795507614 * 10**9)


@given(st.binary(max_size=80))
def test_whatever_a_container_prints_is_never_a_record_of_its_own(data: bytes) -> None:
    inside = data.replace(b"\n", b"")
    entry = parse_record(TIME.encode() + b" stdout F " + inside)
    assert entry is not None
    assert entry.data == inside + b"\n"
    assert entry.stream is Stream.STDOUT


@pytest.mark.parametrize(
    "junk", [b"", b"x", b"2026-99-99T99:99:99Z stdout F x", b"2026-11-24T08:06:54Z stdin F x", b"\xff" * 30]
)
def test_what_is_no_record_is_left_out(junk: bytes) -> None:
    assert parse_record(junk) is None


async def read(path: Path, **options: Any) -> bytes:
    async with aclosing(
        read_log(path, LogOptions(**options), ended=lambda: True, wait_ended=trio.sleep_forever)
    ) as batches:
        return b"".join([entry.data async for batch in batches for entry in batch])


async def test_all_and_the_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(
        b"".join(line(str(number)) for number in range(5)) + line("a", tag="P") + line("b", tag="P") + line("c")
    )
    assert await read(path) == b"0\n1\n2\n3\n4\nabc\n"
    assert await read(path, tail=1) == b"abc\n"
    assert await read(path, tail=2) == b"4\nabc\n"
    assert await read(path, tail=100) == b"0\n1\n2\n3\n4\nabc\n"
    assert await read(path, tail=0) == b""
    with path.open("ab") as file:
        file.write(line("unfinished", tag="P"))
    assert await read(path, tail=2) == b"abc\nunfinished"


async def test_last_lines_of_a_long_log(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(line(f"{number:06d}" + "x" * 50) for number in range(20_000)))
    found = (await read(path, tail=5000)).split()
    assert len(found) == 5000
    assert found[0].startswith(b"015000")


async def test_streams_and_times_are_chosen(tmp_path: Path) -> None:
    path = tmp_path / "log"
    times = [f"2026-01-01T00:00:0{second}Z" for second in range(4)]
    path.write_bytes(
        b"".join(
            line(str(index), time=time, stream="stderr" if index == 2 else "stdout") for index, time in enumerate(times)
        )
    )
    begin = parse_record(line("", time=times[1])[:-1])
    end = parse_record(line("", time=times[2])[:-1])
    assert begin is not None
    assert end is not None
    assert await read(path, since=begin.time) == b"1\n2\n3\n"
    assert await read(path, until=end.time) == b"0\n1\n2\n"
    assert await read(path, stdout=False) == b"2\n"
    assert await read(path, stderr=False) == b"0\n1\n3\n"


async def test_following_gives_what_comes_and_ends_with_the_container(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(line("first"))
    ended = trio.Event()
    found: list[bytes] = []

    async def follow() -> None:
        async with aclosing(
            read_log(path, LogOptions(follow=True), ended=ended.is_set, wait_ended=ended.wait)
        ) as batches:
            async for batch in batches:
                found.extend(entry.data for entry in batch)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow)
        await wait_all_tasks_blocked(0.05)
        with path.open("ab") as file:
            file.write(line("second")[:20])
            file.flush()
            await wait_all_tasks_blocked(0.05)
            file.write(line("second")[20:] + line("last"))
        ended.set()
    assert found == [b"first\n", b"second\n", b"last\n"]


async def test_following_can_be_cancelled(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(line("x"))
    descriptors = len(list(Path("/proc/self/fd").iterdir()))  # noqa: ASYNC240 -- of this process
    with trio.move_on_after(0.05) as scope:
        async with aclosing(
            read_log(path, LogOptions(follow=True), ended=lambda: False, wait_ended=trio.sleep_forever)
        ) as batches:
            async for _batch in batches:
                pass
    assert scope.cancelled_caught
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors  # noqa: ASYNC240


async def test_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert await read(tmp_path / "none") == b""
