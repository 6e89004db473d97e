"""Flags for what becomes of a container's output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import define
from cyclopts import Parameter

from ross.cli.flags.limits import Words
from ross.cli.parse import parse_options

if TYPE_CHECKING:
    from ross.client.specs import CreateOptions

PASSTHROUGH: Final = "passthrough"


@Parameter(name="*")
@define(kw_only=True)
class LogFlags:
    """What ``run`` and ``create`` say of logs."""

    log_driver: str = "file"
    """Where its output is kept: file, journald, or none; passthrough hands it our own streams, as fast as the kernel, and keeps nothing."""
    log_opt: Words = ()
    """How: max-size=10m (-1: no limit) and max-file=3, for the driver file; tag=TEXT, for journald. May be repeated."""

    def options(self) -> CreateOptions:
        """The options of the client library that these flags mean."""
        return {"log_driver": self.log_driver, "log_options": parse_options(self.log_opt)}
