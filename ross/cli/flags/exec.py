"""Flags for what is executed in a container."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

from attrs import define
from cyclopts import Parameter

from ross.cli.flags.limits import Switch, Words
from ross.cli.keys import DETACH_KEYS
from ross.cli.parse import parse_env, read_env_files

if TYPE_CHECKING:
    from ross.client.processes import ProcessOptions


@Parameter(name="*")
@define(kw_only=True)
class ExecFlags:
    """What ``exec`` says of a command."""

    interactive: Annotated[bool, Parameter(name=["--interactive", "-i"], negative=())] = False
    """Connect its input to ours."""
    tty: Annotated[bool, Parameter(name=["--tty", "-t"], negative=())] = False
    """Give it a terminal."""
    detach: Annotated[bool, Parameter(name=["--detach", "-d"], negative=())] = False
    """Leave it running, and be gone."""
    env: Annotated[tuple[str, ...], Parameter(name=["--env", "-e"], negative=())] = ()
    """NAME=value, or NAME for our own value of it. May be repeated."""
    env_file: Words = ()
    """A file with such entries, one a line. May be repeated."""
    user: Annotated[str, Parameter(name=["--user", "-u"])] = ""
    """user[:group], by name or number; the container's if not given."""
    workdir: Annotated[str, Parameter(name=["--workdir", "-w"])] = ""
    """The directory it begins in; the container's if not given."""
    privileged: Switch = False
    """Give it all capabilities that the daemon has."""
    detach_keys: str = DETACH_KEYS
    """What is typed to let go of it: keys with commas between them, each a character or ctrl-CHARACTER; nothing for no such keys."""
    preserve_fds: int = 0
    """Hand it so many of our descriptors, from 3 on."""

    def options(self) -> ProcessOptions:
        """The options of the client library that these flags mean."""
        return {
            "env": [*read_env_files(self.env_file, os.environ), *parse_env(self.env, os.environ)],
            "user": self.user,
            "workdir": self.workdir,
            "terminal": self.tty,
            "privileged": self.privileged,
            "when_gone": "leave" if self.detach else "hup",
        }
