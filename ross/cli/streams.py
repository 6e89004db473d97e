"""Our three standard descriptors, to be handed to a process: as they are where they are pipes, else pipes through which we move bytes.

A runtime may change the owner of what it is given, and a terminal could be typed into by whoever has it; so files and terminals stay ours.
"""

from __future__ import annotations

import errno
import os
import select
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from ross.cli.output import is_lost
from ross.errors import InvalidArgument
from ross.linux.fds import close_all, is_plain_pipe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_CHUNK_BYTES: Final = 1 << 20
_NO_SPLICE: Final = frozenset({errno.EINVAL, errno.EBADF, errno.ENOSYS})


def preserved(count: int) -> range:
    """Our descriptors from 3 on, as many as ``--preserve-fds`` says.

    Raises:
        InvalidArgument: one of them was not open when we were started.
    """
    if count < 0:
        raise InvalidArgument(f"--preserve-fds {count} is no number of descriptors")
    wanted = range(3, 3 + count)
    for fd in wanted:
        if not _is_inherited(fd):
            raise InvalidArgument(
                f"--preserve-fds {count} hands over our descriptors 3 to {wanted[-1]}, and {fd} is not open",
                hint=f"open it in the shell: ross ... {fd}<FILE",
            )
    return wanted


def _is_inherited(fd: int) -> bool:
    try:
        return os.get_inheritable(fd)  # which what we have opened ourselves is not
    except OSError:
        return False


class Streams:
    """What is handed over, and what moves bytes meanwhile. Made by :func:`open_streams`."""

    def __init__(self, nursery: trio.Nursery, *, stdin: bool) -> None:
        self.theirs: list[int] = []
        """The descriptors to hand over, until :meth:`begin`."""
        self.lost: list[OSError] = []
        """Why not all that the process has written could be written to our output."""
        self._nursery = nursery
        self._ours: list[int] = []
        self._moves: list[tuple[int, int]] = []
        self._moving = 0
        self._moved = trio.Event()
        self._ended, self._end = self._keep(os.pipe2(os.O_CLOEXEC))
        for fd in (0, 1, 2):
            self._prepare(fd, stdin=stdin)

    def _keep(self, ends: tuple[int, int]) -> tuple[int, int]:
        self._ours += ends
        return ends

    def _prepare(self, fd: int, *, stdin: bool) -> None:
        if fd == 0 and not stdin:
            self.theirs.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        elif _is_pipe(fd):
            self.theirs.append(os.dup(fd))
        else:
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
            self.theirs.append(write_end if fd else read_end)
            self._ours.append(read_end if fd else write_end)
            self._moves.append((read_end, fd) if fd else (0, write_end))

    def begin(self) -> None:
        """They are handed over: begin to move."""
        close_all(self.theirs)
        self.theirs.clear()
        outputs = [move for move in self._moves if move[1] in {1, 2}]
        self._moving = len(outputs)
        if not outputs:
            self._moved.set()
        for source, target in self._moves:
            self._nursery.start_soon(self._move, source, target)

    async def _move(self, source: int, target: int) -> None:
        try:
            await trio.to_thread.run_sync(_move, source, target, self._ended, abandon_on_cancel=True)
        except OSError as error:
            if target in {1, 2} and is_lost(error):
                self.lost.append(error)
        finally:
            own = source if target in {1, 2} else target
            self._ours.remove(own)  # closed, so that the process knows that nobody reads, or writes, any more
            os.close(own)
            if target in {1, 2}:
                self._moving -= 1
                if not self._moving:
                    self._moved.set()

    async def finish(self) -> None:
        """The process has ended: move what it has written, and not what others may write who have its streams still."""
        self._ours.remove(self._end)
        os.close(self._end)
        await self._moved.wait()

    def close(self) -> None:
        """Close everything."""
        close_all((*self.theirs, *self._ours))


@asynccontextmanager
async def open_streams(*, stdin: bool) -> AsyncIterator[Streams]:
    """Streams for the length of a block. What the block raises is raised as it is.

    Args:
        stdin: Whether our input is wanted; else there is none.
    """
    problem: Exception | None = None
    async with trio.open_nursery() as nursery:
        streams = Streams(nursery, stdin=stdin)
        try:
            yield streams
        except Exception as error:  # noqa: BLE001 -- raised again below, outside the nursery, which would wrap it
            problem = error
        nursery.cancel_scope.cancel()
    streams.close()
    if problem is not None:
        raise problem


def _is_pipe(fd: int) -> bool:
    try:
        return is_plain_pipe(fd)
    except OSError:  # closed: what is moved to it goes nowhere
        return False


def _move(source: int, target: int, ended: int) -> None:
    """Move bytes until the source ends, or ``ended`` is at its end and nothing waits. In a thread.

    Raises:
        OSError: the target takes no more.
    """
    waiting = select.poll()
    waiting.register(source, select.POLLIN)
    waiting.register(ended, select.POLLIN)
    by_kernel = True
    while True:
        ready = {fd for fd, _event in waiting.poll()}
        if source not in ready:
            return
        try:
            count = os.splice(source, target, _CHUNK_BYTES) if by_kernel else _copy(source, target)
        except BlockingIOError:
            _wait_for_room(target)
            continue
        except OSError as error:
            if not by_kernel or error.errno not in _NO_SPLICE:
                raise
            by_kernel = False
            continue
        if not count:
            return


def _copy(source: int, target: int) -> int:
    view = memoryview(os.read(source, _CHUNK_BYTES))
    count = len(view)
    while view:
        try:
            view = view[os.write(target, view) :]
        except BlockingIOError:
            _wait_for_room(target)
    return count


def _wait_for_room(target: int) -> None:
    """Whoever has given us the descriptor has made it one that does not wait."""
    room = select.poll()
    room.register(target, select.POLLOUT)
    room.poll()
