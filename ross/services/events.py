"""Telling whoever listens what happens, without ever waiting for a listener."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

from ross.model.engine import Event

if TYPE_CHECKING:
    from collections.abc import Iterator

BUFFERED: Final = 1024


class Events:
    """Publish and subscribe. A subscriber that falls behind loses events, and sees so by a gap in the sequence numbers."""

    def __init__(self) -> None:
        self._sequence = 0
        self._subscribers: set[trio.MemorySendChannel[Event]] = set()

    def publish(self, kind: str, action: str, *, subject: str, name: str = "", **attributes: str) -> None:
        """Tell all subscribers, now; those without room are not told.

        Args:
            kind: ``image``, ``container`` or ``registry``.
            action: What happened: ``pull``, ``create``, ``start``, ``exit``, ...
            subject: The image's digest, the container's id or the registry's host.
            name: The name under which a user knows it, if there is one.
            attributes: More about it.
        """
        self._sequence += 1
        event = Event(
            sequence=self._sequence,
            time=time.time_ns(),
            kind=kind,
            action=action,
            subject=subject,
            name=name,
            attributes=attributes,
        )
        for subscriber in self._subscribers:
            try:
                subscriber.send_nowait(event)
            except (trio.WouldBlock, trio.BrokenResourceError):
                continue

    @contextmanager
    def subscribe(self) -> Iterator[trio.MemoryReceiveChannel[Event]]:
        """Receive what is published from now on, until the block ends."""
        send, receive = trio.open_memory_channel[Event](BUFFERED)
        self._subscribers.add(send)
        try:
            with send, receive:
                yield receive
        finally:
            self._subscribers.discard(send)
