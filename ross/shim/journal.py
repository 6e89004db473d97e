"""A container's log in the journal of the host: whether there can be one, and reading it."""

from __future__ import annotations

import logging
import os
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import trio

from ross.errors import FailedPrecondition, InvalidArgument, Unavailable
from ross.linux.journal import SOCKET, JournalQuery, reading_journal, sync_journal
from ross.linux.process import which
from ross.shim.journal_records import FIELDS, JournalRecords, TailSearch, begin_of
from ross.shim.logs import either, is_past

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
    from pathlib import Path

    from ross.linux.journal import JournalEntry, JournalReader
    from ross.model.logs import LogChunk, LogOptions
    from ross.model.records import Stream
    from ross.shim.journal_records import Opening

logger = logging.getLogger(__name__)

_READER: Final = "journalctl"
_WRITES: Final = b"sd_journal_sendv"
_ANSWER_SECONDS: Final = 60.0
"""What is there comes at once, or the disk, or the journal, is broken."""


def check_journal(monitor: Path, *, socket: Path = SOCKET) -> None:
    """Check that containers can log to the journal here.

    Raises:
        FailedPrecondition: the journal does not run, cannot be read, or the monitor cannot write to it.
    """
    hint = "leave out --log-driver journald: the log is then kept in files"
    if not socket.is_socket():
        raise FailedPrecondition(
            f"this host has no journal to log to: systemd-journald does not run ({socket} is not there)", hint=hint
        )
    find_reader()
    found = monitor.stat()
    if not _writes(monitor, found.st_mtime_ns, found.st_size, found.st_ino):
        raise FailedPrecondition(f"the monitor {monitor} was built without support for the journal", hint=hint)


@lru_cache(maxsize=1)
def _writes(monitor: Path, _modified_at: int, _size_bytes: int, _inode: int) -> bool:
    """Whether a monitor can write to the journal. Read once for as long as it is the same file: each start asks."""
    return _WRITES in monitor.read_bytes()


def find_reader() -> Path:
    """The program that reads the journal.

    Raises:
        FailedPrecondition: there is none.
    """
    program = which(_READER)
    if program is None:
        raise FailedPrecondition(
            f"{_READER} is not installed: what is logged to the journal could not be read",
            hint="it is of the package systemd",
        )
    return program


async def read_journal_log(
    container_id: str,
    options: LogOptions,
    *,
    ended: Callable[[], bool],
    wait_ended: Callable[[], Awaitable[object]],
    program: Path | None = None,
) -> AsyncGenerator[LogChunk, None]:
    """The log in chunks: what is there, and with ``follow`` what comes, until the container has stopped and all was read.

    Args:
        container_id: Whose.
        options: What of it.
        ended: Whether the container has stopped.
        wait_ended: Returns when it has.
        program: What reads the journal, if not the host's journalctl.

    Raises:
        FailedPrecondition: there is nothing to read the journal with.
        InvalidArgument: the position to go on from is none of this log.
        Unavailable: the journal cannot be read.
    """
    if begin_of(options.after) * 1000 > time.time_ns():
        raise InvalidArgument(
            "the log does not go as far as the position to go on from", hint="use a position of this very log"
        )
    if options.until and options.since > options.until:
        return
    reading = _Reading(container_id, options, program or find_reader(), wait_ended)
    try:
        while True:
            # Asked first: what was written before it ended has then got to the journal, and is surely read.
            last = ended()
            await reading.prepare()
            for follow in (False, True):
                if follow and (last or not options.follow or is_past(options.until)):
                    return
                async with reading_journal(reading.program, reading.query(follow=follow)) as reader:
                    while (entries := await reading.receive(reader, follow=follow)) is not None:
                        for chunk in reading.take(entries):
                            yield chunk  # noqa: ASYNC119 -- closed by its only caller
                        if reading.done:
                            return
    except (ChildProcessError, OSError) as error:
        raise Unavailable(
            f"the journal cannot be read: {error}", hint="journalctl --verify tells whether it is whole"
        ) from error


class _Reading:
    """One reading of a log, in several runs of journalctl."""

    def __init__(
        self, container_id: str, options: LogOptions, program: Path, wait_ended: Callable[[], Awaitable[object]]
    ) -> None:
        self.program = program
        self._options = options
        self._wait_ended = wait_ended
        # Whoever may write to the journal can write what a monitor does, but not who he is.
        self._matches = (f"CONTAINER_ID_FULL={container_id}", f"_UID={os.getuid()}")
        self._since = begin_of(options.after) if options.after else options.since // 1000
        self._records = JournalRecords(options, {})
        self._begun = False
        self._seen = ""
        """The cursor of the last entry that was read."""

    @property
    def done(self) -> bool:
        """Whether nothing that is wanted can come any more."""
        return self._records.past_until

    async def prepare(self) -> None:
        """See that what was written can be read, and find out where to begin if only the last lines are wanted."""
        if not await sync_journal(self.program):
            logger.info("the journal does not say whether it has everything yet")
        if self._options.tail >= 0 and not self._begun:
            openings = await self._find_tail()
            if openings and not self._options.after:
                self._since = max(self._since, min(one.entry.time for one in openings.values()))
            self._records = JournalRecords(self._options, openings)
        self._begun = True

    async def _find_tail(self) -> Mapping[Stream, Opening]:
        search, options = TailSearch(self._options), self._options
        query = JournalQuery(
            matches=self._matches,
            fields=FIELDS,
            since=options.since // 1000,
            until=options.until // 1000,
            backwards=True,
        )
        async with reading_journal(self.program, query) as reader:
            while (entries := await _answer(reader)) is not None:
                if any(search.take(entry) for entry in entries):
                    break
        return search.openings()

    def query(self, *, follow: bool) -> JournalQuery:
        """What is read next."""
        # Positions count from the beginning of a millisecond.
        since = self._since - self._since % 1000
        return JournalQuery(matches=self._matches, fields=FIELDS, since=since, behind=self._seen, follow=follow)

    def take(self, entries: list[JournalEntry]) -> list[LogChunk]:
        """The chunks of some entries."""
        if entries:
            self._seen = entries[-1].cursor
        return self._records.feed(entries)

    async def receive(self, reader: JournalReader, *, follow: bool) -> list[JournalEntry] | None:
        """Some entries. None: there are no more now; when following, nothing more will come but what must be asked for once more.

        Raises:
            ChildProcessError: journalctl has failed.
            Unavailable: there is no answer.
        """
        if not follow:
            return await _answer(reader)
        entries: list[JournalEntry] | None = None
        problem: Exception | None = None

        async def receive() -> None:
            nonlocal entries, problem
            try:
                entries = await reader.receive()
                if entries is None:
                    raise ChildProcessError(f"{self.program.name} has ended while it was to wait")
            except Exception as error:  # noqa: BLE001 -- raised again below, outside the nursery, which would wrap it
                problem = error

        with trio.CancelScope() as scope:
            if self._options.until:
                scope.deadline = trio.current_time() + max(0, self._options.until - time.time_ns()) / 1e9
            await either(receive, self._wait_ended)
        if problem is not None:
            raise problem
        return entries


async def _answer(reader: JournalReader) -> list[JournalEntry] | None:
    try:
        with trio.fail_after(_ANSWER_SECONDS):
            return await reader.receive()
    except trio.TooSlowError:
        raise Unavailable(
            f"the journal has given no answer within {_ANSWER_SECONDS:g} s", hint="systemctl status systemd-journald"
        ) from None
