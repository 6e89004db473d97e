"""Flags for what keeps a container in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import define
from cyclopts import Parameter

from ross.cli.flags.limits import Switch, Words
from ross.cli.parse import parse_labels
from ross.errors import InvalidArgument
from ross.model.security import ANY_NUMBER, Device, DeviceRule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ross.client.specs import CreateOptions

_ACCESS: Final = frozenset("rwm")
_DEVICE_RULE: Final = re.compile(r"([acb]) ([0-9]{1,7}|\*):([0-9]{1,7}|\*) ([rwm]{1,3})", re.ASCII)
_MAX_PROFILE_BYTES: Final = 1 << 20
_LABEL: Final = {"user": "system_u", "role": "system_r", "type": "container_t", "level": "s0"}
"""The parts of a label of SELinux, as they are where only some are given."""
_OPTIONS: Final = (
    "no-new-privileges, seccomp=FILE|unconfined|builtin, apparmor=PROFILE|unconfined, label=disable, label=user:U|role:R|type:T|level:L, "
    "mask=PATH[:PATH], unmask=ALL|PATH[:PATH], systempaths=unconfined"
)


@Parameter(name="*")
@define(kw_only=True)
class SecurityFlags:
    """What ``run`` and ``create`` say of privileges."""

    privileged: Switch = False
    """Give it all the daemon may do. Not a sandbox any more."""
    cap_add: Words = ()
    """A capability beyond the usual ones, such as NET_ADMIN, or ALL. May be repeated."""
    cap_drop: Words = ()
    """One of the usual capabilities that it is not to have, or ALL. May be repeated."""
    security_opt: Words = ()
    """no-new-privileges, seccomp=FILE|unconfined|builtin, apparmor=PROFILE, label=type:TYPE, mask=PATH, unmask=PATH|ALL. Repeatable."""
    device: Words = ()
    """host-device[:container-device[:rwm]]; a directory stands for all devices in it. May be repeated."""
    device_cgroup_rule: Words = ()
    """A rule about devices that it may open without having been given them, such as 'c 10:229 rwm'. May be repeated."""
    group_add: Words = ()
    """A group, by name or number, that its user is also in. May be repeated."""
    sysctl: Words = ()
    """name=value of a kernel parameter that a namespace has its own of. May be repeated."""
    annotation: Words = ()
    """key=value for the runtime and its hooks. May be repeated."""

    def options(self) -> CreateOptions:
        """The options of the client library that these flags mean."""
        options: CreateOptions = {
            "privileged": self.privileged,
            "cap_add": self.cap_add,
            "cap_drop": self.cap_drop,
            "devices": [parse_device(text) for text in self.device],
            "device_rules": [parse_device_rule(text) for text in self.device_cgroup_rule],
            "group_add": self.group_add,
            "sysctls": parse_labels(self.sysctl),
            "annotations": parse_labels(self.annotation),
        }
        options.update(parse_security(self.security_opt))
        return options


def parse_security(entries: Sequence[str]) -> CreateOptions:
    """The values of ``--security-opt``.

    Raises:
        InvalidArgument: one is not known, or a profile cannot be read.
    """
    options: CreateOptions = {}
    mask: list[str] = []
    unmask: list[str] = []
    label: dict[str, str] = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not equals:  # as people wrote it before
            name, _colon, value = entry.partition(":")
        if name == "no-new-privileges" and value in {"", "true", "false"}:
            options["no_new_privileges"] = value != "false"
        elif name == "seccomp" and value:
            options["seccomp"] = _profile(value)
        elif name == "apparmor" and value:
            options["apparmor"] = value
        elif name == "mask" and value:
            mask += value.split(":")
        elif name == "unmask" and value:
            unmask += value.split(":")
        elif (name, value) == ("systempaths", "unconfined"):
            unmask.append("ALL")
        elif name == "label" and value.partition(":")[0] in _LABEL and value.partition(":")[2]:
            part, _colon, text = value.partition(":")
            label[part] = text
        elif (name, value) == ("label", "disable"):
            label.clear()
        else:
            raise InvalidArgument(f"{entry[:100]!r} is not an option of security", hint=f"there are {_OPTIONS}")
    options["mask"], options["unmask"] = mask, unmask
    if label:
        options["selinux"] = ":".join((_LABEL | label).values())
    return options


def _profile(value: str) -> str:
    if value in {"unconfined", "builtin"}:
        return value.removeprefix("builtin")
    try:
        with Path(value).expanduser().open(encoding="utf-8") as file:
            text = file.read(_MAX_PROFILE_BYTES + 1)
    except OSError as error:
        raise InvalidArgument(f"the profile {value!r} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InvalidArgument(f"the profile {value!r} is not text") from None
    if not text.strip() or len(text) > _MAX_PROFILE_BYTES:
        raise InvalidArgument(f"the profile {value!r} is empty, or larger than a mebibyte")
    return text


def parse_device(text: str) -> Device:
    """``host[:container[:access]]``, or ``host:access``.

    Raises:
        InvalidArgument: it is not of that form.
    """
    source, *rest = text.split(":")
    if not source.startswith("/") or len(rest) > 2 or not all(rest):
        raise InvalidArgument(f"{text!r} is not a device", hint="write /dev/fuse, or /dev/sda:/dev/disk:r")
    access = rest.pop() if len(rest) == 2 or (rest and set(rest[0]) <= _ACCESS) else "rwm"
    return Device(source=source, target=rest[0] if rest else source, access=access)


def parse_device_rule(text: str) -> DeviceRule:
    """``type major:minor access``, with ``*`` for any number.

    Raises:
        InvalidArgument: it is not of that form.
    """
    match = _DEVICE_RULE.fullmatch(text)
    if match is None:
        raise InvalidArgument(f"{text[:80]!r} is not a rule about devices", hint="write 'c 10:229 rwm' or 'b 8:* r'")
    major, minor = (ANY_NUMBER if number == "*" else int(number) for number in match.group(2, 3))
    return DeviceRule(kind=match[1], major=major, minor=minor, access=match[4])
