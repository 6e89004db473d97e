"""What can be refused about privileges, profiles, devices, names and annotations before anything is made."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final

from ross.errors import InvalidArgument
from ross.model.namespaces import NamespaceMode
from ross.shim.namespaces import check_sysctls
from ross.shim.seccomp_profile import read_profile
from ross.shim.security import ALL, UNCONFINED, capability_name
from ross.shim.valid_mounts import check_target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ross.model.containers import ContainerSpec
    from ross.model.namespaces import Resolution
    from ross.model.security import Security

_ANNOTATION_BYTES: Final = 64 << 10
_RESERVED: Final = ("org.systemd.property.", "run.oci.", "org.criu.", "io.katacontainers.", "ross.")
"""Runtimes take orders by annotations of these names (CVE-2024-3154)."""
_PROFILE_NAME: Final = re.compile(r"[A-Za-z0-9_./:@%+-]{1,250}\Z")
_SELINUX_LABEL: Final = re.compile(r"(?:[A-Za-z0-9_.]{1,80}:){2}[A-Za-z0-9_.]{1,80}(?::[A-Za-z0-9_.,:-]{1,200})?\Z")
_GROUP: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\$?\Z")
_HOST: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\Z")
_DOMAIN: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?\Z|\.\Z")
_RESOLVER_OPTION: Final = re.compile(r"[a-z][a-z0-9-]{0,30}(:[0-9]{1,5})?\Z")
_MAX_ENTRIES: Final = 1024
_NUMBERS: Final = range(-1, 1 << 20)
"""Of devices; -1 for any."""


def check_security(spec: ContainerSpec) -> None:
    """Check privileges, profiles, devices, groups, kernel parameters, namespaces.

    Raises:
        InvalidArgument: something is not allowed.
    """
    security = spec.security
    for name in (*security.cap_add, *security.cap_drop):
        capability_name(name)
    if security.seccomp not in {"", UNCONFINED}:
        read_profile(security.seccomp, frozenset())
    if security.apparmor and not _PROFILE_NAME.match(security.apparmor):
        raise InvalidArgument(f"{security.apparmor[:80]!r} is not the name of a profile of AppArmor")
    if security.selinux and not _SELINUX_LABEL.match(security.selinux):
        raise InvalidArgument(f"{security.selinux[:80]!r} is not a label of SELinux", hint="user:role:type:level")
    for path in security.mask:
        if check_target(path, "mask") == "/":
            raise InvalidArgument("the root of a container cannot be masked")
    for pattern in security.unmask:
        if pattern != ALL and not (pattern.startswith("/") and "\0" not in pattern):
            raise InvalidArgument(f"{pattern!r} is not a path to unmask", hint="write an absolute path, or ALL")
    _check_devices(security)
    for group in security.groups:
        if not _GROUP.match(group):
            raise InvalidArgument(f"{group[:80]!r} is not a group", hint="name one of the image, or give its number")
    if len(security.groups) > _MAX_ENTRIES:
        raise InvalidArgument(f"there are no more than {_MAX_ENTRIES} groups")
    check_sysctls(spec)
    modes = (spec.namespaces.pid, spec.namespaces.ipc, spec.namespaces.uts, spec.namespaces.cgroup)
    if NamespaceMode.UNKNOWN in modes:
        raise InvalidArgument("this engine does not know that kind of namespace", hint="there are private and host")
    if NamespaceMode.CONTAINER in {spec.namespaces.uts, spec.namespaces.cgroup}:
        raise InvalidArgument("only the namespaces of processes and of IPC can be another container's")
    if spec.namespaces.uts is NamespaceMode.HOST and spec.hostname:
        raise InvalidArgument("a container with the host's name has no other", hint="leave out --hostname, or --uts")
    if spec.namespaces.ipc is not NamespaceMode.PRIVATE and spec.resources.shm_bytes:
        raise InvalidArgument("the shared memory of others has the size it has", hint="leave out --shm-size, or --ipc")


def _check_devices(security: Security) -> None:
    for device in security.devices:
        if not device.source.startswith("/") or "\0" in device.source:
            raise InvalidArgument(f"the device {device.source!r} is not an absolute path")
        check_target(device.target, "device")
        _check_access(device.access)
    for rule in security.device_rules:
        if rule.kind not in {"a", "b", "c"} or not all(number in _NUMBERS for number in (rule.major, rule.minor)):
            raise InvalidArgument(f"'{rule}' is not a rule about devices", hint="write 'c 10:229 rwm' or 'b 8:* r'")
        _check_access(rule.access)
    if len(security.device_rules) > _MAX_ENTRIES:
        raise InvalidArgument(f"there are no more than {_MAX_ENTRIES} rules about devices")


def _check_access(access: str) -> None:
    if not access or len(set(access)) < len(access) or set(access) - set("rwm"):
        raise InvalidArgument(f"{access!r} is not a way to use a device", hint="write some of r, w and m")


def check_resolution(resolution: Resolution) -> None:
    """Check what goes into the generated files: no text of it may be more than the one entry it is meant to be.

    Raises:
        InvalidArgument: something is no name or address.
    """
    for entry in resolution.hosts:
        name, _colon, address = entry.partition(":")
        if not _HOST.match(name):
            raise InvalidArgument(f"{name[:80]!r} is not the name of a host", hint="write name:address")
        _check_address(address)
    for address in resolution.servers:
        _check_address(address)
    for domain in resolution.search:
        if not _DOMAIN.match(domain):
            raise InvalidArgument(f"{domain[:80]!r} is not a domain")
    for option in resolution.options:
        if not _RESOLVER_OPTION.match(option):
            raise InvalidArgument(f"{option[:80]!r} is not an option of the resolver", hint="see resolv.conf(5)")
    if (
        len(resolution.hosts) + len(resolution.servers) + len(resolution.search) + len(resolution.options)
        > _MAX_ENTRIES
    ):
        raise InvalidArgument(f"there are no more than {_MAX_ENTRIES} names and addresses")


def _check_address(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise InvalidArgument(f"{text[:80]!r} is not an IP address") from None
    if "%" in text:
        raise InvalidArgument(f"{text[:80]!r} names a network interface, which the container has not")


def check_annotations(annotations: Mapping[str, str]) -> None:
    """Check annotations: they are read by the runtime, and some of them as orders.

    Raises:
        InvalidArgument: one is not allowed.
    """
    if sum(len(key) + len(value) for key, value in annotations.items()) > _ANNOTATION_BYTES or "" in annotations:
        raise InvalidArgument(f"annotations need a key, and take no more than {_ANNOTATION_BYTES} bytes in all")
    for key, value in annotations.items():
        if key.startswith(_RESERVED) or key == "ross":
            raise InvalidArgument(f"the annotation {key[:80]!r} is an order to the runtime, which is refused")
        if "\0" in key or "\0" in value:
            raise InvalidArgument("an annotation has a zero byte in it")
