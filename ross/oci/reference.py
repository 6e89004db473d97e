"""Image references as people type them, normalised as Docker does (distribution-spec, "Pulling manifests")."""

from __future__ import annotations

import re
from typing import Final

from attrs import evolve, frozen

from ross.errors import InvalidArgument
from ross.oci.digest import ENCODED_LENGTH, Digest

DEFAULT_HOST: Final = "docker.io"
DEFAULT_NAMESPACE: Final = "library"
DEFAULT_TAG: Final = "latest"
MAX_NAME_LENGTH: Final = 255

_COMPONENT: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*\Z")
_HOST: Final = re.compile(
    r"(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*"
    r"|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?\Z"
)
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")


@frozen(order=True)
class Reference:
    """``host/path[:tag][@digest]``, every part checked when made. The digest wins over the tag."""

    host: str
    path: str
    tag: str | None = None
    digest: Digest | None = None

    def __attrs_post_init__(self) -> None:
        if not _HOST.match(self.host):
            raise InvalidArgument(f"registry host {self.host[:100]!r} is not a host name with an optional port")
        if len(self.host) + 1 + len(self.path) > MAX_NAME_LENGTH:
            raise InvalidArgument(f"image name is longer than {MAX_NAME_LENGTH} characters: {self.path[:60]!r}...")
        for component in self.path.split("/"):
            if not _COMPONENT.match(component):
                raise InvalidArgument(
                    f"image name {self.path!r} has the part {component!r}, which is not allowed", hint=_hint(component)
                )
        if self.tag is not None and not _TAG.match(self.tag):
            raise InvalidArgument(
                f"tag {self.tag[:140]!r} is not allowed",
                hint="a tag has at most 128 letters, digits, '_', '.' and '-', and begins with none of the last two",
            )

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read what a person typed: ``alpine``, ``user/app:1``, ``host:5000/a/b@sha256:...``.

        A first part with a dot or a colon, or ``localhost``, is a registry; anything else is below docker.io. No tag is added: see
        :meth:`with_default_tag`.

        Raises:
            InvalidArgument: it is not a reference; the message says which part.
        """
        name, at, digest_text = text.partition("@")
        digest = Digest.parse(digest_text) if at else None
        slash = name.rfind("/")
        colon = name.rfind(":")
        tag: str | None = None
        if colon > slash:
            name, tag = name[:colon], name[colon + 1 :]
        if not name:
            raise InvalidArgument(f"{text!r} is not an image reference", hint="write name[:tag] or host/name[:tag]")
        first, separator, rest = name.partition("/")
        if separator and ("." in first or ":" in first or first == "localhost"):
            host, path = first, rest
        else:
            host, path = DEFAULT_HOST, name
        if host in ("index.docker.io", "registry-1.docker.io"):
            host = DEFAULT_HOST
        if host == DEFAULT_HOST and "/" not in path:
            path = f"{DEFAULT_NAMESPACE}/{path}"
        if re.fullmatch(r"[0-9a-f]{64}", path.rpartition("/")[2]):
            raise InvalidArgument(f"{text!r} looks like an image id, which is not a reference that a registry knows")
        if name in ENCODED_LENGTH:
            raise InvalidArgument(f"{text!r} looks like a digest, which is not a reference that a registry knows")
        return cls(host, path, tag, digest)

    def with_default_tag(self) -> Reference:
        """The same with tag ``latest``, if it has neither tag nor digest."""
        return evolve(self, tag=DEFAULT_TAG) if self.tag is None and self.digest is None else self

    @property
    def repository(self) -> str:
        """``host/path``: what tags are of."""
        return f"{self.host}/{self.path}"

    @property
    def familiar(self) -> str:
        """The short form that people type, without docker.io and library."""
        text = str(self)
        return (
            text.removeprefix(f"{DEFAULT_HOST}/").removeprefix(f"{DEFAULT_NAMESPACE}/")
            if self.host == DEFAULT_HOST
            else text
        )

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.repository}{tag}{digest}"


def parse_host(text: str) -> str:
    """A registry as people type it: ``ghcr.io``, ``localhost:5000``, ``https://registry.example/v2/``; nothing for Docker Hub.

    Raises:
        InvalidArgument: it is none.
    """
    host = (text.partition("://")[2] or text).partition("/")[0]
    if host in ("", "index.docker.io", "registry-1.docker.io", "hub.docker.com"):
        return DEFAULT_HOST
    if not _HOST.match(host) or "@" in text:
        raise InvalidArgument(f"{host[:100]!r} is not the name of a registry", hint="write host or host:port")
    return host


def _hint(component: str) -> str:
    if component != component.lower():
        return "image names are lower case"
    return "a part has lower-case letters and digits, with '.', '_', '__' or '-' between them"
