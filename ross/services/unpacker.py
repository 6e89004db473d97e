"""Layers to committed snapshots, by chain ID: all at the same time.

Each layer is unpacked into a staged snapshot of its own, since an overlay layer needs no parent, by a worker process while its blob still
comes in. What it was unpacked from is verified at the end, blob and archive both; until then it is staged, and thrown away if it is not
what it should be. What does need the layers below is settled in chain order. When all are settled, one sync makes them durable (or
whoever asks sees to that) and they are committed, bottom first. Two pulls that share layers do not unpack them twice: the chain IDs are
claimed in chain order, so that of two pulls one always gets ahead.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import trio
from attrs import define, field, frozen

from ross.errors import Corrupt, Internal, RossError
from ross.linux.archive.apply import apply_layer
from ross.linux.archive.inflate import LayerBytes
from ross.linux.archive.limits import ArchiveLimits
from ross.linux.archive.settle import settle, settle_alone
from ross.linux.archive.workers import Workers
from ross.linux.mount import mount_overlay, unmount
from ross.model.images import BlobProgress, PullPhase
from ross.nursery.cleanup import bounded_cleanup
from ross.oci.digest import Digest, chain_ids
from ross.oci.image import Descriptor
from ross.services.arrival import Arrival
from ross.services.snapshotter import committed_name

if TYPE_CHECKING:
    from pathlib import Path

    from ross.linux.archive.applied import Applied
    from ross.services.snapshotter import Snapshotter
    from ross.services.store import ContentStore


logger = logging.getLogger(__name__)

_WORKER_FROM_BYTES: Final = 1 << 20
"""Packed. A smaller layer is unpacked before another process has begun."""


@frozen(kw_only=True)
class LayerSource:
    """A layer to unpack."""

    descriptor: Descriptor
    diff_id: Digest
    fetch: Callable[[], Awaitable[None]]
    """Returns when the verified blob is in the store."""
    arrival: Arrival | None = None
    """How far ``fetch`` has come, where it says so: the layer is unpacked meanwhile."""


@define
class _Work:
    """One layer of one unpacking."""

    source: LayerSource
    chain_id: Digest
    claimed: trio.Event = field(factory=trio.Event)
    ours: bool = False
    """Not there, and claimed by us."""
    fetched: trio.Event = field(factory=trio.Event)
    settled: trio.Event = field(factory=trio.Event)
    staged: str | None = None
    size_bytes: int = 0


@frozen
class Again:
    """A layer that was unpacked once more."""

    name: str
    """The staged snapshot."""
    directory_times: bool
    """Its directories have the times of change that they had the first time."""


class Unpacker:
    """Unpacks layers."""

    def __init__(self, *, store: ContentStore, snapshotter: Snapshotter, limits: ArchiveLimits | None = None) -> None:
        self._store = store
        self._snapshotter = snapshotter
        self._limits = limits or ArchiveLimits()
        self._claims: dict[Digest, trio.Event] = {}
        self._threads = trio.CapacityLimiter(max(2, os.cpu_count() or 1))
        self._workers = Workers()

    async def unpack(
        self, layers: Sequence[LayerSource], *, progress: Callable[[BlobProgress], None], durable: bool = True
    ) -> Digest | None:
        """Fetch and unpack what is missing.

        Args:
            layers: Bottom first.
            progress: Told of each layer's progress once its blob is there; called from worker threads too.
            durable: Wait for the disk; without it whoever calls has said what is to come (see ``ross.services.pending``).

        Returns:
            The chain ID of the top layer; None if there is no layer.

        Raises:
            Corrupt: a layer is damaged, hostile, or not what its diff ID promises. Nothing of it is kept.
            ResourceExhausted: the disk is full, or a limit was reached.
        """
        work = [
            _Work(source, chain_id)
            for source, chain_id in zip(layers, chain_ids(layer.diff_id for layer in layers), strict=True)
        ]
        try:
            async with self._workers.session(), trio.open_nursery() as nursery:
                nursery.start_soon(self._claim_all, work, name="claim layers")
                for index, layer in enumerate(work):
                    name = f"layer {layer.source.descriptor.digest.short}"
                    nursery.start_soon(self._unpack_layer, layer, work[:index], progress, name=name)
            await self._commit_all(work, durable=durable)
        finally:
            with bounded_cleanup(30, what="discarding unfinished layers"):
                await self._discard(work)
        return work[-1].chain_id if work else None

    @asynccontextmanager
    async def unpacked_again(self, layers: Sequence[LayerSource]) -> AsyncIterator[Again]:
        """Unpack the last of some layers once more, into a staged snapshot that goes with the block. Those below are there already.

        Raises:
            As :meth:`unpack`.
        """
        work = [
            _Work(source, chain_id)
            for source, chain_id in zip(layers, chain_ids(layer.diff_id for layer in layers), strict=True)
        ]
        layer, below = work[-1], work[:-1]
        try:
            async with self._workers.session():
                layer.fetched.set()
                applied = await self._apply(layer, lambda _progress: None)
            # What is told of as implied has the time at which it was made.
            exact = applied.root_carried and not applied.implied and not applied.pending_links
            await trio.to_thread.run_sync(self._settle, layer, below, applied, limiter=self._threads)
            yield Again(layer.staged or "", exact)
        finally:
            with bounded_cleanup(30, what="discarding a layer that was unpacked to be compared"):
                await self._snapshotter.remove(layer.staged or "")

    # -- claims -------------------------------------------------------------------------------------------------------

    async def _claim_all(self, work: Sequence[_Work]) -> None:
        for layer in work:
            name = committed_name(layer.chain_id)
            while self._snapshotter.find(name) is None:
                other = self._claims.get(layer.chain_id)
                if other is None:
                    self._claims[layer.chain_id] = trio.Event()
                    layer.ours = True
                    break
                await other.wait()
            layer.claimed.set()

    async def _discard(self, work: Sequence[_Work]) -> None:
        """Remove what did not get to its place, as far as that can be, and leave the layers to whoever waits for them in any case."""
        try:
            for layer in work:
                if layer.staged is not None:
                    await self._remove_staged(layer.staged)
        finally:
            for layer in work:
                if layer.ours:
                    self._claims.pop(layer.chain_id).set()

    async def _remove_staged(self, name: str) -> None:
        try:
            await self._snapshotter.remove(name)
        except (OSError, RossError) as error:
            logger.warning("%s cannot be removed, and stays until the next start: %s", name, error)

    # -- one layer ----------------------------------------------------------------------------------------------------

    async def _unpack_layer(
        self, layer: _Work, below: Sequence[_Work], progress: Callable[[BlobProgress], None]
    ) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_fetch, layer, name=f"fetch {layer.source.descriptor.digest.short}")
            await layer.claimed.wait()
            if layer.ours:
                applied = await self._apply(layer, progress)
                layer.size_bytes = applied.size_bytes
            await layer.fetched.wait()
        if below:
            await below[-1].settled.wait()
        if layer.ours:
            await trio.to_thread.run_sync(self._settle, layer, below, applied, limiter=self._threads)
        layer.settled.set()
        phase = PullPhase.DONE if layer.ours else PullPhase.EXISTS
        _report(progress, layer, phase, layer.source.descriptor.size)

    async def _apply(self, layer: _Work, progress: Callable[[BlobProgress], None]) -> Applied:
        """Unpack a layer into a snapshot that is staged for it, while its blob comes in if that pays."""
        arrival, size = layer.source.arrival, layer.source.descriptor.size
        if size < _WORKER_FROM_BYTES:
            await layer.fetched.wait()
            return await self._apply_here(layer, await self._stage(layer), progress)
        if arrival is None:
            await layer.fetched.wait()
            arrival = Arrival()
            arrival.finish()
        await arrival.begun()
        restarts = arrival.restarts
        try:
            return await self._apply_arriving(layer, arrival, progress)
        except (Corrupt, Internal) as error:
            # Whether the blob is what it should be is known only at its end, and is the better thing to be told.
            await layer.fetched.wait()  # noqa: ASYNC120 -- cancelled by a fetch that failed, whose error is the one to tell
            if arrival.restarts == restarts:
                raise
            logger.info("unpacking %s again, which was fetched anew: %s", layer.source.descriptor.digest, error)
        await self._snapshotter.remove(layer.staged or "")
        return await self._apply_arriving(layer, arrival, progress)

    def _require_space(self, layer: _Work) -> None:
        """See that the floor is not reached: asked while a layer is written, since nobody knows how much it unpacks to."""
        self._store.space.require(0, what=f"the layer {layer.source.descriptor.digest.short}")

    async def _stage(self, layer: _Work) -> Path:
        self._require_space(layer)
        staged = await self._snapshotter.stage()
        layer.staged = staged.name
        return self._snapshotter.files(staged.name)

    async def _apply_arriving(
        self, layer: _Work, arrival: Arrival, progress: Callable[[BlobProgress], None]
    ) -> Applied:
        size = layer.source.descriptor.size

        def report(packed: int) -> None:
            self._require_space(layer)
            if arrival.complete:  # until then the download is what is told of
                _report(progress, layer, PullPhase.UNPACKING, packed)

        async def arrivals(seen: int) -> int:
            self._require_space(layer)
            return await arrival.more_than(seen, size_bytes=size)

        target = await self._stage(layer)
        blob = await self._open_blob(layer, arrival)
        try:
            applied, found = await self._workers.apply(
                blob,
                target,
                size_bytes=size,
                algorithm=layer.source.diff_id.algorithm,
                limits=self._limits,
                arrivals=arrivals,
                progress=report,
            )
        finally:
            os.close(blob)
        _check(layer, found)
        return applied

    async def _open_blob(self, layer: _Work, arrival: Arrival) -> int:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
        if arrival.path is not None and not arrival.complete:
            with suppress(FileNotFoundError):
                return os.open(arrival.path, flags)
            # It is on its way to its place, or was thrown away to be fetched anew.
            await layer.fetched.wait()
        return os.open(self._store.path(layer.source.descriptor.digest), flags)

    async def _apply_here(self, layer: _Work, target: Path, progress: Callable[[BlobProgress], None]) -> Applied:
        """In a thread of this process: for a small layer, starting another would take longer than the whole."""

        def apply() -> Applied:
            blob = self._store.path(layer.source.descriptor.digest)
            algorithm = layer.source.diff_id.algorithm
            with LayerBytes(blob, limits=self._limits, algorithm=algorithm, progress=report) as source:
                applied = apply_layer(source, target, limits=self._limits, checkpoint=trio.from_thread.check_cancelled)
                _check(layer, source.hexdigest())
            return applied

        def report(packed: int) -> None:
            self._require_space(layer)
            _report(progress, layer, PullPhase.UNPACKING, packed)

        return await trio.to_thread.run_sync(apply, limiter=self._threads)

    def _settle(self, layer: _Work, below: Sequence[_Work], applied: Applied) -> None:
        assert layer.staged is not None  # noqa: S101 -- set by the only caller
        root = self._snapshotter.files(layer.staged)
        if not below:
            settle_alone(root, applied)
            return
        if applied.settled:
            return
        lower = [self._files(other) for other in reversed(below)]
        if len(lower) == 1:
            settle(root, lower[0], applied)
            return
        view = root.parent / f"view-{secrets.token_hex(4)}"
        view.mkdir(mode=0o700)
        mount_overlay(view, lower=lower, upper=None, work=None)
        try:
            settle(root, view, applied)
        finally:
            unmount(view)
            view.rmdir()

    def _files(self, layer: _Work) -> Path:
        return self._snapshotter.files(layer.staged or committed_name(layer.chain_id))

    async def _commit_all(self, work: Sequence[_Work], *, durable: bool) -> None:
        if not any(layer.ours for layer in work):
            return
        if durable:
            await self._snapshotter.sync()
        parent: str | None = None
        for layer in work:
            name = committed_name(layer.chain_id)
            if layer.ours and layer.staged is not None:
                await self._snapshotter.commit(
                    layer.staged, name, parent=parent, size_bytes=layer.size_bytes, durable=durable
                )
                layer.staged = None
            parent = name


async def _fetch(layer: _Work) -> None:
    await layer.source.fetch()
    layer.fetched.set()


def _check(layer: _Work, found: str) -> None:
    expected = layer.source.diff_id
    if found != expected.encoded:
        raise Corrupt(
            f"the layer {layer.source.descriptor.digest} unpacks to {expected.algorithm}:{found}, where the image's config "
            f"promises {expected}"
        )


def _report(progress: Callable[[BlobProgress], None], layer: _Work, phase: PullPhase, current: int) -> None:
    descriptor = layer.source.descriptor
    progress(BlobProgress(digest=descriptor.digest, phase=phase, current_bytes=current, total_bytes=descriptor.size))
