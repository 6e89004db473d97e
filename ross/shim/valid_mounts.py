"""What can be refused about mounts before anything is made."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from ross.errors import InvalidArgument
from ross.model.mounts import MOUNT_OPTIONS, PROPAGATIONS, MountKind, Recursion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ross.model.mounts import Mount

_IMAGE_OPTIONS: Final = frozenset({"nosuid", "nodev", "noexec", "noatime"})
_FORBIDDEN_TARGETS: Final = frozenset({"/", "/proc", "/sys", "/dev", "/dev/init"})


def normal_path(path: str) -> str:
    """Without doubled, trailing and single-dot parts; ``..`` stays. A path that begins with two slashes begins with one."""
    return "/" * path.startswith("/") + "/".join(part for part in path.split("/") if part not in {"", "."})


def check_target(text: str, what: str) -> str:
    """A place in a container, in its one form.

    Raises:
        InvalidArgument: it is not an absolute path, or has ``..`` in it.
    """
    target = normal_path(text)
    if not target.startswith("/") or ".." in PurePosixPath(target).parts or "\0" in target:
        raise InvalidArgument(f"the target {text!r} of a {what} is not an absolute path without '..'")
    return target


def check_mounts(mounts: Sequence[Mount]) -> None:
    """Check the mounts of a spec.

    Raises:
        InvalidArgument: one is not allowed, or two have the same target.
    """
    targets: set[str] = set()
    for mount in mounts:
        target = check_target(mount.target, "mount")
        if target in _FORBIDDEN_TARGETS:
            raise InvalidArgument(f"nothing can be mounted on {target} of a container")
        if target in targets:
            raise InvalidArgument(f"two mounts have the target {target}")
        targets.add(target)
        for option in mount.options:
            if option not in MOUNT_OPTIONS:
                raise InvalidArgument(
                    f"{option!r} is no option of a mount", hint=f"one of {', '.join(sorted(MOUNT_OPTIONS))}"
                )
        if mount.kind is MountKind.BIND:
            _check_bind(mount)
        elif mount.kind is MountKind.TMPFS:
            _check_tmpfs(mount)
        elif mount.kind is MountKind.IMAGE:
            _check_image(mount)
        else:
            raise InvalidArgument(
                "this engine does not know that type of mount", hint="there are bind, tmpfs and image"
            )
        if mount.subpath and mount.kind is not MountKind.IMAGE:
            raise InvalidArgument(
                "only of an image a part can be mounted by a subpath", hint="write it as part of the source"
            )


def _check_bind(mount: Mount) -> None:
    if not mount.source.startswith("/") or "\0" in mount.source:
        raise InvalidArgument(f"the source {mount.source!r} of a mount is not an absolute path")
    if mount.propagation not in PROPAGATIONS:
        raise InvalidArgument(
            f"{mount.propagation!r} is not a propagation", hint=f"one of {', '.join(sorted(PROPAGATIONS))}"
        )
    if mount.recursion is Recursion.UNKNOWN:
        raise InvalidArgument("this engine does not know that kind of recursion")
    if mount.recursion in {Recursion.WRITABLE, Recursion.READONLY} and not mount.read_only:
        raise InvalidArgument(f"the recursion {mount.recursion.value!r} is about a mount that is read-only")
    if mount.recursion is Recursion.READONLY and mount.propagation != "rprivate":
        raise InvalidArgument("what is mounted below later could be written: that needs the propagation rprivate")
    if mount.size_bytes or mount.mode:
        raise InvalidArgument("a directory of the host has no size or mode to be given")
    if mount.idmap and mount.propagation not in {"private", "rprivate"}:
        raise InvalidArgument("a mount whose ids are mapped is private", hint="leave out idmap, or bind-propagation")


def _check_tmpfs(mount: Mount) -> None:
    if mount.source:
        raise InvalidArgument("a tmpfs has no source")
    if not 0 <= mount.mode <= 0o7777:
        raise InvalidArgument(f"{mount.mode:o} is not the mode of a directory")
    if mount.idmap:
        raise InvalidArgument("a tmpfs belongs to the container's users as it is")
    if mount.relabel:
        raise InvalidArgument("a tmpfs is labelled as it is made")


def _check_image(mount: Mount) -> None:
    if not mount.source or "\0" in mount.source:
        raise InvalidArgument("it is not said which image is to be mounted", hint="write source=NAME")
    if mount.propagation != "rprivate" or mount.recursion is not Recursion.ENABLED:
        raise InvalidArgument("nothing is mounted below an image, or can be")
    if mount.size_bytes or mount.mode or mount.idmap or mount.relabel:
        raise InvalidArgument("an image is mounted as it is: no size, mode, idmap or label can be given")
    if not _IMAGE_OPTIONS.issuperset(mount.options):
        raise InvalidArgument("an image is mounted nosuid and nodev", hint="noexec and noatime can be added")
    parts = PurePosixPath(mount.subpath).parts
    if ".." in parts or mount.subpath.startswith("/") or "\0" in mount.subpath:
        raise InvalidArgument(f"the subpath {mount.subpath!r} of a mount is not a relative path without '..'")
