"""Holding a container still while its files are read: in its turn, and frozen if it runs.

A file says that it is frozen before it is, so that a daemon that comes after one that was killed lets it go on.
"""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

import trio

from ross.errors import FailedPrecondition, RossError
from ross.linux.cgroups import thaw_cgroup
from ross.linux.files import write_atomic
from ross.model.containers import ContainerState
from ross.nursery.cleanup import bounded_cleanup
from ross.shim.state import ALIVE, check_alive

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ross.services.containers import Parts
    from ross.services.running import RunnableContainer

logger = logging.getLogger(__name__)

_THAW_SECONDS: Final = 30.0


class Freezer:
    """Holds one container still."""

    def __init__(self, container: RunnableContainer, parts: Parts, turn: trio.Lock) -> None:
        self._container = container
        self._runtime = parts.runtime
        self._turn = turn
        self._holding: trio.CancelScope | None = None

    @property
    def busy(self) -> bool:
        """Whether it is frozen, or about to be: it does not answer then."""
        return self._holding is not None

    def give_up(self) -> None:
        """Let it go on: somebody wants it to end."""
        if self._holding is not None:
            self._holding.cancel()

    @asynccontextmanager
    async def still(self, *, pause: bool) -> AsyncIterator[None]:
        """Nothing of the container changes its files, for the length of a block; unless it runs and is not to ``pause``.

        Raises:
            NotFound: it has been removed.
            FailedPrecondition: it cannot be paused, or is to end.
        """
        container = self._container
        if container.state in ALIVE and not pause:
            yield
            check_alive(container.record.name, container.state)  # else some of its files were gone
            return
        with container.files.making_way():
            async with self._turn:  # so nobody pauses or resumes it meanwhile
                check_alive(container.record.name, container.state)
                if container.state not in ALIVE or container.state is ContainerState.PAUSED:
                    yield
                    return
                with self._busy() as scope:
                    try:
                        await self._freeze()
                        yield
                    finally:
                        given_up = scope.cancel_called
                        with bounded_cleanup(_THAW_SECONDS, what="letting a container go on"):
                            await self.thaw()
        if given_up:
            raise FailedPrecondition(
                f"the container {container.record.name} is not held still any more, since it is to end",
                hint="try again when it has ended",
            )

    @contextmanager
    def _busy(self) -> Iterator[trio.CancelScope]:
        with trio.CancelScope() as scope:
            self._holding = scope
            try:
                yield scope
            finally:
                self._holding = None

    async def _freeze(self) -> None:
        container = self._container
        container.standstills += 1
        write_atomic(container.layout.frozen, b"", sync=False)
        try:
            await self._runtime.pause(container.id)
        except FailedPrecondition as error:
            if container.state in ALIVE:
                raise FailedPrecondition(error.message, hint="or do it without: --pause=false") from None

    async def thaw(self) -> None:
        """Let the container go on if it was held still, by us or by a daemon before us."""
        container = self._container
        if not container.layout.frozen.exists():
            return
        try:
            await self._runtime.resume(container.id)
        except RossError as error:
            thaw_cgroup(container.group)
            state = await self._runtime.state(container.id)
            if state is not None and state.status == "paused":
                logger.error("the container %s cannot be let go on: %s", container.record.name, error)
                return
        container.layout.frozen.unlink(missing_ok=True)
