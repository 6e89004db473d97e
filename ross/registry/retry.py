"""When to ask a registry again: what counts as passing trouble, how long to wait, and when to stop."""

from __future__ import annotations

import logging
import random
from email.utils import parsedate_to_datetime
from time import time
from typing import TYPE_CHECKING

import trio
from attrs import frozen

from ross.errors import Fact, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)


class Transient(Unavailable):
    """A failure that may pass: no connection, a dropped one, a timeout, 429, 5xx. Whoever gets it may try again."""

    def __init__(
        self, message: str, *, hint: str | None = None, retry_after_seconds: float | None = None, **facts: Fact
    ) -> None:
        super().__init__(message, hint=hint, **facts)
        self.retry_after_seconds = retry_after_seconds


@frozen(kw_only=True)
class RetryPolicy:
    """How patient to be."""

    attempts: int = 5
    """In all, without any progress between them."""
    initial_seconds: float = 0.2
    factor: float = 3.0
    maximum_seconds: float = 10.0
    """For one wait that Ross chooses."""
    patience_seconds: float = 60.0
    """For all waits together that a server asks for by ``Retry-After``."""


class Backoff:
    """The waits of one operation: longer each time, with jitter, starting over after progress."""

    def __init__(self, policy: RetryPolicy, *, delayed: Callable[[float], None] | None = None) -> None:
        """Begin.

        Args:
            policy: How patient to be.
            delayed: Told of each wait that a server asks for.
        """
        self._policy = policy
        self._delayed = delayed
        self._failures = 0
        self._patience = policy.patience_seconds

    def progressed(self) -> None:
        """Something came through: the attempts so far do not count."""
        self._failures = 0

    async def wait(self, error: Transient, *, what: str) -> None:
        """Wait before the next attempt.

        Raises:
            Transient: the very ``error``, if there is to be no further attempt.
        """
        self._failures += 1
        if self._failures >= self._policy.attempts:
            raise error
        seconds = self._own_wait()
        asked = error.retry_after_seconds
        if asked is not None:
            if asked > self._patience:
                raise error
            self._patience -= asked
            seconds = max(seconds, asked)
            if self._delayed is not None:
                self._delayed(seconds)
        logger.info("%s failed (%s); next attempt in %.1f s", what, error, seconds)
        await trio.sleep(seconds)

    def _own_wait(self) -> float:
        policy = self._policy
        longest = min(policy.initial_seconds * policy.factor ** (self._failures - 1), policy.maximum_seconds)
        # Half of it is random, so that the layers of one pull do not come back all at once.
        return longest * (0.5 + random.random() / 2)  # noqa: S311 -- spreads load, guards nothing


def parse_retry_after(value: str | None) -> float | None:
    """The seconds of a ``Retry-After`` header (RFC 9110, section 10.2.3), a number or a date; nothing if it is neither."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time())
    except (ValueError, OverflowError, OSError):
        return None
