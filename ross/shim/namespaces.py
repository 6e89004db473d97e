"""The namespaces of a container, and what can be set in its own (runtime-spec, config-linux.md, "Namespaces", "Sysctl")."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from ross.errors import InvalidArgument
from ross.model.containers import NetworkMode
from ross.model.namespaces import NamespaceMode, UserMode

if TYPE_CHECKING:
    from ross.model.containers import ContainerSpec
    from ross.shim.facts import HostFacts

_OF_IPC: Final = frozenset({
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
    "kernel.shm_rmid_forced",
})  # fmt: skip
_KEY: Final = re.compile(r"[a-z0-9_-]+(\.[a-zA-Z0-9_-]+)+\Z")
_VALUE: Final = re.compile(r"[a-zA-Z0-9_./:,-]([a-zA-Z0-9_./:, \t-]{0,254}[a-zA-Z0-9_./:,-])?\Z")
_HOST: Final = NamespaceMode.HOST


@frozen(kw_only=True)
class Joined:
    """What a container has of others that run now."""

    paths: Mapping[str, str] = field(factory=dict)
    """Namespaces, by their kind."""
    shm: Path | None = None
    """The shared memory that goes with the namespace of IPC."""


def namespaces_of(spec: ContainerSpec, host: HostFacts, joined: Joined) -> list[dict[str, str]]:
    """The namespaces that it has of its own, and those that it joins."""
    own = spec.namespaces
    kinds = {
        "pid": own.pid is not _HOST,
        "ipc": own.ipc is not _HOST,
        "uts": own.uts is not _HOST,
        "mount": True,
        "network": spec.network is not NetworkMode.HOST,
        "cgroup": host.cgroup_namespaces and own.cgroup is not _HOST,
        "user": own.users.mode is not UserMode.HOST,
    }
    return [
        {"type": kind, **({"path": joined.paths[kind]} if kind in joined.paths else {})}
        for kind, wanted in kinds.items()
        if wanted
    ]


def id_mappings_of(spec: ContainerSpec) -> dict[str, list[dict[str, int]]]:
    """The ids of its users, if they are its own ("User namespace mappings")."""
    users = spec.namespaces.users
    if users.mode is UserMode.HOST:
        return {}
    return {
        name: [{"containerID": one.inside, "hostID": one.outside, "size": one.size} for one in ranges]
        for name, ranges in (("uidMappings", users.uids), ("gidMappings", users.gids))
    }


def check_sysctls(spec: ContainerSpec) -> None:
    """Check that it sets only what it has its own of, and nothing that something on the way could read as more than one value.

    Raises:
        InvalidArgument: it does not.
    """
    for key, value in spec.security.sysctls.items():
        if not _KEY.match(key):
            raise InvalidArgument(f"{key[:80]!r} is not the name of a kernel parameter")
        if not _VALUE.match(value):
            raise InvalidArgument(f"the value {value[:80]!r} of {key} is not one of a kernel parameter")
        ipc, network = key in _OF_IPC or key.startswith("fs.mqueue."), key.startswith("net.")
        if not (ipc or network):
            raise InvalidArgument(
                f"{key} belongs to the whole host, not to a container",
                hint=f"there are net.*, fs.mqueue.*, {', '.join(sorted(_OF_IPC))}",
            )
        if ipc and spec.namespaces.ipc is NamespaceMode.CONTAINER:
            raise InvalidArgument(f"{key} is another container's own here, since it shares the namespace")
        if (ipc and spec.namespaces.ipc is _HOST) or (network and spec.network is NetworkMode.HOST):
            raise InvalidArgument(f"{key} is the host's own here, since the container shares its namespace")
