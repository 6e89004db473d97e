"""Starting and forgetting a container by what the runtime has of it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from ross.errors import FailedPrecondition
from ross.linux.pidfd import NOBODY, ProcessIdentity, identify
from ross.shim.direct import forget, let_begin


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "exec.fifo")
    return tmp_path


class Waiting:
    """A process that waits at the fifo, and then does something."""

    def __init__(self, directory: Path, script: str) -> None:
        self.process = subprocess.Popen(["sh", "-c", script], cwd=directory)
        self.identity = identify(self.process.pid) or NOBODY


@pytest.fixture
def processes() -> Iterator[list[Waiting]]:
    found: list[Waiting] = []
    yield found
    for one in found:
        one.process.kill()
        one.process.wait()


@pytest.mark.parametrize("after", ["exec sleep 60", "exit 0"])
async def test_who_waits_begins(directory: Path, processes: list[Waiting], after: str) -> None:
    processes.append(Waiting(directory, f"printf 0 > exec.fifo; {after}"))
    with trio.fail_after(60):
        assert await let_begin(directory, processes[0].identity)
    assert not (directory / "exec.fifo").exists()


async def test_who_has_not_come_so_far_is_waited_for(directory: Path, processes: list[Waiting]) -> None:
    processes.append(Waiting(directory, "sleep 0.3; printf 0 > exec.fifo; exec sleep 60"))
    with trio.fail_after(60):
        assert await let_begin(directory, processes[0].identity)


async def test_a_brief_one_that_is_gone_already_has_begun(
    directory: Path, processes: list[Waiting], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for us only until we have opened the fifo; so it may be gone before we look for it."""
    processes.append(Waiting(directory, "printf 0 > exec.fifo"))

    def gone(_identity: ProcessIdentity) -> None:
        processes[0].process.wait()

    monkeypatch.setattr("ross.shim.direct.open_pidfd", gone)
    with trio.fail_after(60):
        assert await let_begin(directory, processes[0].identity)


@pytest.mark.parametrize("script", ["exit 1", "sleep 0.3; exit 1", "kill -9 $$"])
async def test_who_ends_first_has_not_begun(directory: Path, processes: list[Waiting], script: str) -> None:
    processes.append(Waiting(directory, script))
    with trio.fail_after(60), pytest.raises(FailedPrecondition, match="ended before it began"):
        await let_begin(directory, processes[0].identity)
    assert (directory / "exec.fifo").exists()


async def test_cancelled_it_leaves_all_as_it_was(directory: Path, processes: list[Waiting]) -> None:
    processes.append(Waiting(directory, "exec sleep 60"))
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- a count, and no paths
    with trio.move_on_after(0.2) as limit:
        await let_begin(directory, processes[0].identity)
    assert limit.cancelled_caught
    assert (directory / "exec.fifo").exists()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


@pytest.mark.parametrize("kind", ["nothing", "file", "link"])
async def test_what_is_no_fifo_is_for_the_runtime(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "exec.fifo"
    if kind == "file":
        place.touch()
    elif kind == "link":
        os.mkfifo(tmp_path / "other")
        place.symlink_to("other")
    assert not await let_begin(tmp_path, NOBODY)
    assert place.exists() == (kind != "nothing")


def kept(tmp_path: Path, **state: Any) -> Path:
    directory = tmp_path / "kept"
    directory.mkdir()
    whole = {"init_process_pid": NOBODY.pid, "init_process_start": 0, "config": {"Hooks": {"poststop": None}}}
    (directory / "state.json").write_text(json.dumps(whole | state))
    return directory


async def test_one_that_has_ended_is_forgotten(tmp_path: Path) -> None:
    directory = kept(tmp_path)
    assert await forget(directory, "/ross/of-nobody")
    assert not directory.exists()


@pytest.mark.parametrize(
    "state",
    [
        {"init_process_pid": os.getpid(), "init_process_start": getattr(identify(os.getpid()), "start_time", 0)},
        {"config": {"Hooks": {"poststop": [{"path": "/bin/true"}]}}},
        {"config": None},
        {"init_process_pid": None},
        {"init_process_start": "x"},
    ],
)
async def test_what_is_kept_otherwise_is_for_the_runtime(tmp_path: Path, state: dict[str, Any]) -> None:
    directory = kept(tmp_path, **state)
    assert not await forget(directory, "/ross/of-nobody")
    assert (directory / "state.json").exists()


async def test_a_number_that_is_anothers_now_does_not_matter(tmp_path: Path) -> None:
    directory = kept(tmp_path, init_process_pid=os.getpid(), init_process_start=1)
    assert await forget(directory, "/ross/of-nobody")


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
async def test_a_state_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)
    assert not await forget(tmp_path, "/ross/of-nobody")
