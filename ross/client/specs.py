"""Keyword options to the spec of a container."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve

from ross.client.health import HealthOptions, make_health
from ross.client.keywords import check_options, command_words, env_entries, listed
from ross.client.limits import LimitOptions, make_limits
from ross.client.users import make_users
from ross.errors import InvalidArgument
from ross.model.archives import ArchiveFormat
from ross.model.containers import ContainerSpec, NetworkMode, RestartMode, RestartPolicy
from ross.model.images import Platform
from ross.model.limits import HugePages, Resources, Throttle, Ulimit
from ross.model.logs import LogConfig, LogDriver
from ross.model.namespaces import NamespaceMode, Namespaces, Resolution
from ross.model.security import Device, DeviceRule, Security
from ross.sizes import parse_size

if TYPE_CHECKING:
    from ross.client.connection import Session
    from ross.client.containers import Container
    from ross.model.mounts import Mount

_LOG_DRIVERS: Final = {
    **dict.fromkeys(("file", "json-file", "k8s-file", "local"), LogDriver.FILE),
    "none": LogDriver.NONE,
    "passthrough": LogDriver.PASSTHROUGH,
    "journald": LogDriver.JOURNALD,
}
_LOG_OPTIONS: Final = {LogDriver.FILE: {"max-size", "max-file"}, LogDriver.JOURNALD: {"tag"}}
_FORMATS: Final = {
    "": ArchiveFormat.BOTH,
    "oci-archive": ArchiveFormat.OCI_ARCHIVE,
    "docker-archive": ArchiveFormat.DOCKER_ARCHIVE,
}
_RESTARTS: Final = {
    "": RestartMode.NO,
    "no": RestartMode.NO,
    "on-failure": RestartMode.ON_FAILURE,
    "always": RestartMode.ALWAYS,
    "unless-stopped": RestartMode.UNLESS_STOPPED,
}


class CreateOptions(LimitOptions, HealthOptions, total=False):
    """What ``create`` takes beside the command; each as the flag of ``ross run`` with the same name."""

    name: str
    entrypoint: Sequence[str]
    env: Mapping[str, str] | Sequence[str]
    workdir: str
    user: str
    hostname: str
    terminal: bool
    stdin: bool
    stdin_kept: bool
    mounts: Sequence[Mount]
    mount_fds: Mapping[str, int]
    """By target, descriptors of ours that are mounted in the place of a source: a directory or file as it was opened, whatever is at its
    path by then. Their mounts are among ``mounts``, and have no source."""
    network: str
    """``none`` or ``host``."""
    read_only: bool
    privileged: bool
    no_new_privileges: bool
    cap_add: Sequence[str]
    cap_drop: Sequence[str]
    seccomp: str
    """``unconfined``, or a profile in JSON."""
    apparmor: str
    selinux: str
    """The label of its processes, ``user:role:type:level``."""
    mask: Sequence[str]
    unmask: Sequence[str]
    """Patterns of paths, or ``ALL``."""
    devices: Sequence[Device]
    device_rules: Sequence[DeviceRule]
    group_add: Sequence[str]
    sysctls: Mapping[str, str]
    shm_size: int
    """Bytes."""
    memory_swappiness: int
    oom_score_adj: int
    oom_kill_disable: bool
    ulimits: Sequence[Ulimit]
    throttles: Sequence[Throttle]
    huge_pages: Sequence[HugePages]
    cgroup_parent: str
    """A path below the root of the hierarchies, or a slice where systemd makes the control groups."""
    pid: str | Container
    """``private``, ``host``, or a container whose namespace of processes it is to be in."""
    ipc: str | Container
    """Likewise, of IPC, with its shared memory; the next two ``private`` or ``host``."""
    uts: str
    cgroupns: str
    userns: str
    """``host``, ``auto`` for users of its own, ``auto:size=N``, or ``map`` for those that the next two say."""
    uid_map: Sequence[str]
    """``CONTAINER:HOST:SIZE``: so many user ids of the container, from the first on, are those of the host."""
    gid_map: Sequence[str]
    """The same of groups; as ``uid_map`` if there are none."""
    volumes_from: Sequence[Container | tuple[Container, str]]
    """Containers whose mounts of the host's files it has too; with ``ro`` or ``rw`` for all of one's, or as they are."""
    add_hosts: Sequence[str]
    """``name:address``."""
    dns: Sequence[str]
    dns_search: Sequence[str]
    dns_options: Sequence[str]
    init: bool
    annotations: Mapping[str, str]
    labels: Mapping[str, str]
    auto_remove: bool
    stop_signal: str
    stop_timeout: int
    """Seconds."""
    restart: str
    """``no``, ``on-failure[:retries]``, ``always`` or ``unless-stopped``."""
    log_driver: str
    """``file``, ``journald``, ``none`` or ``passthrough``."""
    log_options: Mapping[str, str]
    """``max-size`` and ``max-file``; of the journal ``tag``."""


def make_spec(args: Sequence[str], options: CreateOptions) -> ContainerSpec:
    """The spec that these options mean.

    Raises:
        InvalidArgument: an option is not one, or its value is not.
    """
    check_options(options, CreateOptions)
    entrypoint = options.get("entrypoint")
    return ContainerSpec(
        name=options.get("name", ""),
        args=command_words(args),
        entrypoint=command_words(entrypoint) if entrypoint is not None else None,
        env=env_entries(options.get("env", ())),
        working_dir=options.get("workdir", ""),
        user=options.get("user", ""),
        hostname=options.get("hostname", ""),
        terminal=options.get("terminal", False),
        stdin_open=options.get("stdin", False),
        stdin_kept=options.get("stdin_kept", False),
        mounts=tuple(options.get("mounts", ())),
        network=parse_network(options.get("network", "none")),
        read_only=options.get("read_only", False),
        privileged=options.get("privileged", False),
        init=options.get("init", False),
        limits=make_limits(options),
        resources=_resources(options),
        security=_security(options),
        namespaces=_namespaces(options),
        resolution=Resolution(
            hosts=listed("add_hosts", options.get("add_hosts", ())),
            servers=listed("dns", options.get("dns", ())),
            search=listed("dns_search", options.get("dns_search", ())),
            options=listed("dns_options", options.get("dns_options", ())),
        ),
        annotations=dict(options.get("annotations", {})),
        labels=dict(options.get("labels", {})),
        auto_remove=options.get("auto_remove", False),
        stop_signal=options.get("stop_signal", ""),
        stop_grace_seconds=options.get("stop_timeout", 10),
        restart=parse_restart(options.get("restart", "no")),
        log=parse_log(options.get("log_driver", "file"), options.get("log_options", {})),
        health=make_health(options),
    )


def _resources(options: CreateOptions) -> Resources:
    return Resources(
        shm_bytes=options.get("shm_size", 0),
        memory_swappiness=options.get("memory_swappiness", -1),
        oom_score_adj=options.get("oom_score_adj", 0),
        oom_kill_disable=options.get("oom_kill_disable", False),
        ulimits=tuple(options.get("ulimits", ())),
        throttles=tuple(options.get("throttles", ())),
        huge_pages=tuple(options.get("huge_pages", ())),
        cgroup_parent=options.get("cgroup_parent", ""),
    )


def _security(options: CreateOptions) -> Security:
    return Security(
        no_new_privileges=options.get("no_new_privileges", False),
        cap_add=listed("cap_add", options.get("cap_add", ())),
        cap_drop=listed("cap_drop", options.get("cap_drop", ())),
        seccomp=options.get("seccomp", ""),
        apparmor=options.get("apparmor", ""),
        selinux=options.get("selinux", ""),
        mask=listed("mask", options.get("mask", ())),
        unmask=listed("unmask", options.get("unmask", ())),
        devices=tuple(options.get("devices", ())),
        device_rules=tuple(options.get("device_rules", ())),
        groups=listed("group_add", options.get("group_add", ())),
        sysctls=dict(options.get("sysctls", {})),
    )


def _namespaces(options: CreateOptions) -> Namespaces:
    """Who has all privileges sees the host's control groups, unless it is said otherwise."""
    cgroup = options.get("cgroupns", "") or ("host" if options.get("privileged", False) else "")
    return Namespaces(
        pid=parse_namespace(options.get("pid", "")),
        ipc=parse_namespace(options.get("ipc", "")),
        uts=parse_namespace(options.get("uts", "")),
        cgroup=parse_namespace(cgroup),
        users=make_users(options.get("userns", ""), options.get("uid_map", ()), options.get("gid_map", ())),
    )


def shared_of(options: CreateOptions, session: Session) -> dict[str, Any]:
    """The references and descriptors that the options hand over, as the message ``Shared``; empty if none.

    Raises:
        FailedPrecondition: no descriptors can travel on this connection.
        InvalidArgument: a container came by another connection.
    """
    shared: dict[str, Any] = {}
    for kind, owner in (("pid", options.get("pid", "")), ("ipc", options.get("ipc", ""))):
        if not isinstance(owner, str):
            shared[kind] = owner.shared_over(session)
    pairs = [one if isinstance(one, tuple) else (one, "") for one in options.get("volumes_from", ())]
    if pairs:
        shared["mounts"] = [{"container": owner.shared_over(session), "mode": mode} for owner, mode in pairs]
    if fds := options.get("mount_fds"):
        sent = session.send_fds(list(fds.values()))
        shared["handed"] = [{"target": target, "fd": number} for target, number in zip(fds, sent, strict=True)]
    return shared


def parse_namespace(text: str | Container) -> NamespaceMode:
    """``private``, ``host``, a container, or nothing for private.

    Raises:
        InvalidArgument: it is none of them.
    """
    if not isinstance(text, str):
        return NamespaceMode.CONTAINER
    if text not in {"", "private", "host"}:
        raise InvalidArgument(
            f"there is no namespace {text!r}", hint="there are private, host, and for pid and ipc container:NAME"
        )
    return NamespaceMode(text or "private")


def parse_network(text: str) -> NetworkMode:
    """``none`` or ``host``.

    Raises:
        InvalidArgument: it is neither.
    """
    try:
        mode = NetworkMode(text)
    except ValueError:
        mode = NetworkMode.UNKNOWN
    if mode is NetworkMode.UNKNOWN:
        raise InvalidArgument(f"there is no network {text!r}", hint="the networks are none and host")
    return mode


def parse_log(driver: str, options: Mapping[str, str]) -> LogConfig:
    """The drivers are ``file`` (also by the names of what others write to files), ``journald``, ``none`` and ``passthrough``.

    Raises:
        InvalidArgument: there is no such driver or option, or its value is none.
    """
    found = _LOG_DRIVERS.get(driver)
    if found is None:
        raise InvalidArgument(
            f"there is no log driver {driver!r}", hint="the drivers are file, journald, none and passthrough"
        )
    unknown = set(options) - _LOG_OPTIONS.get(found, set())
    if unknown:
        raise InvalidArgument(
            f"there is no option {min(unknown)!r} of the log driver {driver}",
            hint="the driver file has max-size and max-file, journald has tag",
        )
    size, files = options.get("max-size", ""), options.get("max-file", "")
    if files and not files.isdigit():
        raise InvalidArgument(f"{files!r} is not a number of files", hint="write max-file=5")
    plain = LogConfig(driver=found, tag=options.get("tag", ""))
    return evolve(
        plain,
        max_bytes=plain.max_bytes if not size else 0 if size == "-1" else parse_size(size),
        max_files=int(files) if files else plain.max_files,
    )


def parse_restart(text: str) -> RestartPolicy:
    """``no``, ``on-failure[:retries]``, ``always`` or ``unless-stopped``.

    Raises:
        InvalidArgument: it is none of them.
    """
    name, colon, number = text.partition(":")
    mode = _RESTARTS.get(name)
    if mode is None or (colon and not (mode is RestartMode.ON_FAILURE and number.isascii() and number.isdigit())):
        raise InvalidArgument(
            f"there is no restart policy {text!r}",
            hint="the policies are no, on-failure, on-failure:5, always and unless-stopped",
        )
    return RestartPolicy(mode=mode, max_retries=int(number) if number else 0)


def parse_format(text: str) -> ArchiveFormat:
    """``oci-archive`` or ``docker-archive``; both if empty.

    Raises:
        InvalidArgument: it is neither.
    """
    found = _FORMATS.get(text)
    if found is None:
        raise InvalidArgument(f"there is no format {text!r}", hint="the formats are docker-archive and oci-archive")
    return found


def parse_platform(text: str) -> Platform:
    """``os/architecture[/variant]``, or an architecture alone.

    Raises:
        InvalidArgument: it is not of that form.
    """
    parts = text.split("/")
    if not 1 <= len(parts) <= 3 or not all(parts):
        raise InvalidArgument(
            f"{text!r} is not a platform", hint="write os/architecture[/variant], such as linux/arm64"
        )
    if len(parts) == 1:
        return Platform(os="linux", architecture=parts[0])
    return Platform(os=parts[0], architecture=parts[1], variant=parts[2] if len(parts) == 3 else "")
