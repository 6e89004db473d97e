"""Connections to a monitor that their attachments have left, for the next ones.

A monitor (conmon) that is hung up on closes its end only when it fails to write to it, which is when the process has output. Each
attachment to one that is silent would cost the monitor a descriptor; and with none left it takes no more of them, and spins.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ross.shim.attach import AttachStream

_MOST: Final = 32
"""Who is attached to by more at once than this, and lets go of them all, pays for the rest."""


class Spares:
    """The connections to one monitor that nobody uses now. Each has a task that closes it as soon as anything comes by it."""

    def __init__(self) -> None:
        self._kept: dict[AttachStream, tuple[trio.CancelScope, trio.Event]] = {}

    def keep(self, stream: AttachStream, spawn: Callable[[Callable[[], Awaitable[None]]], None]) -> None:
        """Keep a connection, or close it if there are enough. ``spawn`` begins its task."""
        if len(self._kept) >= _MOST:
            stream.close()
            return
        watched = self._kept[stream] = (trio.CancelScope(), trio.Event())
        spawn(partial(self._watch, stream, *watched))

    async def take(self) -> AttachStream | None:
        """One by which nothing has come since it was left, no longer kept; None if there is none."""
        while self._kept:
            stream, (scope, left) = self._kept.popitem()
            scope.cancel()
            await left.wait()
            if stream.is_quiet():
                return stream
            stream.close()
        return None

    async def _watch(self, stream: AttachStream, scope: trio.CancelScope, left: trio.Event) -> None:
        try:
            with scope:
                await stream.wait_readable()
            if self._kept.pop(stream, None) is not None:
                stream.close()
        except BaseException:
            stream.close()
            raise
        finally:
            left.set()
