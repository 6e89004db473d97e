"""What ``inspect`` shows: a container under the names that Docker has for what it has, with Ross's own beside them.

As in Podman, a name has no slash before it. A key that Docker has and Ross has nothing for is left out, not made up.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final

from ross.cli.template_values import NO_LIST, Fields, Labels
from ross.model.containers import Bounds, ContainerState, RestartMode
from ross.model.limits import ThrottleKind
from ross.model.logs import LogDriver
from ross.model.mounts import MountKind, Recursion

if TYPE_CHECKING:
    from ross.model.containers import ContainerInfo, ContainerSpec
    from ross.model.health import HealthInfo
    from ross.model.mounts import Mount
    from ross.model.namespaces import UserNamespace

NEVER: Final = "0001-01-01T00:00:00Z"
"""What Docker says of a time that there is not."""
_RUNNING: Final = frozenset({
    ContainerState.RUNNING,
    ContainerState.PAUSED,
    ContainerState.STOPPING,
    ContainerState.RESTARTING,
})
_DEFAULT_SHM_BYTES: Final = 64 << 20
_LABEL_PARTS: Final = ("user", "role", "type", "level")
_NO_ADDRESS: Final = {
    "IPAddress": "",
    "IPPrefixLen": 0,
    "Gateway": "",
    "GlobalIPv6Address": "",
    "GlobalIPv6PrefixLen": 0,
    "IPv6Gateway": "",
    "MacAddress": "",
}
"""What Docker says of a container that has no address of its own, as none has here."""
_THROTTLES: Final = {
    ThrottleKind.READ_BPS: "BlkioDeviceReadBps",
    ThrottleKind.WRITE_BPS: "BlkioDeviceWriteBps",
    ThrottleKind.READ_IOPS: "BlkioDeviceReadIOps",
    ThrottleKind.WRITE_IOPS: "BlkioDeviceWriteIOps",
    ThrottleKind.WEIGHT: "BlkioWeightDevice",
}


class StateFields(Fields):
    """A state, which may have nothing of health in it."""

    absent: ClassVar[Mapping[str, Any]] = {"Health": None}


class ConfigFields(Fields):
    """What a container was made with, which may be without a health check."""

    absent: ClassVar[Mapping[str, Any]] = {
        **dict.fromkeys(("Cmd", "Entrypoint", "OnBuild"), NO_LIST),
        **dict.fromkeys(("Healthcheck", "HealthcheckOnFailureAction")),
    }


class ContainerFields(Fields):
    """A container; its sizes are there if they were asked for."""

    also: ClassVar[Mapping[str, str]] = {"ID": "Id"}
    absent: ClassVar[Mapping[str, Any]] = dict.fromkeys(("SizeRw", "SizeRootFs"))


def container_fields(info: ContainerInfo, image: Mapping[str, Any], *, root_bytes: int = -1) -> ContainerFields:
    """A container.

    Args:
        info: What is known of it.
        image: The ``config`` of the config of its image, as far as there is one.
        root_bytes: The size of its image's files, if sizes are wanted; what it has written is in ``info`` then.
    """
    etc = info.rootfs_path.rsplit("/", 2)[0] + "/etc"
    host = info.spec.network.value == "host"
    known = root_bytes >= 0 and info.written_bytes >= 0
    sizes = {"SizeRw": info.written_bytes, "SizeRootFs": root_bytes + info.written_bytes} if known else {}
    return ContainerFields({
        "Id": info.id,
        "Created": time_text(info.created_at),
        "Path": info.command[0] if info.command else "",
        "Args": list(info.command[1:]),
        "State": _state(info),
        "Image": str(info.image_id),
        "ImageName": info.image,
        "Manifest": str(info.manifest),
        "ResolvConfPath": f"{etc}/resolv.conf",
        "HostnamePath": f"{etc}/hostname",
        "HostsPath": f"{etc}/hosts",
        "LogPath": info.log_path,
        "Name": info.name,
        "RestartCount": info.restart_count,
        "Driver": "overlay",
        "Platform": "linux",
        "AppArmorProfile": info.spec.security.apparmor,
        "ProcessLabel": info.spec.security.selinux,
        "Seccomp": info.seccomp,
        "GraphDriver": {"Name": "overlay", "Data": {"MergedDir": info.rootfs_path}},
        **sizes,
        "HostConfig": _host_config(info),
        "Mounts": [_mount(mount) for mount in info.spec.mounts],
        "Config": _config(info, image),
        "NetworkSettings": {
            "Ports": Labels(),
            "Networks": Labels({info.spec.network.value: dict(_NO_ADDRESS)}),
            **_NO_ADDRESS,
            "SandboxKey": f"/proc/{info.pid}/ns/net" if info.pid and not host else "",
        },
    })


def _state(info: ContainerInfo) -> StateFields:
    outcome = info.outcome
    health = {"Health": _health(info.health)} if info.health is not None else {}
    return StateFields({
        "Status": "exited" if info.state is ContainerState.STOPPED else info.state.value,
        "Running": info.state in _RUNNING,
        "Paused": info.state is ContainerState.PAUSED,
        "Restarting": info.state is ContainerState.RESTARTING,
        "OOMKilled": outcome is not None and outcome.oom,
        "Dead": False,
        "Pid": info.pid,
        "ExitCode": info.error_code or (outcome.exit_code if outcome is not None else 0),
        "Signal": outcome.signal if outcome is not None else 0,
        "Error": info.error or (outcome.error if outcome is not None else ""),
        "StartedAt": time_text(info.started_at),
        "FinishedAt": time_text(outcome.finished_at if outcome is not None else 0),
        **_checkpoint(info),
        **health,
    })


def _checkpoint(info: ContainerInfo) -> dict[str, Any]:
    """As Podman has them; where there is no such thing the text is empty."""
    stored, outcome = info.checkpoint, info.outcome
    ended = outcome is not None and outcome.checkpointed
    return {
        "Checkpointed": ended,
        "CheckpointedAt": time_text(outcome.finished_at if outcome is not None and ended else 0),
        "CheckpointPath": stored.path if stored is not None else "",
        "CheckpointLog": stored.log_path if stored is not None else "",
        "Restored": info.restored_at > 0,
        "RestoredAt": time_text(info.restored_at),
        "RestoreLog": stored.restore_log_path if stored is not None else "",
    }


def _health(health: HealthInfo) -> Fields:
    return Fields({
        "Status": health.state.value,
        "FailingStreak": health.failing_streak,
        "Log": [
            {
                "Start": time_text(result.started_at),
                "End": time_text(result.finished_at),
                "ExitCode": result.exit_code,
                "Output": result.output,
            }
            for result in health.results
        ],
    })


def _healthcheck(spec: ContainerSpec, image: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for, and of the image where that says nothing; nothing if neither has a check."""
    ours, theirs = spec.health, image.get("Healthcheck") or {}
    asked = {
        "Test": list(ours.test),
        "Interval": ours.interval_ns,
        "Timeout": ours.timeout_ns,
        "StartPeriod": ours.start_period_ns,
        "StartInterval": ours.start_interval_ns,
        "Retries": ours.retries,
    }
    found = {**theirs, **{name: value for name, value in asked.items() if value}}
    if not found.get("Test"):
        return {}
    return {"Healthcheck": found, "HealthcheckOnFailureAction": ours.on_failure.value}


def _host_config(info: ContainerInfo) -> Fields:
    spec = info.spec
    resources, security = spec.resources, spec.security
    bounds = info.bounds or Bounds(pids_limit=spec.limits.pids_limit, masked_paths=security.mask)
    mode = {RestartMode.ON_FAILURE: "on-failure", RestartMode.UNLESS_STOPPED: "unless-stopped"}.get(
        spec.restart.mode, spec.restart.mode.value
    )
    return Fields({
        "Binds": [_bind(mount) for mount in spec.mounts if mount.kind is MountKind.BIND],
        "LogConfig": {
            "Type": "k8s-file" if spec.log.driver is LogDriver.FILE else spec.log.driver.value,
            "Config": Labels(
                {"tag": spec.log.tag}
                if spec.log.tag
                else {"max-size": str(spec.log.max_bytes), "max-file": str(spec.log.max_files)}
            ),
        },
        "NetworkMode": spec.network.value,
        "PortBindings": Labels(),
        "RestartPolicy": {"Name": mode, "MaximumRetryCount": spec.restart.max_retries},
        "AutoRemove": spec.auto_remove,
        "CapAdd": list(security.cap_add),
        "CapDrop": list(security.cap_drop),
        "CgroupnsMode": spec.namespaces.cgroup.value,
        "Dns": list(spec.resolution.servers),
        "DnsOptions": list(spec.resolution.options),
        "DnsSearch": list(spec.resolution.search),
        "ExtraHosts": list(spec.resolution.hosts),
        "GroupAdd": list(security.groups),
        "CgroupParent": resources.cgroup_parent,
        "IpcMode": _whose(spec.namespaces.ipc.value, spec.namespaces.ipc_container),
        "OomScoreAdj": resources.oom_score_adj,
        "PidMode": _whose(spec.namespaces.pid.value, spec.namespaces.pid_container),
        "Privileged": spec.privileged,
        "ReadonlyRootfs": spec.read_only,
        "SecurityOpt": _security_options(spec),
        "Tmpfs": Labels({mount.target: _options(mount) for mount in spec.mounts if mount.kind is MountKind.TMPFS}),
        "UTSMode": spec.namespaces.uts.value,
        "UsernsMode": spec.namespaces.users.mode.value,
        "IDMappings": _id_mappings(spec.namespaces.users),
        "ShmSize": resources.shm_bytes or _DEFAULT_SHM_BYTES,
        "Sysctls": Labels(security.sysctls),
        **_resources(spec, bounds),
        "Init": spec.init,
        "Annotations": Labels(spec.annotations),
        "MaskedPaths": list(bounds.masked_paths),
        "ReadonlyPaths": list(bounds.read_only_paths),
        "UnmaskedPaths": list(security.unmask),
    })


def _resources(spec: ContainerSpec, bounds: Bounds) -> dict[str, Any]:
    """How much it may have of the host, and which devices."""
    limits, resources, security = spec.limits, spec.resources, spec.security
    throttles: dict[str, list[dict[str, Any]]] = {name: [] for name in _THROTTLES.values()}
    for one in resources.throttles:
        unit = "Weight" if one.kind is ThrottleKind.WEIGHT else "Rate"
        throttles[_THROTTLES[one.kind]].append({"Path": one.device, unit: one.rate})
    return {
        "CpuShares": limits.cpu_shares,
        "Memory": limits.memory_bytes,
        "NanoCpus": limits.nano_cpus,
        "BlkioWeight": limits.blkio_weight,
        **throttles,
        "CpuPeriod": limits.cpu_period_us,
        "CpuQuota": limits.cpu_quota_us,
        "CpusetCpus": limits.cpuset_cpus,
        "CpusetMems": limits.cpuset_mems,
        "Devices": [
            {"PathOnHost": one.source, "PathInContainer": one.target, "CgroupPermissions": one.access}
            for one in security.devices
        ],
        "DeviceCgroupRules": [str(rule) for rule in security.device_rules],
        "MemoryReservation": limits.memory_reservation_bytes,
        "MemorySwap": limits.memory_swap_bytes,
        "MemorySwappiness": resources.memory_swappiness,
        "OomKillDisable": resources.oom_kill_disable,
        "PidsLimit": bounds.pids_limit,
        "Ulimits": [{"Name": one.name, "Soft": one.soft, "Hard": one.hard} for one in resources.ulimits],
    }


def _security_options(spec: ContainerSpec) -> list[str]:
    security = spec.security
    found = ["no-new-privileges"] if security.no_new_privileges else []
    found += [f"seccomp={security.seccomp}"] if security.seccomp else []
    found += [f"apparmor={security.apparmor}"] if security.apparmor else []
    return found + [
        f"label={name}:{part}" for name, part in zip(_LABEL_PARTS, security.selinux.split(":", 3), strict=False) if part
    ]


def _config(info: ContainerInfo, image: Mapping[str, Any]) -> Fields:
    """What it was made with: of the image, and in its place or beside it, of the one who created it."""
    spec = info.spec
    env = {entry.partition("=")[0]: entry for entry in (*(image.get("Env") or ()), *spec.env)}
    given = spec.entrypoint is not None
    return ConfigFields({
        "Hostname": spec.hostname or info.id[:12],
        "User": spec.user or image.get("User", ""),
        "ExposedPorts": Labels(image.get("ExposedPorts") or {}),
        "Tty": spec.terminal,
        "OpenStdin": spec.stdin_open,
        "StdinOnce": spec.stdin_open and not spec.stdin_kept,
        "Env": list(env.values()),
        "Cmd": list(spec.args) or (None if given else image.get("Cmd")),
        "Image": info.image,
        "Volumes": Labels(image.get("Volumes") or {}),
        "WorkingDir": spec.working_dir or image.get("WorkingDir", ""),
        "Entrypoint": list(spec.entrypoint or ()) if given else image.get("Entrypoint"),
        "OnBuild": image.get("OnBuild"),
        "Labels": Labels(spec.labels),
        "StopSignal": spec.stop_signal or image.get("StopSignal") or "SIGTERM",
        "StopTimeout": spec.stop_grace_seconds,
        **_healthcheck(spec, image),
    })


def _mount(mount: Mount) -> dict[str, Any]:
    return {
        "Type": mount.kind.value,
        "Source": mount.source,
        "Destination": mount.target,
        "Mode": _options(mount),
        "RW": not mount.read_only,
        "Propagation": mount.propagation if mount.kind is MountKind.BIND else "",
    }


def _bind(mount: Mount) -> str:
    options = _options(mount)
    return f"{mount.source}:{mount.target}" + (f":{options}" if options else "")


def _options(mount: Mount) -> str:
    """What is not as it is without saying."""
    found = ["ro"] if mount.read_only else []
    found += [] if mount.recursion is Recursion.ENABLED else [f"bind-recursive={mount.recursion.value}"]
    found += [] if mount.propagation == "rprivate" else [mount.propagation]
    found += [*mount.options, *(["z"] if mount.relabel else []), *(["idmap"] if mount.idmap else [])]
    found += [f"image-subpath={mount.subpath}"] if mount.subpath else []
    found += [f"size={mount.size_bytes}"] if mount.size_bytes else []
    return ",".join(found + ([f"mode={mount.mode:o}"] if mount.mode else []))


def time_text(nanoseconds: int) -> str:
    """A time as Docker writes it."""
    if not nanoseconds:
        return NEVER
    whole = datetime.fromtimestamp(nanoseconds // 10**9, tz=UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 10**9:09d}Z"


def _id_mappings(users: UserNamespace) -> dict[str, list[str]]:
    """As Podman has them; empty for the host's own."""
    return {
        name: [f"{one.inside}:{one.outside}:{one.size}" for one in ranges]
        for name, ranges in (("UidMap", users.uids), ("GidMap", users.gids))
        if ranges
    }


def _whose(mode: str, owner: str) -> str:
    """The mode of a namespace: ``container:<id>`` for another container's."""
    return f"{mode}:{owner}" if owner else mode
