"""Programs that are executed in a running container, beside its first one; and what runs in it at all."""

from __future__ import annotations

from enum import Enum
from typing import Final

from attrs import evolve, frozen

from ross.model.containers import Outcome

_MOST_ARGUMENTS: Final = 8
_LONGEST_TEXT: Final = 256
"""Of what an abridged description has."""


class GonePolicy(Enum):
    """What becomes of an executed program when nobody holds a reference to it any more."""

    UNKNOWN = "unknown"
    HUP = "hup"
    """It is sent SIGHUP, as by a terminal that is closed, and SIGKILL a little later."""
    KILL = "kill"
    LEAVE = "leave"
    """It goes on until it ends."""


@frozen(kw_only=True)
class ExecOptions:
    """What to execute. What is left at its default is as the container's first process has it."""

    args: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    """``NAME=value``, or ``NAME`` to have no such variable; later ones win, and all win over the container's."""
    user: str = ""
    working_dir: str = ""
    terminal: bool = False
    stdin: bool = False
    privileged: bool = False
    rows: int = 0
    columns: int = 0
    """The terminal's size to begin with."""
    when_gone: GonePolicy = GonePolicy.HUP
    stdio: tuple[int, ...] = ()
    """Its standard input, output and error output: the numbers of three descriptors that were sent with the call."""
    fds: tuple[int, ...] = ()
    """What it has from descriptor 3 on: the numbers of descriptors that were sent with the call."""


@frozen(kw_only=True)
class ExecInfo:
    """A program that was executed in a container."""

    id: str
    args: tuple[str, ...]
    user: str
    working_dir: str
    terminal: bool
    stdin: bool
    privileged: bool
    when_gone: GonePolicy
    pid: int
    """On the host; 0 if it has ended."""
    started_at: int
    outcome: Outcome | None
    """Absent while it runs."""
    abridged: bool = False
    """Its arguments are cut off, since they are uncommonly long; ``Exec.info`` tells all."""

    def abridge(self) -> ExecInfo:
        """The same, as short as it can be."""
        return evolve(
            self,
            args=tuple(text[:_LONGEST_TEXT] for text in self.args[:_MOST_ARGUMENTS]),
            user=self.user[:_LONGEST_TEXT],
            working_dir=self.working_dir[:_LONGEST_TEXT],
            abridged=True,
        )


@frozen(kw_only=True)
class ProcessRow:
    """One process, a value for each column."""

    values: tuple[str, ...]


@frozen(kw_only=True)
class ProcessTable:
    """What runs in a container."""

    titles: tuple[str, ...]
    rows: tuple[ProcessRow, ...]
