"""The daemon's log: both forms, and that no message can forge a record."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sys
from typing import TYPE_CHECKING

from ross.logs import JsonFormatter, TextFormatter, UnwaitingHandler

if TYPE_CHECKING:
    import pytest


def record(message: str, *args: object, error: bool = False, **extra: object) -> logging.LogRecord:
    exc_info = None
    if error:
        try:
            raise ValueError("line one\nline two")
        except ValueError:
            exc_info = sys.exc_info()
    made = logging.LogRecord("ross.x", logging.INFO, __file__, 1, message, args, exc_info)
    made.created, made.msecs = 1_700_000_000.25, 250.0
    vars(made).update(extra)
    return made


def test_text_is_one_line() -> None:
    assert TextFormatter().format(record("pulled %s", "x")) == "2023-11-14T22:13:20.250Z info    ross.x: pulled x"


def test_text_cannot_be_forged() -> None:
    line = TextFormatter().format(record("tag %s", "a\n2023-11-14T22:13:20.250Z error   ross.x: \x1b[31mfire"))
    assert "\n" not in line
    assert "\x1b" not in line


def test_every_line_of_a_traceback_is_marked() -> None:
    first, *rest = TextFormatter().format(record("failed", error=True)).splitlines()
    assert first.endswith("ross.x: failed")
    assert rest
    assert all(line.startswith("    | ") for line in rest)


def test_json_has_the_fields_and_the_extras() -> None:
    document = json.loads(JsonFormatter().format(record("pulled %s", "x\n", container="abc", error=True)))
    assert document["message"] == "pulled x\n"
    assert document["time"] == "2023-11-14T22:13:20.250Z"
    assert document["container"] == "abc"
    assert "ValueError" in document["traceback"]


def lines_of(fd: int) -> list[str]:
    """All that waits in a pipe."""
    return os.read(fd, 1 << 20).decode().splitlines()


def handler_of(fd: int) -> UnwaitingHandler:
    handler = UnwaitingHandler(fd)
    handler.setFormatter(TextFormatter())
    return handler


def test_reader_that_hangs_holds_nobody_up_and_is_told_what_is_missing() -> None:
    read_end, write_end = os.pipe()
    handler = handler_of(write_end)
    room = fcntl.fcntl(write_end, fcntl.F_GETPIPE_SZ)
    for number in range(2 * room // 1000):
        handler.handle(record("%d %s", number, "x" * 1000))
    taken = lines_of(read_end)
    handler.handle(record("read again"))
    notice, last = lines_of(read_end)
    missing = 2 * room // 1000 - sum(line.endswith("x" * 1000) for line in taken)
    assert f" {missing} records of this log could not be written" in notice
    assert last.endswith("ross.x: read again")


def test_long_record_is_written_in_pieces() -> None:
    read_end, write_end = os.pipe()
    handler_of(write_end).handle(record("x" * 20_000))
    (line,) = lines_of(read_end)
    assert line.endswith("x" * 20_000)


def test_record_that_was_broken_off_does_not_run_into_the_next() -> None:
    read_end, write_end = os.pipe()
    handler = handler_of(write_end)
    handler.handle(record("x" * 2 * fcntl.fcntl(write_end, fcntl.F_GETPIPE_SZ)))
    lines_of(read_end)
    handler.handle(record("read again"))
    rest, notice, last = lines_of(read_end)
    assert rest == ""
    assert " 1 records of this log could not be written" in notice
    assert last.endswith("ross.x: read again")


def test_reader_that_is_gone_and_full_disk_cost_the_record(capfd: pytest.CaptureFixture[str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    full = os.open("/dev/full", os.O_WRONLY)
    for fd in (write_end, full):
        handler_of(fd).handle(record("lost"))
    assert capfd.readouterr().err == ""  # where a handler says that it has failed
