"""Processes that are not our children: known by pid and start time, watched and signalled through a pidfd (pidfd_open(2))."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import trio
from attrs import frozen

_TICKS: Final = os.sysconf("SC_CLK_TCK")


@frozen(kw_only=True)
class ProcessIdentity:
    """A process, told apart from a later one with the same pid by when it started."""

    pid: int
    start_time: int
    """In clock ticks since boot: field 22 of ``/proc/<pid>/stat`` (proc_pid_stat(5))."""


NOBODY: Final = ProcessIdentity(pid=1 << 30, start_time=0)
"""A process that has ended, whichever it was: no kernel gives out such a number."""


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of the process that has this pid now; None if there is none, or only its zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name, in parentheses, may contain anything; the fields after it do not.
    state, *fields = text.rpartition(")")[2].split()
    if state in {"Z", "X"}:
        return None
    return ProcessIdentity(pid=pid, start_time=int(fields[18]))


def time_since_start(identity: ProcessIdentity) -> int:
    """Nanoseconds since a process was started, whether or not it is still there; those in which the machine slept included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - identity.start_time * (1_000_000_000 // _TICKS)


def open_pidfd(identity: ProcessIdentity) -> int | None:
    """A descriptor of exactly that process, or None if it is gone. The caller closes it."""
    try:
        fd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    if identify(identity.pid) != identity:
        os.close(fd)
        return None
    return fd


async def wait_exited(pidfd: int) -> None:
    """Return when the process has ended. Nothing is polled."""
    await trio.lowlevel.wait_readable(pidfd)


def send_signal(pidfd: int, number: int) -> bool:
    """Send a signal to the process. Returns whether it was still there.

    Raises:
        OSError: the number is no signal, or we may not.
    """
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return False
    return True


def send_to(identity: ProcessIdentity, number: int) -> bool:
    """Send a signal to a process, if it is that one still. Returns whether it was.

    Raises:
        OSError: the number is no signal, or we may not.
    """
    fd = open_pidfd(identity)
    if fd is None:
        return False
    try:
        return send_signal(fd, number)
    finally:
        os.close(fd)


async def kill_and_wait(identity: ProcessIdentity) -> None:
    """End a process with SIGKILL and wait until it is gone. Nothing happens if it is gone already."""
    fd = open_pidfd(identity)
    if fd is None:
        return
    try:
        with suppress(OSError):
            send_signal(fd, signal.SIGKILL)
        await wait_exited(fd)
    finally:
        os.close(fd)
