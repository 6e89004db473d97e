"""Mounting snapshots: how the directories of one, and of all below it, make an overlay."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import trio

from ross.errors import FailedPrecondition
from ross.linux.files import make_directory
from ross.linux.idmap import mount_mapped_overlay
from ross.linux.mount import MAX_LAYERS, OVERLAY_OPTIONS, mount_overlay, unmount
from ross.model.snapshots import SnapshotKind, SnapshotMount, SnapshotOwner
from ross.services.snapshot_directories import empty_layer

if TYPE_CHECKING:
    from pathlib import Path

    from ross.linux.idmap import Ids
    from ross.services.snapshotter import Snapshotter


async def mount_snapshot(snapshotter: Snapshotter, name: str, target: Path, *, ids: Ids | None = None) -> None:
    """Mount a snapshot and all below it on ``target``, which is made if it is missing: writable if it is active.

    With ``ids`` its files have other owners there; what is written is stored with the owners that a mount without them has.

    Raises:
        NotFound: there is no such snapshot.
        FailedPrecondition: the kernel refused, or there are too many layers.
    """
    mount_snapshot_now(snapshotter, name, target, ids=ids)
    await trio.lowlevel.checkpoint()


def mount_snapshot_now(snapshotter: Snapshotter, name: str, target: Path, *, ids: Ids | None = None) -> None:
    """What :func:`mount_snapshot` does, in one step."""
    lower, upper, work = _directories(snapshotter, name)
    make_directory(target)
    try:
        if ids is None:
            mount_overlay(target, lower=lower, upper=upper, work=work)
        else:
            mount_mapped_overlay(target, lower=lower, upper=upper, work=work, ids=ids)
    except OSError as error:
        root = snapshotter.layout.root
        if ids is not None and error.errno == errno.EINVAL:
            raise FailedPrecondition(
                f"the files of {name} cannot be given other owners: the kernel, or the filesystem of {root}, maps no ids",
                hint="Linux 5.19 and later do, with ext4, xfs or btrfs; or leave out --userns",
            ) from error
        if upper is not None and error.errno == errno.EINVAL:
            raise FailedPrecondition(
                f"the snapshot {name} cannot be mounted: the filesystem of {root} is none that an overlay can write to",
                hint="have the daemon's --root on ext4, xfs, btrfs or tmpfs: in a container, in a volume",
            ) from error
        raise FailedPrecondition(
            f"the snapshot {name} cannot be mounted: {error.strerror}",
            hint="ross doctor checks whether this host can",
        ) from error


async def unmount_snapshot(target: Path) -> None:
    """Unmount whatever is mounted on ``target``; nothing is fine."""
    unmount(target)
    await trio.lowlevel.checkpoint()


def describe_mount(snapshotter: Snapshotter, name: str) -> SnapshotMount:
    """How a snapshot is mounted.

    Raises:
        NotFound: there is no such snapshot.
        FailedPrecondition: it has more layers than can be mounted.
    """
    lower, upper, work = _directories(snapshotter, name)
    return SnapshotMount(
        lower=tuple(str(path) for path in lower),
        upper=str(upper) if upper is not None else "",
        work=str(work) if work is not None else "",
        options=tuple(f"{key}={value}" for key, value in OVERLAY_OPTIONS),
    )


def _directories(snapshotter: Snapshotter, name: str) -> tuple[tuple[Path, ...], Path | None, Path | None]:
    """What an overlay is made of: the lower ones, top first, the upper one, its work."""
    info = snapshotter.get(name)
    lower = snapshotter.layers(name)
    upper = work = None
    if info.kind is SnapshotKind.ACTIVE:
        upper, work, lower = lower[0], snapshotter.layout.snapshot(name) / "work", lower[1:]
        if info.owner is SnapshotOwner.CONTAINER:
            lower = (snapshotter.init_layer(), *lower)
    if len(lower) + (upper is not None) < 2:  # an overlay needs two: an image may have one layer, or none
        lower = (*lower, empty_layer(snapshotter.layout))
    if len(lower) > MAX_LAYERS:
        raise FailedPrecondition(
            f"the snapshot {name} has {len(lower)} layers below it, more than the {MAX_LAYERS} that can be mounted",
            hint="put the contents of several layers into one",
        )
    return lower, upper, work
