"""What kind of filesystem something is on (statfs(2))."""

from __future__ import annotations

import ctypes
import os
from typing import Final

from ross.linux.syscalls import libc

_KERNELS_OWN: Final = frozenset({
    0x9FA0,  # proc
    0x62656572,  # sysfs
    0x27E0EB,  # cgroup
    0x63677270,  # cgroup2
    0x1CD1,  # devpts
    0x19800202,  # mqueue
    0x64626720,  # debugfs
    0x74726163,  # tracefs
    0x73636673,  # securityfs
    0xCAFE4A11,  # bpf
    0x6165676C,  # pstore
    0xDE5E81E4,  # efivarfs
    0x42494E4D,  # binfmt_misc
    0x62656570,  # configfs
    0x65735543,  # fusectl
    0x6E736673,  # nsfs
    0x50494446,  # pidfs
    0xF97CFF8C,  # selinuxfs
})  # fmt: skip
"""linux/magic.h."""
_BUFFER_BYTES: Final = 256
"""More than any architecture's struct statfs, whose first member is the type."""


def is_kernels_own(fd: int) -> bool:
    """Whether this is on a filesystem whose files are no data but ways to speak to the kernel."""
    buffer = ctypes.create_string_buffer(_BUFFER_BYTES)
    if libc().fstatfs(ctypes.c_int(fd), buffer) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    kind = ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ulong))[0]
    return int(kind) & 0xFFFFFFFF in _KERNELS_OWN
