"""Unix sockets: a listening one with exact permissions from its first moment, and whether a connected one was accepted."""

from __future__ import annotations

import errno
import grp
import os
import socket
import struct
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_PATH_BYTES = 107
"""What fits into ``sun_path`` with its terminating zero (unix(7))."""

_SOCK_DIAG: Final = 4  # linux/netlink.h
_BY_FAMILY: Final = 20  # linux/sock_diag.h
_SHOW_PEER: Final = 4  # linux/unix_diag.h, as what follows
_PEER: Final = 2
_HEADER: Final = struct.Struct("=IHHII")
_REQUEST: Final = struct.Struct("=BBHIIIII")
_ANSWER: Final = struct.Struct("=BBBBIII")
_ATTRIBUTE: Final = struct.Struct("=HH")


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


def is_accepted(sock: socket.socket) -> bool:
    """Whether whoever listens has accepted this connection, and not only the kernel for them (sock_diag(7), UNIX_DIAG_PEER).

    A kernel that cannot say (without ``CONFIG_UNIX_DIAG``) counts as yes.
    """
    inode = os.fstat(sock.fileno()).st_ino & 0xFFFFFFFF
    request = _REQUEST.pack(socket.AF_UNIX, 0, 0, 0xFFFFFFFF, inode, _SHOW_PEER, 0xFFFFFFFF, 0xFFFFFFFF)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG) as netlink:
            netlink.send(_HEADER.pack(_HEADER.size + len(request), _BY_FAMILY, 1, 0, 0) + request)
            answer = netlink.recv(4096)
    except OSError:
        return True
    length, kind, *_ = _HEADER.unpack_from(answer)
    if kind != _BY_FAMILY:
        return True
    at = _HEADER.size + _ANSWER.size
    while at + _ATTRIBUTE.size <= length:
        size, name = _ATTRIBUTE.unpack_from(answer, at)
        if name == _PEER:
            (peer,) = struct.unpack_from("=I", answer, at + _ATTRIBUTE.size)
            return bool(peer != 0)
        at += max(_ATTRIBUTE.size, (size + 3) & ~3)
    return False  # its peer is closed, or nobody's yet


def group_id(name: str) -> int | None:
    """The id of a group of the host, or None if there is no such group."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None
