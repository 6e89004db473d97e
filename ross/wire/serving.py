"""What every implementation of an interface is based on: its methods can outlast their calls.

KJ frees the parameters and results of a call as soon as its caller drops it or goes away. The method is cancelled then, but what is
shielded, or runs in a thread, goes on; and whoever wrote its result into freed memory would end the process.
"""

from __future__ import annotations

from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import trio

call_scope: Final[ContextVar[trio.CancelScope | None]] = ContextVar("call_scope", default=None)
"""The scope of the call that the current task is; it is cancelled with the call."""


class CallGoneError(Exception):
    """A method asks for its parameters, and its call is not there any more."""


class CallContext:
    """A call's parameters, as long as it lasts, and its results: what is written to them later goes nowhere."""

    __slots__ = ("_context", "_scope")

    def __init__(self, context: Any, scope: trio.CancelScope | None) -> None:
        self._context = context
        self._scope = scope

    @property
    def _is_gone(self) -> bool:
        return self._scope is not None and self._scope.cancel_called

    @property
    def params(self) -> Any:
        """To be read before anything is waited for."""
        if self._is_gone:
            raise CallGoneError("the call is over")
        return self._context.params

    @property
    def results(self) -> Any:
        return _Nowhere() if self._is_gone else self._context.results


class _Nowhere:
    """Takes whatever is set, and forgets it."""

    def __setattr__(self, name: str, value: object) -> None:
        return


class Served:
    """To be the first base of every implementation, before pycapnp's."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for name, method in vars(cls).copy().items():
            if name.endswith("_context"):
                setattr(cls, name, _guarded(method))


def _guarded(method: Callable[[Any, Any], Awaitable[None]]) -> Callable[[Any, Any], Awaitable[None]]:
    @wraps(method)
    async def guarded(self: Any, context: Any) -> None:
        await method(self, CallContext(context, call_scope.get()))

    return guarded
