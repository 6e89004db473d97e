"""The form in which a log is kept, which is the CRI's: ``time stream P|F text``, a record a line; P if the output's line goes on.

A record begins at the beginning of a line, and what a container prints never begins one: the monitor writes the time and the stream
before it. So no output can forge a record.

All heads are of one length: the monitor writes nanoseconds, and the difference to UTC.
"""

from __future__ import annotations

import re
import time
from datetime import datetime
from enum import Enum
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Final

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ross.model.logs import LogChunk


class Stream(Enum):
    """Which of a process's outputs a piece of log comes from."""

    STDOUT = "stdout"
    STDERR = "stderr"


@frozen(kw_only=True)
class LogEntry:
    """A piece of output, as the monitor recorded it."""

    time: int
    """Nanoseconds since the epoch."""
    stream: Stream
    data: bytes
    """With its newline, except where the output had none."""
    partial: bool
    """The line goes on in the next entry of the same stream."""
    position: int
    """Where reading goes on behind it."""
    gap: bool = False
    """Something before it is not there any more: it made place for newer output."""


_KINDS: Final = {
    b" stdout F ": (Stream.STDOUT, False),
    b" stdout P ": (Stream.STDOUT, True),
    b" stderr F ": (Stream.STDERR, False),
    b" stderr P ": (Stream.STDERR, True),
}
_PLAIN: Final = {
    f" {stream.value} F ".encode(): (
        stream,
        re.compile(rb"\n.{35} %b F " % stream.value.encode()),
        re.compile(rb"\n.{29}\+00:00 %b F " % stream.value.encode()),
        b"+00:00 %b F " % stream.value.encode(),
    )
    for stream in Stream
}
"""By the kind of a record that is a whole line: its stream, its head behind the end of the line before, one in UTC, the end of that."""
_SECONDS: Final = slice(0, 19)
_FRACTION: Final = slice(20, 29)
_ZONE: Final = slice(29, 35)
_KIND: Final = slice(35, 45)
_TEXT: Final = 45


def kind_of(line: bytes) -> tuple[Stream, bool] | None:
    """The stream of a record, and whether its line goes on; None for a line that is no record."""
    return _KINDS.get(line[_KIND])


def time_of(line: bytes) -> int | None:
    """The time of a record, in nanoseconds since the epoch; None if it has none that can be read."""
    seconds, fraction = _seconds(line[_SECONDS], line[_ZONE]), line[_FRACTION]
    if seconds is None or line[_KIND] not in _KINDS or not fraction.isdigit():
        return None
    return seconds * 10**9 + int(fraction)


@lru_cache(maxsize=1024)
def _seconds(text: bytes, zone: bytes) -> int | None:
    try:
        return int(datetime.fromisoformat((text + zone).decode()).timestamp())
    except ValueError:
        return None


def _text(line: bytes) -> bytes:
    """What the container wrote; nothing if the line is no record."""
    kind = kind_of(line)
    if kind is None:
        return b""
    return line[_TEXT:] if kind[1] else line[_TEXT:] + b"\n"


def entries(chunk: LogChunk) -> Iterator[LogEntry]:
    """The records of a chunk, one by one. What is no record is left out."""
    position, gap = chunk.position, chunk.gap
    for line in chunk.records.split(b"\n")[:-1]:
        position += len(line) + 1
        kind, moment = kind_of(line), time_of(line)
        if kind is not None and moment is not None:
            stream, partial = kind
            yield LogEntry(time=moment, stream=stream, data=_text(line), partial=partial, position=position, gap=gap)
            gap = False


class Printer:
    """Makes of chunks what is printed: the texts, with the stream each belongs to, and before each line its time if that is wanted."""

    def __init__(self, *, timestamps: bool = False) -> None:
        self._timestamps = timestamps
        self._going_on: dict[Stream, bool] = {}

    def feed(self, records: bytes) -> list[tuple[Stream, bytes]]:
        """The output of some records, in order; what follows each other on one stream is joined."""
        plain = self._plain(records)
        if plain is not None:
            return [plain]
        lines = records.split(b"\n")
        lines.pop()
        text = self._timed if self._timestamps else _join
        return [(stream, text(run)) for stream, run in groupby(lines, key=_stream_of) if stream is not None]

    def _plain(self, records: bytes) -> tuple[Stream, bytes] | None:
        """The output of what a log mostly is, whole lines of one stream; looking at no line by itself, which would take far longer."""
        found = _PLAIN.get(records[_KIND])
        if found is None or any(self._going_on.values()):
            return None
        stream, head, utc, end_of_head = found
        texts = (utc if self._timestamps else head).split(b"\n" + records)
        lines = records.count(b"\n")
        if len(texts) != lines + 1:
            return None
        if not self._timestamps:
            return stream, b"\n".join(texts[1:])
        if records.count(end_of_head) != lines:  # there is output that looks like it
            return None
        return stream, records.replace(end_of_head, b"Z ")

    def _timed(self, lines: Iterable[bytes]) -> bytes:
        found = []
        for line in lines:
            kind = kind_of(line)
            if kind is not None:
                stream, partial = kind
                if not self._going_on.get(stream):
                    found.append(_moment(line))
                self._going_on[stream] = partial
                found.append(_text(line))
        return b"".join(found)


def _join(lines: Iterable[bytes]) -> bytes:
    return b"".join([line[_TEXT:] + b"\n" if line[42:_TEXT] == b" F " else _text(line) for line in lines])


def _stream_of(line: bytes) -> Stream | None:
    kind = kind_of(line)
    return kind[0] if kind is not None else None


def _moment(line: bytes) -> bytes:
    """The time of a record as it is printed, in UTC, with a space behind it."""
    if line[_ZONE] == b"+00:00":
        return line[:29] + b"Z "
    moment = time_of(line) or 0
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment // 10**9))
    return f"{whole}.{moment % 10**9:09d}Z ".encode()
