"""Logs in the journal: its entries as records, positions, the last lines; and what is refused where there is none."""

from __future__ import annotations

import socket
from contextlib import aclosing
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from ross.errors import FailedPrecondition, InvalidArgument, Unavailable
from ross.layout import ContainerLayout
from ross.linux.inotify import Watches
from ross.linux.journal import ExportParser, JournalEntry
from ross.model.containers import ContainerSpec
from ross.model.logs import LogConfig, LogDriver, LogOptions
from ross.model.records import LogEntry, Printer, Stream, entries
from ross.shim.journal import check_journal, read_journal_log
from ross.shim.journal_records import JournalRecords, TailSearch, begin_of, record_of
from ross.shim.logfiles import LogFiles
from ross.shim.logs import read_log
from ross.shim.monitor import _log
from ross.shim.valid_logs import check_log

if TYPE_CHECKING:
    from collections.abc import Sequence

RECORDED_FILE = Path(__file__).parents[1] / "linux" / "journal.export"
RECORDED = ExportParser().feed(RECORDED_FILE.read_bytes())
BEGIN = 1_795_748_027_000_000


def found_in(found: Sequence[JournalEntry], *, seed: int = 0, **options: Any) -> list[LogEntry]:
    """What is read of some entries, which come in pieces of any sizes."""
    wanted = LogOptions(**options)
    search = TailSearch(wanted)
    if wanted.tail >= 0:
        any(search.take(entry) for entry in reversed(found))
    records, sizes, rest = JournalRecords(wanted, search.openings()), Random(seed), list(found)
    rest = [entry for entry in rest if entry.time >= begin_of(wanted.after)]
    chunks = []
    while rest and not records.past_until:
        size = sizes.randint(1, 6)
        chunks += records.feed(rest[:size])
        rest = rest[size:]
    return [entry for chunk in chunks for entry in entries(chunk)]


# -- entries as records -----------------------------------------------------------------------------------------------


def test_recorded_output_is_what_was_printed() -> None:
    records = b"".join(map(record_of, RECORDED))
    printed = dict.fromkeys(Stream, b"")
    for stream, text in Printer().feed(records):
        printed[stream] += text
    assert printed[Stream.STDERR] == b"two\n"
    assert printed[Stream.STDOUT] == b"one\n\n\0\1\xffz\n" + b"x" * 20000 + b"<3>prio\nend"
    assert records.startswith(
        b"2026-11-27T02:53:47.970616000+00:00 stdout F one\n2026-11-27T02:53:48.124038000+00:00 stderr F two\n"
    )
    assert [entry.time for entry in found_in(RECORDED)] == [entry.time * 1000 for entry in RECORDED]
    assert [entry.partial for entry in found_in(RECORDED)] == [False] * 4 + [True, True, False, True]


def entry_of(
    number: int, message: bytes | None, *, time: int = 0, error: bool = False, partial: bool = False
) -> JournalEntry:
    fields = {b"PRIORITY": b"3" if error else b"6"}
    if message is not None:
        fields[b"MESSAGE"] = message
    if partial:
        fields[b"CONTAINER_PARTIAL_MESSAGE"] = b"true"
    return JournalEntry(cursor=f"c{number}", time=BEGIN + time, fields=fields)


@given(st.binary(max_size=60), st.booleans())
def test_no_entry_forges_a_record(message: bytes, partial: bool) -> None:
    """Not even one that no monitor writes."""
    record = record_of(entry_of(1, message, partial=partial))
    found = found_in([entry_of(1, message, partial=partial)])
    assert record.count(b"\n") == len(found)
    assert b"".join(entry.data for entry in found) == message + b"\n" * (not partial and not message.endswith(b"\n"))
    assert {(entry.stream, entry.time) for entry in found} == {(Stream.STDOUT, BEGIN * 1000)}


def test_entry_without_a_message_is_none() -> None:
    assert record_of(entry_of(1, None)) == b""
    found = found_in([entry_of(1, None), entry_of(2, b"x\n"), entry_of(3, None)], tail=2)
    assert [entry.data for entry in found] == [b"x\n"]


# -- what is asked for, as of a log in files --------------------------------------------------------------------------

ENTRIES = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 1, 400, 1000, 70_000]),
        st.sampled_from([b"", b"a", b"b c", b"x" * 300, b"+00:00 stdout F ", b"\r"]),
        st.sampled_from([False, False, True]),
        st.sampled_from([False, False, True]),
    ),
    max_size=14,
)


def made(drawn: list[tuple[int, bytes, bool, bool]]) -> list[JournalEntry]:
    """Entries with times that do not fall, many of them within a millisecond, or the same."""
    found, time = [], 0
    for number, (pause, text, error, partial) in enumerate(drawn):
        time += pause
        message = text if partial else text + b"\n"
        found.append(entry_of(number, message, time=time, error=error, partial=partial))
    return found


async def of_files(found: Sequence[JournalEntry], **options: Any) -> list[tuple[Stream, int, bytes]]:
    with TemporaryDirectory() as directory:
        path = Path(directory)
        (path / "log").write_bytes(b"".join(map(record_of, found)))
        files = LogFiles(ContainerLayout(directory=path), LogConfig(), Watches())
        chunks = read_log(files, LogOptions(**options), ended=lambda: True, wait_ended=trio.sleep_forever)
        async with aclosing(chunks):
            read = [entry async for chunk in chunks for entry in entries(chunk)]
    return [(entry.stream, entry.time, entry.data) for entry in read]


@given(
    ENTRIES,
    st.integers(0, 9),
    st.sampled_from([-1, -1, 0, 1, 2, 5]),
    st.sampled_from([0, 0, 1, 1000, 70_000]),
    st.sampled_from([0, 0, 1, 1400, 140_000]),
    st.sampled_from([(True, True), (True, False), (False, True)]),
)
@settings(deadline=None)
def test_it_is_as_of_a_log_in_files(
    drawn: list[tuple[int, bytes, bool, bool]], seed: int, tail: int, since: int, until: int, streams: tuple[bool, bool]
) -> None:
    found = made(drawn)
    options = {
        "tail": tail,
        "since": (BEGIN + since) * 1000 if since else 0,
        "until": (BEGIN + until) * 1000 if until else 0,
        "stdout": streams[0],
        "stderr": streams[1],
    }
    read = [(entry.stream, entry.time, entry.data) for entry in found_in(found, seed=seed, **options)]
    assert read == trio.run(lambda: of_files(found, **options))


# -- positions --------------------------------------------------------------------------------------------------------


@given(ENTRIES, st.integers(0, 9), st.integers(0, 9))
def test_reading_goes_on_exactly_at_any_position(
    drawn: list[tuple[int, bytes, bool, bool]], seed: int, other: int
) -> None:
    found = made(drawn)
    whole = found_in(found, seed=seed)
    positions = [entry.position for entry in whole]
    assert positions == sorted(set(positions))
    assert all(position < 1 << 63 for position in positions)
    for number, position in enumerate(positions):
        rest = found_in(found, seed=other, after=position)
        assert [(entry.data, entry.time, entry.gap) for entry in rest] == [
            (entry.data, entry.time, False) for entry in whole[number + 1 :]
        ]
        for behind, entry in enumerate(rest):  # which is told other positions, as good as the first
            again = found_in(found, seed=seed, after=entry.position)
            assert [one.data for one in again] == [one.data for one in rest[behind + 1 :]]


def test_what_is_gone_is_said_to_be_missing() -> None:
    found = made([(2000, b"%d" % number, False, False) for number in range(8)])
    positions = [entry.position for entry in found_in(found)]
    rest = found_in(found[5:], after=positions[2])
    assert [(entry.data, entry.gap) for entry in rest] == [(b"5\n", True), (b"6\n", False), (b"7\n", False)]
    assert found_in([], after=positions[2]) == []


def test_last_lines_whose_beginning_is_gone_meanwhile() -> None:
    found = made([(2000, b"%d" % number, number % 2 == 0, False) for number in range(8)])
    options = LogOptions(tail=4)
    search = TailSearch(options)
    any(search.take(entry) for entry in reversed(found))
    chunks = JournalRecords(options, search.openings()).feed(found[6:])
    assert [entry.data for chunk in chunks for entry in entries(chunk)] == [b"6\n", b"7\n"]


# -- a journal that is none, or broken --------------------------------------------------------------------------------


def program(directory: Path, script: str) -> Path:
    path = directory / "journalctl"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_where_there_is_no_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monitor, path = tmp_path / "conmon", tmp_path / "socket"
    monitor.write_bytes(b"\x7fELF sd_journal_sendv_with_location")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        FailedPrecondition, match=r"no journal to log to: systemd-journald does not run \(.*socket is not there\)"
    ):
        check_journal(monitor, socket=path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        with pytest.raises(FailedPrecondition, match="journalctl is not installed"):
            check_journal(monitor, socket=path)
        program(tmp_path, "")
        check_journal(monitor, socket=path)
        monitor.write_bytes(b"\x7fELF")
        with pytest.raises(FailedPrecondition, match="built without support for the journal"):
            check_journal(monitor, socket=path)


async def read(directory: Path, script: str, **options: Any) -> list[LogEntry]:
    chunks = read_journal_log(
        "x",
        LogOptions(**options),
        ended=lambda: not options.get("follow"),
        wait_ended=trio.sleep_forever,
        program=program(directory, script),
    )
    async with aclosing(chunks):
        return [entry async for chunk in chunks for entry in entries(chunk)]


async def test_it_is_read_by_a_program(tmp_path: Path) -> None:
    script = f'case "$*" in --sync) ;; *) echo "$*" >>{tmp_path}/asked; cat {RECORDED_FILE} ;; esac'
    assert len(await read(tmp_path, script)) == len(RECORDED)
    (asked,) = (tmp_path / "asked").read_text().splitlines()
    assert "CONTAINER_ID_FULL=x _UID=" in asked
    assert "--since" not in asked
    await read(tmp_path, script, since=1795748028124038000)
    assert "--since=@1795748028.124000 " in (tmp_path / "asked").read_text()
    assert await read(tmp_path, "exit 1", since=2, until=1) == []
    with pytest.raises(InvalidArgument, match="does not go as far"):
        await read(tmp_path, script, after=1 << 62)


async def test_journal_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="the journal cannot be read: journalctl ended with exit code 1: Bad message"):
        await read(tmp_path, "echo Bad message >&2; exit 1")
    with pytest.raises(Unavailable, match="journalctl has ended while it was to wait"):
        await read(tmp_path, "", follow=True)


async def test_journal_that_gives_no_answer(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(Unavailable, match="no answer within 60 s"):
        await read(tmp_path, "exec sleep 600")
    assert autojump_clock.current_time() >= 60


# -- what a monitor is told -------------------------------------------------------------------------------------------


def test_how_a_monitor_is_told() -> None:
    layout = ContainerLayout(directory=Path("/c"))
    for log, words in (
        (LogConfig(), ["--log-path", "k8s-file:/c/log"]),
        (LogConfig(driver=LogDriver.NONE), ["--log-path", "none"]),
        (LogConfig(driver=LogDriver.JOURNALD), ["--log-path", "journald"]),
        (LogConfig(driver=LogDriver.JOURNALD, tag="--cid"), ["--log-path", "journald", "--log-tag=--cid"]),
    ):
        assert _log(layout, ContainerSpec(log=log)) == words


@pytest.mark.parametrize("tag", ["a\nb", "a\0", "x" * 201, "{{.Name}}", "\x1b[31m", "\u2028"])
def test_what_is_no_tag(tag: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot be a tag"):
        check_log(LogConfig(driver=LogDriver.JOURNALD, tag=tag), terminal=False)


def test_tags() -> None:
    for tag in ("", "a b", "{x}", "é", "-"):
        check_log(LogConfig(driver=LogDriver.JOURNALD, tag=tag), terminal=False)
    with pytest.raises(InvalidArgument, match="only the log driver journald has a tag"):
        check_log(LogConfig(tag="x"), terminal=False)
