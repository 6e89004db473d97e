"""The form in which a log is kept, which is the CRI's: ``time stream P|F text``, a record a line; P if the output's line goes on.

A record begins at the beginning of a line, and what a container prints never begins one: the monitor writes the time and the stream
before it. So no output can forge a record.

All heads are of one length: the monitor writes nanoseconds, and the difference to UTC.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
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
_SECONDS: Final = slice(0, 19)
_FRACTION: Final = slice(20, 29)
_ZONE: Final = slice(29, 35)
_KIND: Final = slice(35, 45)
_TEXT: Final = 45
_WHOLE: Final = {stream: re.compile(rb"\n.{35} %b F " % stream.value.encode()) for stream in Stream}
"""The head of a record that is a whole line, or the end of one, behind the end of the line before."""
_WHOLE_UTC: Final = {stream: re.compile(rb"\n.{29}\+00:00 %b F " % stream.value.encode()) for stream in Stream}
_STAMP: Final = re.compile(rb"^(.{29})\+00:00 std(?:out|err) [FP] ", re.MULTILINE)


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


def stamp(moment: int) -> bytes:
    """A time, in nanoseconds since the epoch, as it stands at the beginning of records in UTC: later ones are greater."""
    return f"{datetime.fromtimestamp(moment // 10**9, tz=UTC):%Y-%m-%dT%H:%M:%S}.{moment % 10**9:09d}".encode()


def stamps(records: bytes) -> tuple[bytes, bytes] | None:
    """The least and the greatest time of some records; None where it takes a look at each to tell."""
    found = _STAMP.findall(records)
    return (min(found), max(found)) if found and len(found) == records.count(b"\n") else None


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
        """The output of what a log mostly is, lines of one stream. It looks at no line by itself, which would take far longer.

        Returns:
            None if there is something else among them.
        """
        kind = kind_of(records)
        if kind is None or any(self._going_on.values()):
            return None
        stream = kind[0]
        if any(b" %b " % other.value.encode() in records for other in Stream if other is not stream):
            return None
        body = b"\n" + records[:-1]
        pieces: list[bytes] = []
        lines, goes_on = 0, False
        for head, stretch in _stretches(body, stream):
            texts = (_WHOLE_UTC if self._timestamps else _WHOLE)[stream].split(stretch)
            whole = len(texts) - 1
            if not self._timestamps:
                pieces += (texts[0], b"\n".join(texts[1:]))
            elif (timed := _with_times(stretch, stream, whole, continued=bool(head))) is not None:
                pieces += (_moment(head) if head and not goes_on else b"", timed)
            else:
                return None
            if whole:
                pieces.append(b"\n")
            lines += whole + bool(head)
            goes_on = bool(head) and not whole
        if lines != body.count(b"\n"):
            return None
        if self._timestamps:
            self._going_on[stream] = goes_on
        return stream, b"".join(pieces)

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


def _stretches(body: bytes, stream: Stream) -> Iterator[tuple[bytes, bytes]]:
    """Records, each behind a newline, cut where one begins whose line goes on: its head, empty at first, and all up to the next one."""
    word = b" %b P " % stream.value.encode()
    head, begin, at = b"", 0, body.find(word)
    while at >= 0:
        start = at - _KIND.start
        if start > 0 and body[start - 1 : start] == b"\n" and b"\n" not in body[start:at]:
            yield head, body[begin : start - 1]
            begin = start + _TEXT
            head = body[start:begin]
        at = body.find(word, at + 1)
    yield head, body[begin:]


def _with_times(stretch: bytes, stream: Stream, whole: int, *, continued: bool) -> bytes | None:
    """A stretch as it is printed with times; None if there is something in its text that looks like the end of a head."""
    text, _newline, rest = stretch.partition(b"\n")
    if continued:  # the first record goes on with what stands before it
        rest, whole = rest[_TEXT:], max(whole - 1, 0)
    end = b"+00:00 %b F " % stream.value.encode()
    return text + rest.replace(end, b"Z ") if rest.count(end) == whole else None


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
