"""Images that a container has mounted, beside the one that it is made of.

Which they are is found out once, when it is created, and kept in its record: so they are in use as its own image is, and there is nothing
else that could be left over. On the host they are mounted for the length of a start only; what the container then has goes with it.
"""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from ross.errors import FailedPrecondition, InvalidArgument, NotFound
from ross.linux.files import make_directory
from ross.linux.mount import bind
from ross.linux.openat2 import Resolve, openat2
from ross.model.mounts import MountKind
from ross.services.image import Image
from ross.services.own_users import take_binds_away
from ross.services.records import MountedImage
from ross.services.snapshot_mounts import mount_snapshot_now
from ross.services.snapshotter import committed_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ross.linux.idmap import Ids
    from ross.model.containers import ContainerSpec
    from ross.model.mounts import Mount
    from ross.services.images import Images
    from ross.services.records import ContainerRecord
    from ross.services.snapshotter import Snapshotter

_INSIDE: Final = Resolve.IN_ROOT | Resolve.NO_MAGICLINKS | Resolve.NO_XDEV


@frozen
class FoundImage:
    """An image that is to be mounted."""

    image: Image
    record: MountedImage


def find_images(spec: ContainerSpec, images: Images) -> tuple[FoundImage, ...]:
    """The images that a spec wants to be mounted, by what their names denote now.

    Raises:
        NotFound: one is not in the store.
        InvalidArgument: a name is none, or its image has no files.
    """
    found = []
    for mount in spec.mounts:
        if mount.kind is not MountKind.IMAGE:
            continue
        image = images.get(mount.source)
        if image.chain_id is None:
            raise InvalidArgument(f"the image {mount.source} has no files to be mounted")
        record = MountedImage(at=mount.target, target=image.target, manifest=image.digest, chain_id=image.chain_id)
        found.append(FoundImage(image, record))
    return tuple(found)


@contextmanager
def holding(found: Sequence[FoundImage]) -> Iterator[None]:
    """They stay for the length of a block, whatever becomes of their names: by its end they must be in use."""
    with ExitStack() as held:
        for one in found:
            held.enter_context(one.image.hold())
        yield


@contextmanager
def image_places(
    record: ContainerRecord, snapshotter: Snapshotter, directory: Path, ids: Ids | None
) -> Iterator[dict[str, Path]]:
    """Where the images of a container are mounted on the host, by target, for the length of a block.

    Args:
        record: Of the container.
        snapshotter: Which has their files.
        directory: Where to mount them.
        ids: The owners that their files have; None: those they have.

    Raises:
        FailedPrecondition: one is gone, has no such part, or cannot be mounted.
    """
    mounts = {mount.target: mount for mount in record.spec.mounts}
    own = evolve(ids, place=directory / "layers") if ids is not None else None  # not where it would cover the others
    try:
        places = {}
        for number, image in enumerate(record.mounted_images):
            make_directory(directory)
            whole = directory / f"image-{number}"
            mount = mounts[image.at]
            try:
                mount_snapshot_now(snapshotter, committed_name(image.chain_id), whole, ids=own)
            except NotFound as error:
                raise FailedPrecondition(
                    f"the image {mount.source}, which is to be mounted, is gone: {error.message}",
                    hint="create another container",
                ) from None
            places[image.at] = _part(whole, mount, directory / f"part-{number}") if mount.subpath else whole
        yield places
    finally:
        if record.mounted_images:
            take_binds_away(directory)


def _part(whole: Path, mount: Mount, place: Path) -> Path:
    """Have a part of a mounted image at a place of its own. What is bound is what was opened, whatever its path leads to later."""
    what = f"{mount.subpath!r} of the image {mount.source}"
    top = os.open(whole, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = openat2(top, mount.subpath, os.O_PATH | os.O_CLOEXEC, resolve=_INSIDE)
    except OSError as error:
        raise FailedPrecondition(f"{what} cannot be mounted: {error.strerror}") from None
    finally:
        os.close(top)
    try:
        mode = os.fstat(found).st_mode
        if stat.S_ISDIR(mode):
            place.mkdir()
        elif stat.S_ISREG(mode):
            place.touch()
        else:
            raise FailedPrecondition(f"{what} is neither a directory nor a regular file")
        bind(Path(f"/proc/self/fd/{found}"), place)
    finally:
        os.close(found)
    return place
