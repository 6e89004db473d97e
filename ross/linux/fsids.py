"""Acting on files as another user, in one thread, without losing the power to (setfsuid(2), credentials(7)).

Where a filesystem gives ids of its own to everything, as one for a user namespace does, root of the host is nobody there, and what it makes
would belong to nobody: the kernel refuses. So what makes something there acts as that namespace's root.
"""

from __future__ import annotations

import ctypes
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from ross.linux.syscalls import libc

if TYPE_CHECKING:
    from collections.abc import Iterator

_VERSION_3: Final = 0x20080522
_NO_ID: Final = 0xFFFFFFFF
"""Setting it changes nothing, and tells what there is."""


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


@contextmanager
def acting_as(uid: int, gid: int) -> Iterator[None]:
    """What this thread makes belongs to these, for the length of a block without awaits in it; what it may do stays the same.

    Raises:
        OSError: the kernel refuses.
    """
    before = _current("setfsuid"), _current("setfsgid")
    if before == (uid, gid):
        yield
        return
    try:
        _become(uid, gid)
        yield
    finally:
        _become(*before)


def _become(uid: int, gid: int) -> None:
    libc().setfsgid(ctypes.c_uint32(gid))
    libc().setfsuid(ctypes.c_uint32(uid))
    if (_current("setfsuid"), _current("setfsgid")) != (uid, gid):
        raise PermissionError(f"files cannot be used as {uid}:{gid}")
    # Who leaves 0 loses the capabilities that are about files; they are permitted still.
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    _check(libc().capget(ctypes.byref(header), data))
    for part in data:
        part.effective = part.permitted
    _check(libc().capset(ctypes.byref(header), data))


def _current(call: str) -> int:
    return int(getattr(libc(), call)(ctypes.c_uint32(_NO_ID))) & _NO_ID


def _check(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "capabilities")
