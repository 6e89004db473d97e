"""What registries say beside what they were asked for: warnings, how much one may still ask for, when to come back.

It is shown to people and logged, so it is bounded and cleaned; and each thing is told once in an operation, not with every layer.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ross.model.registries import Notice, NoticeKind

if TYPE_CHECKING:
    import httpx

    from ross.errors import RossError

logger = logging.getLogger(__name__)

Notify = Callable[[Notice], None]
"""Told of a notice at once; does not wait."""

_MAX_NOTICES: Final = 12
_MAX_CHARACTERS: Final = 400
_MAX_HEADER: Final = 8_192
_WARNING: Final = re.compile(r'(?:\A|,)\s*299\s+-\s+"((?:[^"\\]|\\.)*)"')
"""distribution-spec, "Warnings": code 299, no agent, no date. Whatever else there is, is not for users."""
_QUOTA: Final = re.compile(r"\s*(\d{1,9})\s*(?:;\s*w=(\d{1,9})\s*)?\Z", re.ASCII)
_UNITS: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def unheard(_notice: Notice) -> None:
    """Where nobody wants to be told."""


class Notices:
    """The notices of one operation."""

    def __init__(self, notify: Notify) -> None:
        self._notify = notify
        self._told: set[tuple[NoticeKind, str, str]] = set()

    def heard(self, host: str, response: httpx.Response) -> None:
        """Look through the headers of a registry's answer."""
        for value in response.headers.get_list("Warning"):
            for text in _WARNING.findall(value[:_MAX_HEADER]):
                self._notice(NoticeKind.WARNING, host, re.sub(r"\\(.)", r"\1", text))
        left, limit = (_QUOTA.match(response.headers.get(f"ratelimit-{name}", "")) for name in ("remaining", "limit"))
        if left is not None:
            of = f" of {limit[1]}" if limit is not None else ""
            seconds = left[2] or (limit[2] if limit is not None else None)
            window = f" within {_span(int(seconds))}" if seconds else ""
            self._notice(NoticeKind.RATE_LIMIT, host, f"{left[1]}{of} pulls are left{window}", key="quota")

    def delayed(self, host: str, seconds: float) -> None:
        """A registry is asked again only after a while, because it wants that."""
        text = f"it limits how often one may ask; asking again in {_span(max(1, round(seconds)))}"
        self._notice(NoticeKind.DELAY, host, text, key=f"{seconds:.0f}")

    def passed_over(self, host: str, error: RossError) -> None:
        """A mirror is not asked any more."""
        self._notice(NoticeKind.MIRROR, host, f"this mirror is passed over: {error.message}", key="")

    def _notice(self, kind: NoticeKind, host: str, text: str, *, key: str | None = None) -> None:
        text = _clean(text)
        identity = (kind, host, text if key is None else key)
        if not text or identity in self._told or len(self._told) >= _MAX_NOTICES:
            return
        self._told.add(identity)
        level = logging.WARNING if kind is NoticeKind.WARNING else logging.INFO
        logger.log(level, "the registry %s says: %s", host, text)
        self._notify(Notice(kind=kind, registry=host, text=text))


def _span(seconds: int) -> str:
    """``6 hours``: in the largest unit that comes out even."""
    size, unit = next((size, unit) for size, unit in _UNITS if seconds % size == 0 or size == 1)
    count = seconds // size
    return f"{count} {unit}{'' if count == 1 else 's'}"


def _clean(text: str) -> str:
    """One line that steers no terminal."""
    words = " ".join(text.split())[:_MAX_CHARACTERS]
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in words)
