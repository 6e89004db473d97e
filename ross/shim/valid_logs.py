"""What can be refused about logs before anything is made."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ross.errors import InvalidArgument
from ross.model.logs import LogDriver

if TYPE_CHECKING:
    from ross.model.logs import LogConfig
    from ross.shim.handed import Handed

_MIN_LOG_BYTES: Final = 4 << 10
_MAX_LOG_BYTES: Final = 512 << 30
"""Half of what a position in a log can tell."""
_MAX_LOG_FILES: Final = 1000
_TAG: Final = re.compile(r"(?:(?!\{\{)[^\x00-\x1f\x7f-\x9f\u2028\u2029]){0,200}")


def check_log(log: LogConfig, *, terminal: bool) -> None:
    """Refuse a log that cannot be kept in this way.

    Raises:
        InvalidArgument: there is no such driver, or none for a terminal, or no such tag, or its files would be too small, too large or
            too many.
    """
    if log.driver is LogDriver.PASSTHROUGH and terminal:
        raise InvalidArgument(
            "the log driver passthrough hands over streams, and a terminal takes their place",
            hint="leave out -t, or the driver",
        )
    if log.driver is LogDriver.UNKNOWN:
        raise InvalidArgument(
            "this engine does not know that log driver", hint="the drivers are file, journald, none and passthrough"
        )
    if log.tag and log.driver is not LogDriver.JOURNALD:
        raise InvalidArgument("only the log driver journald has a tag")
    if not _TAG.fullmatch(log.tag):
        raise InvalidArgument(
            f"{log.tag[:80]!r} cannot be a tag", hint="write up to 200 plain characters; there are no templates"
        )
    if log.max_bytes and not _MIN_LOG_BYTES <= log.max_bytes < _MAX_LOG_BYTES:
        raise InvalidArgument(
            f"a log file cannot have {log.max_bytes} bytes at most", hint="between 4k and 512g, or 0 for no limit"
        )
    if not 1 <= log.max_files <= _MAX_LOG_FILES:
        raise InvalidArgument(f"a log cannot be kept in {log.max_files} files", hint=f"1 to {_MAX_LOG_FILES}")


def check_handed(log: LogConfig, handed: Handed) -> None:
    """Refuse descriptors that the process of a container with this log cannot be given.

    Raises:
        InvalidArgument: it takes no streams, or they, or what is behind them, cannot be given to anybody.
    """
    handed.check()
    if handed.stdio and log.driver is not LogDriver.PASSTHROUGH:
        raise InvalidArgument(
            "this container's streams are its monitor's, which keeps its log",
            hint="create it with --log-driver passthrough to hand it others",
        )
