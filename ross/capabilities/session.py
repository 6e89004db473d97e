"""What one connection holds in the daemon, released when its reference is dropped and, at the latest, with the connection."""

from __future__ import annotations

import logging
import secrets
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import trio

from ross.nursery.cleanup import bounded_cleanup

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from ross.services.container import Container
    from ross.wire.credentials import Credentials

logger = logging.getLogger(__name__)


class Holding:
    """Something held for a reference. ``release`` may be called from ``__del__``: it only schedules."""

    def __init__(self, session: Session, release: Callable[[], Awaitable[None] | None]) -> None:
        self._session = session
        self._release = release
        self._released = False

    def release(self) -> None:
        """Let go, soon. Does nothing the second time."""
        self._session.let_go(self)

    async def run(self) -> None:
        """Let go, now. Does nothing the second time."""
        if self._released:
            return
        self._released = True
        result = self._release()
        if result is not None:
            await result


class Session:
    """The holdings of one connection."""

    def __init__(
        self, peer: Credentials, *, claim_fd: Callable[[int], int], send_fds: Callable[[list[int]], list[int]]
    ) -> None:
        self.peer = peer
        """Who is at the other end."""
        self.claim_fd = claim_fd
        """Take over a descriptor that the peer has sent, by its number; KeyError if there is none."""
        self.send_fds = send_fds
        """Send duplicates of descriptors ahead of the next message; returns their numbers."""
        self._holdings: set[Holding] = set()
        self._asked: dict[bytes, list[Container]] = {}
        self._to_release, self._released = trio.open_memory_channel[Holding](float("inf"))

    def hold(self, release: Callable[[], Awaitable[None] | None]) -> Holding:
        """Note something to be released; ``release`` is called once."""
        holding = Holding(self, release)
        self._holdings.add(holding)
        return holding

    def let_go(self, holding: Holding) -> None:
        """Schedule a release. Safe wherever Python may run a ``__del__``: it neither awaits nor raises."""
        with suppress(trio.BrokenResourceError):  # the connection is ending, which releases everything
            self._to_release.send_nowait(holding)

    @contextmanager
    def identifying(self) -> Iterator[tuple[bytes, list[Container]]]:
        """A nonce to ask a reference with, and what has answered to it so far."""
        nonce = secrets.token_bytes(16)
        answers = self._asked[nonce] = []
        try:
            yield nonce, answers
        finally:
            del self._asked[nonce]

    def answer(self, nonce: bytes, container: Container) -> None:
        """Say that a reference that was asked with this nonce denotes this container; nothing happens if none was."""
        if nonce in self._asked:
            self._asked[nonce].append(container)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Release what is let go of, until cancelled; then everything that is left."""
        task_status.started()
        try:
            async for holding in self._released:
                await _run_quietly(holding)
                self._holdings.discard(holding)
        finally:
            self._released.close()
            with bounded_cleanup(5, what="the end of a connection"):
                for holding in tuple(self._holdings):
                    await _run_quietly(holding)
                self._holdings.clear()


async def _run_quietly(holding: Holding) -> None:
    try:
        await holding.run()
    except Exception:
        logger.exception("letting go of something for a client failed")
