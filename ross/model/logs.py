"""What a container has written: what is asked for, and how it is sent."""

from __future__ import annotations

from enum import Enum

from attrs import frozen


class LogDriver(Enum):
    """Where the output of a container is kept."""

    UNKNOWN = "unknown"
    FILE = "file"
    """In files beside the container, in the CRI's form."""
    NONE = "none"
    """Nowhere."""
    PASSTHROUGH = "passthrough"
    """Nowhere: who starts the container hands it its streams, and nobody attaches to it."""
    JOURNALD = "journald"
    """In the journal of the host, which bounds it with everything else."""


@frozen(kw_only=True)
class LogConfig:
    """Whether a container's output is kept, and how much of it."""

    driver: LogDriver = LogDriver.FILE
    max_bytes: int = 10 << 20
    """When a file is about this large the next one is begun. 0: never."""
    max_files: int = 3
    """So many files at most, with the one that is written; the oldest goes."""
    tag: str = ""
    """What stands with each line in the journal, as ``CONTAINER_TAG``, and is its identifier there. Empty: the container's name is that."""


@frozen(kw_only=True)
class LogOptions:
    """What to read of a log. Everything must hold at once; the last lines are the last of those for which the rest holds."""

    follow: bool = False
    tail: int = -1
    """The last so many lines; -1: all."""
    since: int = 0
    until: int = 0
    stdout: bool = True
    stderr: bool = True
    after: int = 0
    """Only what stands behind this position; 0: from the beginning."""


@frozen(kw_only=True)
class LogChunk:
    """A stretch of a log as it is kept. ``ross.model.records`` takes it apart."""

    position: int
    """Where it begins. It ends, and reading goes on, ``len(records)`` behind that."""
    records: bytes
    """Whole records, one a line. A line of dashes stands in for records that were not asked for."""
    gap: bool = False
    """Something before it is not there any more: it made place for newer output."""
