"""One place that serves the distribution API for a registry: the registry itself, or a mirror of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from attrs import frozen

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
class Endpoint:
    """Where requests go, and with what. Credentials and tokens belong to its origin."""

    origin: Origin
    name: str
    """Under which its credentials are kept, and what messages call it: ``host[:port]``, or ``docker.io``."""
    path: str = "/v2"
    """What stands before the name of a repository."""
    capabilities: frozenset[Capability] = EVERYTHING

    def url(self, repository: str, path: str) -> str:
        """Of something in a repository; of the API's root for no repository and no path."""
        return f"{self.origin}{self.path}/{repository}{'/' if repository else ''}{path}"
