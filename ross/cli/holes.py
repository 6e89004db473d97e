"""Versions of runtimes that let containers out, or do harm to the host, as their advisories and releases tell."""

from __future__ import annotations

import re
from typing import Final

_Version = tuple[int, ...]

_MENDED: Final[dict[str, tuple[tuple[str, tuple[_Version, ...]], ...]]] = {
    # Each with the versions that have it mended, one for each line of releases; what comes after the last line has it from the beginning.
    "runc": (
        ("CVE-2024-21626", ((1, 1, 12), (1, 2, 0))),
        ("CVE-2024-45310", ((1, 1, 14), (1, 2, 0))),
        ("CVE-2025-31133", ((1, 2, 8), (1, 3, 3), (1, 4, 0))),
        ("CVE-2025-52565", ((1, 2, 8), (1, 3, 3), (1, 4, 0))),
        ("CVE-2025-52881", ((1, 2, 8), (1, 3, 3), (1, 4, 0))),
        ("CVE-2026-41579", ((1, 3, 6), (1, 4, 3))),
    ),
    "crun": (
        ("the fault that the host's /dev/null is given to a container's user", ((1, 24, 0),)),
        ("CVE-2026-88264", ((1, 30, 0),)),
        ("CVE-2026-88265", ((1, 30, 0),)),
    ),
}


def known_holes(version: str) -> tuple[str, ...]:
    """What is known to be wrong with the runtime that calls itself so; nothing for another one, or a version that cannot be read.

    Distributions mend holes without changing the number, which only their own advisories tell.
    """
    match = re.match(r"(\w+) version (\d+)\.(\d+)(?:\.(\d+))?", version)
    if match is None:
        return ()
    found = (int(match[2]), int(match[3]), int(match[4] or 0))
    return tuple(hole for hole, mended in _MENDED.get(match[1], ()) if not _has(found, mended))


def first_without(version: str) -> str:
    """The first version of such a runtime that has none of its known holes, as it is written; empty for one that is not known."""
    lines = [mended[-1] for _hole, mended in _MENDED.get(version.partition(" ")[0], ())]
    return ".".join(map(str, max(lines))).removesuffix(".0") if lines else ""


def _has(found: _Version, mended: tuple[_Version, ...]) -> bool:
    for one in mended:
        if found[:2] == one[:2]:
            return found >= one
    return found > mended[-1]
