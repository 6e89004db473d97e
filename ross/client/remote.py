"""What a program holds of the daemon: objects, and answers that are on their way.

KJ's own objects are good in the thread of their loop only, as long as it runs: one that is let go of anywhere else ends the process. And
Python lets go of things in any thread that happens to collect garbage. So a program never holds them itself, but by a :class:`Remote` or a
:class:`Call`, which gives what it holds back to its thread, and which is empty when the connection has ended.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from functools import partial
from threading import get_ident
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import capnp

from ross.errors import FailedPrecondition, InvalidArgument
from ross.wire.errors import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

_NO_VALUE = (capnp.KjException, OverflowError, UnicodeError)
"""What pycapnp raises for a value that the field of a message cannot have."""


class Home:
    """The thread and the connection to which what is held belongs."""

    def __init__(self, call_soon: Callable[[Callable[[], object]], object]) -> None:
        """``call_soon`` has the thread call a function, whichever thread it is called in."""
        self._thread = get_ident()
        self._call_soon = call_soon
        self._held: WeakSet[_Held] = WeakSet()
        self._returned: deque[list[Any]] = deque()
        self._closed = False

    def hold(self, capability: Any) -> Remote:
        """Hold an object of the daemon."""
        return Remote(capability, self)

    def enter(self, held: _Held) -> None:
        """Note what is to be empty when the connection has ended."""
        self._held.add(held)

    def check(self) -> None:
        """Check that something of this connection can be used.

        Raises:
            FailedPrecondition: it was closed, or this is not its thread.
        """
        if self._closed:
            raise closed()
        if get_ident() != self._thread:
            raise FailedPrecondition(
                "the connection to the daemon belongs to another thread",
                hint="connect in each thread, or have anyio.from_thread.run() call it in its own",
            )

    def let_go(self, box: list[Any]) -> None:
        """Let go of what is in a box that nobody holds any more, in whichever thread: the box may go anywhere, not what is in it."""
        if get_ident() == self._thread:
            box.clear()
            return
        self._returned.append(box)
        with suppress(RuntimeError):  # the loop has ended, without closing the connection
            self._call_soon(self._empty_returned)

    def _empty_returned(self) -> None:
        while self._returned:
            self._returned.popleft().clear()

    def close(self) -> None:
        """Empty everything that is held."""
        self._closed = True
        for held in list(self._held):
            held.empty()
        self._empty_returned()


class _Held:
    """Holds one object of KJ's, in a box."""

    __slots__ = ("__weakref__", "_box", "_home")

    def __init__(self, thing: Any, home: Home) -> None:
        self._box = [thing]
        self._home = home
        home.enter(self)

    def __del__(self) -> None:
        if self._box:
            self._home.let_go(self._box)

    def empty(self) -> None:
        self._box.clear()

    def _checked(self) -> Any:
        self._home.check()
        return self._box[0]


class Remote(_Held):
    """An object of the daemon. Its methods are those of its interface, and give a :class:`Call`."""

    __slots__ = ()

    def __getattr__(self, method: str) -> Callable[..., Call]:
        if method.startswith("_"):  # of Python's protocols: no interface has such a method
            raise AttributeError(method)
        return partial(self._call, method)

    @property
    def capability(self) -> Any:
        """What KJ has, to be handed over in a call."""
        return self._checked()

    def hold(self, capability: Any) -> Remote:
        """Hold an object that came by the same connection."""
        return self._home.hold(capability)

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Call:
        send = getattr(self._checked(), method)
        try:
            return Call(send(*args, **kwargs), self._home)
        except _NO_VALUE as error:
            text = str(getattr(error, "description", None) or error).splitlines()
            raise InvalidArgument(f"a value is not one that {method} can be called with: {text[0]}") from None
        except RuntimeError:
            raise closed() from None  # its loop does not run: the program has left it without leaving the connection


class Call(_Held):
    """A call that is on its way. Await it for the answer, once; dropping it cancels the call."""

    __slots__ = ()

    @property
    def now(self) -> Any:
        """The answer already, as far as it is objects, which can be called."""
        return self._checked()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._wait().__await__()

    async def _wait(self) -> Any:
        with translated():
            return await self._checked()


def closed() -> FailedPrecondition:
    """The error for what is used when its connection is not there any more."""
    return FailedPrecondition(
        "the connection to the daemon is closed", hint="use what it gave inside of the block of ross.connect()"
    )
