"""CRIU, which writes processes to files and makes processes of them again (criu(8)). The runtime starts it; here is what surrounds that.

Its images have all that was in a container's memory, and are orders to a process of root: they are never read from elsewhere, nor handed
out.
"""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio
from attrs import frozen

from ross.errors import FailedPrecondition, RossError, Unavailable
from ross.linux.process import run, which
from ross.model.checkpoints import CheckpointOptions, RestoreOptions
from ross.shim.process_table import everybody
from ross.shim.runtime import environment

CONFIG_ANNOTATION: Final = "org.criu.config"
"""Which file of settings CRIU is to read; empty: none, where a runtime would else have it read one of /etc."""
DUMP_LOG: Final = "dump.log"
RESTORE_LOG: Final = "restore.log"
STATISTICS: Final = ("stats-dump", "stats-restore")
_CHECK_SECONDS: Final = 60.0
_END_SECONDS: Final = 10.0
_LOOK_SECONDS: Final = 0.01
_MOST_LOG_BYTES: Final = 4 << 20
_MOST_WORDS: Final = 3
_MOST_CHARACTERS: Final = 200
_ERROR: Final = re.compile(r"^(?:\([0-9.]+\)\s*)?(?:\d+:\s*)?Error \([^)]*\):\s*(.*)$", re.MULTILINE)
_NO_CAUSE: Final = ("Dumping FAILED", "Restoring FAILED")
_HINTS: Final = {
    "--tcp-established": "try again with --tcp-established",
    "--file-locks": "try again with --file-locks",
    "proper root mount": "it takes no mounts inside of mounts",
    "unreachable sharing": "it takes none of the host's mounts that others share, as with --network host",
}
"""What to do, by what is in its words."""
_ENDED_IT: Final = re.compile(rb"Unseizing \d+ into 2$|Dumping finished successfully$", re.MULTILINE)
"""What CRIU says once all its images are written, and it ends the processes (2: dead)."""


@frozen(kw_only=True)
class Restoring:
    """What a container is to go on from."""

    images: Path
    options: RestoreOptions
    seconds: float
    """Who takes longer for it hangs."""


def flags_of(options: CheckpointOptions | RestoreOptions) -> list[str]:
    """What the runtime's ``checkpoint`` and ``restore`` are told (runc-checkpoint(8), runc-restore(8))."""
    leave = isinstance(options, CheckpointOptions) and options.leave_running
    return [
        *(["--leave-running"] if leave else []),
        *(["--tcp-established"] if options.tcp_established else []),
        *(["--file-locks"] if options.file_locks else []),
    ]


class Criu:
    """The CRIU of this host. Asking it whether it works takes as long as a small checkpoint, so it is asked once."""

    def __init__(self) -> None:
        self._works: tuple[Path, int] | None = None

    async def check(self) -> None:
        """See that there is one, and that it works with this kernel.

        Raises:
            FailedPrecondition: it is not installed, or does not work.
            Unavailable: it hangs.
        """
        program = which("criu")
        if program is None:
            raise FailedPrecondition(
                "CRIU, which makes and restores checkpoints, is not installed", hint="apt install criu"
            )
        this_one = program, program.stat().st_mtime_ns
        if self._works != this_one:
            await _check(program)
            self._works = this_one


async def _check(program: Path) -> None:
    with trio.move_on_after(_CHECK_SECONDS):
        done = await run([str(program), "check"], env=environment())
        if done.returncode != 0:
            said = (done.stderr + b"\n" + done.stdout).decode(errors="replace")
            raise FailedPrecondition(
                f"CRIU does not work with this kernel, says criu check: {said_in(said) or done.how}",
                hint="install a version of CRIU that knows this kernel",
            )
        return
    raise Unavailable(f"criu check did not end in {_CHECK_SECONDS:g} s, and was ended")


def criu_error(error: RossError, log: Path) -> RossError:
    """Why a container could not be checkpointed or restored, in the words of CRIU's log, where it has come to writing one."""
    said = said_in(_end_of(log).decode(errors="replace"))
    if not said:
        return error
    hint = next((hint for sign, hint in _HINTS.items() if sign in said), None)
    return FailedPrecondition(f"CRIU cannot do it: {said}", hint=hint)


def said_in(log: str) -> str:
    """The errors of a log of CRIU, the cause first: as much of them as people read, and as text that is safe to show."""
    found = dict.fromkeys(text.strip() for text in _ERROR.findall(log))
    words = [_printable(text)[:_MOST_CHARACTERS] for text in found if text and not text.startswith(_NO_CAUSE)]
    return "; ".join(words[:_MOST_WORDS])


def has_ended_it(log: Path) -> bool:
    """Whether a log says that all was written, and the processes ended by that."""
    return _ENDED_IT.search(_end_of(log)) is not None


def _end_of(log: Path) -> bytes:
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _MOST_LOG_BYTES))
            return file.read(_MOST_LOG_BYTES)
    except OSError:
        return b""


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def end_criu(directory: Path) -> bool:
    """End every CRIU that works on what is in a directory. Blocks, for seconds at worst.

    Its parasites notice that it is gone, and let the processes go on that they were in.

    Returns:
        Whether none is left.
    """
    deadline = time.monotonic() + _END_SECONDS
    while pids := _working_on(directory):
        if time.monotonic() > deadline:
            return False
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_LOOK_SECONDS)
    return True


def _working_on(directory: Path) -> list[int]:
    """Those with something of the directory open: also what they are making into processes of a container."""
    return [pid for pid, _argv in everybody() if _is_criu(pid) and _has_open(pid, directory)]


def _is_criu(pid: int) -> bool:
    """By the name of the program: its command line says what it is doing."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_bytes() == b"criu\n"
    return False


def _has_open(pid: int, directory: Path) -> bool:
    process = Path("/proc", str(pid))
    with suppress(OSError):
        return any(_leads_into(link, directory) for link in (process / "cwd", *(process / "fd").iterdir()))
    return False


def _leads_into(link: Path, directory: Path) -> bool:
    with suppress(OSError):
        return link.readlink().is_relative_to(directory)
    return False
