"""The small init that can be the first process of a container: the host's, by its name. It must be linked statically."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ross.errors import FailedPrecondition
from ross.linux.process import which

if TYPE_CHECKING:
    from pathlib import Path

PROGRAMS: Final = ("tini-static", "catatonit")
INSTALL: Final = "apt install tini"


def find_init() -> Path:
    """The program.

    Raises:
        FailedPrecondition: the host has none.
    """
    for name in PROGRAMS:
        found = which(name)
        if found is not None:
            return found.resolve()
    raise FailedPrecondition(f"this host has no init for containers: {' or '.join(PROGRAMS)}", hint=INSTALL)
