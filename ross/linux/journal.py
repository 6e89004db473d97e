"""The journal of the host (systemd-journald(8)), read by journalctl(1) in its export format (systemd.io/JOURNAL_EXPORT_FORMATS)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio
from attrs import frozen

from ross.linux.process import reading, run

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ross.linux.process import Output

SOCKET: Final = Path("/run/systemd/journal/socket")
"""Where programs write to it."""
_MOST_FIELD_BYTES: Final = 256 << 10
_PIECE_BYTES: Final = 64 << 10
_SYNC_SECONDS: Final = 10.0
_CURSOR: Final = b"__CURSOR"
_TIME: Final = b"__REALTIME_TIMESTAMP"


@frozen(kw_only=True)
class JournalEntry:
    """One entry."""

    cursor: str
    """Where it stands; reading can go on behind it."""
    time: int
    """When the journal received it, in microseconds since the epoch. Rises, unless the clock was set back."""
    fields: Mapping[bytes, bytes]


class ExportParser:
    """Takes entries out of the export format, in whatever pieces it comes. A field that is too large is left out, and never held."""

    def __init__(self, *, max_field_bytes: int = _MOST_FIELD_BYTES) -> None:
        self._most = max_field_bytes
        self._rest = b""
        self._fields: dict[bytes, bytes] = {}
        self._left_out = 0
        """So many bytes of a field are still to come and to be left out."""
        self._leaving_out_line = False

    def feed(self, data: bytes) -> list[JournalEntry]:
        """The entries that are complete with some more bytes."""
        found: list[JournalEntry] = []
        data, at = self._rest + data, 0
        while at < len(data):
            if self._left_out:
                size = min(self._left_out, len(data) - at)
                self._left_out -= size
                at += size
                continue
            end = data.find(b"\n", at)
            if end < 0:
                if len(data) - at > self._most:
                    self._leaving_out_line, at = True, len(data)
                break
            if self._leaving_out_line:
                self._leaving_out_line, at = False, end + 1
            elif end == at:
                found += self._entry()
                at += 1
            elif (after := self._field(data, at, end)) is None:
                break
            else:
                at = after
        self._rest = data[at:]
        return found

    def _field(self, data: bytes, at: int, end: int) -> int | None:
        """Take one field; where the next one begins, or None if this one is not complete."""
        name, is_text, value = data[at:end].partition(b"=")
        if is_text:
            self._fields[name] = value
            return end + 1
        # A value with newlines, or bytes that are no text, has its size in eight bytes before it, and a newline behind it.
        begin = end + 9
        if len(data) < begin:
            return None
        size = int.from_bytes(data[end + 1 : begin], "little")
        if size > self._most:
            self._left_out = size + 1
            return begin
        if len(data) < begin + size + 1:
            return None
        self._fields[name] = data[begin : begin + size]
        return begin + size + 1

    def _entry(self) -> list[JournalEntry]:
        fields, self._fields = self._fields, {}
        cursor, moment = fields.pop(_CURSOR, b""), fields.pop(_TIME, b"")
        if not cursor or not moment.isdigit():
            return []
        return [JournalEntry(cursor=cursor.decode(errors="replace"), time=int(moment), fields=fields)]


@frozen(kw_only=True)
class JournalQuery:
    """What to read of the journal. Times are in microseconds since the epoch, and included."""

    matches: tuple[str, ...]
    """``FIELD=value``: all must hold, if the fields differ."""
    fields: tuple[str, ...]
    """The fields that are wanted."""
    since: int = 0
    until: int = 0
    """0: no end."""
    behind: str = ""
    """Only what stands behind this cursor; ``since`` is then of no effect."""
    backwards: bool = False
    follow: bool = False

    def argv(self, program: Path) -> list[str]:
        """How journalctl is asked for it."""
        begin = f"--after-cursor={self.behind}" if self.behind else f"--since={_moment(self.since)}"
        return [
            str(program),
            "--quiet", "--no-pager",
            "--output=export",
            f"--output-fields={','.join(self.fields)}",
            *([begin] if self.behind or self.since else []),
            *([f"--until={_moment(self.until)}"] if self.until else []),
            *(["--reverse"] if self.backwards else []),
            *(["--follow", "--no-tail"] if self.follow else []),
            *self.matches,
        ]  # fmt: skip


def _moment(microseconds: int) -> str:
    return f"@{microseconds // 10**6}.{microseconds % 10**6:06d}"


class JournalReader:
    """Entries as they come. Made by :func:`reading_journal`."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._parser = ExportParser()

    async def receive(self) -> list[JournalEntry] | None:
        """Some entries; none may be among what has come, and None is the end.

        Raises:
            ChildProcessError: journalctl has failed; in its words.
        """
        data = await self._output.receive(_PIECE_BYTES)
        return self._parser.feed(data) if data else None


@asynccontextmanager
async def reading_journal(program: Path, query: JournalQuery) -> AsyncGenerator[JournalReader, None]:
    """Have journalctl read the journal for as long as the block lasts.

    It ends by itself if its output is read no more, also while it waits for entries.

    Raises:
        OSError: it could not be started.
    """
    async with reading(query.argv(program), env=_environment()) as output:
        yield JournalReader(output)


async def sync_journal(program: Path) -> bool:
    """Wait until the journal has everything that was sent to it before. Returns whether it says so."""
    with trio.move_on_after(_SYNC_SECONDS):
        return (await run([str(program), "--sync"], env=_environment())).returncode == 0
    return False


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
