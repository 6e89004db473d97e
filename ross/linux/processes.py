"""Processes as the kernel shows them (proc_pid_stat(5), proc_pid_status(5)). What processes say of themselves is bounded, and never run."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from attrs import frozen

from ross.linux.cgroups import groups_of, hierarchies
from ross.linux.pidfd import ProcessIdentity, identify, send_to

_COMMAND_BYTES: Final = 4096
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_END_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.002


@frozen(kw_only=True)
class ProcessStatus:
    """One process, at one moment."""

    pid: int
    inner_pid: int
    """In the innermost pid namespace that it is in."""
    parent: int
    group: int
    session: int
    terminal: int
    """Its device number; 0 for none."""
    foreground: int
    """The process group in the foreground of its terminal."""
    uid: int
    gid: int
    real_uid: int
    state: str
    name: str
    arguments: tuple[str, ...]
    """Empty for one that has none left, such as a zombie."""
    cpu_seconds: float
    started_at: float
    """Seconds since the epoch."""
    priority: int
    nice: int
    threads: int
    virtual_bytes: int
    resident_bytes: int
    locked: bool


def pids_of_cgroup(path: str) -> list[int]:
    """The processes of a control group and of those inside it, from the first hierarchy that has it."""
    for hierarchy in hierarchies():
        top = hierarchy / path.lstrip("/")
        if (top / "cgroup.procs").exists():
            return sorted({pid for directory in groups_of(top) for pid in _pids(directory)})
    return []


def _pids(directory: Path) -> list[int]:
    try:
        return [int(line) for line in (directory / "cgroup.procs").read_text().split()]
    except OSError:  # gone meanwhile, or a group of threads
        return []


def process_status(pid: int, *, booted_at: float) -> ProcessStatus | None:
    """What the kernel shows of a process; None if it is gone.

    Args:
        pid: Which.
        booted_at: See :func:`boot_time`.
    """
    directory = Path(f"/proc/{pid}")
    try:
        text = (directory / "stat").read_text(errors="replace")
        status = dict(
            line.split(":\t", 1)
            for line in (directory / "status").read_text(errors="replace").split("\n")
            if ":\t" in line
        )
        with (directory / "cmdline").open("rb") as file:
            command = file.read(_COMMAND_BYTES)
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, in parentheses, may contain anything; the fields after it do not.
    head, _parenthesis, rest = text.rpartition(")")
    fields = rest.split()
    numbers = [int(field) for field in fields[1:22]]
    uids, gids = status.get("Uid", "0\t0").split(), status.get("Gid", "0\t0").split()
    return ProcessStatus(
        pid=pid,
        inner_pid=int(status.get("NSpid", str(pid)).split()[-1]),
        parent=numbers[0],
        group=numbers[1],
        session=numbers[2],
        terminal=numbers[3],
        foreground=numbers[4],
        uid=int(uids[1]),
        gid=int(gids[1]),
        real_uid=int(uids[0]),
        state=fields[0],
        name=head.partition("(")[2],
        arguments=tuple(part.decode(errors="replace") for part in command.rstrip(b"\0").split(b"\0"))
        if command
        else (),
        cpu_seconds=(numbers[10] + numbers[11]) / _TICKS,
        started_at=booted_at + numbers[18] / _TICKS,
        priority=numbers[14],
        nice=numbers[15],
        threads=numbers[16],
        virtual_bytes=numbers[19],
        resident_bytes=numbers[20] * _PAGE_BYTES,
        locked=status.get("VmLck", "0 kB").split()[0] != "0",
    )


def end_with_children(parent: ProcessIdentity) -> None:
    """End a process that adopts orphans, behind its children and theirs. Blocks, for seconds at worst.

    It is stopped first, so that it starts nothing meanwhile. What does not end in time has been sent SIGKILL, and ends when it can:
    what is frozen, when it is thawed.
    """
    deadline = time.monotonic() + _END_SECONDS
    send_to(parent, signal.SIGSTOP)
    while _state(parent.pid) not in {"T", "t", "Z", "X", ""} and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    seen = None
    while (children := children_of(parent)) != seen and time.monotonic() < deadline:
        # Stopped, it buries nobody: as long as there is one more than a look before, that one's parent, or that one, may have made another.
        seen = children if all(_state(pid) == "Z" for pid in children) else None
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # while its parent is stopped, no other can get its number
        time.sleep(_LOOK_SECONDS)
    send_to(parent, signal.SIGKILL)
    while identify(parent.pid) == parent and time.monotonic() < deadline + _END_SECONDS:
        time.sleep(_LOOK_SECONDS)


def children_of(parent: ProcessIdentity) -> set[int]:
    """The pids of its children, and of those that have ended and that it has not waited for."""
    everybody = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return {pid for pid in everybody if _stat(pid)[1:2] == [str(parent.pid)]}


def _state(pid: int) -> str:
    """One letter; nothing for a process that is gone."""
    return "".join(_stat(pid)[:1])


def _stat(pid: int) -> list[str]:
    """The fields behind a process's name; none if it is gone."""
    try:
        # The name, in parentheses, may contain anything; the fields after it do not.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def boot_time() -> float:
    """When the kernel was booted, in seconds since the epoch."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def total_memory_bytes() -> int:
    """The memory of the machine."""
    return os.sysconf("SC_PHYS_PAGES") * _PAGE_BYTES


def terminal_name(device: int) -> str:
    """``pts/0`` for a terminal's device number; ``?`` for none."""
    major = device >> 8 & 0xFFF
    minor = (device & 0xFF) | (device >> 12 & 0xFFF00)
    if not device:
        return "?"
    if 136 <= major <= 143:
        return f"pts/{minor + (major - 136) * 256}"
    if major == 4:
        return f"tty{minor}"
    return f"{major}:{minor}"
