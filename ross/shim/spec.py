"""The runtime config of a container: image config and options, with the field's usual defaults (runtime-spec, config.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from attrs import field, frozen

from ross.model.namespaces import NamespaceMode
from ross.shim.criu import CONFIG_ANNOTATION
from ross.shim.mounts import INIT_TARGET, mounts_of
from ross.shim.namespaces import Joined, id_mappings_of, namespaces_of
from ross.shim.resources import resources_of, rlimits_of
from ross.shim.restored import hooks_of
from ross.shim.security import (
    UNCONFINED,
    capabilities_of,
    device_nodes,
    device_rules,
    masked_paths,
    read_only_paths,
    seccomp_of,
)
from ross.shim.users import User

if TYPE_CHECKING:
    from ross.model.containers import ContainerSpec
    from ross.oci.image import Execution
    from ross.shim.facts import HostFacts

DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_VERSION: Final = "1.0.2"
"""What Debian 12's runc reads; nothing newer is used."""


@frozen(kw_only=True)
class Resolved:
    """What had to be looked up for a container."""

    command: Sequence[str]
    user: User
    groups: Sequence[int] = ()
    """Supplementary ones that were asked for."""
    working_dir: str
    hostname: str
    rootfs: Path
    host_files: Mapping[str, Path]
    """Generated files, by where they are mounted."""
    bind_sources: Mapping[str, Path]
    """The sources of the spec's mounts, by target, as they were found."""
    devices: Sequence[dict[str, Any]] = ()
    init: Path | None = None
    cgroups_path: str
    joined: Joined = field(factory=Joined)
    """What it has of other containers."""
    console_size: tuple[int, int] | None = None
    """Rows and columns of its terminal, to begin with."""
    restored: bool = False
    """It goes on from a checkpoint."""


def runtime_config(spec: ContainerSpec, execution: Execution, resolved: Resolved, host: HostFacts) -> dict[str, Any]:
    """The whole ``config.json``.

    Raises:
        InvalidArgument: a device to be throttled is none.
    """
    config: dict[str, Any] = {
        "ociVersion": _VERSION,
        "process": _process(spec, execution, resolved, host),
        "root": {"path": str(resolved.rootfs), "readonly": spec.read_only},
        "mounts": mounts_of(
            spec,
            host,
            host_files=resolved.host_files,
            sources=resolved.bind_sources,
            init=resolved.init,
            shm=resolved.joined.shm,
        ),
        "linux": _linux(spec, resolved, host),
    }
    if spec.namespaces.uts is not NamespaceMode.HOST:
        config["hostname"] = resolved.hostname
    if resolved.restored:
        config |= hooks_of(spec)
    config["annotations"] = {**spec.annotations, CONFIG_ANNOTATION: ""}
    return config


def environment(spec: ContainerSpec, execution: Execution, *, hostname: str, home: str) -> list[str]:
    """The container's environment: defaults, the image's, the spec's; the last of a name wins, and a name alone takes it away."""
    merged = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if spec.terminal:
        merged["TERM"] = "xterm"
    for entry in (*(execution.env or ()), *spec.env):
        name, equals, value = entry.partition("=")
        if equals:
            merged[name] = value
        else:
            merged.pop(name, None)
    merged.setdefault("HOME", home)
    return [f"{name}={value}" for name, value in merged.items()]


def _process(spec: ContainerSpec, execution: Execution, resolved: Resolved, host: HostFacts) -> dict[str, Any]:
    user, size = resolved.user, resolved.console_size
    capabilities = list(capabilities_of(spec, host))
    process: dict[str, Any] = {
        "terminal": spec.terminal,
        "user": {
            "uid": user.uid,
            "gid": user.gid,
            "additionalGids": list(dict.fromkeys([user.gid, *user.groups, *resolved.groups])),
        },
        "args": [INIT_TARGET, "--", *resolved.command] if resolved.init is not None else list(resolved.command),
        "env": environment(spec, execution, hostname=resolved.hostname, home=user.home),
        "cwd": resolved.working_dir,
        # Nothing inheritable and nothing ambient: a program gains none of these by its file's attributes (CVE-2022-24769). The
        # kernel takes permitted and effective away when the process is no longer root.
        "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
        "noNewPrivileges": spec.security.no_new_privileges,
        # Not our own protection from the kernel's out-of-memory killer; but nobody may lower what it was given.
        "oomScoreAdj": spec.resources.oom_score_adj or max(0, host.oom_score_adj),
        "rlimits": rlimits_of(spec),
    }
    if size is not None:
        process["consoleSize"] = {"height": size[0], "width": size[1]}
    if spec.security.apparmor not in {"", UNCONFINED}:
        process["apparmorProfile"] = spec.security.apparmor
    if spec.security.selinux:
        process["selinuxLabel"] = spec.security.selinux
    return process


def _linux(spec: ContainerSpec, resolved: Resolved, host: HostFacts) -> dict[str, Any]:
    config: dict[str, Any] = {
        "namespaces": namespaces_of(spec, host, resolved.joined),
        **id_mappings_of(spec),
        "cgroupsPath": resolved.cgroups_path,
        "resources": {"devices": device_rules(spec, resolved.devices), **resources_of(spec, host)},
        "maskedPaths": masked_paths(spec),
        "readonlyPaths": read_only_paths(spec),
    }
    if nodes := device_nodes(spec, resolved.devices):
        config["devices"] = nodes
    if spec.security.sysctls:
        config["sysctl"] = dict(spec.security.sysctls)
    profile = seccomp_of(spec, host)
    if profile is not None:
        config["seccomp"] = profile
    return config
