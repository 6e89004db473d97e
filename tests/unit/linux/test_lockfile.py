"""The lock of a root: exclusive between processes, let go with the process, naming its holder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ross.linux.lockfile import LockHeldError, hold_lock

if TYPE_CHECKING:
    from pathlib import Path

HOLDER = """
import sys, pathlib
from ross.linux.lockfile import hold_lock
with hold_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_lock_names_the_process_that_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockHeldError) as caught, hold_lock(path):
            raise AssertionError("held twice")
        assert caught.value.pid == holder.pid
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with hold_lock(path):
        assert path.read_text() == f"{os.getpid()}\n"
    with hold_lock(path):
        pass


def test_lock_file_is_never_a_link(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "lock").symlink_to(target)
    with pytest.raises(OSError, match="lock"), hold_lock(tmp_path / "lock"):
        raise AssertionError("followed a link")
    assert target.read_text() == "precious"
