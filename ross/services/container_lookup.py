"""Which container is meant by what people type: an id, a name, or the beginning of an id."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ross.errors import AlreadyExists, InvalidArgument, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_ID: Final = re.compile(r"[0-9a-f]{64}\Z")
_SHORT_ID: Final = 12
"""What the lists show of an id, and people type."""


def find_id(text: str, by_id: Mapping[str, object], names: Mapping[str, str]) -> str:
    """The id of a container: as Docker looks it up, so that no name hides what has a whole id.

    Args:
        text: What was typed.
        by_id: All that there are, by their ids.
        names: Their ids, by their names.

    Raises:
        NotFound: there is none.
        InvalidArgument: several ids begin so.
    """
    if text in by_id:
        return text
    if text in names:
        return names[text]
    found = [identity for identity in by_id if text and identity.startswith(text)]
    if len(found) > 1:
        listed = ", ".join(sorted(identity[:_SHORT_ID] for identity in found))
        raise InvalidArgument(f"{text!r} is the beginning of several ids: {listed}", hint="type more of it")
    if not found:
        raise NotFound(f"no container {text!r}", hint="see them all with: ross ps -a")
    return found[0]


def check_new_name(name: str, others: Iterable[str]) -> None:
    """Refuse a name by which another container could be meant, by its id. Other hexadecimal names are as good as any.

    Args:
        name: What a container is to be called.
        others: The ids of the others.

    Raises:
        InvalidArgument: it looks like a whole id.
        AlreadyExists: it is as much of another one's id as people type.
    """
    if _ID.match(name):
        raise InvalidArgument(f"the container name {name!r} looks like an id", hint="choose a shorter one")
    if len(name) >= _SHORT_ID and any(identity.startswith(name) for identity in others):
        raise AlreadyExists(f"the name {name!r} is the beginning of another container's id", hint="choose another")
