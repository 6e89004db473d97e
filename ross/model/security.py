"""What keeps a container in, and what it is given nevertheless."""

from __future__ import annotations

from typing import Final

from attrs import field, frozen


@frozen(kw_only=True)
class Device:
    """A device of the host that a container may use; of a directory, all that are in it."""

    source: str
    target: str
    access: str = "rwm"
    """Of ``r`` (read), ``w`` (write) and ``m`` (make nodes of it)."""


ANY_NUMBER: Final = -1


@frozen(kw_only=True)
class DeviceRule:
    """Devices that a container may open if it has a node of them; whoever may make nodes can make one."""

    kind: str
    """``c``, ``b``, or ``a`` for both."""
    major: int
    minor: int
    """-1: any."""
    access: str = "rwm"

    def __str__(self) -> str:
        major, minor = ("*" if number == ANY_NUMBER else number for number in (self.major, self.minor))
        return f"{self.kind} {major}:{minor} {self.access}"


@frozen(kw_only=True)
class Security:
    """Privileges, profiles, devices."""

    no_new_privileges: bool = False
    """No program gives it more by its file's attributes (PR_SET_NO_NEW_PRIVS)."""
    cap_add: tuple[str, ...] = ()
    """Capabilities beyond the usual ones; ``ALL`` for every one."""
    cap_drop: tuple[str, ...] = ()
    seccomp: str = ""
    """Empty: the engine's profile. ``unconfined``: none. Else a profile in JSON, as Docker or the runtime-spec has it."""
    apparmor: str = ""
    """The name of a profile that the host has loaded, or ``unconfined``. Empty: the host's usual one for containers, if it has one;
    of a container, which is not given up any more: none."""
    selinux: str = ""
    """The label of its processes in SELinux, ``user:role:type:level``; empty: the host's policy decides."""
    mask: tuple[str, ...] = ()
    """More paths that it sees empty."""
    unmask: tuple[str, ...] = ()
    """Patterns of paths that the engine would mask, or keep from being written; ``ALL`` for every one."""
    devices: tuple[Device, ...] = ()
    device_rules: tuple[DeviceRule, ...] = ()
    groups: tuple[str, ...] = ()
    """Supplementary groups of its first process, by name (as its ``/etc/group`` has it) or number."""
    sysctls: dict[str, str] = field(factory=dict)
    """Parameters of the kernel that a namespace has its own of."""
