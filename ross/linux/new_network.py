"""Executed by itself as a hook, ``python -I -S new_network.py KEY=VALUE... < STATE``: makes a new network what it is to begin with.

The state is the runtime's (runtime-spec, runtime.md, "State"), of a container whose network namespace has been made and is still empty: its
loopback interface comes up, and kernel parameters are set in it.
"""

import ctypes
import fcntl
import json
import os
import socket
import struct
import sys
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_IFF_UP = 0x1


def main(parameters: list[str]) -> None:
    """Go there, and do so."""
    pid = int(json.load(sys.stdin)["pid"])
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        found = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        (flags,) = struct.unpack_from("H", found, 16)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))
    for parameter in parameters:
        key, _equals, value = parameter.partition("=")
        Path("/proc/sys", *key.split(".")).write_text(value)


if __name__ == "__main__":
    main(sys.argv[1:])
