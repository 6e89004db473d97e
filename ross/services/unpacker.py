"""Layers to committed snapshots, by chain ID: in parallel, each as soon as its blob is there.

Each layer is unpacked into a staged snapshot of its own, since an overlay layer needs no parent. What does need the layers below is settled
in chain order. When all are settled, one sync makes them durable and they are committed, bottom first. Two pulls that share layers do not
unpack them twice: the chain IDs are claimed in chain order, so that of two pulls one always gets ahead.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import trio
from attrs import define, field, frozen

from ross.errors import Corrupt
from ross.linux.archive.apply import Applied, apply_layer
from ross.linux.archive.inflate import LayerBytes
from ross.linux.archive.limits import ArchiveLimits
from ross.linux.archive.settle import settle, settle_alone
from ross.linux.mount import mount_overlay, unmount
from ross.model import BlobProgress, PullPhase
from ross.nursery.cleanup import bounded_cleanup
from ross.oci.digest import Digest, chain_ids
from ross.oci.image import Descriptor
from ross.services.snapshotter import committed_name

if TYPE_CHECKING:
    from pathlib import Path

    from ross.services.snapshotter import Snapshotter
    from ross.services.store import ContentStore


@frozen(kw_only=True)
class LayerSource:
    """A layer to unpack."""

    descriptor: Descriptor
    diff_id: Digest
    fetch: Callable[[], Awaitable[None]]
    """Returns when the verified blob is in the store."""


@define
class _Work:
    """One layer of one unpacking."""

    source: LayerSource
    chain_id: Digest
    claimed: trio.Event = field(factory=trio.Event)
    ours: bool = False
    """Not there, and claimed by us."""
    settled: trio.Event = field(factory=trio.Event)
    staged: str | None = None
    size_bytes: int = 0


class Unpacker:
    """Unpacks layers."""

    def __init__(self, *, store: ContentStore, snapshotter: Snapshotter, limits: ArchiveLimits | None = None) -> None:
        self._store = store
        self._snapshotter = snapshotter
        self._limits = limits or ArchiveLimits()
        self._claims: dict[Digest, trio.Event] = {}
        self._threads = trio.CapacityLimiter(max(2, os.cpu_count() or 1))

    async def unpack(self, layers: Sequence[LayerSource], *, progress: Callable[[BlobProgress], None]) -> Digest | None:
        """Fetch and unpack what is missing.

        Args:
            layers: Bottom first.
            progress: Told of each layer's progress once its blob is there; called from worker threads too.

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
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._claim_all, work, name="claim layers")
                for index, layer in enumerate(work):
                    name = f"layer {layer.source.descriptor.digest.short}"
                    nursery.start_soon(self._unpack_layer, layer, work[:index], progress, name=name)
            await self._commit_all(work)
        finally:
            with bounded_cleanup(30, what="discarding unfinished layers"):
                await self._discard(work)
        return work[-1].chain_id if work else None

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
        for layer in work:
            if layer.staged is not None:
                await self._snapshotter.remove(layer.staged)
            if layer.ours:
                self._claims.pop(layer.chain_id).set()

    # -- one layer ----------------------------------------------------------------------------------------------------

    async def _unpack_layer(
        self, layer: _Work, below: Sequence[_Work], progress: Callable[[BlobProgress], None]
    ) -> None:
        await layer.source.fetch()
        await layer.claimed.wait()
        if layer.ours:
            staged = await self._snapshotter.stage()
            layer.staged = staged.name
            applied = await trio.to_thread.run_sync(
                self._apply, layer, self._snapshotter.files(staged.name), progress, limiter=self._threads
            )
            layer.size_bytes = applied.size_bytes
            if below:
                await below[-1].settled.wait()
            await trio.to_thread.run_sync(self._settle, layer, below, applied, limiter=self._threads)
        elif below:
            await below[-1].settled.wait()
        layer.settled.set()
        size = layer.source.descriptor.size
        phase = PullPhase.DONE if layer.ours else PullPhase.EXISTS
        progress(BlobProgress(digest=layer.source.descriptor.digest, phase=phase, current_bytes=size, total_bytes=size))

    def _apply(self, layer: _Work, target: Path, progress: Callable[[BlobProgress], None]) -> Applied:
        descriptor = layer.source.descriptor

        def report(packed: int) -> None:
            progress(
                BlobProgress(
                    digest=descriptor.digest,
                    phase=PullPhase.UNPACKING,
                    current_bytes=packed,
                    total_bytes=descriptor.size,
                )
            )

        blob = self._store.path(descriptor.digest)
        expected = layer.source.diff_id
        with LayerBytes(blob, limits=self._limits, algorithm=expected.algorithm, progress=report) as source:
            applied = apply_layer(source, target, limits=self._limits, checkpoint=trio.from_thread.check_cancelled)
            found = Digest(expected.algorithm, source.hexdigest())
        if found != expected:
            raise Corrupt(
                f"the layer {descriptor.digest} unpacks to {found}, where the image's config promises {expected}"
            )
        return applied

    def _settle(self, layer: _Work, below: Sequence[_Work], applied: Applied) -> None:
        assert layer.staged is not None  # noqa: S101 -- set by the only caller
        root = self._snapshotter.files(layer.staged)
        if not below:
            settle_alone(root, applied)
            return
        if applied.root_carried and not applied.implied and not applied.pending_links:
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

    async def _commit_all(self, work: Sequence[_Work]) -> None:
        if not any(layer.ours for layer in work):
            return
        await self._snapshotter.sync()
        parent: str | None = None
        for layer in work:
            name = committed_name(layer.chain_id)
            if layer.ours and layer.staged is not None:
                await self._snapshotter.commit(layer.staged, name, parent=parent, size_bytes=layer.size_bytes)
                layer.staged = None
            parent = name
