"""A runtime that stands still where a test wants it to, so that what else is asked for comes at that very moment."""

from __future__ import annotations

import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.support.daemon import running_daemon
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.daemon import Daemon

_RUNTIME = """#!/bin/sh
wait_at() {{
  [ -e {directory}/$1.shut ] || return 0
  touch {directory}/$1.reached
  while [ -e {directory}/$1.shut ]; do sleep 0.01; done
}}
for verb in create exec pause resume update; do
  case " $* " in
  *" $verb "*)
    wait_at before-$verb
    [ -e {directory}/behind-$verb.shut ] || exec runc "$@"
    runc "$@"
    code=$?
    wait_at behind-$verb
    exit $code
    ;;
  esac
done
exec runc "$@"
"""


class Gates:
    """Before and behind each command of the runtime."""

    daemon: Daemon

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir()
        self.runtime = directory / "runtime"
        self.runtime.write_text(_RUNTIME.format(directory=shlex.quote(str(directory))))
        self.runtime.chmod(0o755)

    def _file(self, gate: str, kind: str) -> Path:
        return self._directory / f"{gate}.{kind}"

    def shut(self, gate: str) -> None:
        """Have the runtime stand still ``before-pause``, ``behind-pause`` and the like."""
        self._file(gate, "reached").unlink(missing_ok=True)
        self._file(gate, "shut").touch()

    def until_reached(self, gate: str) -> None:
        """Wait until it does."""
        until(self._file(gate, "reached").exists)

    def open(self, gate: str) -> None:
        """Let it go on."""
        self._file(gate, "shut").unlink(missing_ok=True)

    @contextmanager
    def all_open_at_last(self) -> Iterator[None]:
        try:
            yield
        finally:
            for path in self._directory.glob("*.shut"):
                path.unlink()


@contextmanager
def gated_daemon(directory: Path) -> Iterator[Gates]:
    """A daemon with such a runtime, in a directory that is there."""
    gates = Gates(directory / "gates")
    with (
        running_daemon(directory, settings={"ROSS_RUNTIME": str(gates.runtime)}) as gates.daemon,
        gates.all_open_at_last(),
    ):
        yield gates
