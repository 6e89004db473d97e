"""A background task as an object: who starts one gets a handle, and can cancel and await just that task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


@final
class TaskHandle(Generic[T]):
    """One running task. Made by :func:`start_task`; ``value`` is what the task reported when it was ready.

    A failure of the task goes to its nursery, as in any Trio program; the handle only tells that it has ended.
    """

    def __init__(self, name: str, scope: trio.CancelScope) -> None:
        self.name = name
        self.value: T
        self._scope = scope
        self._finished = trio.Event()

    def __repr__(self) -> str:
        if self.finished:
            state = "finished"
        elif self._scope.cancel_called:
            state = "cancelling"
        else:
            state = "running"
        return f"<TaskHandle {self.name}: {state}>"

    @property
    def finished(self) -> bool:
        """The task has ended, in whatever way."""
        return self._finished.is_set()

    def cancel(self) -> None:
        """Ask the task to end; returns at once."""
        self._scope.cancel()

    async def join(self) -> None:
        """Wait until the task has ended, in whatever way. Cancelling the wait does not cancel the task."""
        await self._finished.wait()

    async def cancel_and_join(self) -> None:
        """Ask the task to end and wait until it has."""
        self.cancel()
        await self.join()


class _Relay(Generic[T]):
    """Hands the task's readiness on to ``nursery.start``, with the handle in the place of the value."""

    def __init__(self, handle: TaskHandle[T], outer: trio.TaskStatus[TaskHandle[T]]) -> None:
        self._handle = handle
        self._outer = outer

    def started(self, value: Any = None) -> None:  # TaskStatus has this very signature
        self._handle.value = value
        self._outer.started(self._handle)


async def start_task(
    nursery: trio.Nursery,
    async_fn: Callable[..., Awaitable[object]],
    *args: object,
    name: str,
    shield: bool = False,
) -> TaskHandle[Any]:
    """Start ``async_fn(*args, task_status=...)`` in ``nursery`` and wait until it calls ``task_status.started(value)``.

    Args:
        nursery: Where the task lives, and where a failure of it goes.
        async_fn: The body; it must report readiness once.
        args: Handed to the body.
        name: How the task is called in the task tree.
        shield: Only the handle cancels the task: a cancellation from around the nursery does not reach it.

    Raises:
        Exception: what the body raises before it is ready.
    """

    async def body(*, task_status: trio.TaskStatus[TaskHandle[Any]]) -> None:
        scope = trio.CancelScope()
        handle: TaskHandle[Any] = TaskHandle(name, scope)
        try:
            with scope:
                relay = _Relay(handle, task_status)
                if shield:
                    await _shielded_once_ready(scope, async_fn, args, relay)
                else:
                    await async_fn(*args, task_status=relay)
        finally:
            handle._finished.set()  # noqa: SLF001 -- the handle belongs to this module

    handle: TaskHandle[Any] = await nursery.start(body, name=name)
    return handle


async def _shielded_once_ready(
    scope: trio.CancelScope, async_fn: Callable[..., Awaitable[object]], args: tuple[object, ...], relay: _Relay[Any]
) -> None:
    """Run the body so that a start can still be cancelled from outside, and a started one cannot."""

    class Shielding:
        def started(self, value: Any = None) -> None:
            scope.shield = True
            relay.started(value)

    await async_fn(*args, task_status=Shielding())
