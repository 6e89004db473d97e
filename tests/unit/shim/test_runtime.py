"""The runtime's commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from ross.errors import Unavailable
from ross.shim.runtime import Runtime

if TYPE_CHECKING:
    from pathlib import Path

    from trio.testing import MockClock


async def test_one_that_hangs_is_killed(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Whoever has the turn of a container would else keep everybody from it, also from removing it."""
    program = tmp_path / "runtime"
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    runtime = Runtime(program, tmp_path)
    began = trio.current_time()
    with pytest.raises(Unavailable, match="runtime pause did not end in 60 s"):
        await runtime.pause("one")
    assert trio.current_time() - began >= 60
