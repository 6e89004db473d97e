"""Reading the log that a monitor writes: the CRI format, ``time stream P|F text``, a record a line.

A record begins at the beginning of a line, and what a container prints never begins one: the monitor writes the time and the stream
before it. So no output can forge a record. Everything is read in bounded pieces.
"""

from __future__ import annotations

import os
import re
from datetime import datetime
from typing import TYPE_CHECKING, Final

import trio

from ross.linux.inotify import FileWatch
from ross.model.logs import LogEntry, LogOptions, Stream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

_BLOCK_BYTES: Final = 256 << 10
_MAX_RECORD_BYTES: Final = 1 << 20
"""A monitor splits long lines long before; more than this is no record."""
_BATCH: Final = 512
_HEAD: Final = re.compile(
    rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d) (stdout|stderr) ([PF])(?::[^ ]*)? "
)
_STREAMS: Final = {b"stdout": Stream.STDOUT, b"stderr": Stream.STDERR}


def parse_record(line: bytes) -> LogEntry | None:
    """A record of the log, without its newline; None if it is none."""
    match = _HEAD.match(line)
    if match is None:
        return None
    whole, fraction, zone, stream, tag = match.groups()
    try:
        seconds = datetime.fromisoformat((whole + (b"+00:00" if zone == b"Z" else zone)).decode()).timestamp()
    except ValueError:
        return None
    partial = tag == b"P"
    return LogEntry(
        time=int(seconds) * 10**9 + int((fraction or b"0").ljust(9, b"0")),
        stream=_STREAMS[stream],
        data=line[match.end() :] + (b"" if partial else b"\n"),
        partial=partial,
    )


async def read_log(
    path: Path,
    options: LogOptions,
    *,
    ended: Callable[[], bool],
    wait_ended: Callable[[], object],
    position: int | None = None,
) -> AsyncGenerator[list[LogEntry], None]:
    """The log in batches: what is there, and with ``follow`` what comes, until the container has stopped and all was read.

    Args:
        path: The log; one that does not exist is empty.
        options: What of it.
        ended: Whether the container has stopped.
        wait_ended: An async function that returns when it has.
        position: Begin at this record (see :func:`log_position`), in the place of what ``options.tail`` says.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        offset = position if position is not None else await trio.to_thread.run_sync(_tail_offset, fd, options.tail)
        reader = _Reader(fd, offset, options)
        with FileWatch(path) as watch:
            while True:
                last = ended()  # asked before reading: what was written before the end is then surely read
                while batch := await trio.to_thread.run_sync(reader.read_batch):
                    entries = [entry for entry in batch if entry is not None]
                    if entries:
                        yield entries  # noqa: ASYNC119 -- closed by its only caller
                    if reader.past_until:
                        return
                if last or not options.follow:
                    return
                await _either(watch.changed, wait_ended)
    finally:
        os.close(fd)


def log_position(path: Path, tail: int) -> int:
    """Where the last so many lines of a log begin that are there now; 0 for all if negative. Blocks."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return 0
    try:
        return _tail_offset(fd, tail)
    finally:
        os.close(fd)


async def _either(*waits: Callable[[], object]) -> None:
    async with trio.open_nursery() as nursery:

        async def one(wait: Callable[[], object]) -> None:
            await wait()  # type: ignore[misc]  # an async function, by contract
            nursery.cancel_scope.cancel()

        for wait in waits:
            nursery.start_soon(one, wait)


class _Reader:
    """Reads records from an offset on; runs in worker threads, one at a time."""

    def __init__(self, fd: int, offset: int, options: LogOptions) -> None:
        self._fd = fd
        self._offset = offset
        self._options = options
        self._rest = b""
        self._skipping = False
        self.past_until = False

    def read_batch(self) -> list[LogEntry | None]:
        """Some more records, None for those that are not wanted; empty at the end of what is there."""
        found: list[LogEntry | None] = []
        while len(found) < _BATCH and not self.past_until:
            block = os.pread(self._fd, _BLOCK_BYTES, self._offset)
            if not block:
                break
            self._offset += len(block)
            *lines, rest = (self._rest + block).split(b"\n")
            if self._skipping and lines:
                del lines[0]
                self._skipping = False
            self._rest = rest
            if len(rest) > _MAX_RECORD_BYTES:
                self._rest, self._skipping = b"", True
            found += [self._wanted(line) for line in lines]
        return found

    def _wanted(self, line: bytes) -> LogEntry | None:
        entry = parse_record(line)
        options = self._options
        if entry is None or entry.time < options.since:
            return None
        if options.until and entry.time > options.until:
            self.past_until = True
            return None
        shown = options.stdout if entry.stream is Stream.STDOUT else options.stderr
        return entry if shown else None


def _tail_offset(fd: int, lines: int) -> int:
    """Where the last so many lines begin; 0 for all. Records of one line that was split count as one."""
    if lines < 0:
        return 0
    end = os.fstat(fd).st_size
    if lines == 0:
        return end
    found = 0
    last = True
    offset, later = end, b""
    while offset > 0:
        size = min(_BLOCK_BYTES, offset)
        offset -= size
        data = os.pread(fd, size, offset) + later
        starts = [match.end() for match in re.finditer(rb"\n", data[:-1])]
        for start in reversed(starts):
            match = _HEAD.match(data, start)
            # The parts of a line end with one that is full, unless they end the log.
            found += last or match is None or match[5] == b"F"
            last = False
            if found >= lines:
                return _line_start(data, start, offset)
        later = data[: starts[0]] if starts else data
        if len(later) > _MAX_RECORD_BYTES:
            later = b""
    return 0


def _line_start(data: bytes, start: int, offset: int) -> int:
    """The beginning of the line that ends with the record at ``start``: also the parts before it, as far as they are at hand."""
    while start > 0:
        before = data.rfind(b"\n", 0, start - 1) + 1
        match = _HEAD.match(data, before)
        if match is None or match[5] != b"P":
            break
        start = before
    return offset + start
