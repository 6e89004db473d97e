"""A program for containers that tries system calls and tells what the kernel answered: it is the whole of an image. x86-64."""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence

_BASE = 0x400000
_HEADERS = 64 + 56
_ROOM = 4096
_WRITE, _EXIT = 1, 60


def program(calls: Sequence[tuple[int, ...]]) -> bytes:
    """A static executable that makes each call (its number, then up to three arguments) and writes the results as 32-bit numbers."""
    code = b"\x48\x81\xec" + struct.pack("<I", _ROOM) + b"\x48\x89\xe3"  # sub rsp, room; mov rbx, rsp
    for call in calls:
        code += _call(*call) + b"\x89\x03\x48\x83\xc3\x04"  # mov [rbx], eax; add rbx, 4
    code += b"\xb8" + struct.pack("<I", _WRITE) + b"\xbf\x01\0\0\0\x48\x89\xe6"  # eax; edi = 1; mov rsi, rsp
    code += b"\xba" + struct.pack("<I", 4 * len(calls)) + b"\x0f\x05" + _call(_EXIT)
    return _executable(code)


def socketcall(family: int, kind: int) -> bytes:
    """A program that asks for a socket as 32-bit programs do, by socketcall(2) and ``int 0x80``, and writes the result likewise."""
    numbers, answer = struct.pack("<III", family, kind, 0), b"\x89\x04\x24"  # mov [rsp], eax
    answer += b"\xb8" + struct.pack("<I", _WRITE) + b"\xbf\x01\0\0\0\x48\x89\xe6\xba\x04\0\0\0\x0f\x05" + _call(_EXIT)
    where = _BASE + _HEADERS + 17 + len(answer)
    ask = b"\xb8" + struct.pack("<I", 102) + b"\xbb\x01\0\0\0\xb9" + struct.pack("<I", where) + b"\xcd\x80"
    return _executable(ask + answer + numbers)


def seizer(highest: int) -> bytes:
    """A program that tries to trace each process with a number from 2 to ``highest`` (PTRACE_SEIZE), and lets go of all by its end."""
    loop = b"\xb8\x65\0\0\0\xbf\x06\x42\0\0\x89\xee\x31\xd2\x45\x31\xd2\x0f\x05"  # ptrace(0x4206, ebp, 0, 0)
    loop += b"\xff\xc5\x81\xfd" + struct.pack("<I", highest + 1)  # inc ebp; cmp ebp, highest + 1
    return _executable(b"\xbd\x02\0\0\0" + loop + b"\x72" + struct.pack("<b", -len(loop) - 2) + _call(_EXIT))


def _executable(code: bytes) -> bytes:
    entry, size = _BASE + _HEADERS, _HEADERS + len(code)
    header = (
        b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    )
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 4096) + code


def _call(number: int, first: int = 0, second: int = 0, third: int = 0) -> bytes:
    """mov eax, edi, esi, edx; r10, r8, r9 = 0; syscall"""
    registers = zip((b"\xb8", b"\xbf", b"\xbe", b"\xba"), (number, first, second, third), strict=True)
    loads = b"".join(opcode + struct.pack("<I", value & 0xFFFFFFFF) for opcode, value in registers)
    return loads + b"\x45\x31\xd2\x45\x31\xc0\x45\x31\xc9\x0f\x05"


def answers(output: bytes) -> list[str]:
    """What the kernel answered to each: ``EPERM`` and the like, or ``allowed``."""
    return [
        errno.errorcode.get(-result, str(result)) if result < 0 else "allowed"
        for (result,) in struct.iter_unpack("<i", output)
    ]
