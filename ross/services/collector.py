"""Removing what nothing references: mark from the roots, sweep the rest.

Roots are what names denote, what containers are made of, and what somebody holds (:class:`~ross.services.pins.Pins`). Whoever
brings content in pins it *before* looking whether it exists; and between reading the roots and taking a thing out of the store's
books there is no await. So nothing is removed that a pull has found, and nothing is found that is being removed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import trio
from attrs import frozen

from ross.errors import RossError
from ross.model import RemovedImages
from ross.oci.codec import read_document
from ross.oci.digest import Digest, chain_ids
from ross.oci.image import ImageConfig, Manifest, parse_manifest
from ross.services.snapshotter import SnapshotKind, committed_name

if TYPE_CHECKING:
    from ross.services.pins import Pins
    from ross.services.snapshotter import Snapshotter
    from ross.services.store import ContentStore

logger = logging.getLogger(__name__)


@frozen(kw_only=True)
class _References:
    """What a manifest or index keeps."""

    content: frozenset[Digest] = frozenset()
    snapshots: frozenset[str] = frozenset()
    waits_for: Digest | None = None
    """The config that was not there yet, and says which snapshots."""


class Collector:
    """Collects, one collection at a time."""

    def __init__(self, *, store: ContentStore, snapshotter: Snapshotter, pins: Pins) -> None:
        self._store = store
        self._snapshotter = snapshotter
        self._roots: list[Callable[[], Iterable[Digest]]] = [pins.held]
        self._lock = trio.Lock()
        self._learned: dict[Digest, _References] = {}

    def add_root(self, provider: Callable[[], Iterable[Digest]]) -> None:
        """Ask ``provider`` for digests that must stay, at each collection; it must not await."""
        self._roots.append(provider)

    def roots(self) -> frozenset[Digest]:
        """What is kept for its own sake, now."""
        return frozenset(digest for provider in self._roots for digest in provider())

    async def collect(self) -> RemovedImages:
        """Remove what nothing references."""
        deleted: list[Digest] = []
        freed = 0
        async with self._lock:
            while True:
                await self._learn()
                doomed = self._next_doomed()
                if doomed is None:
                    return RemovedImages(untagged=(), deleted=tuple(deleted), freed_bytes=freed)
                if isinstance(doomed, str):
                    freed += await self._snapshotter.remove(doomed)
                else:
                    deleted.append(doomed)
                    freed += await self._store.remove_manifest(doomed) + await self._store.remove(doomed)

    async def _learn(self) -> None:
        """Read the documents that are new: what each references. They never change, so each is read once."""
        for info in self._store.manifests():
            known = self._learned.get(info.digest)
            if known is None or (known.waits_for is not None and self._store.find(known.waits_for) is not None):
                try:
                    self._learned[info.digest] = await self._references(info.digest)
                except RossError as error:
                    logger.warning("the manifest %s cannot be read, and keeps nothing: %s", info.digest, error)
                    self._learned[info.digest] = _References()

    async def _references(self, digest: Digest) -> _References:
        document = parse_manifest(await self._store.read_manifest(digest), what=f"manifest {digest.short}")
        if not isinstance(document, Manifest):
            return _References(content=frozenset(one.digest for one in document.manifests))
        content = frozenset([document.config.digest, *(layer.digest for layer in document.layers)])
        if self._store.find(document.config.digest) is None:
            return _References(content=content, waits_for=document.config.digest)
        config = read_document(await self._store.read(document.config.digest), ImageConfig, what="image config")
        names = frozenset(committed_name(chain) for chain in chain_ids(config.rootfs.diff_ids))
        return _References(content=content, snapshots=names)

    def _next_doomed(self) -> Digest | str | None:
        """Something that nothing references *now*. It is asked anew after every removal, since that awaits."""
        marked, snapshots = self._mark()
        known = {info.name: info for info in self._snapshotter.list()}
        parents = {info.parent for info in known.values()}
        for info in known.values():
            if info.kind is SnapshotKind.COMMITTED and info.name not in snapshots and info.name not in parents:
                return info.name
        for blob in (*self._store.manifests(), *self._store.blobs()):
            if blob.digest not in marked:
                return blob.digest
        return None

    def _mark(self) -> tuple[set[Digest], set[str]]:
        marked: set[Digest] = set()
        snapshots: set[str] = set()
        waiting = list(self.roots())
        while waiting:
            digest = waiting.pop()
            if digest in marked:
                continue
            marked.add(digest)
            snapshots.add(committed_name(digest))  # a chain ID may be held by itself
            learned = self._learned.get(digest)
            if learned is not None and self._store.find_manifest(digest) is not None:
                snapshots |= learned.snapshots
                waiting.extend(learned.content)
        return marked, snapshots
