"""The terminal that a program was started on: its size, and raw mode (termios(3), tty_ioctl(4))."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def window_size(fd: int) -> tuple[int, int]:
    """Rows and columns; zeros for what is no terminal."""
    try:
        rows, columns, _width, _height = struct.unpack("HHHH", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
    except OSError:
        return 0, 0
    return rows, columns


def readable_bytes(fd: int) -> int:
    """How much a pipe or a terminal holds that nobody has read yet."""
    (count,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))
    return int(count)


@contextmanager
def raw_mode(fd: int) -> Iterator[None]:
    """Hand every byte on as it is typed, and echo nothing; what was set before is set again at the end, however it comes."""
    before = termios.tcgetattr(fd)
    raw = termios.tcgetattr(fd)
    raw[0] &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
    )
    raw[1] &= ~termios.OPOST
    raw[2] = (raw[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
    raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
    termios.tcsetattr(fd, termios.TCSADRAIN, raw)
    try:
        yield
    finally:
        with suppress(termios.error):
            termios.tcsetattr(fd, termios.TCSADRAIN, before)


def is_terminal(fd: int) -> bool:
    """Whether a descriptor is a terminal; one that is closed is none."""
    try:
        return os.isatty(fd)
    except OSError:
        return False
