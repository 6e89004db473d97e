"""Removing what nothing references: mark from the roots, sweep the rest.

Roots are what names denote, what containers are made of, and what somebody holds (:class:`~ross.services.pins.Pins`). Whoever
brings content in pins it *before* looking whether it exists, and what becomes a root was reachable already or is pinned. So marks
stay true until something is pinned that is not among them; then they are made anew. Between asking whether they are true and taking
a thing out of the store's books, file and all, there is no await. So nothing is removed that a pull has found, and nothing is found
that is being removed; and a pull never waits for a collection.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

import trio
from attrs import frozen

from ross.errors import RossError
from ross.model.images import RemovedImages
from ross.model.snapshots import SnapshotKind, SnapshotOwner
from ross.oci.digest import Digest, chain_ids
from ross.oci.image import Manifest, parse_config, parse_manifest
from ross.services.snapshotter import committed_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

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
    content_unknown: bool = False
    """It cannot be read: while something references it, no content may go."""
    snapshots_unknown: bool = False
    """Its config cannot be read: no snapshot may go."""


@frozen(kw_only=True)
class _Marks:
    """What is reachable, and the rest, in the order in which it may go."""

    reached: frozenset[Digest]
    doomed: tuple[Digest | str, ...]


class Collector:
    """Collects, one collection at a time."""

    def __init__(self, *, store: ContentStore, snapshotter: Snapshotter, pins: Pins) -> None:
        self._store = store
        self._snapshotter = snapshotter
        self._pins = pins
        self._roots: list[Callable[[], Iterable[Digest]]] = [pins.held]
        self._lock = trio.Lock()
        self._learned: dict[Digest, _References] = {}

    def add_root(self, provider: Callable[[], Iterable[Digest]]) -> None:
        """Ask ``provider`` for digests that must stay, at each collection; it must not await. What it begins to name is
        pinned at that time, or was reachable before."""
        self._roots.append(provider)

    def roots(self) -> frozenset[Digest]:
        """What is kept for its own sake, now."""
        return frozenset(digest for provider in self._roots for digest in provider())

    def referenced(self) -> frozenset[Digest]:
        """All content, and all chain IDs, that may not go now. As far as documents were read: see :meth:`learn`."""
        return self._mark().reached

    async def garbage(self) -> tuple[Digest | str, ...]:
        """What the next collection would remove: content by digest, snapshots by name."""
        await self.learn()
        return self._mark().doomed

    async def collect(self) -> RemovedImages:
        """Remove what nothing references. What cannot be removed stays, with a warning, and keeps nothing else."""
        deleted: list[Digest] = []
        failed: set[Digest | str] = set()
        freed = 0
        async with self._lock:
            with self._store.space.room_to_remove(), self._pins.watch() as added:
                self._forget_broken()
                while True:
                    await self.learn()
                    marks = self._mark()
                    added.clear()
                    for doomed in marks.doomed:
                        if not added <= marks.reached:
                            break  # somebody has found, or is about to find, what we took for garbage
                        if doomed in failed:
                            continue
                        try:
                            freed += await self._remove(doomed)
                        except (OSError, RossError) as error:
                            logger.warning("%s cannot be removed, and stays: %s", doomed, error)
                            failed.add(doomed)
                        else:
                            if isinstance(doomed, Digest):
                                deleted.append(doomed)
                    else:
                        return RemovedImages(untagged=(), deleted=tuple(deleted), freed_bytes=freed)

    async def _remove(self, doomed: Digest | str) -> int:
        if isinstance(doomed, str):
            return await self._snapshotter.remove(doomed)
        return await self._store.remove_all(doomed)

    # -- learning -----------------------------------------------------------------------------------------------------

    async def learn(self) -> None:
        """Read the documents that are new: what each references. They never change, so each is read once."""
        while unread := [info.digest for info in self._store.manifests() if self._is_news(info.digest)]:
            for digest in unread:
                if self._store.find_manifest(digest) is not None:
                    found = await self._references(digest)
                    if self._store.find_manifest(digest) is not None:
                        self._learned[digest] = found
        for digest in [digest for digest in self._learned if self._store.find_manifest(digest) is None]:
            del self._learned[digest]

    def _is_news(self, digest: Digest) -> bool:
        known = self._learned.get(digest)
        return known is None or (known.waits_for is not None and self._store.find(known.waits_for) is not None)

    def _forget_broken(self) -> None:
        """What could not be read may have been repaired since."""
        for digest, known in tuple(self._learned.items()):
            if known.content_unknown or known.snapshots_unknown:
                del self._learned[digest]

    async def _references(self, digest: Digest) -> _References:
        try:
            document = parse_manifest(await self._store.read_manifest(digest), what=f"manifest {digest.short}")
        except (OSError, RossError) as error:
            if self._store.find_manifest(digest) is not None:  # else somebody has removed it meanwhile
                logger.warning("the manifest %s cannot be read: %s", digest, error)
            return _References(content_unknown=True, snapshots_unknown=True)
        if not isinstance(document, Manifest):
            return _References(content=frozenset(one.digest for one in document.manifests))
        content = frozenset([document.config.digest, *(layer.digest for layer in document.layers)])
        if self._store.find(document.config.digest) is None:
            return _References(content=content, waits_for=document.config.digest)
        try:
            config = parse_config(await self._store.read(document.config.digest), what="image config")
        except (OSError, RossError) as error:
            if self._store.find(document.config.digest) is None:
                return _References(content=content, waits_for=document.config.digest)
            logger.warning("the config %s cannot be read: %s", document.config.digest, error)
            return _References(content=content, snapshots_unknown=True)
        names = frozenset(committed_name(chain) for chain in chain_ids(config.rootfs.diff_ids))
        return _References(content=content, snapshots=names)

    # -- marking ------------------------------------------------------------------------------------------------------

    def _mark(self) -> _Marks:
        reached: set[Digest] = set()
        snapshots: set[str] = set()
        waiting = list(self.roots())
        content_known = snapshots_known = True
        waiting = list(self.roots())
        while waiting:
            digest = waiting.pop()
            if digest in reached:
                continue
            reached.add(digest)
            snapshots.add(committed_name(digest))  # a chain ID may be held by itself
            learned = self._learned.get(digest)
            if learned is not None and self._store.find_manifest(digest) is not None:
                snapshots |= learned.snapshots
                waiting.extend(learned.content)
                content_known &= not learned.content_unknown
                snapshots_known &= not learned.snapshots_unknown
        doomed: list[Digest | str] = []
        if snapshots_known:
            doomed += self._doomed_snapshots(snapshots)
        if content_known:
            present = dict.fromkeys(info.digest for info in (*self._store.manifests(), *self._store.blobs()))
            doomed += [digest for digest in present if digest not in reached]
        return _Marks(reached=frozenset(reached), doomed=tuple(doomed))

    def _doomed_snapshots(self, marked: set[str]) -> list[str]:
        """Those that nothing marks and nothing that stays stands on, each before what it stands on."""
        known = {info.name: info for info in self._snapshotter.list()}
        kept: set[str] = set()
        for info in known.values():
            name: str | None = info.name
            nobodys = info.owner is SnapshotOwner.NOBODY and info.kind is not SnapshotKind.STAGED
            if nobodys and info.name not in marked and not self._snapshotter.is_changing(info.name):
                continue
            while name is not None and name not in kept and name in known:
                kept.add(name)
                name = known[name].parent
        going = {name for name in known if name not in kept}
        standing = Counter(known[name].parent for name in going)
        ready = [name for name in going if not standing[name]]
        order: list[str] = []
        while ready:
            name = ready.pop()
            order.append(name)
            parent = known[name].parent
            if parent in going:
                standing[parent] -= 1
                if not standing[parent]:
                    ready.append(parent)
        return order
