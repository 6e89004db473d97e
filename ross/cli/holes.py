"""Versions of runc that let containers out, as its advisories tell them."""

from __future__ import annotations

import re
from typing import Final

_MENDED: Final = (
    # Each with the versions that have it mended, one for each line of releases; what comes after the last line has it from the beginning.
    ("CVE-2024-21626", ((1, 1, 12), (1, 2, 0))),
    ("CVE-2024-45310", ((1, 1, 14), (1, 2, 0))),
    ("CVE-2025-31133", ((1, 2, 8), (1, 3, 3), (1, 4, 0))),
    ("CVE-2025-52565", ((1, 2, 8), (1, 3, 3), (1, 4, 0))),
    ("CVE-2025-52881", ((1, 2, 8), (1, 3, 3), (1, 4, 0))),
    ("CVE-2026-41579", ((1, 3, 6), (1, 4, 3))),
)


def known_holes(version: str) -> tuple[str, ...]:
    """What is known to be wrong with the runc that calls itself so; nothing for another runtime, or a version that cannot be read.

    Distributions mend holes without changing the number, which only their own advisories tell.
    """
    match = re.match(r"runc version (\d+)\.(\d+)\.(\d+)", version)
    if match is None:
        return ()
    found = (int(match[1]), int(match[2]), int(match[3]))
    return tuple(hole for hole, mended in _MENDED if not _has(found, mended))


def _has(found: tuple[int, int, int], mended: tuple[tuple[int, int, int], ...]) -> bool:
    for one in mended:
        if found[:2] == one[:2]:
            return found >= one
    return found > mended[-1]
