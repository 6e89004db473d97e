"""The daemon's log: both forms, and that no message can forge a record."""

from __future__ import annotations

import json
import logging
import sys

from ross.logs import JsonFormatter, TextFormatter


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
