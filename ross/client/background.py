"""Tasks beside a block of the caller's, that leave the caller's exceptions as they are."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import TaskGroup


@asynccontextmanager
async def background() -> AsyncIterator[TaskGroup]:
    """Tasks that end with the block. What the block raises is raised as it is, in no group: also ``SystemExit`` and its like."""
    problem: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        try:
            yield tasks
        except anyio.get_cancelled_exc_class():
            raise  # to be caught by the scope whose it is, which may be the group's own
        except BaseException as error:  # noqa: BLE001 -- raised again below, outside the task group, which would wrap it
            problem = error
        tasks.cancel_scope.cancel()
    if problem is not None:
        raise problem
