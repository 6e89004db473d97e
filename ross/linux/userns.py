"""Making a user namespace, to map the ids of mounts by (user_namespaces(7), mount_setattr(2)).

Only a process with one thread can make one, so a program does, and ends when we have it open.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from ross.linux.process import start_piped, which

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ross.model.namespaces import IdRange

_SECONDS: Final = 10.0
MOST_RANGES: Final = 340
"""How many lines the kernel takes."""


async def open_user_namespace(uids: Sequence[IdRange], gids: Sequence[IdRange]) -> int:
    """A new user namespace with these ids, as a descriptor. Nobody is in it.

    Raises:
        OSError: the kernel refuses, or the program that makes it (unshare(1)) is missing.
    """
    unshare, cat = which("unshare"), which("cat")
    if unshare is None or cat is None:
        raise FileNotFoundError("unshare(1) or cat(1) is missing")
    with trio.move_on_after(_SECONDS):
        async with start_piped([str(unshare), "--user", "--", str(cat)], env={}) as process:
            assert process.stdin is not None  # noqa: S101 -- they are pipes
            assert process.stdout is not None  # noqa: S101
            try:
                await process.stdin.send_all(b".")
                answered = await process.stdout.receive_some(1)  # it is the second program: in the namespace
            except trio.BrokenResourceError:
                answered = b""
            if not answered:
                raise PermissionError("this host makes no user namespace")
            proc = Path(f"/proc/{process.pid}")
            (proc / "uid_map").write_text(_lines(uids))
            (proc / "gid_map").write_text(_lines(gids))
            return os.open(proc / "ns/user", os.O_RDONLY | os.O_CLOEXEC)
    raise TimeoutError(f"no user namespace was made in {_SECONDS:g} s")


def _lines(ranges: Sequence[IdRange]) -> str:
    return "".join(f"{one.inside} {one.outside} {one.size}\n" for one in ranges)
