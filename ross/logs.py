"""The daemon's log: one record a line on standard error, as text or as JSON.

Nothing of a secret is ever handed to a logger; here control characters are made harmless, so that no image, client or registry can forge
a record. Who reads it may hang: the daemon, which writes its log between two things that it does, then goes on without.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import sys
import time
from contextlib import suppress
from typing import Final

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_PIECE_BYTES: Final = 4096
"""So much can be written without waiting where anything can (pipe(7), ``PIPE_BUF``)."""
_PATIENCE_SECONDS: Final = 0.1


def _timestamp(record: logging.LogRecord) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{whole}.{int(record.msecs):03d}Z"


def _escape(text: str) -> str:
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


class TextFormatter(logging.Formatter):
    """``time level logger: message``; the lines of a traceback follow, indented."""

    def format(self, record: logging.LogRecord) -> str:
        head = f"{_timestamp(record)} {record.levelname.lower():7} {record.name}: {_escape(record.getMessage())}"
        if record.exc_info and record.exc_info[0] is not None:
            lines = self.formatException(record.exc_info).splitlines()
            return "\n".join([head, *(f"    | {_escape(line)}" for line in lines)])
        return head


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``time``, ``level``, ``logger``, ``message``, ``traceback`` where there is one, and the record's extras."""

    def format(self, record: logging.LogRecord) -> str:
        document: dict[str, object] = {
            "time": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        document |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info and record.exc_info[0] is not None:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)


class UnwaitingHandler(logging.Handler):
    """Writes to a descriptor. What its reader does not take, or the disk has no room for, is left out; how much that was is told later."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._missing = 0
        self._broken_off = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, if it can be written now or a moment later."""
        try:
            text = self.format(record)
            if self._missing and self._write(self.format(self._notice()), seconds=0):
                self._missing = 0
            if self._missing or not self._write(text, seconds=_PATIENCE_SECONDS):
                self._missing += 1
        except Exception:  # noqa: BLE001 -- as in every handler: a record that cannot be formatted ends nothing
            self.handleError(record)

    def _notice(self) -> logging.LogRecord:
        text = "%d records of this log could not be written, and are missing here"
        return logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, (self._missing,), None)

    def _write(self, text: str, *, seconds: float) -> bool:
        """Whether all of it was written."""
        before = "\n" if self._broken_off else ""
        whole = data = memoryview(f"{before}{text}\n".encode(errors="backslashreplace"))
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        with suppress(OSError):
            while data and poll.poll(seconds * 1000):
                data = data[os.write(self._fd, data[:_PIECE_BYTES]) :]
        if len(data) < len(whole):
            self._broken_off = bool(data)
        return not data


def configure_logging(*, level: str, form: str) -> None:
    """Send the records of all loggers to standard error.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``; of Ross's own loggers. Those of libraries speak from ``warning`` on.
        form: ``text`` or ``json``.
    """
    handler = UnwaitingHandler(sys.stderr.fileno())
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("ross").setLevel(level.upper())
    logging.captureWarnings(True)
