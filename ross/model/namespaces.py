"""What a container shares with the host, and the names it knows."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from attrs import field, frozen


class NamespaceMode(Enum):
    """Whose namespace a container is in (namespaces(7))."""

    UNKNOWN = "unknown"
    PRIVATE = "private"
    """Its own."""
    HOST = "host"
    CONTAINER = "container"
    """Another container's; of processes and of IPC only."""


class UserMode(Enum):
    """Whose a container's users are (user_namespaces(7))."""

    UNKNOWN = "unknown"
    HOST = "host"
    """The host's: its root is root."""
    AUTO = "auto"
    """Its own: ids of the host that nobody else has, found by the engine."""
    MAP = "map"
    """Its own, as it is said."""


@frozen(kw_only=True)
class IdRange:
    """Ids in a row."""

    inside: int
    """The first of them, in the container."""
    outside: int
    """Which of the host's that is."""
    size: int


@frozen(kw_only=True)
class UserNamespace:
    """The users and groups of a container."""

    mode: UserMode = UserMode.HOST
    size: int = 0
    """With ``AUTO``: how many ids of each kind. 0: 65536."""
    uids: tuple[IdRange, ...] = ()
    """With ``AUTO`` the engine fills them in."""
    gids: tuple[IdRange, ...] = ()

    @property
    def root(self) -> tuple[int, int]:
        """The host's user and group that the container's root is."""
        if self.mode is UserMode.HOST:
            return 0, 0
        return outside(self.uids, 0), outside(self.gids, 0)


def outside(ranges: Sequence[IdRange], number: int) -> int:
    """The host's id for a container's.

    Raises:
        LookupError: it has none.
    """
    for one in ranges:
        if one.inside <= number < one.inside + one.size:
            return one.outside + number - one.inside
    raise LookupError(number)


def inside(ranges: Sequence[IdRange], number: int) -> int:
    """The container's id for the host's.

    Raises:
        LookupError: it has none.
    """
    for one in ranges:
        if one.outside <= number < one.outside + one.size:
            return one.inside + number - one.outside
    raise LookupError(number)


@frozen(kw_only=True)
class Namespaces:
    """Its namespaces, but for the network."""

    pid: NamespaceMode = NamespaceMode.PRIVATE
    ipc: NamespaceMode = NamespaceMode.PRIVATE
    uts: NamespaceMode = NamespaceMode.PRIVATE
    cgroup: NamespaceMode = NamespaceMode.PRIVATE
    pid_container: str = ""
    """The id of the container whose it is. The engine fills it in, by the reference that it was given."""
    ipc_container: str = ""
    users: UserNamespace = field(factory=UserNamespace)


@frozen(kw_only=True)
class Resolution:
    """How names become addresses in a container."""

    hosts: tuple[str, ...] = ()
    """``name:address``, for its ``/etc/hosts``."""
    servers: tuple[str, ...] = ()
    """Addresses of name servers, in the place of those it would have."""
    search: tuple[str, ...] = ()
    """Domains in which names are looked for; ``.`` for none."""
    options: tuple[str, ...] = ()
    """Options of the resolver (resolv.conf(5))."""
