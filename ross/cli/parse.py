"""Values of flags, as people write them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from ross.errors import InvalidArgument
from ross.model import BindMount

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgtp]?)i?b?\Z", re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_PROPAGATIONS: Final = frozenset({"private", "rprivate", "shared", "rshared", "slave", "rslave"})


def parse_size(text: str) -> int:
    """Bytes of ``512m``, ``2g``, ``1.5G`` or a plain number; in powers of 1024, as with other engines.

    Raises:
        InvalidArgument: it is no size.
    """
    match = _SIZE.match(text.strip())
    if match is None:
        raise InvalidArgument(f"{text!r} is not a size", hint="write 512m, 2g, or a number of bytes")
    return int(float(match[1]) * 1024 ** _POWERS[match[2].lower()])


def parse_env(entries: Sequence[str], ours: Mapping[str, str]) -> list[str]:
    """``NAME=value`` entries; a bare ``NAME`` takes our own value, and is left out if we have none.

    Raises:
        InvalidArgument: an entry has no name.
    """
    found = []
    for entry in entries:
        name, equals, _value = entry.partition("=")
        if not name:
            raise InvalidArgument(f"{entry!r} is not an environment variable", hint="write NAME=value")
        if equals:
            found.append(entry)
        elif name in ours:
            found.append(f"{name}={ours[name]}")
    return found


def parse_labels(entries: Sequence[str]) -> dict[str, str]:
    """``key=value`` entries; a bare ``key`` has the empty value.

    Raises:
        InvalidArgument: an entry has no key.
    """
    found = {}
    for entry in entries:
        key, _equals, value = entry.partition("=")
        if not key:
            raise InvalidArgument(f"{entry!r} is not a label", hint="write key=value")
        found[key] = value
    return found


def parse_mount(text: str, *, here: Path) -> BindMount:
    """``source:target[:options]``; the source is meant from where we are.

    Raises:
        InvalidArgument: it is not of that form.
    """
    source, *rest = text.split(":")
    if not source or not 1 <= len(rest) <= 2 or not rest[0]:
        raise InvalidArgument(f"{text!r} is not a mount", hint="write source:target or source:target:ro")
    if "/" not in source and not source.startswith((".", "~")):
        raise InvalidArgument(
            f"{source!r} would be the name of a volume; there are only mounts of files and directories",
            hint=f"for a directory here write ./{source}:{rest[0]}",
        )
    read_only, propagation = False, "rprivate"
    for option in rest[1].split(",") if len(rest) == 2 else ():
        if option in {"ro", "rw"}:
            read_only = option == "ro"
        elif option in _PROPAGATIONS:
            propagation = option
        else:
            raise InvalidArgument(
                f"{option!r} is no option of a mount", hint=f"ro, rw, {', '.join(sorted(_PROPAGATIONS))}"
            )
    path = here / Path(source).expanduser()
    return BindMount(source=str(path), target=rest[0], read_only=read_only, propagation=propagation)
