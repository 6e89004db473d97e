"""The daemon's log: one record a line on standard error, as text or as JSON.

Nothing of a secret is ever handed to a logger; here control characters are made harmless, so that no image, client or registry can forge
a record.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from typing import Final

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


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


def configure_logging(*, level: str, form: str) -> None:
    """Send the records of all loggers to standard error.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``; of Ross's own loggers. Those of libraries speak from ``warning`` on.
        form: ``text`` or ``json``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("ross").setLevel(level.upper())
    logging.captureWarnings(True)
