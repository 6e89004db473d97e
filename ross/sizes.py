"""Sizes as people write them. Imports nothing but the errors."""

from __future__ import annotations

import re
from typing import Final

from ross.errors import InvalidArgument

_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgtp]?)i?b?\Z", re.IGNORECASE)
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


def parse_size(text: str) -> int:
    """Bytes of ``512m``, ``2g``, ``1.5G`` or a plain number; in powers of 1024, as with other engines.

    Raises:
        InvalidArgument: it is no size.
    """
    match = _SIZE.match(text.strip())
    if match is None:
        raise InvalidArgument(f"{text[:100]!r} is not a size", hint="write 512m, 2g, or a number of bytes")
    return int(float(match[1]) * 1024 ** _POWERS[match[2].lower()])
