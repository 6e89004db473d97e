"""Trio's tasks beside a block, that leave its exceptions as they are. Imports nothing of Ross."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def open_background() -> AsyncIterator[trio.Nursery]:
    """A nursery for tasks that end with the block; what the block raises is raised as it is, in no group: also ``SystemExit``."""
    problem: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield nursery
        except trio.Cancelled:
            raise  # to be caught by the scope whose it is, which may be the nursery's own
        except BaseException as error:  # noqa: BLE001 -- raised again below
            problem = error
        nursery.cancel_scope.cancel()
    if problem is not None:
        raise problem
