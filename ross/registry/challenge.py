"""The ``WWW-Authenticate`` header (RFC 7235, section 4.1): several challenges, each a scheme and parameters, in one value.

Commas separate parameters and challenges alike, so a challenge ends where a token without ``=`` begins the next one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_SPACE: Final = re.compile(r"[ \t]*")
_TOKEN68: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*(?=[ \t]*(?:,|\Z))")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
_MAX_CHARACTERS: Final = 16_384


@frozen
class Challenge:
    """One way to authenticate that a server offers."""

    scheme: str
    """In lower case."""
    parameters: dict[str, str]
    """Names in lower case."""


def parse_challenges(values: Iterable[str]) -> tuple[Challenge, ...]:
    """Read the values of all ``WWW-Authenticate`` headers of a response.

    What cannot be read ends its value, and keeps the challenges before it: a server that offers one way Ross knows, and one it
    cannot even parse, can still be spoken to.
    """
    return tuple(challenge for value in values for challenge in _parse(value[:_MAX_CHARACTERS]))


def _parse(text: str) -> list[Challenge]:
    found: list[Challenge] = []
    position = 0
    while True:
        position = _skip_separators(text, position)
        name = _TOKEN.match(text, position)
        if name is None:
            return found
        position = name.end()
        parameter = _value(text, position)
        if parameter is not None and found:
            position, value = parameter
            # The first of two twins counts, as with any header parameter: the second may have been smuggled in.
            found[-1].parameters.setdefault(name.group().lower(), value)
            continue
        if parameter is not None or text[position:].lstrip(" \t").startswith("="):
            return found  # a parameter of no challenge, or one whose value cannot be read
        found.append(Challenge(name.group().lower(), {}))
        position = _skip_token68(text, position)


def _skip_separators(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t,":
        position += 1
    return position


def _skip_token68(text: str, position: int) -> int:
    """After a scheme: steps over credentials-like text (``Negotiate YII==``), which none of our schemes has."""
    space = _SPACE.match(text, position)
    if space is None or space.end() == position:
        return position
    blob = _TOKEN68.match(text, space.end())
    return blob.end() if blob else position


def _value(text: str, position: int) -> tuple[int, str] | None:
    """What stands after a parameter's name: the end and the value, or nothing if there is no ``=``."""
    space = _SPACE.match(text, position)
    position = space.end() if space else position
    if position >= len(text) or text[position] != "=":
        return None
    space = _SPACE.match(text, position + 1)
    position = space.end() if space else position + 1
    quoted = _QUOTED.match(text, position)
    if quoted is not None:
        return quoted.end(), re.sub(r"\\(.)", r"\1", quoted.group(1))
    token = _TOKEN.match(text, position)
    return (token.end(), token.group()) if token else None
