"""What runs in a container, in columns as ps(1) has them. Read from the kernel: nothing of the image is executed, nor believed but its
processes' names and arguments.
"""

from __future__ import annotations

import pwd
import time
from collections.abc import Callable
from typing import Final

from attrs import frozen

from ross.errors import InvalidArgument
from ross.linux.processes import (
    ProcessStatus,
    boot_time,
    pids_of_cgroup,
    process_status,
    terminal_name,
    total_memory_bytes,
)
from ross.model.execs import ProcessRow, ProcessTable

_MAX_ROWS: Final = 32768
_MAX_CELLS: Final = 1 << 18
_MAX_TEXT: Final = 4096
"""Characters of what asks for columns, titles included."""
_COMMAND_CHARACTERS: Final = 2 << 20
"""Of all commands of a table together: where they would be more, each is cut to its share, but to no fewer than the next one says."""
_LEAST_COMMAND: Final = 64


@frozen(kw_only=True)
class _Now:
    """What the columns are reckoned from."""

    time: float
    memory_bytes: int


Show = Callable[[ProcessStatus, _Now], str]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{rest:02}"


def _elapsed(seconds: float) -> str:
    days, rest = divmod(max(0, int(seconds)), 86400)
    text = _clock(rest)
    return f"{days}-{text}" if days else text.removeprefix("00:")


def _started(when: float, now: float) -> str:
    form = "%H:%M" if now - when < 86400 else "%b%d"
    return time.strftime(form, time.localtime(when))


def _processor(one: ProcessStatus, now: _Now) -> float:
    return 100 * one.cpu_seconds / max(0.01, now.time - one.started_at)


def _command(one: ProcessStatus, _now: _Now) -> str:
    return " ".join(one.arguments) if one.arguments else f"[{one.name}]"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _state(one: ProcessStatus) -> str:
    flags = [
        one.state,
        "<" if one.nice < 0 else "N" if one.nice > 0 else "",
        "L" if one.locked else "",
        "s" if one.session == one.pid else "",
        "l" if one.threads > 1 else "",
        "+" if one.foreground == one.group else "",
    ]
    return "".join(flags)


_COLUMNS: Final[dict[str, tuple[str, Show]]] = {
    "args": ("COMMAND", _command),
    "c": ("C", lambda one, now: str(min(99, int(_processor(one, now))))),
    "cmd": ("CMD", _command),
    "comm": ("COMMAND", lambda one, _now: one.name),
    "etime": ("ELAPSED", lambda one, now: _elapsed(now.time - one.started_at)),
    "etimes": ("ELAPSED", lambda one, now: str(int(now.time - one.started_at))),
    "gid": ("GID", lambda one, _now: str(one.gid)),
    "ni": ("NI", lambda one, _now: str(one.nice)),
    "nlwp": ("NLWP", lambda one, _now: str(one.threads)),
    "nspid": ("NSPID", lambda one, _now: str(one.inner_pid)),
    "pcpu": ("%CPU", lambda one, now: f"{_processor(one, now):.1f}"),
    "pgid": ("PGID", lambda one, _now: str(one.group)),
    "pid": ("PID", lambda one, _now: str(one.pid)),
    "pmem": ("%MEM", lambda one, now: f"{100 * one.resident_bytes / now.memory_bytes:.1f}"),
    "ppid": ("PPID", lambda one, _now: str(one.parent)),
    "pri": ("PRI", lambda one, _now: str(39 - one.priority)),
    "rss": ("RSS", lambda one, _now: str(one.resident_bytes // 1024)),
    "ruser": ("RUSER", lambda one, _now: _user(one.real_uid)),
    "s": ("S", lambda one, _now: one.state),
    "sid": ("SID", lambda one, _now: str(one.session)),
    "start": ("START", lambda one, now: _started(one.started_at, now.time)),
    "stat": ("STAT", lambda one, _now: _state(one)),
    "stime": ("STIME", lambda one, now: _started(one.started_at, now.time)),
    "time": ("TIME", lambda one, _now: _clock(one.cpu_seconds)),
    "tty": ("TTY", lambda one, _now: terminal_name(one.terminal)),
    "uid": ("UID", lambda one, _now: str(one.uid)),
    "user": ("USER", lambda one, _now: _user(one.uid)),
    "vsz": ("VSZ", lambda one, _now: str(one.virtual_bytes // 1024)),
}
_ALIASES: Final = {
    "%cpu": "pcpu", "%mem": "pmem", "command": "args", "euid": "uid", "egid": "gid", "euser": "user", "nice": "ni", "pgrp": "pgid",
    "rssize": "rss", "sess": "sid", "session": "sid", "start_time": "stime", "state": "s", "thcount": "nlwp", "tname": "tty", "tt": "tty",
    "ucmd": "comm", "ucomm": "comm", "uname": "user", "vsize": "vsz", "cputime": "time", "hpid": "pid",
}  # fmt: skip
_FULL: Final = "uid:user,pid,ppid,c,stime,tty,time,cmd"
_BSD: Final = "user,pid,pcpu,pmem,vsz,rss,tty,stat,start,time,args"
_STYLES: Final = {"": _FULL, "ef": _FULL, "f": _FULL, "fe": _FULL, "aux": _BSD, "axu": _BSD, "u": _BSD}


def parse_columns(text: str) -> list[tuple[str, Show]]:
    """Titles and functions for ``-ef``, ``aux``, ``-eo pid,comm`` or ``pid,comm``.

    Raises:
        InvalidArgument: there is no such column, or one is asked for twice.
    """
    if len(text) > _MAX_TEXT:
        raise InvalidArgument(f"{len(text)} characters are too many to ask for columns with")
    words = text.replace("\t", " ").split()
    names = ""
    for index, word in enumerate(words):
        bare = word.lstrip("-")
        if bare in _STYLES and len(words) == 1:
            names = _STYLES[bare]
        elif word.startswith("-") and bare in {"o", "eo", "e", "A", "Ao", "format"}:
            continue
        elif word.startswith("-o") or index == 0 or words[index - 1].startswith("-") or names:
            names += f",{bare.removeprefix('o') if word.startswith('-o') else bare}"
        else:
            raise InvalidArgument(f"{text!r} asks for no columns", hint="write -ef, aux, or -o and names")
    asked = (names or _FULL).strip(",").split(",")
    if len({_bare(name) for name in asked}) < len(asked):
        raise InvalidArgument(f"{text!r} asks for a column twice")
    return [_column(name) for name in asked]


def _bare(name: str) -> str:
    """A column without the title that it is to have."""
    shown, _colon, other = name.partition("=")[0].partition(":")
    return (other or shown).lower()


def _column(name: str) -> tuple[str, Show]:
    name, equals, title = name.partition("=")
    shown, _colon, other = name.partition(":")
    wanted = other or shown
    wanted = _ALIASES.get(wanted.lower(), wanted.lower())
    if wanted not in _COLUMNS:
        raise InvalidArgument(f"there is no column {name!r}", hint=f"the columns are {', '.join(_COLUMNS)}")
    own, show = _COLUMNS[wanted]
    if other:
        own = shown.upper()
    return (title if equals else own), show


def process_table(cgroup: str, columns: str) -> ProcessTable:
    """What runs in a control group. Blocks, but never on a process.

    Raises:
        InvalidArgument: there is no such column.
    """
    shown = parse_columns(columns)
    booted_at = boot_time()
    now = _Now(time=time.time(), memory_bytes=total_memory_bytes())
    pids = pids_of_cgroup(cgroup)[: min(_MAX_ROWS, _MAX_CELLS // len(shown))]
    commands = len(pids) * sum(show is _command for _title, show in shown)
    longest = max(_LEAST_COMMAND, _COMMAND_CHARACTERS // max(1, commands))
    rows = []
    for pid in pids:
        one = process_status(pid, booted_at=booted_at)
        if one is not None:
            rows.append(ProcessRow(values=tuple(_cut(show(one, now), longest) for _title, show in shown)))
    return ProcessTable(titles=tuple(title for title, _show in shown), rows=tuple(rows))


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "\N{HORIZONTAL ELLIPSIS}"
