"""What launching a monitor is made of, whatever it is to monitor: its environment, and its answer (conmon(8))."""

from __future__ import annotations

import json
import os
from typing import Final

import trio

from ross.errors import Internal, Unavailable
from ross.shim.runtime import runtime_error

_SYNC_BYTES: Final = 64 << 10


async def read_answer(fd: int) -> bytes:
    """What the monitor says. It ends with its first line: the pipe stays open in the monitor."""
    os.set_blocking(fd, False)
    data = bytearray()
    while len(data) < _SYNC_BYTES and not data.endswith(b"\n"):
        try:
            part = os.read(fd, _SYNC_BYTES)
        except BlockingIOError:
            await trio.lowlevel.wait_readable(fd)
            continue
        if not part:
            break
        data += part
    return bytes(data)


def ended_early(what: str) -> Unavailable:
    """Why there is no process where neither the monitor nor the runtime says anything: they were killed."""
    undone = {"create": "it had created the container", "restore": "it had restored the container"}.get(
        what, "it had executed anything"
    )
    return Unavailable(f"the monitor, or the runtime that it runs, was ended before {undone}", hint="try again")


def answered_pid(answer: bytes, *, what: str = "create") -> int:
    """The pid of the process that the monitor has had made.

    Args:
        answer: What the monitor said.
        what: What it was to do: ``create``, ``restore`` or ``exec``.

    Raises:
        FailedPrecondition: the runtime could not; in its words.
        Unavailable: somebody has ended the monitor, or the runtime.
        Internal: the monitor failed.
    """
    if not answer:
        raise ended_early(what)
    try:
        document = json.loads(answer.partition(b"\n")[0])  # a brief exec's end may already be behind it
        pid = int(document.get("data", document.get("pid", -1)))
        message = str(document.get("message", ""))
    except (ValueError, AttributeError, TypeError):
        raise Internal(f"the monitor gave no answer that can be read: {answer[:200]!r}") from None
    if pid <= 0:
        raise runtime_error(message, what=what)
    return pid
