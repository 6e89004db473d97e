"""The reference model of layers: what a root filesystem is, after so many changesets (image-spec, layer.md).

A tree is a dictionary from paths to nodes, and each entry changes it in the order of the archive; nothing here knows of overlays, files or
descriptors. Engines that unpack each layer by itself, as Ross does, must come to the same tree.

Two exceptions say where honest engines part ways, and a generator leaves such entries out: :class:`Refused`, what an engine must refuse;
:class:`Ambiguous`, what only an archive that nobody's tools write can contain, and where the order of the entries of one layer, or their
being unpacked without the layers below, decides.
"""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterable, Iterator
from typing import Final

from attrs import define, evolve, field, frozen

Path = tuple[bytes, ...]
MAX_LINKS: Final = 40
WHITEOUT: Final = b".wh."
OPAQUE: Final = b".wh..wh..opq"


class Kind(enum.Enum):
    """What an entry makes."""

    FILE = b"0"
    HARD_LINK = b"1"
    SYMLINK = b"2"
    CHARACTER = b"3"
    BLOCK = b"4"
    DIRECTORY = b"5"
    FIFO = b"6"


class Refused(Exception):
    """No engine may take this entry."""


class Ambiguous(Exception):
    """Engines may differ about this entry."""


@frozen(kw_only=True)
class TarEntry:
    """One member of a layer."""

    path: Path
    kind: Kind
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0
    data: bytes = field(default=b"", repr=lambda data: f"<{len(data)} bytes>")
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[bytes, bytes] = field(factory=dict)


@frozen(kw_only=True)
class Node:
    """What is under a name. Compared as a whole with what is found on disk."""

    kind: Kind
    mode: int
    uid: int
    gid: int
    mtime_ns: int | None
    """None where nobody says: a directory that was only implied."""
    data: bytes = field(default=b"", repr=lambda data: f"<{len(data)} bytes {data[:16]!r}>")
    link: bytes = b""
    device: tuple[int, int] = (0, 0)
    xattrs: dict[bytes, bytes] = field(factory=dict)
    names: frozenset[Path] = frozenset()
    """All names of this file, if it has several."""


@define
class _Held:
    """A node in the making."""

    node: Node
    layer: int
    """The last one that has an entry for it."""
    identity: int
    """Hard links share it."""


IMPLIED: Final = Node(kind=Kind.DIRECTORY, mode=0o755, uid=0, gid=0, mtime_ns=None)


@define
class LayerModel:
    """A root filesystem that grows by entries. ``begin_layer`` comes before the first one."""

    _tree: dict[Path, _Held] = field(factory=lambda: {(): _Held(IMPLIED, -1, 0)})
    _layer: int = -1
    _identities: Iterator[int] = field(factory=lambda: itertools.count(1))
    _lower: dict[Path, Kind] = field(factory=dict)
    """What the layers below have."""
    _through: set[Path] = field(factory=set)
    """What this layer needs of lower ones: links through which it has written, and where they led; directories with whiteouts."""
    _by_link: dict[Path, bool] = field(factory=dict)
    """Of this layer's own names, whether its entry came by way of a link of lower layers."""
    _linked_below: set[Path] = field(factory=set)
    """Names of, and targets in, lower layers that hard links of this layer have made and used."""

    def begin_layer(self) -> None:
        self._layer += 1
        self._lower = {path: held.node.kind for path, held in self._tree.items()}
        self._through.clear()
        self._linked_below.clear()
        self._by_link.clear()

    def apply(self, entry: TarEntry) -> None:
        """Change the tree as the entry says.

        Raises:
            Refused, Ambiguous: nothing was changed.
        """
        tree = {path: evolve(held) for path, held in self._tree.items()}
        before = tree, set(self._through), set(self._linked_below), dict(self._by_link)
        try:
            self._apply(entry)
        except (Refused, Ambiguous):
            self._tree, self._through, self._linked_below, self._by_link = before
            raise

    def nodes(self) -> dict[Path, Node]:
        """The tree, with all names of each file."""
        names: dict[int, set[Path]] = {}
        for path, held in self._tree.items():
            names.setdefault(held.identity, set()).add(path)
        return {
            path: evolve(
                held.node, names=frozenset(names[held.identity]) if len(names[held.identity]) > 1 else frozenset()
            )
            for path, held in self._tree.items()
        }

    def find(self, path: Path) -> Node | None:
        """What is under a name, links on the way not followed."""
        held = self._tree.get(path)
        return held.node if held else None

    def is_lower(self, path: Path) -> bool:
        """Whether what is under a name is that of a lower layer, with all that is in it."""
        return path in self._tree and all(self._tree[one].layer < self._layer for one in (path, *self._inside(path)))

    # -- entries ------------------------------------------------------------------------------------------------------

    def _apply(self, entry: TarEntry) -> None:
        if not entry.path:
            if entry.kind is not Kind.DIRECTORY:
                raise Refused
            self._tree[()] = _Held(_node(entry), self._layer, 0)
            return
        *above, base = entry.path
        directory, by_link = self._directory(above)
        if base.startswith(WHITEOUT) and self._tree[directory].layer < self._layer:
            self._through.add(directory)  # it is needed, although no entry of this layer makes it
        if base == OPAQUE:
            self._hide_below(directory)
            return
        path = (*directory, base.removeprefix(WHITEOUT))
        self._check_ways(path, directory=entry.kind is Kind.DIRECTORY, by_link=by_link)
        if base.startswith(WHITEOUT):
            self._white_out(path)
        elif entry.kind is Kind.HARD_LINK:
            self._hard_link(entry, path)
        else:
            self._put(entry, path)
        self._by_link[path] = by_link

    def _put(self, entry: TarEntry, path: Path) -> None:
        held = self._tree.get(path)
        if held is None or held.node.kind is not Kind.DIRECTORY or entry.kind is not Kind.DIRECTORY:
            self._check_order(path)
            self._remove(path)
        self._tree[path] = _Held(_node(entry), self._layer, next(self._identities))

    def _hard_link(self, entry: TarEntry, path: Path) -> None:
        *above, base = split(entry.link)
        target = (*self._directory(above, make=False)[0], base)
        held = self._tree.get(target)
        if held is None or held.node.kind is Kind.DIRECTORY:
            raise Refused
        if target == path:
            raise Ambiguous
        self._check_order(path)
        if held.layer < self._layer:
            if held.node.kind is not Kind.FILE:
                raise Refused  # only a regular file is copied up
            # Its other names stay with the layers below, as on any overlay: the two are a file of this layer now.
            held = self._tree[target] = _Held(held.node, self._layer, next(self._identities))
            self._linked_below |= {path, target}
        elif target in self._linked_below:
            self._linked_below.add(path)
        self._remove(path)
        self._tree[path] = _Held(held.node, self._layer, held.identity)

    def _white_out(self, path: Path) -> None:
        if path[-1] in {b"", b".", b".."}:
            raise Refused
        self._check_order(path)
        held = self._tree.get(path)
        if held is None:
            return
        if held.layer == self._layer:
            self._hide_below(path)  # the name is this layer's own: what is meant is below
        elif any(self._tree[inner].layer == self._layer for inner in self._inside(path)):
            raise Ambiguous
        else:
            self._remove(path)

    def _hide_below(self, directory: Path) -> None:
        """Take away what lower layers have in a directory."""
        own = {path for path in self._inside(directory) if self._tree[path].layer == self._layer}
        if own & self._linked_below:
            raise Ambiguous  # a lower file that this layer has linked to: it is hidden, or this layer's own by now
        for path in own:
            if any(self._tree[path[:end]].layer < self._layer for end in range(len(directory) + 1, len(path))):
                raise Ambiguous  # below a directory that goes, and that it needs
        for path in self._inside(directory):
            if path not in own:
                self._check_order(path)
                self._tree.pop(path)

    # -- the tree -----------------------------------------------------------------------------------------------------

    def _check_order(self, path: Path) -> None:
        for used in self._through | self._linked_below:
            if used[: len(path)] == path:
                raise Ambiguous

    def _check_ways(self, path: Path, *, directory: bool, by_link: bool) -> None:
        """One name of a layer, reached in two ways: directly, and by a link of which the layer need not know."""
        above = (path[:end] for end in range(1, len(path) + 1))
        if any(self._by_link.get(one, by_link) is not by_link for one in above):
            raise Ambiguous
        if directory and by_link and any(not self._by_link.get(inner, True) for inner in self._inside(path)):
            raise Ambiguous

    def _inside(self, directory: Path) -> list[Path]:
        return [path for path in self._tree if len(path) > len(directory) and path[: len(directory)] == directory]

    def _remove(self, path: Path) -> None:
        for inner in self._inside(path):
            del self._tree[inner]
        self._tree.pop(path, None)

    def _directory(self, components: Iterable[bytes], *, make: bool = True) -> tuple[Path, bool]:
        """Where these components lead, following links inside the tree; what is missing is implied.

        Returns:
            The directory, and whether the way led over a link of lower layers.
        """
        waiting = list(components)[::-1]
        here: Path = ()
        links = 0
        fresh: set[Path] = set()
        lower_until: int | None = None  # while more than so many wait, the way leads along a link of lower layers
        through_lower = False
        while waiting:
            name = waiting.pop()
            along_lower = lower_until is not None and len(waiting) >= lower_until
            if name in {b"", b"."}:
                continue
            if name == b"..":
                if through_lower or here in fresh:
                    raise Ambiguous  # by what is written, or by where it leads
                here = here[:-1]
                continue
            path = (*here, name)
            held = self._tree.get(path)
            if along_lower and self._lower.get(path) is not (held.node.kind if held else None):
                raise Ambiguous  # this layer has changed where the link leads
            if held is None:
                if not make or along_lower:
                    raise Refused
                self._tree[path] = _Held(IMPLIED, self._layer, next(self._identities))
                fresh.add(path)
            elif held.node.kind is Kind.SYMLINK:
                links += 1
                if links > MAX_LINKS:
                    raise Refused
                if held.layer < self._layer:
                    through_lower = True
                    lower_until = min(len(waiting), len(waiting) if lower_until is None else lower_until)
                    if make:
                        self._through.add(path)
                if held.node.link.startswith(b"/"):
                    here = ()
                waiting.extend(held.node.link.split(b"/")[::-1])
                continue
            elif held.node.kind is not Kind.DIRECTORY:
                raise Refused
            here = path
        if through_lower and make:
            self._through.add(here)
        return here, through_lower


def split(path: bytes) -> Path:
    """The parts of an entry's name."""
    parts = tuple(part for part in path.split(b"/") if part not in {b"", b"."})
    if not parts or b".." in parts:
        raise Refused
    return parts


def _node(entry: TarEntry) -> Node:
    kept = {
        name: value
        for name, value in entry.xattrs.items()
        if name.startswith((b"user.", b"security.capability")) and not name.startswith(b"user.overlay.")
    }
    return Node(
        kind=entry.kind,
        mode=entry.mode if entry.kind is not Kind.SYMLINK else 0o777,
        uid=entry.uid,
        gid=entry.gid,
        mtime_ns=entry.mtime_ns,
        data=entry.data,
        link=entry.link if entry.kind is Kind.SYMLINK else b"",
        device=entry.device,
        xattrs=kept if entry.kind in {Kind.FILE, Kind.DIRECTORY} else {},
    )
