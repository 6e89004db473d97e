"""Seeing to it that what was pulled gets to the disk, and to what was on its way there when the last daemon ended."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from math import inf
from typing import TYPE_CHECKING, Final

import trio

from ross.errors import FailedPrecondition
from ross.nursery.cleanup import bounded_cleanup
from ross.oci.reference import Reference
from ross.services.pending import Pending, Pendings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ross.layout import StateLayout
    from ross.services.snapshotter import Snapshotter
    from ross.services.store import ContentStore
    from ross.services.tags import TagRecord, Tags

logger = logging.getLogger(__name__)

_LAST_SECONDS: Final = 8.0
"""At an orderly end; what is not on the disk by then is looked at by the next daemon."""
_AGAIN_SECONDS: Final = 10.0


class Settler:
    """Makes pulls durable, a moment behind them: one sync for all that have ended meanwhile."""

    def __init__(self, *, layout: StateLayout, tags: Tags, store: ContentStore, snapshotter: Snapshotter) -> None:
        self._tags = tags
        self._store = store
        self._snapshotter = snapshotter
        self._pendings = Pendings(layout)
        self._waiting: list[Pending] = []
        self._wake: trio.Event | None = None
        """There as long as somebody settles."""
        self._complaint = ""
        """What was last told of as wrong: it is told once, however often it is tried again."""

    async def recover_content(self) -> Sequence[Pending]:
        """Look at what a power failure may have torn. Returns what only needs the disk, for :meth:`recover_names`."""
        fresh, doubtful = self._pendings.recover()
        await self._doubt([name for pending in doubtful for name in pending.record.snapshots])
        for pending in doubtful:
            for digest in pending.record.blobs:
                right = await self._store.is_right(digest)
                if not right:
                    await self._store.remove(digest)
                logger.info("%s, which a power failure may have torn, is %s", digest, "whole" if right else "gone")
            pending.forget()
        return fresh

    def recover_names(self, fresh: Sequence[Pending]) -> None:
        """Let names denote what the last daemon had just pulled; once the names on disk are known."""
        for pending in fresh:
            for name, record in pending.record.names.items():
                self._tags.announce(Reference.parse(name), record, pending)
            self._waiting.append(pending)

    async def settle_forever(self) -> None:
        """As long as this runs, pulls do not wait for the disk."""
        self._wake = trio.Event()
        try:
            while True:
                await self._settle()
                with trio.move_on_after(_AGAIN_SECONDS if self._waiting else inf):
                    await self._wake.wait()
                self._wake = trio.Event()
        finally:
            self._wake = None
            with bounded_cleanup(_LAST_SECONDS, what="making pulled images durable"):
                await self._settle()

    @contextmanager
    def bringing_in(self) -> Iterator[Pending | None]:
        """What comes in meanwhile is made durable behind it; None if nobody is there to do so."""
        if self._wake is None:
            yield None
            return
        pending = self._pendings.begin()
        try:
            yield pending
        finally:
            if pending.announced:
                self._waiting.append(pending)
                if self._wake is not None:
                    self._wake.set()

    def name(self, reference: Reference, record: TagRecord, pending: Pending | None) -> None:
        """Let a name denote an image: on the disk behind what it denotes, never before.

        Raises:
            OSError: it could not be written; the name denotes what it did.
        """
        if pending is None or not pending.announced:
            self._tags.set(reference, record)
        else:
            self._tags.announce(reference, record, pending)

    async def _settle(self) -> None:
        """Make durable what waits for it. What cannot be goes on waiting, and keeps nothing else from it."""
        batch = tuple(self._waiting)
        if not batch:
            return
        try:
            await self._pendings.sync()
        except OSError as error:
            self._complain(error)
            return
        for pending in batch:
            try:
                self._tags.settle(pending)
                pending.forget()
            except OSError as error:
                self._complain(error)
            else:
                self._waiting.remove(pending)
        if not self._waiting:
            self._complaint = ""

    def _complain(self, error: OSError) -> None:
        if f"{error.strerror}" != self._complaint:
            logger.error("what was pulled cannot be made durable, which is tried again and again: %s", error)
        self._complaint = f"{error.strerror}"

    async def _doubt(self, names: Sequence[str]) -> None:
        """Remove unpacked layers, those that stand on others first; they are unpacked again from their blobs."""
        left = list(names)
        while left:
            kept: dict[str, FailedPrecondition] = {}
            for name in left:
                try:
                    await self._snapshotter.remove(name)
                except FailedPrecondition as error:
                    kept[name] = error
            if len(kept) == len(left):
                for name, reason in kept.items():
                    logger.warning("the layer %s may have been torn by a power failure, and is kept: %s", name, reason)
                return
            left = list(kept)
