"""The export format of the journal, recorded and made up, in any pieces; how journalctl is asked; and programs that are read from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from ross.linux.journal import ExportParser, JournalEntry, JournalQuery, reading_journal, sync_journal
from ross.linux.process import reading

RECORDED = Path(__file__).with_name("journal.export").read_bytes()
"""What journalctl 252 printed of a container's output that conmon 2.1.6 had written."""
QUERY = JournalQuery(matches=("A=b", "_UID=0"), fields=("MESSAGE", "PRIORITY"))


def parsed(data: bytes, *sizes: int) -> list[JournalEntry]:
    """The entries of some data that comes in pieces of these sizes, and the rest in one."""
    parser, found = ExportParser(), []
    for size in sizes:
        piece, data = data[:size], data[size:]
        found += parser.feed(piece)
    return found + parser.feed(data)


def field(name: bytes, value: bytes) -> bytes:
    """A field as journalctl prints it."""
    if b"\n" in value or b"\0" in value:
        return name + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
    return name + b"=" + value + b"\n"


def exported(number: int, fields: dict[bytes, bytes]) -> bytes:
    head = field(b"__CURSOR", b"c%d" % number) + field(b"__REALTIME_TIMESTAMP", b"%d" % number)
    return head + b"".join(field(name, value) for name, value in fields.items()) + b"\n"


def test_recorded_entries() -> None:
    entries = parsed(RECORDED)
    messages = [entry.fields[b"MESSAGE"] for entry in entries]
    assert [message for message in messages if len(message) < 100] == [
        b"one\n",
        b"two\n",
        b"\n",
        b"\0\1\xffz\n",
        b"end",
    ]
    assert b"".join(messages[4:7]) == b"x" * 20000 + b"<3>prio\n"
    assert [number for number, entry in enumerate(entries) if b"CONTAINER_PARTIAL_MESSAGE" in entry.fields] == [4, 5, 7]
    assert [entry.fields[b"PRIORITY"] for entry in entries] == [b"6", b"3", *[b"6"] * 6]
    assert (entries[0].time, entries[-1].time) == (1795748027970616, 1795748028417859)
    assert entries[0].cursor.startswith("s=aace6d451db7436595f9033a709a0ab8;i=1a7;")
    assert len({entry.cursor for entry in entries}) == len(entries)


@given(st.lists(st.integers(0, 9000), max_size=20))
def test_recorded_entries_come_in_any_pieces(sizes: list[int]) -> None:
    assert parsed(RECORDED, *sizes) == parsed(RECORDED)


@given(
    st.lists(st.dictionaries(st.sampled_from([b"MESSAGE", b"PRIORITY", b"X"]), st.binary(max_size=40)), max_size=5),
    st.lists(st.integers(0, 40), max_size=40),
)
def test_no_value_is_taken_for_another_field(entries: list[dict[bytes, bytes]], sizes: list[int]) -> None:
    data = b"".join(exported(number, fields) for number, fields in enumerate(entries))
    found = parsed(data, *sizes)
    assert [(entry.cursor, entry.time, dict(entry.fields)) for entry in found] == [
        (f"c{number}", number, fields) for number, fields in enumerate(entries)
    ]


@pytest.mark.parametrize("value", [b"x" * 3_000_000, b"\0" * 3_000_000])
@pytest.mark.parametrize("size", [1000, 65536, 3_000_000])
def test_field_that_is_too_large_is_left_out_and_never_held(value: bytes, size: int) -> None:
    data = exported(1, {b"BIG": value, b"MESSAGE": b"a\nb"}) + exported(2, {b"MESSAGE": b"c"})
    parser, found = ExportParser(), []
    for at in range(0, len(data), size):
        found += parser.feed(data[at : at + size])
        assert len(parser._rest) <= (256 << 10) + size
    assert [dict(entry.fields) for entry in found] == [{b"MESSAGE": b"a\nb"}, {b"MESSAGE": b"c"}]


@pytest.mark.parametrize("junk", [b"\n\n\n", b"=\n\n", b"A=b\n\n", b"__CURSOR=x\n__REALTIME_TIMESTAMP=y\n\n"])
def test_what_is_no_entry_is_left_out(junk: bytes) -> None:
    assert [entry.cursor for entry in parsed(junk + exported(1, {}) + junk)] == ["c1"]


def test_how_it_is_asked_for() -> None:
    usual = ["/j", "--quiet", "--no-pager", "--output=export", "--output-fields=MESSAGE,PRIORITY"]
    for options, words in (
        ({}, []),
        (
            {"since": 1795748028000016, "until": 1795748028417859},
            ["--since=@1795748028.000016", "--until=@1795748028.417859"],
        ),
        ({"since": 5, "behind": "s=a;i=1"}, ["--after-cursor=s=a;i=1"]),
        ({"backwards": True}, ["--reverse"]),
        ({"follow": True}, ["--follow", "--no-tail"]),
    ):
        query = JournalQuery(matches=QUERY.matches, fields=QUERY.fields, **options)
        assert query.argv(Path("/j")) == [*usual, *words, "A=b", "_UID=0"]


# -- programs ---------------------------------------------------------------------------------------------------------


def program(directory: Path, script: str) -> Path:
    """A program in the place of journalctl."""
    path = directory / "journalctl"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


async def test_program_is_ended_with_its_reader(tmp_path: Path) -> None:
    async with reading(["/bin/sh", "-c", "echo $$; exec sleep 600"], env={}) as output:
        pid = int(await output.receive(100))
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with trio.CancelScope() as scope:
        async with reading_journal(program(tmp_path, "exec sleep 600"), QUERY) as reader:
            scope.cancel()
            await reader.receive()
    assert scope.cancelled_caught


async def test_end_of_a_program(tmp_path: Path) -> None:
    async with reading_journal(
        program(tmp_path, "printf '__CURSOR=c\\n__REALTIME_TIMESTAMP=1\\n\\n'"), QUERY
    ) as reader:
        assert await reader.receive() == [JournalEntry(cursor="c", time=1, fields={})]
        assert await reader.receive() is None
    async with reading_journal(program(tmp_path, "echo 'No journal files' >&2; exit 3"), QUERY) as reader:
        with pytest.raises(ChildProcessError, match=r"^journalctl ended with exit code 3: No journal files$"):
            await reader.receive()
    async with reading_journal(program(tmp_path, "kill -9 $$"), QUERY) as reader:
        with pytest.raises(ChildProcessError, match=r"^journalctl was ended by SIGKILL$"):
            await reader.receive()


async def test_whether_the_journal_has_everything(tmp_path: Path) -> None:
    assert await sync_journal(program(tmp_path, '[ "$*" = --sync ]'))
    assert not await sync_journal(program(tmp_path, "exit 1"))
