"""One place that serves the distribution API for a registry: the registry itself, or a mirror of it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Final

from attrs import field, frozen

from ross.registry.hosts import Origin


class Capability(StrEnum):
    """What an endpoint is trusted with (the words of ``hosts.toml``)."""

    PULL = "pull"
    """Content by its digest, which can be verified."""
    RESOLVE = "resolve"
    """What a tag denotes, which cannot."""
    PUSH = "push"


EVERYTHING: Final = frozenset(Capability)


@frozen(kw_only=True)
class Transport:
    """How to connect: what is trusted beside the system's certificates, who we are, and through what."""

    ca: tuple[Path, ...] = ()
    client: tuple[Path, Path] | None = None
    """Our own certificate and its key; one file may hold both."""
    skip_verify: bool = False
    dial_seconds: float | None = None
    proxy: str | None = field(default=None, repr=False)
    """In the place of the environment's; its URL may hold a password."""

    @property
    def files(self) -> tuple[Path, ...]:
        """What it reads."""
        return (*self.ca, *(self.client or ()))

    def elsewhere(self) -> Transport:
        """For another origin, to which an endpoint of this one sends us: its certificates are trusted there too, but nothing that says
        who we are goes along, and no certificate passes unverified."""
        return Transport(ca=self.ca)


DIRECT: Final = Transport()


@frozen(kw_only=True)
class Endpoint:
    """Where requests go, and with what. Credentials, tokens, headers and our certificate belong to its origin."""

    origin: Origin
    name: str
    """Under which its credentials are kept, and what messages call it: ``host[:port]``, or ``docker.io``."""
    path: str = "/v2"
    """What stands before the name of a repository."""
    capabilities: frozenset[Capability] = EVERYTHING
    namespace: str = ""
    """For a mirror: the registry that is meant, which it is told by ``?ns=``."""
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    transport: Transport = DIRECT

    def url(self, repository: str, path: str) -> str:
        """Of something in a repository; of the API's root for no repository and no path."""
        whole = f"{self.origin}{self.path}/{repository}{'/' if repository else ''}{path}"
        if not self.namespace:
            return whole
        return f"{whole}{'&' if '?' in path else '?'}ns={self.namespace}"

    def scope_name(self, repository: str) -> str:
        """What the endpoint calls a repository in scopes: one that serves another registry below a path knows it with that path."""
        prefix = self.path.partition("/v2/")[2]
        return f"{prefix}/{repository}" if prefix else repository
