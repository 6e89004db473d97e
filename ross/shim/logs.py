"""Reading a container's log, across its files, as stretches of whole records; a client takes them apart.

What nobody asked for is not read twice and not sent: a stretch without a wanted record is left out, and a few unwanted records between
wanted ones are blanked, so that a position in a stretch is one in the log. Everything is read in bounded pieces, in worker threads.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

import trio
from attrs import define, evolve, frozen

from ross.errors import InvalidArgument
from ross.model.logs import LogChunk, LogOptions
from ross.model.records import Stream, kind_of, stamp, stamps, time_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator

    from ross.shim.logfiles import LogFiles

_BLOCK_BYTES: Final = 256 << 10
"""A monitor splits long lines into records of some kilobytes; a longer one is none."""
_BLOCKS: Final = 4
"""Read in one visit to a thread."""
_SMALL_HOLE: Final = 4 << 10
_OFFSET_BITS: Final = 40
_LOOK_BACK_BYTES: Final = 8 << 20
"""How far back the beginning of a line is looked for, of whose stream nothing comes."""
_NEVER: Final = (1 << 63) - 1


def position_of(number: int, offset: int) -> int:
    """A place in a log as one number, which rises: the file's number and the offset in it."""
    return number << _OFFSET_BITS | offset


@define
class Wanted:
    """Which records of a log are wanted."""

    options: LogOptions
    begins: dict[Stream, int]
    """The position of the first one of each stream."""
    past_until: bool = False

    @property
    def all(self) -> bool:
        options = self.options
        return (
            options.stdout
            and options.stderr
            and not options.since
            and not options.until
            and not any(self.begins.values())
        )

    def fits(self, line: bytes, position: int) -> bool:
        """Whether a record is wanted; a line that is no record is not."""
        kind = kind_of(line)
        if kind is None:
            return False
        options, stream = self.options, kind[0]
        if not (options.stdout if stream is Stream.STDOUT else options.stderr) or position < self.begins.get(stream, 0):
            return False
        if options.since or options.until:
            moment = time_of(line)
            if moment is None or moment < options.since:
                return False
            if options.until and moment > options.until:
                self.past_until = True
                return False
        return True

    def _fits_whole(self, records: bytes, position: int) -> bool:
        """Whether all of some records are surely wanted. Without a look at each, so there may be others of which this is true."""
        options = self.options
        if (not options.stdout and b" stdout " in records) or (not options.stderr and b" stderr " in records):
            return False
        if position < max(self.begins.values(), default=0):
            return False
        if not options.since and not options.until:
            return True
        times = stamps(records)
        return (
            times is not None
            and times[0] >= stamp(options.since)
            and (not options.until or times[1] <= stamp(options.until))
        )

    def select(self, records: bytes, position: int) -> Iterator[LogChunk]:
        """The wanted ones among some records."""
        if self.all or self._fits_whole(records, position):
            yield LogChunk(position=position, records=records)
            return
        kept: list[bytes] = []
        begin, hole = position, 0
        for line in records.split(b"\n")[:-1]:
            wanted = self.fits(line, position)
            if self.past_until:
                break
            size = len(line) + 1
            if wanted:
                if hole > _SMALL_HOLE or not kept:
                    if kept:
                        yield LogChunk(position=begin, records=b"".join(kept))
                    kept, begin = [], position
                elif hole:
                    kept.append(b"-" * (hole - 1) + b"\n")
                kept += (line, b"\n")
                hole = 0
            else:
                hole += size
            position += size
        if kept:
            yield LogChunk(position=begin, records=b"".join(kept))


class _Reader:
    """Reads one file from an offset on. Its methods run in worker threads, one at a time."""

    def __init__(self, fd: int, number: int, offset: int, wanted: Wanted) -> None:
        self.fd = fd
        self.seen = offset
        """How far the file has been read, with the beginning of a record that is not complete."""
        self.end: int | None = None
        """The offset that nothing is read behind."""
        self._number = number
        self._offset = offset
        self._wanted = wanted
        self._skipping = False

    def read(self) -> tuple[list[LogChunk], bool]:
        """Some more chunks, and whether this was all that is there now."""
        found: list[LogChunk] = []
        for _block in range(_BLOCKS):
            block = os.pread(self.fd, self._most(), self._offset)
            self.seen = self._offset + len(block)
            end = block.rfind(b"\n") + 1
            if not end:
                if len(block) < _BLOCK_BYTES:
                    return found, True
                self._skipping = (
                    True  # this is no record, whoever wrote it: what stands behind it on its line is none either
                )
                self._offset += len(block)
                continue
            begin = block.index(b"\n") + 1 if self._skipping else 0
            self._skipping = False
            found += self._wanted.select(block[begin:end], position_of(self._number, self._offset + begin))
            self._offset += end
            if self._wanted.past_until:
                break
        return found, False

    def ends_at(self, position: int | None) -> bool:
        """Read nothing behind a position. Returns whether it is in this file, or before it."""
        if position is None or position >> _OFFSET_BITS > self._number:
            return False
        self.end = position - position_of(self._number, 0)
        return True

    def _most(self) -> int:
        return _BLOCK_BYTES if self.end is None else max(0, min(_BLOCK_BYTES, self.end - self._offset))

    def lost(self) -> bool:
        """Whether what it was to read is not there any more."""
        size = os.fstat(self.fd).st_size
        return size == 0 or size < self._offset


async def read_log(
    files: LogFiles,
    options: LogOptions,
    *,
    ended: Callable[[], bool],
    wait_ended: Callable[[], Awaitable[object]],
    begin: LogBegin | None = None,
    end: Callable[[], int | None] = lambda: None,
) -> AsyncGenerator[LogChunk, None]:
    """The log in chunks: what is there, and with ``follow`` what comes, until the container has stopped and all was read.

    Args:
        files: The log.
        options: What of it.
        ended: Whether the container has stopped.
        wait_ended: Returns when it has.
        begin: Where to begin, if somebody has looked already, in the place of what ``options`` say of it.
        end: The position behind which nothing is wanted, once that is known; what follows it is of another run.

    Raises:
        InvalidArgument: the position to go on from is none of this log.
    """
    if begin is None:
        begin = await trio.to_thread.run_sync(find_begin, files, options)
    place, gap, wanted = begin.place, begin.gap, Wanted(options, begin.begins)
    while True:
        fd = files.open(place.number)
        if fd is None:
            later = files.following(place.number)
            if later is None:
                return
            place, gap = _Place(later, 0), True
            continue
        try:
            reader = _Reader(fd, place.number, place.offset, wanted)
            following = None
            while following is None:
                # Asked before reading: what was written before is then surely read.
                last, following = ended(), files.following(place.number)
                at_end = everything = False
                while not everything:
                    at_end = reader.ends_at(end())
                    chunks, everything = await trio.to_thread.run_sync(reader.read)
                    for chunk in chunks:
                        yield evolve(chunk, gap=gap)  # noqa: ASYNC119 -- closed by its only caller
                        gap = False
                    if wanted.past_until:
                        return
                if at_end or (following is None and (last or not options.follow or is_past(options.until))):
                    return
                if following is None:
                    await _more(files, reader, place.number, options, wait_ended)
            gap = gap or reader.lost() or following != place.number + 1
            place = _Place(following, 0)
        finally:
            os.close(fd)


def is_past(moment: int) -> bool:
    """Whether a time, in nanoseconds since the epoch, has come; never, if it is 0."""
    return moment != 0 and time.time_ns() > moment


async def _more(
    files: LogFiles, reader: _Reader, number: int, options: LogOptions, wait_ended: Callable[[], Awaitable[object]]
) -> None:
    """Wait until there may be more to read, or nothing will come any more."""
    begun = files.next_begun
    with files.watches.armed(reader.fd) as watch, trio.CancelScope() as scope:
        if options.until:
            scope.deadline = trio.current_time() + max(0, options.until - time.time_ns()) / 1e9
        if os.fstat(reader.fd).st_size == reader.seen and files.following(number) is None:
            await either(watch.changed, begun.wait, wait_ended)


async def either(*waits: Callable[[], Awaitable[object]]) -> None:
    """Wait until one of several has returned; the others are cancelled."""
    async with trio.open_nursery() as nursery:

        async def one(wait: Callable[[], Awaitable[object]]) -> None:
            await wait()
            nursery.cancel_scope.cancel()

        for wait in waits:
            nursery.start_soon(one, wait)


# -- where to begin ---------------------------------------------------------------------------------------------------


@frozen
class _Place:
    number: int
    offset: int


@frozen
class LogBegin:
    """Where to begin reading. Made by :func:`find_begin`."""

    place: _Place
    begins: dict[Stream, int]
    """Where each stream begins, behind the place."""
    gap: bool = False
    """Something before it is not there any more."""


def find_begin(files: LogFiles, options: LogOptions) -> LogBegin:
    """Where to begin, as the log is now, for what ``tail`` and ``after`` say. Blocks; runs in a worker thread of Trio's.

    Raises:
        InvalidArgument: the position to go on from is none of this log.
    """
    place, gap = _first_place(files, options)
    if options.tail < 0:
        return LogBegin(place, {}, gap)
    return evolve(_find_tail(files, options, place), gap=gap)


def _first_place(files: LogFiles, options: LogOptions) -> tuple[_Place, bool]:
    """Where the oldest thing that may be wanted stands, and whether older things are not there any more."""
    numbers = files.numbers() or [1]
    if not options.after:
        return _Place(numbers[0], 0), False
    number, offset = options.after >> _OFFSET_BITS, options.after & ((1 << _OFFSET_BITS) - 1)
    if number < numbers[0]:
        return _Place(numbers[0], 0), True
    if number > numbers[-1] or (number == numbers[-1] and offset > _size(files, number)):
        raise InvalidArgument(
            "the log does not go as far as the position to go on from", hint="use a position of this very log"
        )
    return _Place(number, offset), False


def log_end(files: LogFiles) -> int:
    """The position behind all that there is now."""
    number = (files.numbers() or [1])[-1]
    return position_of(number, _size(files, number))


def _size(files: LogFiles, number: int) -> int:
    fd = files.open(number)
    if fd is None:
        return 0
    try:
        return os.fstat(fd).st_size
    finally:
        os.close(fd)


def _find_tail(files: LogFiles, options: LogOptions, first: _Place) -> LogBegin:
    """Where the last lines begin.

    Parts of one line count as one. The lines of the two streams may be interwoven: each stream begins at a place of its own.
    """
    search = Backwards(options)
    end = _NEVER
    for number in reversed([one for one in files.numbers() if one >= first.number]):
        fd = files.open(number)
        if fd is None:
            continue
        try:
            floor = first.offset if number == first.number else 0
            for offset, line in _lines_backwards(fd, floor):
                if end == _NEVER:
                    end = position_of(number, offset + len(line) + 1)
                if search.take(line, position_of(number, offset)):
                    return _tail_at(search.begins, end)
        finally:
            os.close(fd)
        if end == _NEVER and number == first.number:
            end = position_of(number, first.offset)
    return _tail_at(search.begins, end if end != _NEVER else position_of(first.number, first.offset))


def _tail_at(begins: dict[Stream, int], end: int) -> LogBegin:
    """Streams of which nothing was found begin at the end of what there was."""
    begins = {stream: begins.get(stream, end) for stream in Stream}
    place = min(begins.values())
    return LogBegin(_Place(place >> _OFFSET_BITS, place & ((1 << _OFFSET_BITS) - 1)), begins)


class Backwards:
    """Counts lines from the end on."""

    def __init__(self, options: LogOptions) -> None:
        self.begins: dict[Stream, int] = {}
        """Where the earliest line of each stream that counts begins, as far as is known."""
        self._wanted = Wanted(options, {})
        self._lines = options.tail
        self._complete: set[Stream] = set()
        """Streams whose earliest line is known to begin there."""
        self._looked = 0

    def take(self, line: bytes, position: int) -> bool:
        """The record before those taken so far. Returns whether no more are needed."""
        fits, kind = self._wanted.fits(line, position), kind_of(line)
        self._wanted.past_until = False  # later ones come first here
        if self._lines == 0:
            self._looked += len(line) + 1
            if self._looked > _LOOK_BACK_BYTES or self._complete >= set(self.begins):
                return True
        if not fits or kind is None:
            return False
        stream, goes_on = kind
        if goes_on and stream in self.begins:
            if stream not in self._complete:
                self.begins[stream] = position
                self._looked = 0
        elif self._lines:
            self._lines -= 1
            self.begins[stream] = position
        else:
            self._complete.add(stream)
        return False


def _lines_backwards(fd: int, floor: int) -> Iterator[tuple[int, bytes]]:
    """The complete lines of a file from its end back to an offset, each with its own."""
    offset = os.fstat(fd).st_size
    later: bytes | None = None
    """The end of a line whose beginning was not read yet; None as long as no newline was found."""
    while offset > floor:
        trio.from_thread.check_cancelled()
        size = min(_BLOCK_BYTES, offset - floor)
        offset -= size
        block = os.pread(fd, size, offset)
        *lines, rest = block.split(b"\n")
        at = offset + size - len(rest)
        if lines:
            if later is not None:
                yield at, rest + later
            for line in reversed(lines[1:]):
                at -= len(line) + 1
                yield at, line
            later = lines[0]
        elif later is not None:
            later = rest + later if len(later) < _BLOCK_BYTES else later
    if later is not None:
        yield floor, later
