"""One attachment to a container: its output into sinks, input from a caller, through the monitor's socket.

The socket keeps packets apart; the first byte of each says which stream it is of (conmon, conn_sock.c).
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

import trio

from ross.errors import FailedPrecondition, RossError, Unavailable
from ross.linux.terminal import readable_bytes
from ross.linux.unix_socket import is_accepted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PACKET_BYTES: Final = 64 << 10
_GATHERED_BYTES: Final = 256 << 10
"""The monitor sends packets of 8 KiB; one by one they would cost everybody on their way far more than what is in them."""
_STDIN_BYTES: Final = 8 << 10
"""What the monitor surely takes in one packet; the rest of a longer one would be lost."""
_RESIZE_SECONDS: Final = 0.001
_ACCEPT_PAUSE: Final = 0.001
_ACCEPT_SECONDS: Final = 10.0
_STDOUT: Final = 2
_STDERR: Final = 3


class Sink(Protocol):
    """Where output goes."""

    async def write(self, data: bytes) -> None:
        """Take some bytes; returning late slows the container down."""

    async def gap(self, lost_bytes: int) -> None:
        """So many bytes are missing here."""

    async def done(self) -> None:
        """There will be no more."""


class AttachStream:
    """The connection to the monitor. Made by :func:`connect`; used by one reader and one writer."""

    def __init__(self, sock: socket.socket) -> None:
        self._now = sock
        self._sock = trio.socket.from_stdlib_socket(sock)
        self._input_closed = False

    async def pump(self, *, stdout: Sink | None, stderr: Sink | None) -> None:
        """Move output into the sinks until there is no more. A sink that fails is left out from then on."""
        sinks: dict[int, Sink] = {}
        if stdout is not None:
            sinks[_STDOUT] = stdout
        if stderr is not None:
            sinks[_STDERR] = stderr
        while packet := await self._receive():
            for stream, data in self._gather(packet):
                sink = sinks.get(stream)
                if sink is not None and not await _wrote(sink, data):
                    del sinks[stream]
        for sink in sinks.values():
            with suppress(RossError):
                await sink.done()

    async def _receive(self) -> bytes:
        try:
            return await self._sock.recv(_PACKET_BYTES)
        except (OSError, trio.ClosedResourceError):
            return b""

    def _gather(self, packet: bytes) -> Iterator[tuple[int, bytes]]:
        """A packet, and those that wait behind it: what follows each other on one stream is joined."""
        stream, pieces, size = packet[0], [packet[1:]], len(packet)
        while size < _GATHERED_BYTES:
            try:
                packet = self._now.recv(_PACKET_BYTES)
            except OSError:  # none waits; or what is wrong is found out by who waits for one
                break
            if not packet:  # the end, which is there to be read again
                break
            if packet[0] != stream:
                yield stream, b"".join(pieces)
                stream, pieces = packet[0], []
            pieces.append(packet[1:])
            size += len(packet)
        yield stream, b"".join(pieces)

    async def write(self, data: bytes) -> None:
        """Send to the container's input.

        Raises:
            FailedPrecondition: it is closed, or the container has ended.
        """
        view = memoryview(data)
        try:
            for start in range(0, len(view), _STDIN_BYTES):
                await self._sock.send(view[start : start + _STDIN_BYTES])
        except (OSError, trio.ClosedResourceError):
            raise FailedPrecondition("the container takes no more input") from None

    def close_input(self) -> None:
        """Let the container read the end of its input."""
        if not self._input_closed:
            self._input_closed = True
            with suppress(OSError, trio.ClosedResourceError):
                self._sock.shutdown(socket.SHUT_WR)

    async def accepted(self, *, seconds: float = _ACCEPT_SECONDS) -> None:
        """Wait until the monitor has taken the connection.

        The kernel connects us without it. A monitor that finds both connections and output takes one of the connections, and hands the
        output to those that it has taken: the others would miss a beginning.

        Raises:
            Unavailable: it does not for long: it is stopped.
        """
        with trio.move_on_after(seconds) as limit:
            while not is_accepted(self._now) and self.is_quiet():  # noqa: ASYNC110 -- the kernel tells nobody
                await trio.sleep(_ACCEPT_PAUSE)
        if limit.cancelled_caught:
            raise Unavailable(
                f"the container's monitor has not answered for {seconds:g} s", hint="is it stopped (SIGSTOP)?"
            )

    async def wait_readable(self) -> None:
        """Wait until something has come, or the monitor has ended."""
        await trio.lowlevel.wait_readable(self._now)

    def is_quiet(self) -> bool:
        """Whether nothing has come, and the monitor is there; not while anybody reads."""
        try:
            self._now.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Detach."""
        self._sock.close()


async def connect(bundle: Path) -> AttachStream:
    """Connect to the monitor of the container with this bundle.

    Raises:
        FailedPrecondition: nothing listens: the container does not run.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        directory = os.open(bundle, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # By descriptor: a bundle's path may be longer than an address may be.
            await trio.socket.from_stdlib_socket(sock).connect(f"/proc/self/fd/{directory}/attach")
        finally:
            os.close(directory)
    except OSError as error:
        sock.close()
        raise FailedPrecondition(f"the container's monitor does not answer: {error.strerror or error}") from None
    except BaseException:
        sock.close()
        raise
    return AttachStream(sock)


async def resize(directory: Path, *, rows: int, columns: int) -> None:
    """Tell the monitor with this directory the size of its process's terminal. Nothing happens if it has ended.

    The monitor mixes up what it reads of several messages at once; so each waits until the one before it was read.
    """
    try:
        fd = os.open(directory / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ENXIO, errno.ENOENT}:
            return
        raise
    try:
        while readable_bytes(fd):  # noqa: ASYNC110 -- there is nothing to wait on until a pipe is empty
            await trio.sleep(_RESIZE_SECONDS)
        os.write(fd, f"1 {rows} {columns}\n".encode())
    finally:
        os.close(fd)
    await trio.lowlevel.checkpoint()


async def _wrote(sink: Sink, data: bytes) -> bool:
    try:
        await sink.write(data)
    except RossError:
        return False
    return True
