"""Seeing at once that the kernel has killed a process of a control group for want of memory, in hierarchies of version 2.

A group that systemd has made is gone as soon as nothing lives in it, and its counters with it: whoever wants to know reads them while they
are there. One epoll serves any number of groups (cgroup-v2.rst, "memory.events": a change is told as POLLPRI).
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Final

import trio
from attrs import define

if TYPE_CHECKING:
    from ross.linux.cgroup_counters import Hierarchies

_BYTES: Final = 4096


@define
class _Watched:
    fd: int
    kills: int = 0


class OomWatch:
    """The groups that are watched. :meth:`run` is a task of its own."""

    def __init__(self, hierarchies: Hierarchies) -> None:
        self._hierarchies = hierarchies
        self._epoll = select.epoll()
        self._groups: dict[str, _Watched] = {}
        self._by_fd: dict[int, _Watched] = {}

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
        watched = self._groups[group] = self._by_fd[fd] = _Watched(fd)
        self._look(watched)  # the kernel tells of what changes after it was read
        if fd in self._by_fd:
            self._epoll.register(fd, select.EPOLLPRI)

    def forget(self, group: str) -> int:
        """Watch it no more. Returns how many processes of it were seen to be killed."""
        watched = self._groups.pop(group, None)
        if watched is None:
            return 0
        self._close(watched)
        return watched.kills

    def _look(self, watched: _Watched) -> None:
        try:
            text = os.pread(watched.fd, _BYTES, 0)
        except OSError:  # the group is gone
            self._close(watched)
            return
        for line in text.splitlines():
            name, _space, value = line.partition(b" ")
            if name == b"oom_kill":
                watched.kills = int(value)

    def _close(self, watched: _Watched) -> None:
        if self._by_fd.pop(watched.fd, None) is not None:
            os.close(watched.fd)  # which takes it out of the epoll too
