"""Keyword options to health checks of a container."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

from ross.errors import InvalidArgument
from ross.model.health import HealthAction, HealthCheck


class HealthOptions(TypedDict, total=False):
    """What ``create`` takes; each as the flag of ``ross run`` with the same name. Times are seconds."""

    health_cmd: str | Sequence[str]
    """A text for a shell, or a command."""
    health_interval: float
    health_timeout: float
    health_start_period: float
    health_start_interval: float
    health_retries: int
    health_on_failure: Literal["none", "kill", "restart", "stop"]
    """``none``, ``kill``, ``restart`` or ``stop``."""
    no_healthcheck: bool


def make_health(options: HealthOptions) -> HealthCheck:
    """The health check that these options mean.

    Raises:
        InvalidArgument: there is no such action, or one is asked for and there is nothing to check by.
    """
    command = options.get("health_cmd", "")
    test: tuple[str, ...] = ()
    if command:
        test = ("CMD-SHELL", command) if isinstance(command, str) else ("CMD", *command)
    if options.get("no_healthcheck", False):
        if test:
            raise InvalidArgument(
                "a health check is asked for, and none", hint="leave out no_healthcheck, or the others"
            )
        test = ("NONE",)
    return HealthCheck(
        test=test,
        interval_ns=_nanoseconds(options.get("health_interval", 0)),
        timeout_ns=_nanoseconds(options.get("health_timeout", 0)),
        start_period_ns=_nanoseconds(options.get("health_start_period", 0)),
        start_interval_ns=_nanoseconds(options.get("health_start_interval", 0)),
        retries=options.get("health_retries", 0),
        on_failure=parse_action(options.get("health_on_failure", "none")),
    )


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def parse_action(text: str) -> HealthAction:
    """``none``, ``kill``, ``restart`` or ``stop``.

    Raises:
        InvalidArgument: it is none of them.
    """
    if text not in {member.value for member in HealthAction} - {"unknown"}:
        raise InvalidArgument(
            f"{text!r} is nothing to do about a container that is unhealthy",
            hint="the actions are none, kill, restart and stop",
        )
    return HealthAction(text)
