"""What clients may do with snapshots: look at all of them, build upon what is committed, and change what is their own.

A snapshot that a client makes is recorded as a client's before it exists, so that neither start-up nor the collector takes it for
forgotten; it stays until a client removes it. What an image or a container owns is theirs to commit and remove. The names that these
use are not given to clients: nobody can pass off files of his own as the layer of an image that is yet to be pulled.
"""

from __future__ import annotations

import os
import re
from contextlib import closing, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Final

import trio
from attrs import frozen

from ross.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted, RossError
from ross.linux.changes import changes
from ross.linux.files import no_space
from ross.linux.usage import Meter
from ross.model.snapshots import SnapshotFilter, SnapshotKind, SnapshotOwner, SnapshotUsage
from ross.services.snapshot_mounts import describe_mount
from ross.services.threads import hand_over

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from ross.model.snapshots import SnapshotChange, SnapshotInfo, SnapshotMount
    from ross.services.snapshotter import Snapshotter

_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}\Z")
_RESERVED: Final = re.compile(r"(sha\d+-.*|unpack-.*|empty|[0-9a-f]{64})\Z")
"""Layers of images, layers under way, the engine's own, and containers."""
MAX_LABELS: Final = 256
MAX_LABEL_BYTES: Final = 4096
"""Of a key and its value together."""
MAX_LABELS_BYTES: Final = 64 << 10
"""Of all of them."""
_BATCH: Final = 256
_THREADS: Final = 8


@frozen(kw_only=True)
class Measured:
    """What a snapshot's own files are, added up."""

    usage: SnapshotUsage
    content_bytes: int


class Snapshots:
    """The snapshots, as clients have them."""

    def __init__(self, snapshotter: Snapshotter, *, threads: trio.CapacityLimiter | None = None) -> None:
        """``threads`` are those that walk snapshots, some of which take long; some of its own if there are none to share."""
        self._snapshotter = snapshotter
        self._threads = threads or trio.CapacityLimiter(_THREADS)
        self._measured: dict[str, tuple[SnapshotInfo, Measured]] = {}

    # -- looking ------------------------------------------------------------------------------------------------------

    def stat(self, name: str) -> SnapshotInfo:
        """The snapshot.

        Raises:
            NotFound: there is none of this name.
        """
        return self._snapshotter.get(name)

    def list(self, wanted: SnapshotFilter | None = None) -> tuple[SnapshotInfo, ...]:
        """Those that the filter lets through, by name."""
        passes = _filter(wanted or SnapshotFilter())
        return tuple(sorted((info for info in self._snapshotter.list() if passes(info)), key=lambda info: info.name))

    async def usage(self, name: str) -> SnapshotUsage:
        """What it takes of the disk by itself. Walks it; that of a committed one is remembered.

        Raises:
            NotFound: there is none of this name, any more.
        """
        found = await self._measure(self._snapshotter.get(name))
        return found.usage

    async def _measure(self, info: SnapshotInfo) -> Measured:
        known = self._measured.get(info.name)
        if known is not None and known[0].created_at == info.created_at:
            await trio.lowlevel.checkpoint()
            return known[1]
        with self._reading(info):
            files = self._snapshotter.files(info.name)
            found = await trio.to_thread.run_sync(measure_files, files, limiter=self._threads)
        if info.kind is SnapshotKind.COMMITTED:
            self._measured = {name: one for name, one in self._measured.items() if self._snapshotter.find(name)}
            self._measured[info.name] = (info, found)
        return found

    def mounts(self, name: str) -> SnapshotMount:
        """How it is to be mounted.

        Raises:
            NotFound: there is none of this name.
            FailedPrecondition: it has more layers than can be mounted.
        """
        return describe_mount(self._snapshotter, name)

    async def diff(
        self, name: str, *, base: str = "", write: Callable[[Sequence[SnapshotChange]], Awaitable[None]]
    ) -> None:
        """Hand what a snapshot has other than another to ``write``, in batches.

        Args:
            name: The newer one.
            base: The older one; its parent if empty, or an empty directory if it stands on nothing.
            write: Waited for.

        Raises:
            NotFound: there is no such snapshot, any more.
            FailedPrecondition: its directories are nested deeper than a path can say.
        """
        info = self._snapshotter.get(name)
        below = self._snapshotter.get(base) if base else None
        new = self._snapshotter.layers(name)
        old = self._snapshotter.layers(base or info.parent)

        found = changes(old, new, checkpoint=trio.from_thread.check_cancelled)
        with self._reading(info, *((below,) if below is not None else ())):
            await hand_over(_batches(found), write, threads=self._threads)

    @contextmanager
    def _reading(self, *infos: SnapshotInfo) -> Iterator[None]:
        """What is read may be removed meanwhile: then what was read means nothing."""

        def check() -> None:
            for info in infos:
                found = self._snapshotter.find(info.name)
                if found is None or found.created_at != info.created_at:
                    raise NotFound(f"the snapshot {info.name} was removed while it was read")

        try:
            yield
        except OSError as error:
            check()
            raise FailedPrecondition(f"the snapshot {infos[0].name} cannot be read: {error.strerror}") from error
        check()

    # -- making -------------------------------------------------------------------------------------------------------

    async def prepare(self, name: str, *, parent: str = "", labels: Mapping[str, str] | None = None) -> SnapshotInfo:
        """Make one to write into, on top of a committed one, or of nothing.

        Raises:
            InvalidArgument: the name or a label is not allowed.
            AlreadyExists: the name is taken.
            NotFound: there is no such parent.
            FailedPrecondition: the parent is not committed.
        """
        _check_name(name)
        _check_labels(labels or {})
        with _explained(name):
            return await self._snapshotter.prepare(
                name, parent=parent or None, owner=SnapshotOwner.CLIENT, labels=labels
            )

    async def view(self, name: str, *, parent: str = "", labels: Mapping[str, str] | None = None) -> SnapshotInfo:
        """Make one that reads a committed one, and keeps it.

        Raises:
            InvalidArgument: the name or a label is not allowed.
            AlreadyExists: the name is taken.
            NotFound: there is no such parent.
            FailedPrecondition: the parent is not committed.
        """
        _check_name(name)
        _check_labels(labels or {})
        with _explained(name):
            return await self._snapshotter.view(name, parent=parent or None, owner=SnapshotOwner.CLIENT, labels=labels)

    async def commit(self, name: str, target: str, *, labels: Mapping[str, str] | None = None) -> SnapshotInfo:
        """Make an active one a committed one; it must not be mounted any more. Cancelled, it is active still, or committed.

        Raises:
            InvalidArgument: the new name or a label is not allowed.
            AlreadyExists: the new name is taken.
            NotFound: there is no such snapshot.
            FailedPrecondition: it is not active, or belongs to a container.
        """
        _check_name(target)
        _check_labels(labels or {})
        info = self._own(name)
        if info.kind is not SnapshotKind.ACTIVE:
            raise FailedPrecondition(f"the snapshot {name} is {info.kind.value}: only an active one can be committed")
        if self._snapshotter.find(target) is not None:
            raise AlreadyExists(f"the snapshot {target} exists")
        with _explained(name):
            found = await self._measure(info)
            await self._snapshotter.sync()
            return await self._snapshotter.commit_active(
                name, target, size_bytes=found.content_bytes, labels=labels or {}
            )

    async def remove(self, name: str) -> int:
        """Remove one. Once begun it goes on to its end. Returns the bytes that were freed.

        Raises:
            NotFound: there is none of this name.
            FailedPrecondition: another stands on it, or it belongs to an image or a container.
        """
        self._own(name)
        with _explained(name):
            return await self._snapshotter.remove(name)

    async def update(
        self, name: str, *, labels: Mapping[str, str] | None = None, forget: Sequence[str] = ()
    ) -> SnapshotInfo:
        """Set labels, and take away those named by ``forget``; others stay.

        Raises:
            InvalidArgument: a label is not allowed.
            NotFound: there is none of this name.
            FailedPrecondition: it is a layer that is being unpacked.
        """
        info = self._snapshotter.get(name)
        if info.kind is SnapshotKind.STAGED:
            raise FailedPrecondition(f"the snapshot {name} is being unpacked")
        kept = {key: value for key, value in info.labels.items() if key not in forget}
        wanted = {**kept, **(labels or {})}
        _check_labels(wanted)
        with _explained(name):
            return await self._snapshotter.update(name, labels=wanted)

    def _own(self, name: str) -> SnapshotInfo:
        info = self._snapshotter.get(name)
        if info.owner is SnapshotOwner.CONTAINER:
            raise FailedPrecondition(
                f"the snapshot {name[:12]} belongs to the container of that id", hint=f"see ross inspect {name[:12]}"
            )
        if info.owner is not SnapshotOwner.CLIENT:
            raise FailedPrecondition(
                f"the snapshot {name} is a layer of an image", hint="remove the image: ross rmi; build upon it: prepare"
            )
        return info


def _batches(found: Generator[SnapshotChange, None, None]) -> Generator[tuple[SnapshotChange, ...], None, None]:
    with closing(found):
        while batch := tuple(islice(found, _BATCH)):
            yield batch


def measure_files(files: Path) -> Measured:
    """What a snapshot's files take of the disk. Blocks; called in a thread."""
    meter = Meter(files.stat().st_dev, checkpoint=trio.from_thread.check_cancelled)
    parent = os.open(files.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        allocated = meter.tree(parent, files.name)
    finally:
        os.close(parent)
    return Measured(usage=SnapshotUsage(size_bytes=allocated, inodes=meter.inodes), content_bytes=meter.content_bytes)


def _filter(wanted: SnapshotFilter) -> Callable[[SnapshotInfo], bool]:
    labels = [label.partition("=") for label in wanted.labels]

    def passes(info: SnapshotInfo) -> bool:
        return (
            info.name.startswith(wanted.name_prefix)
            and wanted.kind in {SnapshotKind.UNKNOWN, info.kind}
            and wanted.parent in {"", info.parent}
            and all(key in info.labels and (not equals or info.labels[key] == value) for key, equals, value in labels)
        )

    return passes


def _check_name(name: str) -> None:
    if not _NAME.match(name):
        raise InvalidArgument(
            f"the snapshot name {name[:140]!r} is not allowed",
            hint="use letters, digits, '_', '.' and '-', at most 128, beginning with a letter or digit",
        )
    if _RESERVED.match(name):
        raise InvalidArgument(f"the snapshot name {name!r} is of a form that the engine keeps for its own")


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > MAX_LABELS:
        raise InvalidArgument(f"a snapshot has at most {MAX_LABELS} labels, not {len(labels)}")
    total = 0
    for key, value in labels.items():
        if not key or "=" in key:
            raise InvalidArgument(f"the label {key[:80]!r} is not allowed", hint="a key is not empty and has no '='")
        size = len(key.encode()) + len(value.encode())
        total += size
        if size > MAX_LABEL_BYTES:
            raise InvalidArgument(f"the label {key[:80]!r} has more than {MAX_LABEL_BYTES} bytes with its value")
    if total > MAX_LABELS_BYTES:
        raise InvalidArgument(f"the labels have {total} bytes in all, more than {MAX_LABELS_BYTES}")


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except RossError:
        raise
    except OSError as error:
        what = f"the snapshot {name} cannot be changed: {error.strerror}"
        raise ResourceExhausted(what) if no_space(error) else FailedPrecondition(what) from error
