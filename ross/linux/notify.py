"""Telling the service manager how we are (sd_notify(3)). Does nothing where there is none."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify(*lines: str) -> bool:
    """Send ``KEY=value`` lines to the socket named by ``NOTIFY_SOCKET``.

    Returns:
        Whether there is a service manager that was told. A failure to tell it is not ours to act on.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender, suppress(OSError):
        sender.connect(address)
        sender.sendall("\n".join(lines).encode())
        return True
    return False
