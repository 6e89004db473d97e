"""What can be refused about a spec before anything is made."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from attrs import evolve

from ross.errors import InvalidArgument
from ross.model.containers import NetworkMode, RestartMode
from ross.model.mounts import MountKind
from ross.shim.health import check_health
from ross.shim.signals import parse_signal
from ross.shim.valid_limits import check_limits, check_resources
from ross.shim.valid_logs import check_log
from ross.shim.valid_mounts import check_mounts, normal_path
from ross.shim.valid_security import check_annotations, check_resolution, check_security
from ross.shim.valid_users import check_users

if TYPE_CHECKING:
    from ross.model.containers import ContainerSpec
    from ross.model.mounts import Mount

_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}\Z")
_HOSTNAME: Final = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,62}|[a-zA-Z0-9.-]{0,251}[a-zA-Z0-9])?\Z")
_LABEL_BYTES: Final = 64 << 10


def validate_spec(spec: ContainerSpec) -> None:
    """Check all that does not depend on the image or the host.

    Raises:
        InvalidArgument: something is not allowed; the message says what and why.
    """
    if spec.name:
        check_name(spec.name)
    if spec.hostname and not _HOSTNAME.match(spec.hostname):
        raise InvalidArgument(f"hostname {spec.hostname[:260]!r} is not a host name")
    if spec.network not in {NetworkMode.NONE, NetworkMode.HOST}:
        raise InvalidArgument("this engine does not know that network", hint="the networks are none and host")
    if spec.network is NetworkMode.HOST and spec.hostname:
        raise InvalidArgument(
            "a container in the host's network has the host's name", hint="leave out --hostname, or --network host"
        )
    if spec.working_dir and not spec.working_dir.startswith("/"):
        raise InvalidArgument(f"the working directory {spec.working_dir!r} is not an absolute path")
    if spec.stop_signal:
        parse_signal(spec.stop_signal)
    if spec.stop_grace_seconds < -1:
        raise InvalidArgument("the time to stop cannot be negative", hint="-1 means for ever")
    if spec.auto_remove and spec.restart.mode is not RestartMode.NO:
        raise InvalidArgument(
            "a container that is removed when it has stopped cannot be restarted", hint="leave out --rm, or --restart"
        )
    if spec.restart.max_retries and spec.restart.mode is not RestartMode.ON_FAILURE:
        raise InvalidArgument("a number of restarts goes with on-failure only", hint="write on-failure:5")
    for entry in spec.env:
        check_env(entry)
    for text in (*spec.args, *(spec.entrypoint or ()), spec.working_dir, spec.user, *spec.env):
        if "\0" in text:
            raise InvalidArgument("a text of the container has a zero byte in it")
    check_limits(spec.limits)
    check_log(spec.log, terminal=spec.terminal)
    check_health(spec.health)
    check_resources(spec.resources)
    check_security(spec)
    check_resolution(spec.resolution)
    check_users(spec)
    check_annotations(spec.annotations)
    check_mounts(spec.mounts)
    if sum(len(key) + len(value) for key, value in spec.labels.items()) > _LABEL_BYTES or "" in spec.labels:
        raise InvalidArgument(f"labels need a key, and take no more than {_LABEL_BYTES} bytes in all")


def normalise_spec(spec: ContainerSpec) -> ContainerSpec:
    """The same spec, with its mounts in the one form that everything else compares."""
    return evolve(spec, mounts=tuple(map(_normalised, spec.mounts)))


def _normalised(mount: Mount) -> Mount:
    return evolve(mount, target=normal_path(mount.target), read_only=mount.read_only or mount.kind is MountKind.IMAGE)


def check_name(name: str) -> None:
    """Check that a container can have a name.

    Raises:
        InvalidArgument: it is none.
    """
    if not _NAME.match(name):
        raise InvalidArgument(
            f"container name {name[:140]!r} is not allowed", hint="use letters, digits, '_', '.' and '-'"
        )


def check_env(entry: str) -> None:
    """Check that an entry of an environment is one.

    Raises:
        InvalidArgument: it is none.
    """
    if not entry.partition("=")[0]:
        raise InvalidArgument(f"the environment entry {entry[:80]!r} is neither NAME=value nor NAME")
