"""Cleaning up while being cancelled: allowed to await, but not for ever."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)


@contextmanager
def bounded_cleanup(seconds: float, *, what: str = "cleanup") -> Iterator[trio.CancelScope]:
    """A shielded scope with a deadline, for the awaits of a ``finally`` block.

    Args:
        seconds: After so long the block is abandoned, so that a shutdown always ends; what is left is found at the next start.
        what: How the log calls the block if it is abandoned.
    """
    with trio.CancelScope(deadline=trio.current_time() + seconds, shield=True) as scope:
        yield scope
    if scope.cancelled_caught:
        logger.warning("%s was abandoned after %g s", what, seconds)
