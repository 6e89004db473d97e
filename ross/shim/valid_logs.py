"""What can be refused about logs before anything is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ross.errors import InvalidArgument
from ross.model.logs import LogDriver

if TYPE_CHECKING:
    from ross.model.logs import LogConfig

_MIN_LOG_BYTES: Final = 4 << 10
_MAX_LOG_BYTES: Final = 512 << 30
"""Half of what a position in a log can tell."""
_MAX_LOG_FILES: Final = 1000


def check_log(log: LogConfig) -> None:
    """Refuse a log that cannot be kept in this way.

    Raises:
        InvalidArgument: there is no such driver, or its files would be too small, too large or too many.
    """
    if log.driver is LogDriver.UNKNOWN:
        raise InvalidArgument("this engine does not know that log driver", hint="the drivers are file and none")
    if log.max_bytes and not _MIN_LOG_BYTES <= log.max_bytes < _MAX_LOG_BYTES:
        raise InvalidArgument(
            f"a log file cannot have {log.max_bytes} bytes at most", hint="between 4k and 512g, or 0 for no limit"
        )
    if not 1 <= log.max_files <= _MAX_LOG_FILES:
        raise InvalidArgument(f"a log cannot be kept in {log.max_files} files", hint=f"1 to {_MAX_LOG_FILES}")
