"""What two commands of the runtime do, without a process of the runtime's: ``start`` and ``delete``.

Each process of runc costs a processor ten milliseconds, as much as all that the engine itself does for a start. Of the three that the life
of a container took, one is left. How runc keeps a container has been the same since 2016: its first process waits at a fifo, ``exec.fifo``,
for somebody who reads from it and then removes it; and what ``state.json`` tells of goes with its directory, once its processes and control
groups are gone. crun has the fifo too. What is found otherwise is left to the runtime's own commands.
"""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, Final

import trio

from ross.errors import FailedPrecondition
from ross.linux.cgroups import end_cgroup
from ross.linux.files import remove_tree
from ross.linux.pidfd import ProcessIdentity, identify, open_pidfd, wait_exited

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

_MOST_BYTES: Final = 4 << 20


async def let_begin(directory: Path, process: ProcessIdentity) -> bool:
    """Let the first process of a created container begin, as ``start`` does.

    Args:
        directory: Where the runtime keeps the container.
        process: That first process.

    Returns:
        False: it is not held by a fifo there, and nothing was done.

    Raises:
        FailedPrecondition: it has ended.
    """
    fifo = directory / "exec.fifo"
    try:
        # Without waiting for who writes: that one waits for us.
        fd = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        if not stat.S_ISFIFO(os.fstat(fd).st_mode):
            return False
        if not await _said_something(fd, process):
            raise FailedPrecondition("the runtime could not start the container: its process ended before it began")
    finally:
        os.close(fd)
    fifo.unlink(missing_ok=True)  # only now: whoever finds it knows that the process waits still
    return True


async def _said_something(fd: int, process: ProcessIdentity) -> bool:
    """Wait until the process writes, or ends; a brief one may have done both since we opened what it writes to."""
    pidfd = open_pidfd(process)
    if pidfd is not None:
        try:
            async with trio.open_nursery() as nursery:

                async def first(wait: Callable[[int], Awaitable[None]], what: int) -> None:
                    await wait(what)
                    nursery.cancel_scope.cancel()

                nursery.start_soon(first, trio.lowlevel.wait_readable, fd)
                nursery.start_soon(first, wait_exited, pidfd)
        finally:
            os.close(pidfd)
    try:
        return bool(os.read(fd, 1))
    except BlockingIOError:
        return False


async def forget(directory: Path, group: str) -> bool:
    """Forget a container that has ended, as ``delete`` does, with its control groups and whatever lives in them.

    Args:
        directory: Where the runtime keeps the container.
        group: Its control group, from the root of each hierarchy.

    Returns:
        False: it is not kept as runc keeps it, or goes on, and nothing was done.
    """
    return await trio.to_thread.run_sync(_forget, directory, group)


def _forget(directory: Path, group: str) -> bool:
    if not _has_ended(directory) or not end_cgroup(group):
        return False
    remove_tree(directory)
    return True


def _has_ended(directory: Path) -> bool:
    """Its state is whole, nothing is to be run at its end, and its first process is not there any more."""
    try:
        with (directory / "state.json").open("rb") as file:
            state = json.loads(file.read(_MOST_BYTES))
        hooks = state["config"].get("Hooks") or {}
        process = ProcessIdentity(pid=int(state["init_process_pid"]), start_time=int(state["init_process_start"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return not any(hooks.values()) and identify(process.pid) != process
