"""Who is at the other end of a Unix socket (SO_PEERCRED, SO_PEERGROUPS; unix(7)). Imports nothing of Ross."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Final

_UCRED: Final = struct.Struct("iII")
_SO_PEERGROUPS: Final = 59
_MAX_GROUPS: Final = 65536


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """What the kernel noted about the peer when it connected; it cannot change afterwards."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int]
    """Supplementary groups; may lack ``gid``."""

    def has_group(self, gid: int | None) -> bool:
        """Whether the peer is a member of the group, primary or supplementary."""
        return gid is not None and (gid == self.gid or gid in self.groups)


def peer_credentials(sock: socket.socket) -> Credentials:
    """Read them from a connected Unix socket.

    Raises:
        OSError: the socket is not a connected Unix socket.
    """
    pid, uid, gid = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Credentials(pid=pid, uid=uid, gid=gid, groups=_peer_groups(sock))


def _peer_groups(sock: socket.socket) -> frozenset[int]:
    size = 256
    while size <= _MAX_GROUPS * 4:
        try:
            raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, size)
        except OSError as error:
            if error.errno == 34:  # ERANGE: the buffer is too small for the list
                size *= 4
                continue
            return frozenset()  # kernels before 4.13: the primary group must do
        return frozenset(struct.unpack(f"{len(raw) // 4}I", raw))
    return frozenset()
