"""What a container shares with the host, and the names it knows."""

from __future__ import annotations

from enum import Enum

from attrs import frozen


class NamespaceMode(Enum):
    """Whose namespace a container is in (namespaces(7))."""

    UNKNOWN = "unknown"
    PRIVATE = "private"
    """Its own."""
    HOST = "host"
    CONTAINER = "container"
    """Another container's; of processes and of IPC only."""


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
