"""Seeing at once that the kernel has killed a process of a control group for want of memory, in hierarchies of version 2.

A group that systemd has made is gone as soon as nothing lives in it, and its counters with it: whoever wants to know reads them while they
are there. Where that was too late, the group above has counted what happened in it, and what was in no other group was in this one.
One epoll serves any number of groups (cgroup-v2.rst, "memory.events": a change is told as POLLPRI).
"""

from __future__ import annotations

import os
import select
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio
from attrs import define

if TYPE_CHECKING:
    from ross.linux.cgroup_counters import Hierarchies

_BYTES: Final = 4096


@define
class _Parent:
    """A group with watched ones in it. Its own counter has those of groups that are gone."""

    path: Path
    told: int = 0
    """So many kills were seen in watched groups in it."""

    def count(self) -> int:
        """All kills in it, ever; 0 if it does not tell."""
        try:
            return _oom_kills((self.path / "memory.events").read_bytes())
        except OSError:
            return 0


@define
class _Watched:
    fd: int
    parent: _Parent
    kills: int = 0
    unexplained: int = 0
    """What its parent's counter had, when it was begun to be watched, beyond what had been seen in watched groups."""


class OomWatch:
    """The groups that are watched. :meth:`run` is a task of its own."""

    def __init__(self, hierarchies: Hierarchies) -> None:
        self._hierarchies = hierarchies
        self._epoll = select.epoll()
        self._groups: dict[str, _Watched] = {}
        self._by_fd: dict[int, _Watched] = {}
        self._parents: dict[Path, _Parent] = {}

    async def run(self) -> None:
        """Watch, until cancelled."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                for fd, _events in self._epoll.poll(0):
                    self._look(self._by_fd[fd])
        finally:
            for group in tuple(self._groups):
                self.forget(group)
            trio.lowlevel.notify_closing(self._epoll.fileno())
            self._epoll.close()

    def add(self, group: str) -> None:
        """Watch a group from now on, if this kernel can be asked to."""
        directory = self._hierarchies.directory("memory", group)
        if directory is None or "memory" in self._hierarchies.legacy or group in self._groups:
            return
        try:
            fd = os.open(directory / "memory.events", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        parent = self._parents.setdefault(directory.parent, _Parent(directory.parent))
        watched = self._groups[group] = self._by_fd[fd] = _Watched(fd, parent)
        watched.unexplained = parent.count() - parent.told
        self._look(watched)  # the kernel tells of what changes after it was read
        if fd in self._by_fd:
            watched.unexplained = parent.count() - parent.told
            self._epoll.register(fd, select.EPOLLPRI)

    def forget(self, group: str) -> int:
        """Watch it no more. Returns how many processes of it were seen to be killed."""
        watched = self._groups.pop(group, None)
        if watched is None:
            return 0
        if watched.fd in self._by_fd:
            self._look(watched)
        self._close(watched)
        if not any(other.parent is watched.parent for other in self._groups.values()):
            self._parents.pop(watched.parent.path, None)
        return watched.kills

    def _look(self, watched: _Watched) -> None:
        try:
            kills = _oom_kills(os.pread(watched.fd, _BYTES, 0))
        except OSError:  # the group is gone, maybe before anybody has read of its last kill
            self._close(watched)
            self._ask_parent(watched)
            return
        self._note(watched, kills)

    def _ask_parent(self, watched: _Watched) -> None:
        """What its parent has counted, and no other group in it, was its own."""
        for other in tuple(self._by_fd.values()):
            if other.parent is watched.parent:
                with suppress(OSError):
                    self._note(other, _oom_kills(os.pread(other.fd, _BYTES, 0)))
        more = watched.parent.count() - watched.parent.told - watched.unexplained
        if more > 0:
            self._note(watched, watched.kills + more)

    def _note(self, watched: _Watched, kills: int) -> None:
        watched.parent.told += kills - watched.kills
        watched.kills = kills

    def _close(self, watched: _Watched) -> None:
        if self._by_fd.pop(watched.fd, None) is not None:
            os.close(watched.fd)  # which takes it out of the epoll too


def _oom_kills(events: bytes) -> int:
    for line in events.splitlines():
        name, _space, value = line.partition(b" ")
        if name == b"oom_kill":
            return int(value)
    return 0
