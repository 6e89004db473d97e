"""A tree of services: started in order, each ready before the next; ended in the reverse order, users before what they use.

    async with open_service_tree() as tree:
        store = await tree.start("store", run_store)          # returns what the service reported when it was ready
        images = await tree.start("images", run_images, store)
        await trio.sleep_forever()                             # or whatever the body does meanwhile

A service is an async function that takes ``task_status`` and runs until it is cancelled. When the body of the block ends, is cancelled
or raises, services are cancelled one after another, the last started first, and each is waited for before the next is cancelled. A
service that fails, or returns without having been asked to, ends the body and then the tree, and :class:`ServiceFailed` is raised.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from ross.nursery.cleanup import bounded_cleanup
from ross.nursery.tasks import TaskHandle, start_task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

logger = logging.getLogger(__name__)


class ServiceFailed(Exception):
    """A service of the tree ended by itself. ``__cause__`` says why; there is none where it simply returned."""

    def __init__(self, name: str, cause: BaseException | None) -> None:
        why = f"{type(cause).__name__}: {cause}" if cause is not None else "it returned"
        super().__init__(f"the service {name!r} failed: {why}")
        self.name = name


class ServiceTree:
    """The services that run, in the order of their start. Made by :func:`open_service_tree`."""

    def __init__(self, nursery: trio.Nursery, body: trio.CancelScope, stop_seconds: float) -> None:
        self._nursery = nursery
        self._body = body
        self._stop_seconds = stop_seconds
        self._running: list[TaskHandle[Any]] = []
        self._stopping = False
        self.failure: ServiceFailed | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The services that have started and not ended, in the order of their start."""
        return tuple(handle.name for handle in self._running if not handle.finished)

    async def start(self, name: str, run: Callable[..., Awaitable[object]], *args: object) -> Any:
        """Start ``run(*args, task_status=...)`` and wait until it is ready.

        Returns:
            The value it was ready with.

        Raises:
            Exception: what it raised before it was ready; the tree's block then ends as any block that raises.
        """
        handle = await start_task(self._nursery, self._guarded, name, run, args, name=name, shield=True)
        self._running.append(handle)
        return handle.value

    async def _guarded(
        self,
        name: str,
        run: Callable[..., Awaitable[object]],
        args: tuple[object, ...],
        *,
        task_status: trio.TaskStatus[Any],
    ) -> None:
        ready = False

        class Noting:
            def started(self, value: Any = None) -> None:
                nonlocal ready
                ready = True
                task_status.started(value)

        failure: Exception | None = None
        try:
            await run(*args, task_status=Noting())
        except Exception as error:
            if not ready:
                raise
            failure = error
        if ready and (failure is not None or not self._stopping):
            self._note_failure(name, failure)

    def _note_failure(self, name: str, cause: Exception | None) -> None:
        problem = ServiceFailed(name, cause)
        problem.__cause__ = cause
        logger.error("%s", problem, exc_info=cause)
        if self.failure is None:
            self.failure = problem
        self._body.cancel()

    async def stop(self) -> None:
        """End all services, the last started first, each within the tree's time for it. Does nothing the second time."""
        self._stopping = True
        while self._running:
            handle = self._running.pop()
            handle.cancel()
            with bounded_cleanup(self._stop_seconds, what=f"the end of the service {handle.name!r}"):
                await handle.join()


@asynccontextmanager
async def open_service_tree(*, stop_seconds: float = 10.0) -> AsyncIterator[ServiceTree]:
    """Open a tree.

    Args:
        stop_seconds: How long the end of one service may take before the next one is asked to end; one that takes longer still keeps the
            block from ending until the surrounding scope is cancelled, when it is abandoned with a warning in the log.

    Raises:
        ServiceFailed: a service ended by itself.
    """
    problem: Exception | None = None
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as body:
            tree = ServiceTree(nursery, body, stop_seconds)
            try:
                yield tree
            except Exception as error:  # noqa: BLE001 -- raised again below, outside the nursery, which would wrap it in a group
                problem = error
            finally:
                with trio.CancelScope(shield=True):
                    await tree.stop()
    if tree.failure is not None:
        raise tree.failure
    if problem is not None:
        raise problem
