"""The command line on a terminal of its own, as a person has it before them."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from typing import TYPE_CHECKING

from tests.support.daemon import command

if TYPE_CHECKING:
    from tests.support.daemon import Daemon


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, daemon: Daemon, *words: str, size: tuple[int, int] = (0, 0)) -> None:
        """Begin; the terminal has so many rows and columns, or does not say."""
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
            os.execve(command()[0], command(*words), daemon.environment())

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, data: bytes) -> None:
        os.write(self._fd, data)

    def read_until(self, wanted: bytes, *, seconds: float = 60) -> bytes:
        seen = b""
        deadline = time.monotonic() + seconds
        while wanted not in seen and time.monotonic() < deadline:
            if select.select([self._fd], [], [], 0.1)[0]:
                try:
                    seen += os.read(self._fd, 4096)
                except OSError:  # the other end is closed
                    break
        assert wanted in seen, seen
        return seen

    def read_to_the_end(self, *, seconds: float = 60) -> bytes:
        """What is still written, until the command has ended."""
        seen = b""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if select.select([self._fd], [], [], 0.1)[0]:
                try:
                    seen += os.read(self._fd, 4096)
                except OSError:  # the other end is closed
                    return seen
        raise AssertionError(seen)

    def modes(self) -> list[object]:
        """How the terminal treats what is typed and written."""
        return termios.tcgetattr(self._fd)

    def kill(self) -> None:
        """End the command with SIGKILL."""
        os.kill(self._pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> int:
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        os.close(self._fd)
        return code
