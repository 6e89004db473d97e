"""One connected socket as the transport that KJ's asyncio-shaped stream expects, with file descriptors in-band.

Bytes go from the kernel straight into KJ's buffer and back; nothing is queued here but what the kernel did not take. File descriptors
travel as SCM_RIGHTS beside the bytes: each side numbers them in the order of their sending, from 0, for the life of the connection,
and a message names them by number. They arrive no later than the message that is written after them.
Imports nothing of Ross.
"""

from __future__ import annotations

import array
import os
import socket
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ross.wire.ledger import Ledger
    from ross.wire.limits import Limits

_FD_SIZE: Final = array.array("i").itemsize
_MAX_FDS_A_MESSAGE: Final = 16
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(_MAX_FDS_A_MESSAGE * _FD_SIZE)
_READS_BEFORE_YIELD: Final = 16


class FdTable:
    """File descriptors that have arrived and that nobody has claimed yet, by number."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting: dict[int, int] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, fds: Iterable[int]) -> bool:
        """Take them in. Returns whether the peer stays within its limit; what is beyond is closed."""
        within = True
        for fd in fds:
            if len(self._waiting) >= self._limit:
                os.close(fd)
                within = False
            else:
                self._waiting[self._next] = fd
            self._next += 1
        return within

    def claim(self, number: int) -> int:
        """Hand one over; the caller closes it from now on.

        Raises:
            KeyError: none with this number has arrived, or it was claimed already.
        """
        return self._waiting.pop(number)

    def close(self) -> None:
        while self._waiting:
            os.close(self._waiting.popitem()[1])


class Transport:
    """The transport of one connection. Its tasks live in ``nursery``; ``closed`` is set when the socket is gone.

    ``run`` runs what it is given, and then all that KJ schedules because of it, on behalf of this connection. ``ledger`` is where a
    server notes what the calls of its peer hold.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        nursery: trio.Nursery,
        limits: Limits,
        run: Callable[[Callable[[], object]], None],
        ledger: Ledger | None,
        reads_while_writing: bool,
    ) -> None:
        sock.setblocking(False)
        self.closed = trio.Event()
        self.fds = FdTable(limits.unclaimed_fds)
        self._sock = sock
        self._nursery = nursery
        self._limits = limits
        self._run = run
        self._ledger = ledger
        self._reads_while_writing = reads_while_writing
        self._protocol: Any = None
        self._want_read = False
        self._reader: trio.lowlevel.Task | None = None
        self._queue: deque[memoryview] = deque()
        self._queued_bytes = 0
        self._writing = False
        self._write_paused = False
        self._outgoing_fds: list[int] = []
        self._sent_fds = 0

    def attach(self, protocol: Any) -> None:
        """Connect KJ's protocol object and begin to serve it."""
        self._protocol = protocol
        protocol.connection_made(self)
        self._nursery.start_soon(self._read, name="wire reader")

    # -- what KJ's protocol calls: asyncio's transport, as far as it is used ------------------------------------------

    def pause_reading(self) -> None:
        self._want_read = False

    def resume_reading(self) -> None:
        self._want_read = True
        self._wake_reader()

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if not self._queue and not self.closed.is_set():
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError as error:
                self._lose(error)

    def write(self, data: bytes) -> None:
        if self.closed.is_set():
            return
        rest = memoryview(data)
        if self._ledger is not None:
            self._ledger.send(rest)
        if not self._queue:
            try:
                rest = rest[self._send(rest) :]
            except BlockingIOError:
                pass
            except OSError as error:
                # Not from inside KJ's own call: it is told when it has returned.
                self._nursery.start_soon(self._lose_later, error, name="wire closer")
                return
            if not rest:
                return
        self._queue.append(rest)
        self._queued_bytes += len(rest)
        if self._queued_bytes > self._limits.write_high_bytes and not self._write_paused:
            self._write_paused = True
            self._protocol.pause_writing()
        if not self._writing:
            self._writing = True
            self._nursery.start_soon(self._write, name="wire writer")

    def close(self) -> None:
        """Close the socket now; what was not sent is dropped, what was not claimed is closed."""
        if self.closed.is_set():
            return
        self.closed.set()
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()
        self._queue.clear()
        self.fds.close()
        for fd in self._outgoing_fds:
            os.close(fd)
        self._outgoing_fds.clear()
        self._wake_reader()

    # -- file descriptors ---------------------------------------------------------------------------------------------

    def send_fds(self, fds: Iterable[int]) -> list[int]:
        """Send duplicates of ``fds`` with the next bytes that are written.

        Returns:
            Their numbers, for the message that names them.
        """
        copies = [os.dup(fd) for fd in fds]
        self._outgoing_fds += copies
        first, self._sent_fds = self._sent_fds, self._sent_fds + len(copies)
        return list(range(first, self._sent_fds))

    def _send(self, data: memoryview) -> int:
        if not self._outgoing_fds:
            return self._sock.send(data)
        batch = self._outgoing_fds[:_MAX_FDS_A_MESSAGE]
        if len(self._outgoing_fds) > len(batch):
            data = data[:1]  # each batch needs a byte to travel with, and all of them go ahead of the message's end
        sent = self._sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", batch))])
        del self._outgoing_fds[: len(batch)]
        for fd in batch:
            os.close(fd)
        return sent

    def _receive(self, buffer: memoryview) -> int:
        count, ancillary, flags, _address = self._sock.recvmsg_into([buffer], _ANCILLARY_BYTES, socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received = array.array("i")
                received.frombytes(data[: len(data) - len(data) % _FD_SIZE])
                if not self.fds.add(received):
                    raise ConnectionAbortedError("the peer sent more file descriptors than it may")
        if flags & socket.MSG_CTRUNC:
            raise ConnectionAbortedError("the peer sent too many file descriptors at once")
        return count

    # -- tasks --------------------------------------------------------------------------------------------------------

    def _wake_reader(self) -> None:
        if self._reader is not None:
            task, self._reader = self._reader, None
            trio.lowlevel.reschedule(task)

    async def _park_reader(self) -> None:
        self._reader = trio.lowlevel.current_task()

        def abort(_raise_cancel: Any) -> trio.lowlevel.Abort:
            self._reader = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def _may_read(self) -> bool:
        return self._want_read and (self._reads_while_writing or not self._write_paused)

    async def _read(self) -> None:
        reads = 0
        ledger, most_bytes = self._ledger, self._limits.bytes_in_flight + self._limits.message_bytes
        try:
            while not self.closed.is_set():
                if not self._may_read():
                    await self._park_reader()
                    continue
                try:
                    buffer = self._protocol.get_buffer(-1)
                    count = self._receive(buffer)
                except BlockingIOError:
                    reads = 0
                    await trio.lowlevel.wait_readable(self._sock)
                    continue
                if count == 0:
                    self._run(self._protocol.eof_received)
                    self._lose(None)
                    return
                if ledger is not None:
                    ledger.receive(buffer, count)
                    if ledger.held_bytes > most_bytes:
                        raise ConnectionAbortedError(
                            "the peer has sent more calls than it may before they were answered"
                        )
                self._run(partial(self._protocol.buffer_updated, count))
                if ledger is not None and ledger.newest_bytes:
                    ledger.taken()
                reads += 1
                if reads == _READS_BEFORE_YIELD:
                    reads = 0
                    await trio.lowlevel.checkpoint()
        except (OSError, trio.ClosedResourceError) as error:
            self._lose(error)

    async def _write(self) -> None:
        try:
            while self._queue:
                head = self._queue[0]
                try:
                    sent = self._send(head)
                except BlockingIOError:
                    await trio.lowlevel.wait_writable(self._sock)
                    continue
                self._queued_bytes -= sent
                if sent == len(head):
                    self._queue.popleft()
                else:
                    self._queue[0] = head[sent:]
                if self._write_paused and self._queued_bytes <= self._limits.write_low_bytes:
                    self._write_paused = False
                    self._run(self._protocol.resume_writing)
                    self._wake_reader()
        except (OSError, trio.ClosedResourceError) as error:
            self._lose(error)
        finally:
            self._writing = False

    def _lose(self, error: BaseException | None) -> None:
        if self.closed.is_set():
            return
        self.close()
        self._run(partial(self._protocol.connection_lost, error or "the peer closed the connection"))

    async def _lose_later(self, error: OSError) -> None:
        self._lose(error)
        await trio.lowlevel.checkpoint()
