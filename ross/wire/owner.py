"""What belongs to one connection: the tasks of its calls, and the bounds of what they hold. Imports nothing of Ross."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import trio

    from ross.wire.ledger import Ledger
    from ross.wire.limits import Limits

_SMALL_BYTES: Final = 64 << 10
"""A call of no more than this is never refused because of others that are large: it may be what ends them."""


class TooManyCallsError(Exception):
    """A peer has more calls in flight than it may, or larger ones."""


class Owner:
    """What the tasks of a connection belong to: its nursery, and what its calls hold."""

    def __init__(self, nursery: trio.Nursery, limits: Limits, ledger: Ledger | None = None) -> None:
        self.nursery = nursery
        self.calls = 0
        self._ledger = ledger
        self._limits = limits

    def refusal(self) -> TooManyCallsError | None:
        """Why the call that has arrived is not made."""
        if self.calls >= self._limits.calls_in_flight:
            return TooManyCallsError("this connection has too many calls in flight")
        ledger = self._ledger
        if (
            ledger is not None
            and self.calls
            and ledger.newest_bytes > _SMALL_BYTES
            and ledger.held_bytes > self._limits.bytes_in_flight
        ):
            return TooManyCallsError("the calls that this connection has in flight are too large together")
        return None
