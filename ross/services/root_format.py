"""The number of what is written in a root: what keeps a version from taking the records of a later one for damaged.

A record that cannot be read costs its own thing (docs/storage.md), and records with unknown fields cannot be read, as what they ask for
could not be given. Without this number an older version would so remove every container that a newer one has written.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ross.errors import FailedPrecondition
from ross.linux.files import no_space, write_atomic

if TYPE_CHECKING:
    from ross.layout import StateLayout

logger = logging.getLogger(__name__)

FORMAT: Final = 1
"""One more whenever a record gets a field or a value that the versions before cannot read. What is new needs a default, for
the records that are there."""


def see_format(layout: StateLayout) -> None:
    """Check that this version knows what is written in a root, and note what it will write. For the one daemon that holds it.

    Raises:
        FailedPrecondition: a later version has written there; or the number cannot be written.
    """
    for left in layout.root.glob(f".{layout.format.name}.*.new"):  # of a daemon that was killed while it wrote
        left.unlink(missing_ok=True)
    found = _read(layout)
    if found > FORMAT:
        raise FailedPrecondition(
            f"the root {layout.root} was last used by a later version of Ross: its format is {found}, and this version knows {FORMAT}",
            hint="start that version, or a later one; this one would take what it does not know for damaged, and remove it",
        )
    if found == FORMAT:
        return
    try:
        write_atomic(layout.format, f"{FORMAT}\n".encode())
    except OSError as error:
        if not found and no_space(error):  # the first daemon that knows of this; without one nothing could be removed
            return
        raise FailedPrecondition(f"{layout.format} cannot be written: {error.strerror}") from None


def _read(layout: StateLayout) -> int:
    """0: there is none yet, or none that can be read."""
    try:
        return int(layout.format.read_text())
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read, and is written again: %s", layout.format, error)
        return 0
