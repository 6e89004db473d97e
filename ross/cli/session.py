"""Running a command's body against the daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio

from ross.cli.errors import Exit
from ross.client import Engine, connect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


def with_engine(body: Callable[[Engine], Awaitable[T]], *, socket: str | None = None) -> T:
    """Connect, run ``body(engine)``, and return what it returns."""

    async def run() -> T:
        async with connect(socket) as engine:
            return await body(engine)

    try:
        # An interrupt in the middle of what KJ calls back would be told as a fault, or as the daemon's: it waits for the body's next wait.
        return trio.run(run, strict_exception_groups=True, restrict_keyboard_interrupt_to_checkpoints=True)
    except BaseExceptionGroup as group:
        raise _only(group) from None


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one thing that went wrong, out of the groups that tasks wrap around it: what was asked for before what that has broken off."""
    error: BaseException = group.subgroup(Exit) or group.subgroup(KeyboardInterrupt) or group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def for_each(names: tuple[str, ...], action: Callable[[str], Awaitable[None]]) -> int:
    """Do something with each name, the others too if one fails. Returns the exit code."""
    from ross.cli.errors import FAILED, show
    from ross.errors import RossError

    code = 0
    for name in names:
        try:
            await action(name)
        except RossError as error:
            show(error.message, error.hint)
            code = FAILED
    return code
