"""Telling whoever listens what happens, without ever waiting for a listener.

The last events stand in a ring. A reader is a place in it, by sequence number, and a filter: it costs nothing while it does not read, and
what has left the ring before it was read is told as a gap. So it makes no difference whether a reader was slow, or away. What is done with
the ring is done without an await.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import trio

from ross.errors import InvalidArgument
from ross.model.events import Event, EventBatch, EventGap
from ross.services.epochs import Epoch
from ross.services.event_filter import Wanted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ross.model.events import EventAction, EventKind, EventOptions

KEPT: Final = 4096
"""So many events are kept, unless it is set otherwise."""
KEPT_BYTES: Final = 16 << 20
"""And no more than have texts of so many characters, but for the last one."""
_BATCH: Final = 64
_BATCH_BYTES: Final = 1 << 20
_LABELS_BYTES: Final = 256 << 10
"""What labels that are told may take: those of containers take less; an image may have any."""
_LABEL_BYTES: Final = 32
"""What a label takes in a message beside its text."""
_NUMBER_BITS: Final = 40
"""Of a sequence number, for the number of the event; the rest is the number of its daemon."""
_NO_LABELS: Final[Mapping[str, str]] = {}


class Events:
    """Publish, and read."""

    def __init__(self, *, epoch: Epoch | None = None, kept: int = KEPT) -> None:
        self._epoch = epoch or Epoch(number=1)
        self._ring: deque[Event] = deque()
        self._kept = kept
        self._bytes = 0
        self.count = 0
        """How many there have been."""
        self._unknown_until = time.time_ns() if self._epoch.number > 1 else 0
        """What was before this time is not known any more."""
        self._news = trio.lowlevel.ParkingLot()

    @property
    def last(self) -> int:
        """The sequence number of the last event; before the first one, that behind which it will stand."""
        return self._sequence(self.count)

    def _sequence(self, number: int) -> int:
        return self._epoch.number << _NUMBER_BITS | number

    def publish(
        self,
        kind: EventKind,
        action: EventAction,
        *,
        subject: str,
        name: str = "",
        labels: Mapping[str, str] = _NO_LABELS,
        **attributes: str,
    ) -> None:
        """Something has happened.

        Args:
            kind: What it is about.
            action: What has happened.
            subject: The image's id, the container's id or the registry's host.
            name: The name under which people know it, if there is one.
            labels: Of the container or image. They are kept as they are, and not to be changed; uncommonly many are left out.
            attributes: More about it. Nothing that may be a secret, such as arguments and variables.
        """
        self.count += 1
        if _label_size(labels) > _LABELS_BYTES:
            labels = _NO_LABELS
        event = Event(
            sequence=self.last,
            time=time.time_ns(),
            kind=kind,
            action=action,
            subject=subject,
            name=name,
            attributes=attributes,
            labels=labels if isinstance(labels, dict) else dict(labels),
        )
        self._ring.append(event)
        self._bytes += _size(event)
        while len(self._ring) > self._kept or (self._bytes > KEPT_BYTES and len(self._ring) > 1):
            lost = self._ring.popleft()
            self._bytes -= _size(lost)
            self._unknown_until = lost.time
        self._news.unpark_all()

    def open(self, options: EventOptions) -> Reader:
        """Read from a place on.

        Raises:
            InvalidArgument: there is no event with the sequence number behind which it is to begin.
        """
        return Reader(self, options)

    def check(self, position: int) -> None:
        """See that a sequence number is one.

        Raises:
            InvalidArgument: no event of this root has it.
        """
        if position > self.last:
            raise InvalidArgument(
                f"no event has the sequence number {position} yet", hint="it is from another daemon, or another root"
            )

    def misses(self, since: int) -> bool:
        """Whether events from this time on are not known any more."""
        return since <= self._unknown_until

    def ring_begin(self) -> int:
        """The sequence number behind which the ring begins."""
        return self._sequence(self.count - len(self._ring))

    def lost_behind(self, position: int) -> EventGap | None:
        """What has happened behind an event and before those that are kept."""
        dropped = self.count - len(self._ring)
        if position >> _NUMBER_BITS == self._epoch.number:
            lost = dropped - (position - self._sequence(0))
            return EventGap(lost=lost) if lost > 0 else None
        before = self._epoch.lost_behind(position >> _NUMBER_BITS, position & ((1 << _NUMBER_BITS) - 1))
        if before is None:
            return EventGap(lost=0)
        return EventGap(lost=before + dropped) if before + dropped else None

    def read(self, position: int, wanted: Wanted) -> tuple[tuple[Event, ...], int, bool]:
        """Those that are kept, behind an event, and wanted; some of them.

        Returns:
            Them, the sequence number behind which to go on, and whether nothing more is wanted.
        """
        begin = max(position, self.ring_begin()) - self.ring_begin()
        found: list[Event] = []
        size = 0
        for index in range(
            begin, len(self._ring)
        ):  # from the end of the deque, where readers mostly are, it is not far
            event = self._ring[index]
            if wanted.until and event.time > wanted.until:
                return tuple(found), self._ring[index - 1].sequence if index else self.ring_begin(), True
            if wanted.fits(event):
                found.append(event)
                size += _size(event)
                if len(found) == _BATCH or size > _BATCH_BYTES:
                    return tuple(found), event.sequence, False
        return tuple(found), self.last, False

    async def wait(self) -> None:
        """Wait until something has happened."""
        await self._news.park()


class Reader:
    """A place in the events. Made by :meth:`Events.open`."""

    def __init__(self, events: Events, options: EventOptions) -> None:
        events.check(options.after)
        self._events = events
        self._wanted = Wanted(options)
        self._first: EventGap | None = None
        if options.after:
            self.begin = options.after
            """The sequence number behind which it begins."""
        elif options.since:
            self.begin = events.ring_begin()
            self._first = EventGap(lost=0) if events.misses(options.since) else None
        else:
            self.begin = events.last
        self._seen = (0, 0)
        """Behind the first nothing was wanted, up to the second."""

    def ready(self, after: int = 0) -> EventBatch:
        """What there is behind a sequence number, without waiting.

        Raises:
            InvalidArgument: no event has it.
        """
        self._events.check(after)
        asked = after or self.begin
        position = self._seen[1] if asked == self._seen[0] else asked
        gap = self._events.lost_behind(position)
        if self._first is not None and asked == self.begin:
            gap = self._first
        events, position, ended = self._events.read(position, self._wanted)
        ended = ended or self._wanted.seconds_left() == 0
        if not events and gap is None:
            self._seen = (asked, position)
        return EventBatch(gap=gap, events=events, position=position, ended=ended)

    async def next(self, after: int = 0) -> EventBatch:
        """What there is behind a sequence number; waits until there is something, or the time has passed until which it was asked for.

        Raises:
            InvalidArgument: no event has it.
        """
        await trio.lowlevel.checkpoint()
        while True:
            batch = self.ready(after)
            if batch.events or batch.gap is not None or batch.ended:
                return batch
            with trio.move_on_after(self._wanted.seconds_left()):
                await self._events.wait()


def _size(event: Event) -> int:
    """About what it takes, labels included, which it may share with others."""
    texts: list[Any] = [event.subject, event.name, *event.attributes.values()]
    return sum(map(len, texts)) + _label_size(event.labels) + sys.getsizeof(event)


def _label_size(labels: Mapping[str, str]) -> int:
    return sum(map(len, labels)) + sum(map(len, labels.values())) + _LABEL_BYTES * len(labels)
