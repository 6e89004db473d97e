"""Finding a container's program before it is started, so that what is missing is said clearly, with the shell's exit code.

Looks only; what runs is decided by the kernel. Nothing here executes anything of the root filesystem.
"""

from __future__ import annotations

import platform
import stat
import struct
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from ross.errors import FailedPrecondition, Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ross.shim.rootfs import Rootfs

KERNELS_OWN: Final = ("/dev", "/proc", "/sys")
"""Where the engine mounts what is the kernel's: whatever an image has there is not what a container sees."""
_HEAD_BYTES: Final = 4096
_PT_INTERP: Final = 3
_MACHINES: Final = {
    "x86_64": {62: 64, 3: 32},
    "aarch64": {183: 64, 40: 32},
    "riscv64": {243: 64},
    "ppc64le": {21: 64},
    "s390x": {22: 64},
}
"""ELF machine numbers (elf.h) that a kernel runs, with their word size."""
_MACHINE_NAMES: Final = {62: "amd64", 3: "386", 183: "arm64", 40: "arm", 243: "riscv64", 21: "ppc64le", 22: "s390x"}


def check_program(
    rootfs: Rootfs, command: Sequence[str], *, search_path: str, working_dir: str, mounted: Sequence[str]
) -> None:
    """Check that the first word of a command can be executed.

    Args:
        rootfs: The root filesystem.
        command: What is to run.
        search_path: The container's ``PATH``.
        working_dir: From where a path with a slash in it is meant.
        mounted: Targets of mounts: what is below them is not in the root filesystem, and not looked at.

    Raises:
        FailedPrecondition: it cannot; ``reason`` says whether it is missing or not executable.
    """
    name = command[0]
    candidates = _candidates(name, search_path, working_dir)
    if mounted and any(_is_below(rootfs.locate(one), mounted) for one in candidates):
        return
    if "/" in name and _is_below(rootfs.locate(candidates[0]), KERNELS_OWN):
        raise _not_executable(f"{name!r} is in the kernel's own filesystems, where no programs are")
    problem: FailedPrecondition | None = None
    for candidate in candidates:
        found = rootfs.stat(candidate)
        if found is None:
            continue
        problem = _problem(rootfs, name, candidate, found)
        if problem is None:
            return
        if "/" in name:
            raise problem
    if problem is not None:
        raise problem
    where = "" if "/" in name else f" in its PATH, {search_path}"
    raise FailedPrecondition(
        f"the image has no program {name!r}{where}",
        hint="is the name right? what stands behind the image's name is the command",
        reason=Reason.COMMAND_NOT_FOUND,
    )


def _candidates(name: str, search_path: str, working_dir: str) -> list[str]:
    if "/" in name:
        return [str(PurePosixPath(working_dir) / name)]
    return [str(PurePosixPath(working_dir) / (directory or ".") / name) for directory in search_path.split(":")]


def _is_below(path: str, mounted: Sequence[str]) -> bool:
    return any(PurePosixPath(path).is_relative_to(target) for target in mounted)


def _problem(rootfs: Rootfs, name: str, path: str, found: object) -> FailedPrecondition | None:
    mode = getattr(found, "st_mode", 0)
    if stat.S_ISDIR(mode):
        return _not_executable(f"{name!r} is a directory, not a program")
    if not stat.S_ISREG(mode):
        return _not_executable(f"{name!r} is not a regular file")
    if not mode & 0o111:
        return _not_executable(f"{name!r} is not executable: it lacks the x permission")
    head = rootfs.read(path, limit=_HEAD_BYTES) or b""
    if head.startswith(b"#!"):
        words = head[2:].split(b"\n", 1)[0].split()
        return _check_interpreter(rootfs, name, words[0] if words else b"", "the interpreter in its first line")
    if head.startswith(b"\x7fELF"):
        return _check_elf(rootfs, name, head)
    return None


def _check_interpreter(rootfs: Rootfs, name: str, interpreter: bytes, what: str) -> FailedPrecondition | None:
    path = interpreter.decode(errors="replace")
    if path.startswith("/") and rootfs.stat(path) is None:
        return FailedPrecondition(
            f"{name!r} cannot run: {what}, {path!r}, is not in the image", reason=Reason.COMMAND_NOT_FOUND
        )
    return None


def _check_elf(rootfs: Rootfs, name: str, head: bytes) -> FailedPrecondition | None:
    if len(head) < 64 or head[5] not in {1, 2}:
        return None
    order = "<" if head[5] == 1 else ">"
    (machine,) = struct.unpack_from(f"{order}H", head, 18)
    runs = _MACHINES.get(platform.machine())
    if runs is not None and machine not in runs:
        return _not_executable(
            f"{name!r} is a program for {_MACHINE_NAMES.get(machine, f'machine {machine}')}, which this machine does not run",
            hint="pull the image for this platform with --platform",
        )
    interpreter = _elf_interpreter(head, order, wide=head[4] == 2)
    return _check_interpreter(rootfs, name, interpreter, "its dynamic loader") if interpreter else None


def _elf_interpreter(head: bytes, order: str, *, wide: bool) -> bytes:
    try:
        if wide:
            (table,) = struct.unpack_from(f"{order}Q", head, 32)
            size, count = struct.unpack_from(f"{order}HH", head, 54)
        else:
            (table,) = struct.unpack_from(f"{order}I", head, 28)
            size, count = struct.unpack_from(f"{order}HH", head, 42)
        for index in range(min(count, 64)):
            at = table + index * size
            (kind,) = struct.unpack_from(f"{order}I", head, at)
            if kind == _PT_INTERP:
                if wide:
                    offset, length = (struct.unpack_from(f"{order}Q", head, at + where)[0] for where in (8, 32))
                else:
                    offset, length = (struct.unpack_from(f"{order}I", head, at + where)[0] for where in (4, 16))
                return head[offset : offset + length].rstrip(b"\0")
    except struct.error:  # further in than what was read, or no ELF after all: the kernel will say
        return b""
    return b""


def _not_executable(message: str, *, hint: str | None = None) -> FailedPrecondition:
    return FailedPrecondition(message, hint=hint, reason=Reason.COMMAND_NOT_EXECUTABLE)
