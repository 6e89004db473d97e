"""What the root occupies on its disk, and who for: every byte is somebody's, or is named as nobody's.

The tree is walked in a thread, once, and counted as du(1) does. What a file or directory is, is asked of the books before the walk and
behind it, so that what comes and goes meanwhile is not taken for a stranger.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import trio
from attrs import frozen

from ross.linux.usage import Meter
from ross.model.containers import ContainerFilter, ContainerInfo, ContainerState
from ross.model.snapshots import SnapshotKind, SnapshotOwner
from ross.model.storage import DiskUsage, UsageItem, UsageRow
from ross.oci.digest import chain_ids
from ross.services.snapshotter import committed_name
from ross.services.spool import SPOOL_PREFIX

if TYPE_CHECKING:
    from pathlib import Path

    from ross.layout import StateLayout
    from ross.model.snapshots import SnapshotInfo
    from ross.services.containers import Containers
    from ross.services.image import Image
    from ross.services.images import Images
    from ross.services.snapshotter import Snapshotter
    from ross.services.store import ContentStore

logger = logging.getLogger(__name__)

MAX_ITEMS: Final = 2000
"""Of each kind, in what is told thing by thing; the rest is summed up."""
AT_REST: Final = frozenset({ContainerState.CREATED, ContainerState.STOPPED})
"""States in which nothing of a container runs."""
_IMAGES: Final = frozenset({"blob", "manifest", "snapshot"})
_DOWNLOADS: Final = frozenset({"ingest", "unpacking"})
_NAMES_DEPTH: Final = 64
"""How deep names may lie; what lies deeper is no name."""


@frozen(order=True)
class _Thing:
    """What bytes are for."""

    kind: str
    name: str


@frozen(kw_only=True)
class _Parts:
    """An image, and the paths below the root of what it is made of."""

    name: str
    paths: frozenset[str]
    users: int


@frozen
class _Found:
    """What was found: bytes by path below the root, and the directories that only hold those."""

    sizes: Mapping[str, int]
    things: Mapping[str, _Thing]
    directories: int
    unmeasured: Sequence[str]
    """Paths of what could not be measured, whose size is 0."""

    def total(self, *kinds: str) -> int:
        return sum(size for path, size in self.sizes.items() if self.things[path].kind in kinds)

    def names(self, *kinds: str) -> set[str]:
        return {self.things[path].name for path in self.sizes if self.things[path].kind in kinds}


class Usage:
    """Measures the root."""

    def __init__(
        self,
        *,
        layout: StateLayout,
        store: ContentStore,
        snapshotter: Snapshotter,
        images: Images,
        containers: Containers,
    ) -> None:
        self._layout = layout
        self._store = store
        self._snapshotter = snapshotter
        self._images = images
        self._containers = containers
        self._turn = trio.Lock()

    async def measure(self, *, items: bool = False) -> DiskUsage:
        """Measure everything, one measurement at a time. With ``items`` also thing by thing."""
        found = await self._look()
        images = [self._parts(image) for image in self._images.known()]
        return DiskUsage(
            root=str(self._layout.root),
            rows=self._rows(found, images),
            items=(*_image_items(found, images), *_thing_items(found, images)) if items else (),
            total_bytes=sum(found.sizes.values()) + found.directories,
            free_bytes=self._store.space.free_bytes(),
            unmeasured=tuple(printable(path) for path in sorted(found.unmeasured)),
        )

    async def strangers(self) -> frozenset[str]:
        """The paths below the root of what nobody knows."""
        found = await self._look()
        return frozenset(path for path, thing in found.things.items() if thing.kind == "unknown")

    def knows(self, path: str) -> bool:
        """Whether something below the root is somebody's, by its path from there."""
        return path in self._books()

    async def _look(self) -> _Found:
        async with self._turn:
            before = self._books()
            walk = _Walk(self._layout)
            directories = await trio.to_thread.run_sync(walk.run)
            after = self._books()
        things = {path: after.get(path) or before.get(path) or self._by_path(path) for path in walk.sizes}
        return _Found(walk.sizes, things, directories, walk.unmeasured)

    def _by_path(self, path: str) -> _Thing:
        """What no book has: archives on their way in are known by their place."""
        spooled = path.startswith(f"{self._layout.ingests.name}/{SPOOL_PREFIX}")
        return _Thing("ingest" if spooled else "unknown", printable(path))

    async def measure_container(self, container_id: str) -> int:
        """What one container occupies; 0 where that cannot be told."""

        def walk() -> int:
            places = (self._layout.containers, self._layout.snapshots)
            return sum(_measure(place, container_id) for place in places)

        try:
            return await trio.to_thread.run_sync(walk)
        except OSError as error:
            logger.warning("the files of the container %s cannot be measured: %s", container_id[:12], error)
            return 0

    # -- what there should be -----------------------------------------------------------------------------------------

    def _books(self) -> dict[str, _Thing]:
        """What is known to be there, by its path below the root."""
        layout = self._layout
        known = {layout.trash: _Thing("trash", "trash")}
        known |= {layout.blob(one.digest): _Thing("blob", str(one.digest)) for one in self._store.blobs()}
        known |= {layout.manifest(one.digest): _Thing("manifest", str(one.digest)) for one in self._store.manifests()}
        for info in self._snapshotter.list():
            known[layout.snapshot(info.name)] = _Thing(_snapshot_kind(info), info.name)
        for container in self._containers.list(ContainerFilter(all=True)):
            known[layout.container(container.id).directory] = _Thing("container", container.id)
        for digest in self._store.ingests.digests():
            known[self._store.ingests.path(digest)] = _Thing("ingest", str(digest))
        for key in self._store.ingests.busy_directories():
            known[layout.ingest(key)] = _Thing("ingest", key)
        for path in (
            layout.lock,
            layout.format,
            layout.epoch,
            layout.reserve,
            layout.pending,
            layout.init_layer,
            layout.snapshots / "empty",
        ):
            known[path] = _Thing("record", path.name)
        for record in self._store.labels.all():
            known[self._store.labels.path(record.digest)] = _Thing("record", f"labels of {record.digest}")
        for path in self._images.tags.files():
            known[path] = _Thing("record", str(path.relative_to(layout.tags)))
        return {str(path.relative_to(layout.root)): thing for path, thing in known.items()}

    def _parts(self, image: Image) -> _Parts:
        layout, manifest = self._layout, image.manifest
        paths = [layout.manifest(image.digest), layout.manifest(image.target), layout.blob(manifest.config.digest)]
        paths += [layout.blob(layer.digest) for layer in manifest.layers]
        paths += [layout.snapshot(committed_name(chain)) for chain in chain_ids(image.config.rootfs.diff_ids)]
        names = image.info.names
        return _Parts(
            name=names[0] if names else str(image.digest),
            paths=frozenset(str(path.relative_to(layout.root)) for path in paths),
            users=len(self._images.used_by(image.digest)),
        )

    # -- adding up ----------------------------------------------------------------------------------------------------

    def _rows(self, found: _Found, images: Sequence[_Parts]) -> tuple[UsageRow, ...]:
        containers = self._containers.list(ContainerFilter(all=True))
        resting = {container.id for container in containers if container.state in AT_REST}
        idle = {str(digest) for digest in self._store.ingests.digests() if not self._store.ingests.is_busy(digest)}
        used = {path for image in images if image.users for path in image.paths}
        spare = busy_bytes = idle_bytes = 0
        for path, size in found.sizes.items():
            thing = found.things[path]
            spare += size if thing.kind in _IMAGES and path not in used else 0
            busy_bytes += size if thing.kind == "container" and thing.name in resting else 0
            idle_bytes += size if thing.kind == "ingest" and thing.name in idle else 0
        downloads, records = found.names(*_DOWNLOADS), found.names("record")
        active = sum(image.users > 0 for image in images)
        return (
            _row("images", len(images), active, found.total(*_IMAGES), spare),
            _row(
                "containers",
                len(containers),
                _running(containers),
                found.total("container", "client snapshot"),
                busy_bytes,
            ),
            _row("snapshots", len(found.names("client's")), len(found.names("client's")), found.total("client's"), 0),
            _row("downloads", len(downloads), len(downloads - idle), found.total(*_DOWNLOADS), idle_bytes),
            _row("records", len(records), len(records), found.total("record") + found.directories, 0),
            _row("trash", len(found.names("trash")), 0, found.total("trash"), 0),
            _row("unknown", len(found.names("unknown")), 0, found.total("unknown"), 0),
        )


class _Walk:
    """One look at everything in the root, down to where the books name things. Blocks; made for a thread."""

    def __init__(self, layout: StateLayout) -> None:
        self._layout = layout
        self._meter = Meter(layout.root.stat().st_dev, checkpoint=trio.from_thread.check_cancelled)
        self.sizes: dict[str, int] = {}
        """By path below the root."""
        self.unmeasured: list[str] = []
        """Those paths that could not be measured: their size is 0."""

    def run(self) -> int:
        """Look. Returns what the directories occupy that only hold things."""
        layout = self._layout
        depths = {
            layout.blobs: 2,
            layout.manifests: 2,
            layout.snapshots: 1,
            layout.containers: 1,
            layout.ingests: 1,
            layout.labels: 1,
        }
        depths[layout.tags] = _NAMES_DEPTH
        own = self._meter.own(layout.root.stat())
        return own + sum(self._descend(path, depths.get(path, 0)) for path in layout.root.iterdir())

    def _descend(self, path: Path, depth: int) -> int:
        """Measure a thing; or, so many levels above the things, each of what is in a directory. Returns the directory's own."""
        if not depth or path.is_symlink() or not path.is_dir():
            self._measure(path)
            return 0
        try:
            total = self._meter.own(path.lstat())
            inside = list(path.iterdir())
        except FileNotFoundError:
            return 0
        return total + sum(self._descend(child, depth - 1) for child in inside)

    def _measure(self, path: Path) -> None:
        inside = str(path.relative_to(self._layout.root))
        try:
            self.sizes[inside] = _measure_with(self._meter, path.parent, path.name)
        except OSError as error:  # one thing that cannot be measured does not keep all others from being told
            logger.warning("%s cannot be measured: %s", path, error)
            self.sizes[inside] = 0
            self.unmeasured.append(inside)


def printable(path: str) -> str:
    """A path that can be told: what is not text in it is replaced."""
    return os.fsencode(path).decode(errors="replace")


def _row(kind: str, total: int, active: int, size_bytes: int, reclaimable_bytes: int) -> UsageRow:
    return UsageRow(kind=kind, total=total, active=active, size_bytes=size_bytes, reclaimable_bytes=reclaimable_bytes)


def _running(containers: Sequence[ContainerInfo]) -> int:
    return sum(container.state not in AT_REST for container in containers)


def _snapshot_kind(info: SnapshotInfo) -> str:
    """Those of containers are theirs; what clients make and read is in use, as containers are."""
    if info.kind is SnapshotKind.STAGED:
        return "unpacking"
    if info.owner is SnapshotOwner.CONTAINER:
        return "container"
    return "snapshot" if info.owner is SnapshotOwner.NOBODY else "client snapshot"


def _image_items(found: _Found, images: Sequence[_Parts]) -> list[UsageItem]:
    """Each image: what it is made of, and how much of that others are made of too."""
    users = Counter(path for image in images for path in image.paths)
    return [
        UsageItem(
            kind="image",
            name=image.name,
            size_bytes=sum(found.sizes.get(path, 0) for path in image.paths),
            shared_bytes=sum(found.sizes.get(path, 0) for path in image.paths if users[path] > 1),
            users=image.users,
        )
        for image in images[:MAX_ITEMS]
    ]


def _thing_items(found: _Found, images: Sequence[_Parts]) -> list[UsageItem]:
    """Each thing on the disk, the largest of each kind first: their sizes add up to the whole."""
    users = Counter(path for image in images for path in image.paths)
    sizes, links = Counter[_Thing](), Counter[_Thing]()
    for path, size in found.sizes.items():
        sizes[found.things[path]] += size
        links[found.things[path]] = max(links[found.things[path]], users[path])
    items = []
    for kind in sorted({thing.kind for thing in sizes}):
        ordered = sorted(
            (thing for thing in sizes if thing.kind == kind), key=lambda thing: (-sizes[thing], thing.name)
        )
        for thing in ordered[:MAX_ITEMS]:
            shared = sizes[thing] if links[thing] > 1 else 0
            items.append(_item(thing, sizes[thing], shared_bytes=shared, users=links[thing]))
        rest = ordered[MAX_ITEMS:]
        if rest:
            items.append(_item(_Thing(kind, f"{len(rest)} more"), sum(sizes[thing] for thing in rest)))
    return items


def _item(thing: _Thing, size_bytes: int, *, shared_bytes: int = 0, users: int = 0) -> UsageItem:
    return UsageItem(kind=thing.kind, name=thing.name, size_bytes=size_bytes, shared_bytes=shared_bytes, users=users)


def _measure(place: Path, name: str) -> int:
    try:
        meter = Meter(place.stat().st_dev, checkpoint=trio.from_thread.check_cancelled)
    except FileNotFoundError:
        return 0
    return _measure_with(meter, place, name)


def _measure_with(meter: Meter, place: Path, name: str) -> int:
    try:
        parent = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        return meter.tree(parent, name)
    finally:
        os.close(parent)
