"""A container's bundle: its mounted root filesystem made ready, and its ``config.json`` (runtime-spec, bundle.md)."""

from __future__ import annotations

import json
import os
import posixpath
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from ross.errors import FailedPrecondition, InvalidArgument
from ross.linux.files import write_atomic
from ross.model.containers import NetworkMode
from ross.model.mounts import MountKind
from ross.model.namespaces import NamespaceMode
from ross.shim.apparmor import check_profile
from ross.shim.command import effective_command
from ross.shim.hostfiles import write_host_files
from ross.shim.init_program import find_init
from ross.shim.programs import KERNELS_OWN, check_program
from ross.shim.rootfs import Rootfs, open_rootfs
from ross.shim.security import find_devices
from ross.shim.spec import Resolved, environment, runtime_config
from ross.shim.users import resolve_group, resolve_user
from ross.shim.valid_users import check_has

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ross.layout import ContainerLayout
    from ross.model.containers import ContainerSpec
    from ross.model.mounts import Mount
    from ross.oci.image import Execution
    from ross.shim.facts import HostFacts
    from ross.shim.namespaces import Joined


TMPFS_MODE: Final = 0o1777
"""Of one that nothing is said of, on a directory that was not there."""


@frozen(kw_only=True)
class Places:
    """Where the runtime finds what is not where one would look for it."""

    root: Path
    """The root filesystem."""
    binds: Mapping[str, Path] = field(factory=dict)
    """Mounts of the spec, by target, in the place of their sources; of images, all."""


@frozen(kw_only=True)
class BundleFacts:
    """What was found out while making a bundle."""

    command: tuple[str, ...]
    terminal: bool


def write_bundle(
    layout: ContainerLayout,
    *,
    container_id: str,
    spec: ContainerSpec,
    execution: Execution,
    host: HostFacts,
    cgroups_path: str,
    joined: Joined,
    console_size: tuple[int, int] | None = None,
    places: Places,
    restored: bool = False,
) -> BundleFacts:
    """Make the bundle. Blocking; the root filesystem is mounted at ``layout.rootfs``.

    ``console_size`` is rows and columns that its terminal begins with; ``restored``, whether it is to go on from a checkpoint.

    Raises:
        InvalidArgument: there is nothing to run, or a mount's source or a device does not exist.
        FailedPrecondition: the user, working directory, a mount target or the program is not what it must be in this image; for the
            program ``reason`` says how. Or its profile of AppArmor is not loaded any more, or the container has made something else of a
            place that the engine mounts on.
    """
    check_profile(spec.security.apparmor)
    command, users = effective_command(spec, execution), spec.namespaces.users
    _check_texts(execution, command)
    hostname = _hostname(spec, container_id)
    working_dir = _working_dir(spec, execution)
    sources = _sources(spec.mounts, places)
    targets = tuple(mount.target for mount in spec.mounts)
    with open_rootfs(layout.rootfs, root=users.root) as rootfs:
        user = resolve_user(spec.user or execution.user, rootfs)
        groups = [resolve_group(text, rootfs) for text in spec.security.groups]
        check_has(users, user.uid, (user.gid, *user.groups, *groups))
        _make_working_dir(rootfs, working_dir)
        host_files = write_host_files(layout, hostname=hostname, network=spec.network, resolution=spec.resolution)
        _check_mount_points(rootfs, host_files)
        _make_targets(rootfs, spec.mounts, sources)
        path = _search_path(environment(spec, execution, hostname=hostname, home=user.home))
        check_program(rootfs, command, search_path=path, working_dir=working_dir, mounted=targets)
    resolved = Resolved(
        command=command,
        user=user,
        groups=groups,
        working_dir=working_dir,
        hostname=hostname,
        rootfs=places.root,
        host_files=host_files,
        bind_sources=sources,
        devices=find_devices(spec.security.devices),
        init=find_init() if spec.init else None,
        cgroups_path=cgroups_path,
        joined=joined,
        console_size=console_size if spec.terminal else None,
        restored=restored,
    )
    config = runtime_config(spec, execution, resolved, host)
    # Not waited for: it is made anew at each start.
    write_atomic(layout.runtime_config, json.dumps(config, separators=(",", ":")).encode(), sync=False)
    return BundleFacts(command=command, terminal=spec.terminal)


def _search_path(env: Iterable[str]) -> str:
    return dict(entry.split("=", 1) for entry in env).get("PATH", "")


def _hostname(spec: ContainerSpec, container_id: str) -> str:
    shared = spec.network is NetworkMode.HOST or spec.namespaces.uts is NamespaceMode.HOST
    return os.uname().nodename if shared else spec.hostname or container_id[:12]


def _working_dir(spec: ContainerSpec, execution: Execution) -> str:
    path = spec.working_dir or execution.working_dir or "/"
    if not path.startswith("/"):
        raise FailedPrecondition(
            f"the image's working directory {path!r} is not absolute", hint="give another with --workdir"
        )
    refuse_kernels_own(path)
    return path


def refuse_kernels_own(path: str) -> None:
    """Refuse a working directory in the kernel's own filesystems.

    Where /proc/self/fd leads is the runtime's business at that moment, not the container's (CVE-2024-21626).
    """
    normal = "/" + posixpath.normpath(path).lstrip("/")
    if normal.startswith(("/proc/", "/sys/")) or normal in {"/proc", "/sys"}:
        raise FailedPrecondition(
            f"the working directory {path!r} is inside the kernel's own filesystems, which is refused"
        )


def _make_working_dir(rootfs: Rootfs, path: str) -> None:
    try:
        refuse_kernels_own(rootfs.make_directory(path))
    except OSError as error:
        raise FailedPrecondition(
            f"the working directory {path!r} cannot be used in this image: {error.strerror}",
            hint="give another with --workdir",
        ) from None


def _check_texts(execution: Execution, command: Sequence[str]) -> None:
    """What an image says may be any text; a zero byte would end it early for the kernel."""
    texts = (*command, execution.working_dir, execution.user, *(execution.env or ()))
    if any("\0" in text for text in texts):
        raise FailedPrecondition("the image's config has a zero byte in its command, user, directory or environment")


def _sources(mounts: Iterable[Mount], places: Places) -> dict[str, Path]:
    """What of the host is mounted, by target."""
    return {
        mount.target: places.binds.get(mount.target) or find_source(mount.source)
        for mount in mounts
        if mount.kind is not MountKind.TMPFS
    }


def find_source(text: str) -> Path:
    """What of the host is to be mounted.

    Raises:
        InvalidArgument: it is not there, or nothing to mount.
    """
    path = Path(text)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise InvalidArgument(
            f"the source {text!r} of a mount cannot be used: {error.strerror}", hint="make it first"
        ) from None
    if not (
        stat.S_ISDIR(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode) or stat.S_ISFIFO(mode)
    ):
        raise InvalidArgument(f"the source {text!r} of a mount is neither a directory nor a file")
    return path.resolve()


def _check_mount_points(rootfs: Rootfs, files: Iterable[str]) -> None:
    """What the engine itself mounts on comes from the init layer, whatever the image has there; but who has all privileges may unmount
    it in the container, and put something else in its place."""
    wanted = {**dict.fromkeys(KERNELS_OWN, stat.S_IFDIR), **dict.fromkeys(files, stat.S_IFREG)}
    for path, kind in wanted.items():
        found = rootfs.stat_itself(path)
        if found is None or stat.S_IFMT(found.st_mode) != kind:
            raise FailedPrecondition(
                f"the container has replaced its {path}, where the engine mounts its own", hint="create another"
            )


def _make_targets(rootfs: Rootfs, mounts: Sequence[Mount], sources: Mapping[str, Path]) -> None:
    """Make the mount points, parents first: directories or files, as what is mounted. The runtime makes those in what it mounts."""
    for mount in sorted(mounts, key=lambda mount: mount.target.count("/")):
        target = mount.target
        if target.startswith(tuple(f"{path}/" for path in KERNELS_OWN)):
            continue
        try:
            if mount.kind is MountKind.TMPFS:
                _make_tmpfs_target(rootfs, target, mount.mode)
            elif sources[target].is_dir():
                rootfs.make_directory(target)
            else:
                rootfs.make_file(target)
        except OSError as error:
            raise FailedPrecondition(f"nothing can be mounted on {target!r} in this image: {error.strerror}") from None


def _make_tmpfs_target(rootfs: Rootfs, target: str, mode: int) -> None:
    """Runtimes give a tmpfs the mode of the directory that it is mounted on, some also if another was asked for."""
    is_new = rootfs.stat(target) is None
    place = rootfs.make_directory(target)
    if mode or is_new:
        rootfs.set_mode(place, mode or TMPFS_MODE)
