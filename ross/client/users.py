"""Whose the users of a container are, as people say it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ross.errors import InvalidArgument
from ross.model.namespaces import IdRange, UserMode, UserNamespace

if TYPE_CHECKING:
    from collections.abc import Sequence

_MODE: Final = re.compile(r"(host|auto|map)(?::size=([0-9]{1,10}))?\Z", re.ASCII)
_RANGE: Final = re.compile(r"([0-9]{1,10}):([0-9]{1,10})(?::([0-9]{1,10}))?\Z", re.ASCII)


def make_users(mode: str, uid_map: Sequence[str], gid_map: Sequence[str]) -> UserNamespace:
    """The users that these options mean; maps alone mean ``map``.

    Raises:
        InvalidArgument: they mean nothing, or not the same.
    """
    match = _MODE.match(mode or ("map" if uid_map or gid_map else "host"))
    if match is None or (match[2] and match[1] != "auto"):
        raise InvalidArgument(
            f"{mode!r} does not say whose the users are",
            hint="there are host, auto, auto:size=N, and map with --uidmap",
        )
    found = UserMode(match[1])
    if found is UserMode.MAP:
        if not uid_map:
            raise InvalidArgument("it is not said which ids the users have", hint="say --uidmap 0:100000:65536")
    elif uid_map or gid_map:
        raise InvalidArgument(f"maps of ids do not go with {mode!r}", hint="leave out --userns, or the maps")
    uids = tuple(parse_range(text) for text in uid_map)
    gids = tuple(parse_range(text) for text in gid_map) or uids
    return UserNamespace(mode=found, size=int(match[2] or 0), uids=uids, gids=gids)


def parse_range(text: str) -> IdRange:
    """``CONTAINER:HOST[:SIZE]``; without a size it is one id.

    Raises:
        InvalidArgument: it is not of that form.
    """
    match = _RANGE.match(text)
    if match is None or max(map(int, match.groups("1"))) >= 1 << 32:
        raise InvalidArgument(f"{text!r} is no range of ids", hint="write CONTAINER:HOST:SIZE, such as 0:100000:65536")
    return IdRange(inside=int(match[1]), outside=int(match[2]), size=int(match[3] or 1))
