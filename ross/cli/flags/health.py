"""Flags for how a container's health is found out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal

from attrs import define
from cyclopts import Parameter

from ross.cli.flags.limits import Switch
from ross.cli.parse import parse_duration
from ross.errors import InvalidArgument

if TYPE_CHECKING:
    from ross.client.specs import CreateOptions

HealthActionName = Literal["none", "kill", "restart", "stop"]


@Parameter(name="*")
@define(kw_only=True)
class HealthFlags:
    """What ``run`` and ``create`` say of health checks."""

    health_cmd: Annotated[str, Parameter(allow_leading_hyphen=True)] = ""
    """What a shell in it executes to find out whether it is well; a list of words in JSON is executed without one. none: nothing."""
    health_interval: str = ""
    """The time between two checks, such as 10s; 30s if not given."""
    health_retries: int = 0
    """So many failures in a row make it unhealthy; 3 if not given."""
    health_timeout: str = ""
    """A check that takes longer has failed; 30s if not given."""
    health_start_period: str = ""
    """How long after its start failures do not count."""
    health_start_interval: str = ""
    """The time between two checks meanwhile; 5s if not given."""
    health_on_failure: HealthActionName = "none"
    """What to do when it is unhealthy: none, kill (its restart policy says what comes then), restart or stop."""
    no_healthcheck: Switch = False
    """Do not check it, whatever the image says."""

    def options(self) -> CreateOptions:
        """The options of the client library that these flags mean.

        Raises:
            InvalidArgument: a value is not of its form, or there are flags for checks that there are none of.
        """
        if self.no_healthcheck and self != HealthFlags(no_healthcheck=True):
            raise InvalidArgument(
                "--no-healthcheck is given together with other flags for health checks", hint="leave it, or them, out"
            )
        return {
            "health_cmd": parse_health_command(self.health_cmd),
            "no_healthcheck": self.no_healthcheck or self.health_cmd == "none",
            "health_interval": _seconds(self.health_interval),
            "health_timeout": _seconds(self.health_timeout),
            "health_start_period": _seconds(self.health_start_period),
            "health_start_interval": _seconds(self.health_start_interval),
            "health_retries": self.health_retries,
            "health_on_failure": self.health_on_failure,
        }


def _seconds(text: str) -> float:
    return parse_duration(text) / 1e9 if text else 0.0


def parse_health_command(text: str) -> str | list[str]:
    """A text for a shell, or the words of a list in JSON; empty for ``none``.

    Raises:
        InvalidArgument: it is a list, and none of words.
    """
    if text == "none":
        return ""
    try:
        words = json.loads(text) if text.startswith("[") else text
    except (ValueError, RecursionError):
        return text  # as the shell's [ is
    if not isinstance(words, str) and not (words and all(isinstance(word, str) for word in words)):
        raise InvalidArgument(f"{text[:80]!r} is not a list of words", hint='write ["program", "argument"]')
    return words
