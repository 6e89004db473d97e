"""Names and ids of containers."""

from __future__ import annotations

import random
import secrets
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_ADJECTIVES: Final = (
    "agile amber bold brisk calm clear deft eager early fair fine firm fleet fond frank fresh gentle glad grand hardy honest keen kind "
    "light lively lucid merry mild modest neat nimble noble patient plain prompt proud quick quiet ready sharp sober solid steady "
    "sturdy swift tidy true vivid warm wise witty"
).split()
_NOUNS: Final = (
    "anchor aspen badger beacon birch bridge brook canyon cedar comet compass coral crane delta dune ember falcon fern finch fjord "
    "forge glacier grove harbor heron ibis island juniper lagoon lark lynx maple marten meadow mesa otter pebble pine plover prairie "
    "quarry raven reef ridge river robin sparrow spruce summit swan tern thistle tundra valley willow wren"
).split()


def make_id() -> str:
    """A new id: 64 hexadecimal characters. Never 12 digits at its beginning, which could pass for a number."""
    while True:
        made = secrets.token_hex(32)
        if not made[:12].isdigit():
            return made


def make_name(taken: Callable[[str], bool]) -> str:
    """A name that nobody has: two words, with a number if need be."""
    for attempt in range(100):
        name = f"{random.choice(_ADJECTIVES)}_{random.choice(_NOUNS)}"  # noqa: S311 -- a name is no secret
        if attempt > 10:
            name += str(random.randrange(1000))  # noqa: S311
        if not taken(name):
            return name
    return f"container_{secrets.token_hex(6)}"
