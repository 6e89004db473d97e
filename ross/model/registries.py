"""Registries: what they say, and who the engine is to them."""

from __future__ import annotations

from enum import Enum

from attrs import frozen


class NoticeKind(Enum):
    """What a notice is about."""

    UNKNOWN = "unknown"
    WARNING = "warning"
    """The registry warns, in its own words."""
    RATE_LIMIT = "rateLimit"
    """How much one may still ask the registry for."""
    DELAY = "delay"
    """The registry wants to be left alone for a while."""
    MIRROR = "mirror"
    """A mirror failed; the next one is asked."""


@frozen(kw_only=True)
class Notice:
    """What a registry has to say beside what it was asked for."""

    kind: NoticeKind
    registry: str
    text: str
    """One printable line."""


@frozen(kw_only=True)
class RegistryLogin:
    """That the engine has credentials for a registry; not what they are."""

    registry: str
    """As references call it."""
    username: str
    """Empty where only a token is kept."""
    store: str
    """What keeps them: a file, or a credential helper's program."""
    encrypted: bool
    """A helper keeps them; a file has them as they are."""
    token: bool
    """It is a token that the registry has given in exchange for the password."""
