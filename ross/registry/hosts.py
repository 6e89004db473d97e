"""Where a registry is, and where it may send the engine: origins, the http rule, redirects and token realms.

One rule for http: it is spoken to a registry on this machine (``localhost``, 127.0.0.0/8, ``::1``) and to hosts that the
administrator has listed as insecure; to everything else only TLS. A registry that is elsewhere may send the engine neither to
http, nor to this machine, nor to a link-local address, where clouds keep their metadata services.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final

from attrs import frozen

from ross.errors import Denied, InvalidArgument
from ross.oci.reference import DEFAULT_HOST

if TYPE_CHECKING:
    from collections.abc import Collection

DOCKER_HUB: Final = "registry-1.docker.io"
"""The host that serves what references call docker.io."""

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@frozen
class Origin:
    """Scheme, host and port: what credentials and tokens are bound to."""

    scheme: str
    host: str
    """A name or an address; an IPv6 address without brackets."""
    port: int

    @property
    def loopback(self) -> bool:
        """It is on this machine, by the name or address that was written; names are not resolved for this."""
        address = _address(self.host)
        return self.host == "localhost" if address is None else address.is_loopback

    @property
    def authority(self) -> str:
        """``host[:port]`` as in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS.get(self.scheme) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def registry_origin(host: str, *, insecure_hosts: Collection[str] = ()) -> Origin:
    """Where the registry of a reference is.

    Args:
        host: As in the reference, with its port.
        insecure_hosts: Registries to which the administrator lets Ross speak http.

    Raises:
        InvalidArgument: the port is none.
    """
    if host == DEFAULT_HOST:
        return Origin("https", DOCKER_HUB, 443)
    name, port = _split(host)
    scheme = "http" if Origin("http", name, port or 80).loopback or host in insecure_hosts else "https"
    return Origin(scheme, name, port or _DEFAULT_PORTS[scheme])


def denotes(host: str, origin: Origin) -> bool:
    """An origin is the very registry that references call ``host``."""
    if host == DEFAULT_HOST:
        return origin == Origin("https", DOCKER_HUB, 443)
    name, port = _split(host)
    return origin.host == name and origin.port == (port or _DEFAULT_PORTS[origin.scheme])


def credential_name(origin: Origin) -> str:
    """Under which name the credentials of an origin are kept: as a reference would call it."""
    return DEFAULT_HOST if denotes(DEFAULT_HOST, origin) else origin.authority


def check_destination(source: Origin, destination: Origin, *, has_user: bool, what: str) -> None:
    """Refuse to be sent where a registry has no business sending anybody.

    Args:
        source: The registry, or the last hop.
        destination: Where its redirect or challenge points.
        has_user: The URL carries a user name, which is a way to leak or to forge credentials.
        what: ``redirect`` or ``token realm``, for the message.

    Raises:
        Denied: the destination is not acceptable.
    """
    reason = None
    address = _address(destination.host)
    if destination.scheme not in _DEFAULT_PORTS:
        reason = "only http and https are followed"
    elif has_user:
        reason = "it carries a user name"
    elif destination.scheme == "http" and source.scheme != "http":
        reason = "a registry with TLS must not lead to http"
    elif destination.scheme == "http" and destination != source and not (source.loopback and destination.loopback):
        reason = "http is for registries on this machine"
    elif destination.loopback and not source.loopback:
        reason = "a registry elsewhere must not lead to this machine"
    elif address is not None and not address.is_loopback and _forbidden(address):
        reason = "the address is link-local or not one of a host"
    if reason is not None:
        raise Denied(f"{what} of {source.authority} to {destination.scheme}://{destination.host} is refused: {reason}")


def _forbidden(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    if mapped is not None:
        return mapped.is_loopback or _forbidden(mapped)
    return address.is_link_local or address.is_unspecified or address.is_multicast


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _split(host: str) -> tuple[str, int | None]:
    head, colon, port = host.rpartition(":")
    if not colon or port.endswith("]"):
        head, port = host, ""
    name = head.removeprefix("[").removesuffix("]").lower()
    if not port:
        return name, None
    if not 0 < int(port) < 65536:
        raise InvalidArgument(f"registry {host!r} has the port {port}, which is not one")
    return name, int(port)
