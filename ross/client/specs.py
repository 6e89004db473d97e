"""Keyword options to the spec of a container."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypedDict

from ross.errors import InvalidArgument
from ross.model.archives import ArchiveFormat
from ross.model.containers import BindMount, ContainerSpec, NetworkMode, RestartMode, RestartPolicy
from ross.model.images import Platform

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


class CreateOptions(TypedDict, total=False):
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
    mounts: Sequence[BindMount]
    network: str
    read_only: bool
    privileged: bool
    no_new_privileges: bool
    memory: int
    """Bytes."""
    cpus: float
    pids_limit: int
    labels: Mapping[str, str]
    auto_remove: bool
    stop_signal: str
    stop_timeout: int
    """Seconds."""
    restart: str
    """``no``, ``on-failure[:retries]``, ``always`` or ``unless-stopped``."""


def make_spec(args: Sequence[str], options: CreateOptions) -> ContainerSpec:
    """The spec that these options mean.

    Raises:
        InvalidArgument: an option is not one, or its value is not.
    """
    unknown = set(options) - set(CreateOptions.__annotations__)
    if unknown:
        raise InvalidArgument(
            f"there is no option {min(unknown)!r}", hint=f"the options are {', '.join(CreateOptions.__annotations__)}"
        )
    if isinstance(args, str):
        raise InvalidArgument("the command is a list of words, not one text", hint=f"did you mean {args.split()!r}?")
    env = options.get("env", ())
    entrypoint = options.get("entrypoint")
    return ContainerSpec(
        name=options.get("name", ""),
        args=tuple(args),
        entrypoint=tuple(entrypoint) if entrypoint is not None else None,
        env=tuple(f"{key}={value}" for key, value in env.items()) if isinstance(env, Mapping) else tuple(env),
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
        no_new_privileges=options.get("no_new_privileges", False),
        memory_bytes=options.get("memory", 0),
        nano_cpus=round(options.get("cpus", 0.0) * 1e9),
        pids_limit=options.get("pids_limit", 0),
        labels=dict(options.get("labels", {})),
        auto_remove=options.get("auto_remove", False),
        stop_signal=options.get("stop_signal", ""),
        stop_grace_seconds=options.get("stop_timeout", 10),
        restart=parse_restart(options.get("restart", "no")),
    )


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
