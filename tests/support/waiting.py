"""Waiting for what comes to pass in a daemon, and what it holds while nothing happens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.daemon import Daemon


def until(condition: Callable[[], object], *, seconds: float = 60) -> None:
    """Wait until something is so; fail if it does not come to pass."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def baseline(daemon: Daemon) -> tuple[int, int]:
    """File descriptors of the daemon, and lines of its task tree, with nobody but the asker connected.

    Waited for is what would never come again: that all of a pull is on the disk, behind which the daemon holds its root open, and that it
    has let go of whoever was connected last.
    """
    until(lambda: not any((daemon.root / "pending").iterdir()))
    found = _held(daemon)
    while (again := _held(daemon)) != found:  # of an earlier client something may still be there
        found = again
    return found


def _held(daemon: Daemon) -> tuple[int, int]:
    until(lambda: not daemon.connections())
    return daemon.open_fds(), daemon.ross("debug", "tasks").stdout.count("\n")
