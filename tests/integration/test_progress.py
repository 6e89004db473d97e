"""How progress is shown: on terminals of every width, on one that cannot draw, on none, and when it is interrupted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import command
from tests.support.faulty_registry import FaultyRegistry, faulty_registry
from tests.support.images import ImageBuilder, Layer
from tests.support.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration
HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_COLOR = re.compile(rb"\x1b\[(?:3|4|9)[0-9;]*m")


@pytest.fixture
def source() -> Iterator[FaultyRegistry]:
    with faulty_registry() as registry:
        registry.bytes_per_second = 400_000
        yield registry


@pytest.fixture
def slow(source: FaultyRegistry) -> str:
    """An image whose three layers take about a second to arrive."""
    builder = ImageBuilder()
    for number in range(3):
        builder.layer(Layer().add(f"f{number}", bytes([number]) * 400_000), compression="")
    return source.serve("slow", "1", builder.build())


@pytest.fixture
def slower(source: FaultyRegistry, slow: str) -> str:
    """One that does not arrive before something is done about it, or the registry is let go faster."""
    source.bytes_per_second = 20_000
    return slow


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    return monkeypatch


def widths(shown: bytes) -> int:
    """The width of the widest line."""
    lines = _CONTROL.sub("", shown.decode()).replace("\r", "\n").split("\n")
    return max(len(line) for line in lines)


@pytest.mark.parametrize("columns", [20, 80, 300])
def test_every_width_has_room(daemon: Daemon, slow: str, terminal: pytest.MonkeyPatch, columns: int) -> None:
    pulling = Terminal(daemon, "pull", slow, size=(24, columns))
    shown = pulling.read_to_the_end()
    assert pulling.wait() == 0
    assert b"Complete" in shown or columns == 20
    assert shown.rindex(SHOW) > shown.rindex(HIDE)
    assert widths(shown[: shown.rindex(SHOW)]) <= columns
    assert (b"MB" in shown or b"kB" in shown) is (columns >= 60)


def test_terminal_that_gets_narrower_meanwhile(
    daemon: Daemon, source: FaultyRegistry, slower: str, terminal: pytest.MonkeyPatch
) -> None:
    pulling = Terminal(daemon, "pull", slower, size=(24, 120))
    pulling.read_until(b"Downloading")
    pulling.resize(24, 30)
    for _time in range(3):
        pulling.read_until(b"Downloading")
    source.bytes_per_second = 0
    shown = pulling.read_to_the_end()
    assert pulling.wait() == 0
    drawn = shown[: shown.rindex(SHOW)].split(b"\x1b[2K")
    assert max(map(widths, drawn[-3:])) <= 30
    assert b"MB" not in drawn[-1]


def test_terminal_that_cannot_draw_gets_plain_lines(daemon: Daemon, slow: str, terminal: pytest.MonkeyPatch) -> None:
    terminal.setenv("TERM", "dumb")
    pulling = Terminal(daemon, "pull", slow, size=(24, 80))
    shown = pulling.read_to_the_end()
    assert pulling.wait() == 0
    assert b"\x1b" not in shown
    assert shown.count(b": Complete\r\n") == 3
    assert len(shown.splitlines()) == 5


def test_colors_are_left_out_where_they_are_unwanted(daemon: Daemon, slow: str, terminal: pytest.MonkeyPatch) -> None:
    terminal.setenv("NO_COLOR", "1")
    pulling = Terminal(daemon, "pull", slow, size=(24, 80))
    shown = pulling.read_to_the_end()
    assert pulling.wait() == 0
    assert HIDE in shown
    assert _COLOR.search(shown) is None


def test_without_a_terminal_there_are_few_plain_lines(daemon: Daemon, slow: str) -> None:
    done = daemon.ross("pull", slow)
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert lines[0] == f"Pulling {slow}"
    assert sorted(line.partition(": ")[2] for line in lines[1:]) == ["Complete"] * 3
    assert "\x1b" not in done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_interrupted_pull_restores_the_terminal(daemon: Daemon, slower: str, terminal: pytest.MonkeyPatch) -> None:
    pulling = Terminal(daemon, "pull", slower, size=(24, 80))
    before = pulling.modes()
    shown = pulling.read_until(b"Downloading")
    pulling.send(b"\x03")
    shown += pulling.read_to_the_end()
    assert shown.rindex(SHOW) > shown.rfind(HIDE)
    assert b"Traceback" not in shown
    assert pulling.modes() == before
    assert pulling.wait() == 130, shown
    assert daemon.ross("system", "prune", "-f").returncode == 0  # what has come so far is kept for the next pull


INTERRUPTED = """
import signal, sys
from ross.cli.session import with_engine
from ross.wire.loop import KjLoop

create_task, called = KjLoop.create_task, []

def interrupted(loop, coroutine, **options):
    made = create_task(loop, coroutine, **options)
    if called and called.pop():
        signal.raise_signal(signal.SIGINT)
    return made

KjLoop.create_task = interrupted

async def body(engine):
    called.append(True)
    await engine.images.pull(sys.argv[1], on_progress=lambda _progress: None)

try:
    with_engine(body)
except KeyboardInterrupt:
    sys.exit(130)
"""
"""It comes while KJ, in machine code, calls for a task to take a message in by."""


def test_an_interrupt_in_the_middle_of_what_the_daemon_calls_is_one(daemon: Daemon, slow: str) -> None:
    """And no fault of ours, nor of the daemon's."""
    program = [sys.executable, "-c", INTERRUPTED, slow]
    done = subprocess.run(program, env=daemon.environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "")
    daemon.ok("system", "prune", "-f")


@contextmanager
def unending(daemon: Daemon) -> Iterator[None]:
    """A check does not come to its end within the block: one of the files is a fifo that nobody writes to."""
    blob = next(path for path in (daemon.root / "blobs").rglob("*") if path.is_file())
    kept, fifo = blob.rename(daemon.root.parent / "kept"), daemon.root.parent / "fifo"
    os.mkfifo(fifo)
    blob.hardlink_to(fifo)
    try:
        yield
    finally:
        kept.replace(blob)
        os.close(os.open(fifo, os.O_RDWR))  # whoever waits for a writer has had one


def test_check_shows_how_it_goes_and_can_be_interrupted(daemon: Daemon, box: str, terminal: pytest.MonkeyPatch) -> None:
    checking = Terminal(daemon, "system", "check", size=(24, 80))
    shown = checking.read_to_the_end()
    assert checking.wait() == 0
    assert b"Hashing content" in shown
    assert shown.endswith(b"all right\r\n")
    assert SHOW in shown

    done = subprocess.run(command("system", "check"), env=daemon.environment(), capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")

    with unending(daemon):
        checking = Terminal(daemon, "system", "check", size=(24, 80))
        shown = checking.read_until(HIDE)
        checking.send(b"\x03")
        shown += checking.read_to_the_end()
        assert b"Traceback" not in shown
        assert shown.rindex(SHOW) > shown.rfind(HIDE)
        assert checking.wait() == 130
    assert daemon.ross("system", "check").returncode == 0, "nothing of the first one is left in its way"
