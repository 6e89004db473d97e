"""Descriptors of a client's that a process is given to begin with: its streams, and more behind them."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Sequence
from typing import Final

from attrs import frozen

from ross.errors import InvalidArgument
from ross.linux.fds import close_all, is_path_only, is_plain_pipe

MOST_FDS: Final = 28
"""Behind the three streams: with those, no more than a connection may have on their way (``ross.wire.limits``)."""
_STREAMS: Final = 3


@frozen(kw_only=True)
class Handed:
    """What a process is given. The descriptors stay whose they are."""

    stdio: Sequence[int] = ()
    """Its three streams; the monitor makes some if there are none."""
    fds: Sequence[int] = ()
    """What it has from descriptor 3 on."""

    def __bool__(self) -> bool:
        return bool(self.stdio or self.fds)

    def duplicate(self) -> Handed:
        """The same once more, to be closed. Their numbers are above all that a process is given."""
        own: list[int] = []
        try:
            own.extend(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _STREAMS + MOST_FDS) for fd in (*self.stdio, *self.fds))
        except BaseException:
            close_all(own)
            raise
        return Handed(stdio=own[: len(self.stdio)], fds=own[len(self.stdio) :])

    def close(self) -> None:
        """Close them all."""
        close_all((*self.stdio, *self.fds))

    def check(self) -> None:
        """Refuse what cannot be given to a process.

        Raises:
            InvalidArgument: there are not three streams, or one is neither a pipe nor the null device; or there are too many others, or one
                leads to files of the host that were not opened.
        """
        if self.stdio and len(self.stdio) != _STREAMS:
            raise InvalidArgument(f"a process has three standard streams, not {len(self.stdio)}")
        if not all(map(is_plain_pipe, self.stdio)):
            raise InvalidArgument("only pipes and the null device can be handed to a process as its streams")
        if len(self.fds) > MOST_FDS:
            raise InvalidArgument(f"a process cannot be handed {len(self.fds)} descriptors", hint=f"{MOST_FDS} at most")
        for number, fd in enumerate(self.fds, _STREAMS):
            if stat.S_ISDIR(os.fstat(fd).st_mode) or is_path_only(fd):
                raise InvalidArgument(
                    f"the descriptor {number} is a directory, or a mere path: a way out of the container's files",
                    hint="hand over files, pipes and sockets; a directory is mounted: -v DIRECTORY:PLACE",
                )


NOTHING: Final = Handed()


def preserving(fds: Sequence[int]) -> list[str]:
    """The options by which a monitor tells the runtime to leave descriptors behind the streams open (runc(8), ``--preserve-fds``)."""
    return [f"--runtime-opt={word}" for word in ("--preserve-fds", len(fds))] if fds else []


def pipe_above() -> tuple[int, int]:
    """A pipe whose ends have numbers above all that a process is given."""
    low = os.pipe2(os.O_CLOEXEC)
    try:
        high = Handed(fds=low).duplicate().fds
    finally:
        close_all(low)
    return high[0], high[1]
