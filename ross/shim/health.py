"""What decides about a container's health checks: the spec and the image, checked and merged, in the way of Docker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import frozen

from ross.errors import InvalidArgument
from ross.model.health import HealthAction

if TYPE_CHECKING:
    from ross.model.health import HealthCheck
    from ross.oci.image import Execution, ImageHealthcheck

_SHELL: Final = ("/bin/sh", "-c")
_NONE: Final = "NONE"
_KINDS: Final = ("CMD", "CMD-SHELL", _NONE)
_MIN_NS: Final = 1_000_000
_MAX_NS: Final = 1 << 62
"""A hundred years and more; an image may say any number."""
_DEFAULT_SECONDS: Final = 30.0
_DEFAULT_START_INTERVAL_SECONDS: Final = 5.0
_DEFAULT_RETRIES: Final = 3


@frozen(kw_only=True)
class Check:
    """A health check with nothing left open. Times are seconds; see :class:`~ross.model.health.HealthCheck`."""

    args: tuple[str, ...]
    interval: float = _DEFAULT_SECONDS
    timeout: float = _DEFAULT_SECONDS
    start_period: float = 0.0
    start_interval: float = _DEFAULT_START_INTERVAL_SECONDS
    retries: int = _DEFAULT_RETRIES
    on_failure: HealthAction = HealthAction.NONE


def check_health(health: HealthCheck) -> None:
    """Refuse a health check that cannot be.

    Raises:
        InvalidArgument: it has nothing to execute, a time that is too short, or an action that there is not.
    """
    if health.test and health.test[0] not in _KINDS:
        raise InvalidArgument(
            f"there is no kind {health.test[0][:40]!r} of health checks", hint=f"the kinds are {', '.join(_KINDS)}"
        )
    if health.test and health.test[0] != _NONE and not "".join(health.test[1:2]):
        raise InvalidArgument("the health check has nothing to execute")
    if any("\0" in word for word in health.test):
        raise InvalidArgument("a text of the health check has a zero byte in it")
    times = {
        "interval": health.interval_ns,
        "timeout": health.timeout_ns,
        "start period": health.start_period_ns,
        "start interval": health.start_interval_ns,
    }
    for name, value in times.items():
        if value and value < _MIN_NS:
            raise InvalidArgument(f"the {name} of a health check is {value} ns", hint="the least is 1ms")
    if health.retries < 0:
        raise InvalidArgument("the retries of a health check are a number from 1 on")
    if health.on_failure is HealthAction.UNKNOWN:
        raise InvalidArgument(
            "this engine does not know what to do then about a container that is unhealthy",
            hint="the actions are none, kill, restart and stop",
        )


def effective_check(spec: HealthCheck, execution: Execution) -> Check | None:
    """What the spec and, where that says nothing, the image ask for; None if there is no check.

    An image is believed as far as it makes sense: of a time that is too short, or below zero, the default is taken.
    """
    image = execution.healthcheck
    args = _command(spec.test or (image.test if image is not None and image.test else ()), execution)
    if not args:
        return None
    return Check(
        args=args,
        interval=_seconds(spec.interval_ns, image, "interval", _DEFAULT_SECONDS),
        timeout=_seconds(spec.timeout_ns, image, "timeout", _DEFAULT_SECONDS),
        start_period=_seconds(spec.start_period_ns, image, "start_period", 0.0),
        start_interval=_seconds(spec.start_interval_ns, image, "start_interval", _DEFAULT_START_INTERVAL_SECONDS),
        retries=spec.retries or (image.retries if image is not None and image.retries > 0 else _DEFAULT_RETRIES),
        on_failure=spec.on_failure,
    )


def _command(test: tuple[str, ...], execution: Execution) -> tuple[str, ...]:
    """What is executed; empty for nothing, also for a kind of test that nobody knows."""
    kind, words = test[:1], test[1:]
    if not words or not words[0]:
        return ()
    if kind == ("CMD-SHELL",):
        return (*(execution.shell or _SHELL), *words)
    return words if kind == ("CMD",) else ()


def _seconds(wanted_ns: int, image: ImageHealthcheck | None, name: str, default: float) -> float:
    nanoseconds = wanted_ns or (int(getattr(image, name)) if image is not None else 0)
    return min(nanoseconds, _MAX_NS) / 1e9 if nanoseconds >= _MIN_NS else default
