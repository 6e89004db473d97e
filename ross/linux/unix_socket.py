"""A listening Unix socket with exact permissions from its first moment."""

from __future__ import annotations

import errno
import grp
import os
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_PATH_BYTES = 107
"""What fits into ``sun_path`` with its terminating zero (unix(7))."""


@contextmanager
def listening_socket(path: Path, *, mode: int, gid: int | None, backlog: int = 512) -> Iterator[socket.socket]:
    """Listen at ``path``; whatever stands there is replaced in one step, and removed again at the end if it is still ours.

    Where somebody listens already this fails. Two that begin at once do not see each other: hold a lock first.

    Args:
        path: Absolute, at most 107 bytes.
        mode: Of the socket file; who may write may connect.
        gid: The group of the socket file; ours if None.
        backlog: How many connections may wait to be accepted.

    Raises:
        OSError: with the errno and the path.
    """
    if len(os.fsencode(path)) > MAX_PATH_BYTES - len(".new"):
        raise OSError(errno.ENAMETOOLONG, f"the path is longer than {MAX_PATH_BYTES - 4} bytes", str(path))
    if _is_listened_at(path):
        raise OSError(errno.EADDRINUSE, "another process listens there", str(path))
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as listener:
        mask = os.umask(0o177)
        try:
            listener.bind(str(fresh))
        finally:
            os.umask(mask)
        if gid is not None:
            os.chown(fresh, -1, gid)
        fresh.chmod(mode)
        listener.listen(backlog)
        fresh.rename(path)
        ours = path.stat().st_ino
        try:
            yield listener
        finally:
            with suppress(OSError):
                if path.stat().st_ino == ours:
                    path.unlink()


def _is_listened_at(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as probe:
        return probe.connect_ex(str(path)) in {0, errno.EAGAIN}  # EAGAIN: more wait for it than it has room for


def group_id(name: str) -> int | None:
    """The id of a group of the host, or None if there is no such group."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None
