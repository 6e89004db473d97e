"""Flags for what a container shares with the host, and for the names it knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from attrs import define
from cyclopts import Parameter

from ross.cli.flags.limits import Words
from ross.errors import InvalidArgument

if TYPE_CHECKING:
    from ross.client.specs import CreateOptions


@Parameter(name="*")
@define(kw_only=True)
class NamespaceFlags:
    """What ``run`` and ``create`` say of namespaces and names."""

    pid: str = ""
    """host, to see the host's processes; container:NAME, to see that container's; or private."""
    ipc: str = ""
    """host, to share the host's shared memory and message queues; container:NAME, to share that one's; private or shareable, its own."""
    uts: str = ""
    """host, to have the host's name, or private."""
    cgroupns: str = ""
    """host, to see the host's control groups, or private."""
    userns: str = ""
    """host, for the host's users; auto, for ids that no other container has; auto:size=N, for so many; map, for those of --uidmap."""
    uidmap: Words = ()
    """CONTAINER:HOST:SIZE, the host's user ids that the container's are. May be repeated."""
    gidmap: Words = ()
    """The same of groups; as --uidmap if left out. May be repeated."""
    add_host: Words = ()
    """name:address or name=address for its /etc/hosts. May be repeated."""
    dns: Words = ()
    """The address of a name server. May be repeated."""
    dns_search: Words = ()
    """A domain in which names are looked for; . for none. May be repeated."""
    dns_option: Annotated[tuple[str, ...], Parameter(name=["--dns-option", "--dns-opt"], negative=())] = ()
    """An option of the resolver, such as ndots:2. May be repeated."""

    def options(self) -> CreateOptions:
        """The options of the client library that these flags mean."""
        return {
            "pid": self.pid,
            "ipc": "private" if self.ipc == "shareable" else self.ipc,
            "uts": self.uts,
            "cgroupns": self.cgroupns,
            "userns": self.userns,
            "uid_map": self.uidmap,
            "gid_map": self.gidmap,
            "add_hosts": [parse_host(text) for text in self.add_host],
            "dns": self.dns,
            "dns_search": self.dns_search,
            "dns_options": self.dns_option,
        }


def parse_host(text: str) -> str:
    """``name:address`` of ``name:address`` or ``name=address``; an address may stand in brackets.

    Raises:
        InvalidArgument: it is not of that form.
    """
    name, separator, address = text.partition("=") if "=" in text else text.partition(":")
    address = address.removeprefix("[").removesuffix("]")
    if not separator or not name or not address:
        raise InvalidArgument(f"{text!r} is not a host", hint="write name:address")
    if address == "host-gateway":
        raise InvalidArgument("there is no network yet whose gateway could be meant", hint="write an address")
    return f"{name}:{address}"
