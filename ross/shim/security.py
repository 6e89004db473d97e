"""What keeps a container in: capabilities, system calls, masked paths, devices (runtime-spec, config-linux.md)."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ross.errors import InvalidArgument
from ross.linux.capabilities import ALL_CAPABILITIES
from ross.model.security import ANY_NUMBER
from ross.shim.seccomp import default_profile
from ross.shim.seccomp_profile import read_profile

if TYPE_CHECKING:
    from ross.model.containers import ContainerSpec
    from ross.model.security import Device, DeviceRule
    from ross.shim.facts import HostFacts

UNCONFINED: Final = "unconfined"
ALL: Final = "ALL"
_MAX_DEVICES: Final = 1024

DEFAULT_CAPABILITIES: Final = (
    "CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
)  # fmt: skip

_MASKED_PATHS: Final = (
    "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap",
)  # fmt: skip
_CPUS: Final = Path("/sys/devices/system/cpu")
_MASKED_OF_EACH_CPU: Final = "cpu[0-9]*/thermal_throttle"
"""How warm a processor gets tells what runs on it."""
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


def capability_name(text: str) -> str:
    """``CAP_NET_ADMIN`` for ``net_admin`` and the like; ``ALL`` stays.

    Raises:
        InvalidArgument: the kernel has none of that name.
    """
    name = text.upper()
    if name == ALL:
        return name
    name = name if name.startswith("CAP_") else f"CAP_{name}"
    if name not in ALL_CAPABILITIES:
        raise InvalidArgument(f"there is no capability {text[:60]!r}", hint="see capabilities(7)")
    return name


def capabilities_of(spec: ContainerSpec, host: HostFacts) -> tuple[str, ...]:
    """What a container gets: the usual ones with what is added and without what is dropped; what is named wins over ``ALL``."""
    added = {capability_name(text) for text in spec.security.cap_add}
    dropped = {capability_name(text) for text in spec.security.cap_drop}
    if ALL in added:
        wanted = set(ALL_CAPABILITIES) - dropped
    elif ALL in dropped:
        wanted = added
    else:
        wanted = {*(ALL_CAPABILITIES if spec.privileged else DEFAULT_CAPABILITIES)} - dropped | added
    return tuple(name for name in ALL_CAPABILITIES if name in wanted and name in host.capabilities)


def seccomp_of(spec: ContainerSpec, host: HostFacts) -> dict[str, Any] | None:
    """Which system calls a container may make; None: all."""
    wanted = spec.security.seccomp
    if wanted == UNCONFINED or (spec.privileged and not wanted):
        return None
    capabilities = frozenset(capabilities_of(spec, host))
    return read_profile(wanted, capabilities) if wanted else default_profile(capabilities)


def seccomp_digest(spec: ContainerSpec, host: HostFacts) -> str:
    """What tells one profile from another; empty where there is none."""
    if spec.security.seccomp in {"", UNCONFINED}:
        return _digest_of_default(frozenset(capabilities_of(spec, host))) if seccomp_of(spec, host) is not None else ""
    return _digest(seccomp_of(spec, host))


@cache
def _digest_of_default(capabilities: frozenset[str]) -> str:
    return _digest(default_profile(capabilities))


def _digest(profile: dict[str, Any] | None) -> str:
    return "sha256:" + hashlib.sha256(json.dumps(profile, sort_keys=True).encode()).hexdigest()


def masked_paths(spec: ContainerSpec) -> list[str]:
    """What it sees empty."""
    mine = list(spec.security.mask)
    if spec.privileged:
        return mine
    usual = [*_MASKED_PATHS, *sorted(map(str, _CPUS.glob(_MASKED_OF_EACH_CPU)))]
    return [path for path in usual if not _unmasked(path, spec)] + mine


def read_only_paths(spec: ContainerSpec) -> list[str]:
    """What of the kernel's filesystems it cannot write."""
    return [] if spec.privileged else [path for path in _READ_ONLY_PATHS if not _unmasked(path, spec)]


def _unmasked(path: str, spec: ContainerSpec) -> bool:
    return any(pattern == ALL or fnmatchcase(path, pattern) for pattern in spec.security.unmask)


# -- devices ----------------------------------------------------------------------------------------------------------


def find_devices(wanted: Sequence[Device]) -> list[dict[str, Any]]:
    """The nodes to make in a container for the devices it was given, as they are on the host now. Blocks.

    Raises:
        InvalidArgument: something is no device, or there are too many.
    """
    found: list[dict[str, Any]] = []
    for device in wanted:
        for path, target in _nodes(device):
            node = _node(path, target)
            if node is None:
                raise InvalidArgument(f"{device.source!r} is not a device of this host", hint="name one, as /dev/fuse")
            found.append(node | {"access": device.access})
            if len(found) > _MAX_DEVICES:
                raise InvalidArgument(f"a container cannot have more than {_MAX_DEVICES} devices")
    return found


def _nodes(device: Device) -> Iterator[tuple[Path, str]]:
    source = Path(device.source)
    if not source.is_dir():
        yield source, device.target
        return
    for directory, _directories, names in os.walk(source):
        for name in sorted(names):
            path = Path(directory, name)
            if _node(path, "") is not None:
                yield path, f"{device.target}/{path.relative_to(source)}"


def _node(path: Path, target: str) -> dict[str, Any] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    kind = "c" if stat.S_ISCHR(status.st_mode) else "b" if stat.S_ISBLK(status.st_mode) else ""
    if not kind:
        return None
    return {
        "path": target,
        "type": kind,
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": status.st_mode & 0o777,
        "uid": status.st_uid,
        "gid": status.st_gid,
    }


def device_rules(spec: ContainerSpec, given: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Which devices it may open."""
    if spec.privileged:
        return [{"allow": True, "access": "rwm"}]
    mine: list[dict[str, Any]] = [{key: node[key] for key in ("type", "major", "minor", "access")} for node in given]
    rules: list[dict[str, Any]] = [*_DEVICES, *mine, *chain.from_iterable(map(_expand, spec.security.device_rules))]
    return [{"allow": False, "access": "rwm"}, *({"allow": True, **rule} for rule in rules)]


def _expand(rule: DeviceRule) -> Iterator[dict[str, Any]]:
    numbers = {"major": rule.major, "minor": rule.minor}
    known = {name: number for name, number in numbers.items() if number != ANY_NUMBER}
    for kind in ("b", "c") if rule.kind == "a" else (rule.kind,):  # of `a` runc takes every number for any
        yield {"type": kind, **known, "access": rule.access}


def device_nodes(spec: ContainerSpec, given: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The nodes that the runtime is to make."""
    nodes = [{key: value for key, value in node.items() if key != "access"} for node in given]
    if not spec.privileged:
        return nodes
    taken = {node["path"] for node in nodes}
    return [*nodes, *(node for node in _host_devices() if node["path"] not in taken)]


def _host_devices() -> Iterator[dict[str, Any]]:
    """The device nodes of the host, for a privileged container; what the runtime makes anyway is left to it."""
    made = {"null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"}
    for entry in sorted(os.scandir("/dev"), key=lambda one: one.name):
        if entry.name in made or entry.is_symlink() or entry.is_dir():
            continue
        node = _node(Path(entry.path), entry.path)
        if node is not None:
            yield node
