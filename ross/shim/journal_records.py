"""A container's output as its monitor writes it to the journal of the host, as records of a log.

An entry is a line, or the next part of one that goes on (``CONTAINER_PARTIAL_MESSAGE``); with the priority of an error it is of the error
output (conmon, ``write_journald``). The journal counts nothing that a position could be made of: a position is a time in milliseconds, and
how many bytes of records there are between the first one that is not older, and the place. So it is found again as long as both are there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from ross.linux.journal import JournalEntry
from ross.model.records import Stream, kind_of, stamp
from ross.shim.logs import Backwards, Wanted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ross.model.logs import LogChunk, LogOptions

FIELDS: Final = ("MESSAGE", "PRIORITY", "CONTAINER_PARTIAL_MESSAGE")
_ERROR: Final = b"3"
_OFFSET_BITS: Final = 20
"""No journal receives a megabyte in a millisecond."""
_NEVER: Final = (1 << 64) - 1


def record_of(entry: JournalEntry) -> bytes:
    """An entry as records in the CRI's form; of a monitor's, which has one newline at most and that at its end, one."""
    message = entry.fields.get(b"MESSAGE")
    if message is None:
        return b""
    stream = Stream.STDERR if entry.fields.get(b"PRIORITY") == _ERROR else Stream.STDOUT
    partial = b"CONTAINER_PARTIAL_MESSAGE" in entry.fields and not message.endswith(b"\n")
    head = b"%b+00:00 %b " % (stamp(entry.time * 1000), stream.value.encode())
    *lines, last = message.removesuffix(b"\n").split(b"\n")
    return b"".join(head + b"F " + line + b"\n" for line in lines) + head + (b"P " if partial else b"F ") + last + b"\n"


def begin_of(position: int) -> int:
    """Where reading begins if it is to go on from a position, in microseconds since the epoch."""
    return (position >> _OFFSET_BITS) * 1000


# -- where to begin ---------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Opening:
    """Where a stream begins."""

    entry: JournalEntry
    included: bool


class TailSearch:
    """Looks for the beginning of the last lines, from the newest entry to the oldest."""

    def __init__(self, options: LogOptions) -> None:
        self._search = Backwards(options)
        self._newest: JournalEntry | None = None
        self._found: dict[Stream, JournalEntry] = {}
        self._count = 0

    def take(self, entry: JournalEntry) -> bool:
        """The entry before those taken so far. Returns whether no more are needed."""
        if self._newest is None:
            self._newest = entry
        lines = record_of(entry).split(b"\n")[:-1]
        enough = False
        for line in reversed(lines):
            self._count += 1
            enough = enough or self._search.take(line, self._count)
            kind = kind_of(line)
            if kind is not None and self._search.begins.get(kind[0]) == self._count:
                self._found[kind[0]] = entry
        return enough

    def openings(self) -> Mapping[Stream, Opening]:
        """Where each stream begins; one of which nothing was found, at the end of what there was. Empty: with what comes."""
        if self._newest is None:
            return {}
        return {
            stream: Opening(entry=found, included=True)
            if (found := self._found.get(stream)) is not None
            else Opening(entry=self._newest, included=False)
            for stream in Stream
        }


# -- what there is ----------------------------------------------------------------------------------------------------


class JournalRecords:
    """Makes chunks of the entries of one container, from the oldest on, and gives them positions."""

    def __init__(self, options: LogOptions, openings: Mapping[Stream, Opening]) -> None:
        self._after = options.after
        self._openings = dict(openings)
        begins = {stream: _NEVER if stream in openings else options.after for stream in Stream}
        self._wanted = Wanted(options, begins)
        self._anchor = options.after >> _OFFSET_BITS
        """The millisecond that positions count from now."""
        self._latest = self._anchor
        self._position = self._anchor << _OFFSET_BITS
        self._gap = False
        self._resuming = options.after > 0

    @property
    def past_until(self) -> bool:
        """Whether something was seen that is later than all that is wanted."""
        return self._wanted.past_until

    def feed(self, entries: Sequence[JournalEntry]) -> list[LogChunk]:
        """The wanted records of some more entries."""
        found: list[LogChunk] = []
        records: list[bytes] = []
        begin = self._position
        for entry in entries:
            moment = entry.time // 1000
            if self._may_count_anew(moment, begun=bool(records)):
                self._anchor = moment
                begin = self._position = moment << _OFFSET_BITS
            self._latest = max(self._latest, moment)
            record = record_of(entry)
            self._open(entry, self._position, self._position + len(record))
            records.append(record)
            self._position += len(record)
        if records:
            found += self._wanted.select(b"".join(records), begin)
        if found and self._gap:
            found[0], self._gap = evolve(found[0], gap=True), False
        return found

    def _may_count_anew(self, moment: int, *, begun: bool) -> bool:
        """Whether positions may count from an entry on: all of that millisecond come behind it, and no chunk is being made."""
        if self._resuming:
            self._resuming = False
            if moment > self._anchor:  # what the position counts from is gone
                self._gap = True
                return True
        return not begun and moment > self._latest and self._position >= self._after

    def _open(self, entry: JournalEntry, begin: int, end: int) -> None:
        for stream, opening in tuple(self._openings.items()):
            here = entry.cursor == opening.entry.cursor
            if here or entry.time > opening.entry.time:
                del self._openings[stream]
                place = begin if opening.included or not here else end
                self._wanted.begins[stream] = max(place, self._after)
