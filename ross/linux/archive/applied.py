"""What was applied of a layer, and what is left to settle: it is known from the archive alone, and done when there are layers below."""

from __future__ import annotations

from typing import Final

from attrs import define, field

from ross.errors import ResourceExhausted

_NAME_BYTES: Final = 64
"""What a name that is left to settle takes beside its length, about."""


@define
class Applied:
    """What was applied, and what is left to settle."""

    entries: int = 0
    size_bytes: int = 0
    root_carried: bool = False
    """The archive has an entry for its own root."""
    implied: set[bytes] = field(factory=set)
    """Directories, by their resolved path in the layer, that entries need and that have no entry."""
    pending_links: dict[bytes, bytes] = field(factory=dict)
    """Hard links to what is not in this layer: their path, and that of their target."""
    whiteouts: set[bytes] = field(factory=set)
    """Names that the layer takes away, whether or not a lower one has them."""
    root_opaque: bool = False
    """Nothing of the layers below is left."""

    @property
    def settled(self) -> bool:
        """Nothing is left to settle, whatever is below."""
        return self.root_carried and not (self.implied or self.pending_links or self.whiteouts or self.root_opaque)


class Unsettled:
    """Notes what is left to settle, as long as there is room for it in memory. What does not fit is not noted.

    Each of its methods raises:
        ResourceExhausted: there is no room.
    """

    def __init__(self, applied: Applied, *, limit_bytes: int) -> None:
        self._applied = applied
        self._left_bytes = limit_bytes

    def directory(self, path: bytes) -> None:
        """An entry needs a directory that has none itself."""
        self._take(path)
        self._applied.implied.add(path)

    def link(self, path: bytes, target: bytes) -> None:
        """A hard link leads to what is not in this layer."""
        self._take(path, target)
        self._applied.pending_links[path] = target

    def whiteout(self, path: bytes, hidden: bytes) -> None:
        """An entry, at ``path``, takes the name ``hidden`` away."""
        self._take(path)
        self._applied.whiteouts.add(hidden)

    def _take(self, *names: bytes) -> None:
        self._left_bytes -= sum(map(len, names)) + _NAME_BYTES
        if self._left_bytes < 0:
            raise ResourceExhausted(
                "the layer has more whiteouts, links to other layers and directories without an entry than Ross keeps in memory, "
                "which is refused"
            )
