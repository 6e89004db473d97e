"""The runtime config of a container: image config and options, with the field's usual defaults (runtime-spec, config.md)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from ross.linux.host import cgroup_version
from ross.model.containers import NetworkMode
from ross.shim.seccomp import default_profile
from ross.shim.users import User

if TYPE_CHECKING:
    from ross.model.containers import BindMount, ContainerSpec
    from ross.oci.image import Execution

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_PIDS_LIMIT: Final = 4096
"""Enough for anything that is meant, and an end to what is not."""
_VERSION: Final = "1.0.2"
"""What Debian 12's runc reads; nothing newer is used."""
_CPU_PERIOD_US: Final = 100_000

DEFAULT_CAPABILITIES: Final = (
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
)  # fmt: skip

_CAPABILITIES: Final = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT",
    "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE",
    "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
    "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)  # fmt: skip
"""In the order of their bits (capability.h)."""
ALL_CAPABILITIES: Final = tuple(f"CAP_{name}" for name in _CAPABILITIES)

_MASKED_PATHS: Final = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
)  # fmt: skip
_READ_ONLY_PATHS: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_DEVICES: Final = (
    {"type": "c", "major": 1, "minor": 3, "access": "rwm"},  # null
    {"type": "c", "major": 1, "minor": 5, "access": "rwm"},  # zero
    {"type": "c", "major": 1, "minor": 7, "access": "rwm"},  # full
    {"type": "c", "major": 1, "minor": 8, "access": "rwm"},  # random
    {"type": "c", "major": 1, "minor": 9, "access": "rwm"},  # urandom
    {"type": "c", "major": 5, "minor": 0, "access": "rwm"},  # tty
    {"type": "c", "major": 5, "minor": 2, "access": "rwm"},  # ptmx
    {"type": "c", "major": 136, "access": "rwm"},  # pts
    {"type": "c", "access": "m"},  # making a node is harmless; opening it is what counts
    {"type": "b", "access": "m"},
)


@frozen(kw_only=True)
class HostFacts:
    """What of the host decides how a container is made."""

    cgroup_version: int
    cgroup_namespaces: bool
    capabilities: frozenset[str]
    """Ours: a container can have no others."""
    swap_accounting: bool
    oom_score_adj: int
    """Ours."""


def host_facts() -> HostFacts:
    """The facts, as they are now; they change only with a reboot."""
    version = cgroup_version()
    memory = Path("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes")
    return HostFacts(
        cgroup_version=version,
        cgroup_namespaces=Path("/proc/self/ns/cgroup").exists(),
        capabilities=_own_capabilities(),
        swap_accounting=version == 2 or memory.exists(),
        oom_score_adj=int(Path("/proc/self/oom_score_adj").read_text()),
    )


def _own_capabilities() -> frozenset[str]:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            bits = int(line.split()[1], 16)
            return frozenset(f"CAP_{name}" for index, name in enumerate(_CAPABILITIES) if bits >> index & 1)
    return frozenset()


@frozen(kw_only=True)
class Resolved:
    """What had to be looked up for a container."""

    command: Sequence[str]
    user: User
    working_dir: str
    hostname: str
    rootfs: Path
    host_files: Mapping[str, Path]
    """Generated files, by where they are mounted."""
    bind_sources: Mapping[str, Path]
    """The sources of the spec's mounts, by target, as they were found."""
    cgroups_path: str
    console_size: tuple[int, int] | None = None
    """Rows and columns of its terminal, to begin with."""


def runtime_config(spec: ContainerSpec, execution: Execution, resolved: Resolved, host: HostFacts) -> dict[str, Any]:
    """The whole ``config.json``."""
    capabilities = [name for name in _wanted_capabilities(spec) if name in host.capabilities]
    return {
        "ociVersion": _VERSION,
        "process": _process(spec, execution, resolved, host, capabilities),
        "root": {"path": str(resolved.rootfs), "readonly": spec.read_only},
        "hostname": resolved.hostname,
        "mounts": _mounts(spec, resolved, host),
        "linux": _linux(spec, resolved, host, capabilities),
    }


def environment(spec: ContainerSpec, execution: Execution, *, hostname: str, home: str) -> list[str]:
    """The container's environment: defaults, the image's, the spec's; the last of a name wins."""
    merged = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if spec.terminal:
        merged["TERM"] = "xterm"
    for entry in (*(execution.env or ()), *spec.env):
        name, _equals, value = entry.partition("=")
        merged[name] = value
    merged.setdefault("HOME", home)
    return [f"{name}={value}" for name, value in merged.items()]


def _wanted_capabilities(spec: ContainerSpec) -> Sequence[str]:
    return ALL_CAPABILITIES if spec.privileged else DEFAULT_CAPABILITIES


def _process(
    spec: ContainerSpec, execution: Execution, resolved: Resolved, host: HostFacts, capabilities: list[str]
) -> dict[str, Any]:
    user = resolved.user
    size = resolved.console_size
    console = {"consoleSize": {"height": size[0], "width": size[1]}} if size is not None else {}
    return console | {
        "terminal": spec.terminal,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": [user.gid, *user.groups]},
        "args": list(resolved.command),
        "env": environment(spec, execution, hostname=resolved.hostname, home=user.home),
        "cwd": resolved.working_dir,
        # Nothing inheritable and nothing ambient: a program gains none of these by its file's attributes (CVE-2022-24769). The
        # kernel takes permitted and effective away when the process is no longer root.
        "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
        "noNewPrivileges": spec.no_new_privileges,
        # Not our own protection from the kernel's out-of-memory killer; but nobody may lower what it was given.
        "oomScoreAdj": max(0, host.oom_score_adj),
    }


def _mounts(spec: ContainerSpec, resolved: Resolved, host: HostFacts) -> list[dict[str, Any]]:
    sys_mode = "rw" if spec.privileged else "ro"
    mounts = [
        _mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount(
            "/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"
        ),
    ]
    if (
        spec.network is NetworkMode.HOST
    ):  # a new sysfs shows the network namespace of its mounter, which must then be our own
        mounts.append(_mount("/sys", "none", "/sys", "rbind", "nosuid", "noexec", "nodev", sys_mode))
    else:
        mounts.append(_mount("/sys", "sysfs", "sysfs", "nosuid", "noexec", "nodev", sys_mode))
    if host.cgroup_namespaces:
        mounts.append(_mount("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime", sys_mode))
    mounts += [
        _mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        _mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),  # noqa: S108 -- the container's
    ]
    mounts += [
        _mount(target, "bind", str(source), "rbind", "rprivate", *(("ro",) if spec.read_only else ()))
        for target, source in resolved.host_files.items()
    ]
    mounts += [_bind(mount, resolved.bind_sources[mount.target]) for mount in spec.mounts]
    # A mount must come behind the one that it is inside of.
    fixed, own = mounts[: -len(spec.mounts) or None], mounts[len(mounts) - len(spec.mounts) :]
    return [*fixed, *sorted(own, key=lambda mount: mount["destination"].count("/"))]


def _mount(target: str, kind: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": list(options)}


def _bind(mount: BindMount, source: Path) -> dict[str, Any]:
    return _mount(mount.target, "bind", str(source), "rbind", mount.propagation, "ro" if mount.read_only else "rw")


def _linux(spec: ContainerSpec, resolved: Resolved, host: HostFacts, capabilities: list[str]) -> dict[str, Any]:
    namespaces = ["pid", "ipc", "uts", "mount"]
    if spec.network is not NetworkMode.HOST:
        namespaces.append("network")
    if host.cgroup_namespaces and not spec.privileged:
        namespaces.append("cgroup")
    config: dict[str, Any] = {
        "namespaces": [{"type": name} for name in namespaces],
        "cgroupsPath": resolved.cgroups_path,
        "resources": resources_of(spec, host),
    }
    if spec.privileged:
        config["devices"] = _host_devices()
        return config
    config["maskedPaths"] = list(_MASKED_PATHS)
    config["readonlyPaths"] = list(_READ_ONLY_PATHS)
    profile = default_profile(frozenset(capabilities))
    if profile is not None:
        config["seccomp"] = profile
    return config


def resources_of(spec: ContainerSpec, host: HostFacts) -> dict[str, Any]:
    """What a container may use (runtime-spec, config-linux.md, "Control groups")."""
    devices: list[dict[str, Any]] = [{"allow": spec.privileged, "access": "rwm"}]
    if not spec.privileged:
        devices += [{"allow": True, **device} for device in _DEVICES]
    resources: dict[str, Any] = {"devices": devices}
    if spec.memory_bytes:
        memory = {"limit": spec.memory_bytes}
        if host.swap_accounting:
            memory["swap"] = 2 * spec.memory_bytes  # memory and swap together: as much swap as memory
        resources["memory"] = memory
    if spec.nano_cpus:
        resources["cpu"] = {"period": _CPU_PERIOD_US, "quota": spec.nano_cpus * _CPU_PERIOD_US // 1_000_000_000}
    limit = spec.pids_limit or DEFAULT_PIDS_LIMIT
    if limit > 0:
        resources["pids"] = {"limit": limit}
    return resources


def _host_devices() -> list[dict[str, Any]]:
    """The device nodes of the host, for a privileged container; what the runtime makes anyway is left to it."""
    made = {"null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"}
    found = []
    for entry in sorted(os.scandir("/dev"), key=lambda one: one.name):
        if entry.name in made or entry.is_symlink() or entry.is_dir():
            continue
        status = entry.stat(follow_symlinks=False)
        kind = {0o020000: "c", 0o060000: "b"}.get(status.st_mode & 0o170000)
        if kind is not None:
            found.append({
                "path": entry.path,
                "type": kind,
                "major": os.major(status.st_rdev),
                "minor": os.minor(status.st_rdev),
                "fileMode": status.st_mode & 0o777,
                "uid": status.st_uid,
                "gid": status.st_gid,
            })
    return found
