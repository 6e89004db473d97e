"""Holding content against collection while somebody works with it, without a record on disk."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ross.oci.digest import Digest


class Pin:
    """Some digests that are held until this is released. Made by :meth:`Pins.hold`."""

    def __init__(self, counts: Counter[Digest], watchers: list[set[Digest]]) -> None:
        self._counts = counts
        self._watchers = watchers
        self._digests: list[Digest] = []
        self._released = False

    def __enter__(self) -> Pin:
        return self

    def __exit__(self, *_details: object) -> None:
        self.release()

    def add(self, digest: Digest) -> None:
        """Hold one more. Do so before looking whether the content exists: from here on it stays."""
        if not self._released:
            self._counts[digest] += 1
            self._digests.append(digest)
            for added in self._watchers:
                added.add(digest)

    def release(self) -> None:
        """Let go. Neither awaits nor raises, and does nothing the second time."""
        self._released = True
        while self._digests:
            digest = self._digests.pop()
            self._counts[digest] -= 1
            if not self._counts[digest]:
                del self._counts[digest]


class Pins:
    """All that is held: manifests, blobs, and the chain ids of committed snapshots."""

    def __init__(self) -> None:
        self._counts: Counter[Digest] = Counter()
        self._watchers: list[set[Digest]] = []

    def hold(self, *digests: Digest) -> Pin:
        """Hold these, and what is added later, until the pin is released."""
        pin = Pin(self._counts, self._watchers)
        for digest in digests:
            pin.add(digest)
        return pin

    def held(self) -> frozenset[Digest]:
        """Everything that somebody holds now."""
        return frozenset(self._counts)

    @contextmanager
    def watch(self) -> Iterator[set[Digest]]:
        """Yield a set that gets what is held from now on, released again or not."""
        added: set[Digest] = set()
        self._watchers.append(added)
        try:
            yield added
        finally:
            self._watchers[:] = [one for one in self._watchers if one is not added]
