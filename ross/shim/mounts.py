"""What is mounted in a container, in its order (runtime-spec, config.md, "Mounts")."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ross.model.containers import NetworkMode
from ross.model.mounts import MountKind, Recursion
from ross.model.namespaces import NamespaceMode, UserMode
from ross.shim.resources import DEFAULT_SHM_BYTES

if TYPE_CHECKING:
    from ross.model.containers import ContainerSpec
    from ross.model.mounts import Mount
    from ross.shim.facts import HostFacts

_TTY: Final = 5
"""The group of terminals, in every distribution."""
INIT_TARGET: Final = "/dev/init"
"""In the filesystem that the runtime makes, so that nothing is left of it in the container's own."""
_HOST_IPC: Final = ("/dev/shm", "/dev/mqueue")  # noqa: S108 -- the host's


def mounts_of(
    spec: ContainerSpec,
    host: HostFacts,
    *,
    host_files: Mapping[str, Path],
    sources: Mapping[str, Path],
    init: Path | None,
    shm: Path | None = None,
) -> list[dict[str, Any]]:
    """All mounts: the kernel's, the engine's, the spec's own.

    Args:
        spec: What was asked for.
        host: The host's facts.
        host_files: Generated files, by where they are mounted.
        sources: Where the spec's mounts of the host's files, and of images, were found, by target.
        init: The program that is to be the first process; None: the command itself.
        shm: The shared memory of another container, to be had in the place of its own.
    """
    mounts = [
        _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _terminals(spec),
        *_sys(spec, host),
        *_ipc(spec, shm),
    ]
    if init is not None:
        mounts.append(_mount(INIT_TARGET, "bind", str(init), "bind", "ro", "nosuid", "nodev"))
    mounts += [
        _mount(target, "bind", str(source), "rbind", "rprivate", *(("ro",) if spec.read_only else ()))
        for target, source in host_files.items()
    ]
    # A mount must come behind the one that it is inside of.
    own = sorted(spec.mounts, key=lambda mount: mount.target.count("/"))
    return mounts + [
        _tmpfs(mount) if mount.kind is MountKind.TMPFS else _place(mount, sources[mount.target], host) for mount in own
    ]


def _mount(target: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": list(options)}


def _terminals(spec: ContainerSpec) -> dict[str, Any]:
    options = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    users = spec.namespaces.users
    if users.mode is UserMode.HOST or any(one.inside <= _TTY < one.inside + one.size for one in users.gids):
        options.append(f"gid={_TTY}")
    return _mount("/dev/pts", "devpts", "devpts", *options)


def _sys(spec: ContainerSpec, host: HostFacts) -> list[dict[str, Any]]:
    mode = "rw" if spec.privileged else "ro"
    if spec.network is NetworkMode.HOST:
        # A new sysfs shows the network namespace of its mounter, which must then be our own.
        found = [_mount("/sys", "none", "/sys", "rbind", "nosuid", "noexec", "nodev", mode)]
    else:
        found = [_mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", mode)]
    if host.cgroup_namespaces:
        found.append(_mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", mode))
    return found


def _ipc(spec: ContainerSpec, shm: Path | None) -> list[dict[str, Any]]:
    if spec.namespaces.ipc is NamespaceMode.HOST:
        there = [path for path in _HOST_IPC if Path(path).is_dir()]
        return [_mount(path, "bind", path, "rbind", "nosuid", "noexec", "nodev") for path in there]
    mqueue = _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev")
    if shm is not None:
        return [mqueue, _mount("/dev/shm", "bind", str(shm), "bind", "nosuid", "noexec", "nodev")]  # noqa: S108 -- the container's
    size = f"size={spec.resources.shm_bytes or DEFAULT_SHM_BYTES}"
    return [
        mqueue,
        _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", size),  # noqa: S108 -- the container's
    ]


def _place(mount: Mount, source: Path, host: HostFacts) -> dict[str, Any]:
    if mount.kind is MountKind.IMAGE:
        return _mount(mount.target, "bind", str(source), "bind", "rprivate", "ro", "nosuid", "nodev", *mount.options)
    kind = "bind" if mount.recursion is Recursion.DISABLED else "rbind"
    whole = mount.recursion is Recursion.READONLY or (mount.recursion is Recursion.ENABLED and host.recursive_read_only)
    mode = ("rro" if whole else "ro") if mount.read_only else "rw"
    return _mount(mount.target, "bind", str(source), kind, mount.propagation, mode, *mount.options)


def _tmpfs(mount: Mount) -> dict[str, Any]:
    options = ["nosuid", "nodev", "noexec", *mount.options]
    if mount.mode:
        options.append(f"mode={mount.mode:o}")
    if mount.size_bytes:
        options.append(f"size={mount.size_bytes}")
    return _mount(mount.target, "tmpfs", "tmpfs", *options, *(("ro",) if mount.read_only else ()))
