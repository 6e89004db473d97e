"""Health checks: what is asked for, and what has come of them. Names and meanings are Docker's."""

from __future__ import annotations

from enum import Enum

from attrs import frozen


class HealthState(Enum):
    """How a container is, as its checks have it."""

    UNKNOWN = "unknown"
    STARTING = "starting"
    """No check has succeeded yet, and not too many have failed."""
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    """So many checks have failed in a row; or it has ended."""
    NONE = "none"
    """Without checks, or not started yet. Only in a filter: what is so has no :class:`HealthInfo`."""


class HealthAction(Enum):
    """What is done about a container that is unhealthy."""

    UNKNOWN = "unknown"
    NONE = "none"
    KILL = "kill"
    """It is killed, and its restart policy says what comes then."""
    RESTART = "restart"
    STOP = "stop"
    """It is stopped, as by hand."""


@frozen(kw_only=True)
class HealthCheck:
    """What to find out whether a container is well by. What is left at its default is as the image has it, then as Docker has it."""

    test: tuple[str, ...] = ()
    """``CMD`` and a command, ``CMD-SHELL`` and a text for a shell, or ``NONE``. Empty: the image's."""
    interval_ns: int = 0
    """From the end of one check to the beginning of the next; 30 s."""
    timeout_ns: int = 0
    """A check that takes longer has failed, and is killed; 30 s."""
    start_period_ns: int = 0
    """So long after the start failures do not count, unless a check has succeeded; none."""
    start_interval_ns: int = 0
    """The interval meanwhile; 5 s."""
    retries: int = 0
    """So many failures in a row make it unhealthy; 3."""
    on_failure: HealthAction = HealthAction.NONE


@frozen(kw_only=True)
class HealthResult:
    """What has come of one check."""

    started_at: int
    finished_at: int
    exit_code: int
    """0: it is well. -1: the check took too long, or could not be executed."""
    output: str
    """The beginning of what the check has written, or why there was none."""


@frozen(kw_only=True)
class HealthInfo:
    """How a container is."""

    state: HealthState
    failing_streak: int = 0
    """So many checks in a row have failed."""
    results: tuple[HealthResult, ...] = ()
    """The last ones since the daemon was started, the oldest first."""
