"""KJ's event loop on Trio: every capability method is a Trio task in the nursery of its connection.

pycapnp binds KJ to "the running asyncio loop", but what it asks of that loop is little: ``call_soon``, ``create_future``,
``create_task`` and ``call_exception_handler``. :class:`KjLoop` is that loop, and runs on Trio:

- what KJ schedules runs at once, in the task that made it necessary: behind the bytes that arrived, the method that ended, the
  call that is about to be awaited; a pump task takes care of what is left;
- a method's coroutine becomes a Trio task. Dropping or cancelling the call, or losing the connection, cancels that task as Trio cancels;
- awaiting a call waits as Trio waits: a cancelled scope cancels the call at the peer.

Since what KJ runs is run right behind its cause, a method that KJ starts belongs to the connection whose bytes, or whose ended method, were
its cause. That is how its calls are counted and how they find their nursery.

    async with open_kj_loop() as loop:
        await loop.serve(listening_socket, lambda connection: MyServer())
    async with open_kj_loop() as loop, loop.connect(path) as connection:
        thing = connection.bootstrap().cast_as(schema.Thing)

Imports nothing of Ross. The only module that touches asyncio.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import capnp
import outcome
import trio

from ross.wire.background import open_background
from ross.wire.garbage import collect_for_ever, collecting_here
from ross.wire.limits import Limits
from ross.wire.owner import Owner
from ross.wire.serving import CallGoneError, call_scope

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from ross.wire.listener import Connection

logger = logging.getLogger(__name__)

Translate = Callable[[BaseException], Exception]
"""Makes of what a method raised the exception whose text, ``Name: message``, is sent to the caller; no traceback is."""


class EndingError(Exception):
    """This side ends, with the calls that it serves."""


def _plain(error: BaseException) -> Exception:
    return error if isinstance(error, Exception) else RuntimeError(str(error))


class _Handle:
    """What ``call_soon`` returns: something that will run, unless it is cancelled."""

    __slots__ = ("callback", "owner")

    def __init__(self, callback: Callable[[], object], owner: Owner) -> None:
        self.callback: Callable[[], object] | None = callback
        self.owner = owner

    def cancel(self) -> None:
        self.callback = None


class _Future:
    """A result of KJ's that a Trio task awaits. At most one task does; cancelling it drops the promise at the peer."""

    def __init__(self, loop: KjLoop) -> None:
        self._loop = loop
        self._outcome: outcome.Outcome[Any] | None = None
        self._waiter: trio.lowlevel.Task | None = None
        self._callbacks: list[Callable[[_Future], object]] = []
        self._cancelled = False

    def cancelled(self) -> bool:
        return self._cancelled

    def done(self) -> bool:
        return self._outcome is not None or self._cancelled

    def add_done_callback(self, callback: Callable[[_Future], object]) -> None:
        if self.done():
            callback(self)
        else:
            self._callbacks.append(callback)

    def set_result(self, value: Any) -> None:
        self._finish(outcome.Value(value))

    def set_exception(self, error: BaseException) -> None:
        self._finish(outcome.Error(error))

    def cancel(self) -> None:
        if not self.done():
            self._cancelled = True
            self._run_callbacks()

    def _finish(self, result: outcome.Outcome[Any]) -> None:
        if self.done():
            return
        self._outcome = result
        self._run_callbacks()
        if self._waiter is not None:
            waiter, self._waiter = self._waiter, None
            trio.lowlevel.reschedule(waiter)

    def _run_callbacks(self) -> None:
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._wait().__await__()

    async def _wait(self) -> Any:
        self._loop.run_ready()
        if self._outcome is None:
            self._waiter = trio.lowlevel.current_task()

            def abort(_raise_cancel: Any) -> trio.lowlevel.Abort:
                self._waiter = None
                self.cancel()
                self._loop.run_ready()
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)
        else:
            await trio.lowlevel.checkpoint_if_cancelled()
        assert self._outcome is not None  # noqa: S101 -- the waiter is only rescheduled with one
        return self._outcome.unwrap()


class _Call:
    """One method call that runs, or has run, as a Trio task."""

    def __init__(self, loop: KjLoop, owner: Owner, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._loop = loop
        self._owner = owner
        self._coroutine = coroutine
        self._scope = trio.CancelScope()
        self._error: Exception | None = None
        self._cancelled = False
        self._done = False
        self._callbacks: list[Callable[[_Call], object]] = []

    def start(self) -> None:
        refusal = self._owner.refusal()
        if refusal is not None:
            self._fail_unstarted(refusal)
            return
        try:
            self._owner.nursery.start_soon(self._run, name=getattr(self._coroutine, "__qualname__", "call"))
        except RuntimeError:  # the connection is ending: its nursery takes nothing any more
            self._coroutine.close()
            self._cancelled = self._done = True
            return
        self._owner.calls += 1

    def _fail_unstarted(self, error: Exception) -> None:
        self._coroutine.close()
        self._error = self._loop.translate(error)
        # KJ has not connected its callbacks yet.
        self._loop.call_soon(self._finish)

    def add_done_callback(self, callback: Callable[[_Call], object]) -> None:
        self._callbacks.append(callback)

    def cancel(self) -> None:
        self._scope.cancel()

    def cancelled(self) -> bool:
        return self._cancelled

    def exception(self) -> Exception | None:
        return self._error

    def result(self) -> None:
        """What a call returns stands in its results; there is nothing to hand over here."""

    async def _run(self) -> None:
        completed = False
        try:
            if self._scope.cancel_called:
                self._coroutine.close()
            else:
                call_scope.set(self._scope)
                with self._scope:
                    await self._coroutine
                    completed = True
        except CallGoneError:
            pass  # as if it had been cancelled
        except Exception as error:  # noqa: BLE001 -- whatever it is, the caller is told; nothing of a method ends the daemon
            self._error = self._loop.translate(error).with_traceback(None)
            self._error.__cause__ = None
            self._error.__suppress_context__ = True
            self._error.__context__ = None
        finally:
            if not completed and self._error is None and not self._scope.cancel_called:  # by nobody at the other side
                self._error = self._loop.translate(EndingError("the other side is ending"))
            self._cancelled = not completed and self._error is None
            self._owner.calls -= 1
            self._loop.run_as(self._owner, self._finish)

    def _finish(self) -> None:
        self._done = True
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)


class _Task:
    """What KJ holds of a call. The call itself does not refer to it, so that it is gone as soon as KJ lets go of it."""

    def __init__(self, call: _Call) -> None:
        self.add_done_callback = call.add_done_callback
        self.cancel = call.cancel
        self.cancelled = call.cancelled
        self.exception = call.exception
        self.result = call.result
        self._fulfiller: object = None


class KjLoop:
    """The loop. Made by :func:`open_kj_loop`; one a thread at a time."""

    def __init__(self, nursery: trio.Nursery, limits: Limits, translate: Translate) -> None:
        self.limits = limits
        self.translate = translate
        self._nursery = nursery
        self._queue: deque[_Handle] = deque()
        self._running = False
        self._pump_task: trio.lowlevel.Task | None = None
        self._unowned = Owner(nursery, limits)
        self._owner = self._unowned

    # -- what pycapnp asks of "the running asyncio loop" --------------------------------------------------------------

    def call_soon(self, callback: Callable[..., object], *args: object, **_options: object) -> _Handle:
        handle = _Handle((lambda: callback(*args)) if args else callback, self._owner)
        self._queue.append(handle)
        if not self._running and self._pump_task is not None:
            task, self._pump_task = self._pump_task, None
            trio.lowlevel.reschedule(task)
        return handle

    def create_future(self) -> _Future:
        return _Future(self)

    def create_task(self, coroutine: Coroutine[Any, Any, Any], **_options: object) -> _Task:
        call = _Call(self, self._owner, coroutine)
        task = _Task(call)
        call.start()
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        logger.warning("%s", context.get("message", "a callback failed"), exc_info=context.get("exception"))

    def get_debug(self) -> bool:
        return False

    # -- running ------------------------------------------------------------------------------------------------------

    def run_ready(self) -> None:
        """Run what KJ has scheduled, until nothing is left. Does nothing when called from inside what it runs."""
        if self._running:
            return
        self._running = True
        outer = self._owner
        try:
            while self._queue:
                handle = self._queue.popleft()
                if handle.callback is not None:
                    self._owner = handle.owner
                    try:
                        handle.callback()
                    except Exception:
                        logger.exception("a callback of the event loop failed")
        finally:
            self._owner = outer
            self._running = False

    def run_as(self, owner: Owner, cause: Callable[[], object]) -> None:
        """Run ``cause`` and all that KJ schedules because of it, for the connection that ``owner`` stands for."""
        outer, self._owner = self._owner, owner
        try:
            cause()
            self.run_ready()
        finally:
            self._owner = outer

    async def pump(self) -> None:
        """Run what was scheduled outside of :meth:`run_ready`, for ever."""
        while True:
            self.run_ready()
            self._pump_task = trio.lowlevel.current_task()

            def abort(_raise_cancel: Any) -> trio.lowlevel.Abort:
                self._pump_task = None
                return trio.lowlevel.Abort.SUCCEEDED

            await trio.lowlevel.wait_task_rescheduled(abort)

    # -- connections --------------------------------------------------------------------------------------------------

    async def serve(
        self,
        listener: socket.socket,
        bootstrap: Callable[[Connection], Any],
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept connections for ever; see :func:`ross.wire.listener.serve`."""
        from ross.wire.listener import serve

        await serve(self, listener, bootstrap, task_status=task_status)

    def connect(self, target: Path | str | socket.socket) -> AbstractAsyncContextManager[Connection]:
        """Connect to a server; see :func:`ross.wire.listener.connect`."""
        from ross.wire.listener import connect

        return connect(self, target)


def caller_from_threads() -> Callable[[Callable[[], object]], object]:
    """What has this thread's loop, Trio's or asyncio's, call a function soon; for use in any thread.

    It raises RuntimeError when the loop has ended.
    """
    loop: object = asyncio.get_running_loop()
    if isinstance(loop, KjLoop):
        return trio.lowlevel.current_trio_token().run_sync_soon
    return asyncio.get_running_loop().call_soon_threadsafe


_IDLE_ROUNDS: Final = 3


@asynccontextmanager
async def open_kj_loop(limits: Limits | None = None, *, translate: Translate = _plain) -> AsyncIterator[KjLoop]:
    """Run KJ on Trio for the life of the block. Inside it pycapnp's calls can be awaited from Trio tasks.

    Args:
        limits: Bounds for every connection.
        translate: What callers are told of a method's exception.

    Raises:
        RuntimeError: an asyncio loop, or another of these, runs in this thread.
    """
    if asyncio._get_running_loop() is not None:  # noqa: SLF001 -- pycapnp finds its loop through this very function
        raise RuntimeError("an event loop for pycapnp already runs in this thread")
    async with open_background() as nursery:
        loop = KjLoop(nursery, limits or Limits(), translate)
        asyncio._set_running_loop(loop)  # type: ignore[arg-type]  # noqa: SLF001
        kj = capnp.kj_loop()
        try:
            await kj.__aenter__()
            nursery.start_soon(loop.pump, name="wire pump")
            nursery.start_soon(collect_for_ever, name="wire garbage")
            try:
                with collecting_here():
                    yield loop
            finally:
                # Every connection is gone by now; what KJ still has to say about them is said before it ends.
                for _ in range(_IDLE_ROUNDS):
                    loop.run_ready()
                with trio.CancelScope(shield=True):
                    await kj.__aexit__(None, None, None)
        finally:
            asyncio._set_running_loop(None)  # noqa: SLF001
