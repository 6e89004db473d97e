"""Monitors and runtimes in the process table, whatever they have written by now.

A command line is what its process says, and anybody can say anything: a container, or a user of the host. Whoever is taken at his word runs
the very program, as we do ourselves, and not in a container.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PROC: Final = Path("/proc")
_ID: Final = re.compile(r"[0-9a-f]{64}")
_DELETED: Final = " (deleted)"
_SCRIPT: Final = b"#!"


def everybody() -> Iterator[tuple[int, list[str]]]:
    """Every process of the host, by pid, with what it says that its command line is."""
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                raw = (entry / "cmdline").read_bytes()
            except OSError:  # it has ended
                continue
            yield int(entry.name), raw.decode(errors="replace").split("\0")[:-1]


def running(program: Path, *, about: str) -> Iterator[tuple[int, list[str]]]:
    """The processes of a program that have a word in their command line, by pid, with that line."""
    for pid, argv in everybody():
        entry = _PROC / str(pid)
        with suppress(OSError):  # it has ended
            if about in argv and _is_ours(entry) and _runs(entry, program):
                yield pid, argv


def id_after(option: str, argv: Sequence[str]) -> str:
    """The id of a container that stands behind an option; empty if none does."""
    words = argv[argv.index(option) + 1 :][:1] if option in argv else []
    return words[0] if words and _ID.fullmatch(words[0]) else ""


def _is_ours(process: Path) -> bool:
    """Of our user, among the processes that we see ourselves, and with our root directory."""
    mine = _PROC / "self"
    return (
        process.stat().st_uid == os.geteuid()
        and (process / "ns/pid").readlink() == (mine / "ns/pid").readlink()
        and (process / "root").samefile(mine / "root")
    )


def _runs(process: Path, program: Path) -> bool:
    link, executed = process / "exe", (process / "exe").stat()
    if str(link.readlink()) == f"{program.resolve()}{_DELETED}":  # upgraded meanwhile
        return True
    try:
        with program.open("rb") as file:
            if os.path.samestat(executed, os.fstat(file.fileno())):
                return True
            is_script = file.read(len(_SCRIPT)) == _SCRIPT
    except FileNotFoundError:
        return False
    privileged = executed.st_mode & (stat.S_ISUID | stat.S_ISGID)  # as root by its file, with anybody's words
    return is_script and not privileged  # whatever it executes in its place
