"""Columns of processes, as people ask ps for them."""

from __future__ import annotations

import os

import pytest

from ross.errors import InvalidArgument
from ross.linux.processes import boot_time, process_status, terminal_name
from ross.services.top import parse_columns


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ("", "UID PID PPID C STIME TTY TIME CMD"),
        ("-ef", "UID PID PPID C STIME TTY TIME CMD"),
        ("aux", "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND"),
        ("-eo pid,comm", "PID COMMAND"),
        ("-o pid,args", "PID COMMAND"),
        ("-opid,args", "PID COMMAND"),
        ("-e -o pid -o user", "PID USER"),
        ("pid %cpu", "PID %CPU"),
        ("-o pid=NUMBER,hpid,nspid", "NUMBER PID NSPID"),
    ],
)
def test_columns_are_parsed(text: str, titles: str) -> None:
    assert [title for title, _show in parse_columns(text)] == titles.split()


@pytest.mark.parametrize(
    "text", ["-o nosuch", "-Z", "pid,args,pid", "-o pid -o PID=A", "a:args,b:args", "pid=" + "A" * 5000]
)
def test_what_is_no_column_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_columns(text)


def test_own_process_is_shown() -> None:
    one = process_status(os.getpid(), booted_at=boot_time())
    assert one is not None
    assert (one.pid, one.parent, one.uid, one.group) == (os.getpid(), os.getppid(), os.geteuid(), os.getpgid(0))
    assert one.resident_bytes > 1 << 20
    assert one.arguments


def test_terminals_are_named() -> None:
    assert terminal_name(0) == "?"
    assert terminal_name(os.makedev(136, 5)) == "pts/5"
    assert terminal_name(os.makedev(4, 1)) == "tty1"
