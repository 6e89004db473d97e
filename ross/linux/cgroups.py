"""Control groups that were left behind, in whatever hierarchies there are (cgroups(7))."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ross.linux.descent import Descent

if TYPE_CHECKING:
    from collections.abc import Iterator

_END_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.01


@cache
def hierarchies() -> tuple[Path, ...]:
    """Where control groups are mounted: one place on a unified host, several on a legacy or hybrid one.

    Read once: the table also has each container's mounts, and every end of a container asks.
    """
    mounts = (line.split(" ") for line in Path("/proc/self/mounts").read_text().splitlines())
    return tuple(Path(target) for _device, target, kind, *_rest in mounts if kind in {"cgroup", "cgroup2"})


def thaw_cgroup(path: str) -> None:
    """Let every process of a control group go on, whoever has frozen it; nothing happens to one that is not frozen, or not there.

    On version 1 a signal, SIGKILL too, arrives only then.
    """
    for hierarchy in hierarchies():
        for name, going_on in (("freezer.state", b"THAWED"), ("cgroup.freeze", b"0")):
            with suppress(OSError):
                fd = os.open(hierarchy / path.lstrip("/") / name, os.O_WRONLY | os.O_CLOEXEC)
                try:
                    os.write(fd, going_on)
                finally:
                    os.close(fd)


def kill_cgroup(path: str) -> None:
    """Send SIGKILL to every process of a control group, in whatever hierarchy it lives."""
    for hierarchy in hierarchies():
        with suppress(OSError):
            for pid in (hierarchy / path.lstrip("/") / "cgroup.procs").read_text().split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
    thaw_cgroup(path)


def remove_cgroup(path: str) -> bool:
    """Remove a control group and those inside it, in every hierarchy; one in which a process lives stays.

    Args:
        path: From the root of each hierarchy.

    Returns:
        Whether nothing of it is left.
    """
    gone = True
    for hierarchy in hierarchies():
        top = hierarchy / path.lstrip("/")
        if not top.is_dir():
            continue
        try:
            remove_inside(top)
            top.rmdir()
        except OSError:
            gone = False
    return gone


def remove_inside(top: Path) -> None:
    """Remove the groups in a group, however deep whoever was in it has nested them; those in which a process lives stay.

    Raises:
        OSError: the group is gone, or somebody else removes what is in it.
    """
    parent = os.open(top.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with Descent(parent, top.name) as here:
            names, waiting = list[str](), [_groups_in(here.fd)]
            while waiting[-1] or names:
                if waiting[-1]:
                    names.append(waiting[-1].pop())
                    here.enter(names[-1])
                    waiting.append(_groups_in(here.fd))
                    continue
                here.leave()
                waiting.pop()
                with suppress(OSError):
                    os.rmdir(names.pop(), dir_fd=here.fd)
    finally:
        os.close(parent)


def _groups_in(directory: int) -> list[str]:
    with os.scandir(directory) as entries:
        return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def groups_of(top: Path) -> Iterator[Path]:
    """A group and those inside of it, each before what is in it. What is removed meanwhile is left out, and what no path leads to."""
    waiting = [top]
    while waiting:
        directory = waiting.pop()
        yield directory
        with suppress(OSError), os.scandir(directory) as entries:
            waiting.extend(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))


def end_cgroup(path: str) -> bool:
    """Remove a control group with all that lives in it. Blocks, for seconds at worst; at once where there is none.

    Returns:
        Whether nothing of it is left.
    """
    deadline = time.monotonic() + _END_SECONDS
    while not remove_cgroup(path):
        if time.monotonic() > deadline:
            return False
        kill_cgroup(path)
        time.sleep(_LOOK_SECONDS)
    return True
