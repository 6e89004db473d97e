"""What a container has written."""

from __future__ import annotations

from enum import Enum

from attrs import frozen


class Stream(Enum):
    """Which of a process's outputs a piece of log comes from."""

    UNKNOWN = "unknown"
    STDOUT = "stdout"
    STDERR = "stderr"


@frozen(kw_only=True)
class LogOptions:
    """What to read of a log."""

    follow: bool = False
    tail: int = -1
    """The last so many lines; -1: all."""
    since: int = 0
    until: int = 0
    stdout: bool = True
    stderr: bool = True


@frozen(kw_only=True)
class LogEntry:
    """A piece of output, as the monitor recorded it."""

    time: int
    stream: Stream
    data: bytes
    """With its newline, except where the output had none."""
    partial: bool
    """The line goes on in the next entry of the same stream."""
