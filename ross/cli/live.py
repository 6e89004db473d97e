"""``ross top`` without a container: all that run, on the whole screen, until a key ends it."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio
from attrs import define

from ross.cli import output
from ross.cli.session import with_engine
from ross.cli.watch import Watch
from ross.errors import InvalidArgument
from ross.linux.terminal import is_terminal, raw_mode, window_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ross.cli.watch import Row
    from ross.client import Engine

_TICK_SECONDS: Final = 1.0
_ENTER: Final = "\x1b[?1049h\x1b[?25l"
"""The other screen, which is left as it was before, and no cursor."""
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_TO_THE_END: Final = "\x1b[J"
_LINE_END: Final = "\x1b[K\r\n"
_BOLD: Final = "\x1b[1m"
_PLAIN: Final = "\x1b[0m"
_HEADINGS: Final = ("NAME", "STATE", "CPU %", "MEM", "MEM %", "READ", "WRITTEN", "PIDS", "UP", "IMAGE")
_ORDERS: Final[dict[str, Callable[[Row], object]]] = {
    "cpu": lambda row: -(row.processors or 0),
    "memory": lambda row: -(row.sample.memory.used_bytes if row.sample is not None else 0),
    "pids": lambda row: -(row.sample.pids.count if row.sample is not None else 0),
    "name": lambda row: row.info.name,
}
_KEYS: Final = {b"c": "cpu", b"m": "memory", b"p": "pids", b"n": "name"}
_QUIT: Final = frozenset({b"q", b"Q", b"\x03", b"\x1b"})
_UP: Final = frozenset({b"k", b"\x1b[A", b"\x1bOA"})
_DOWN: Final = frozenset({b"j", b"\x1b[B", b"\x1bOB"})
_HELP: Final = "q quit   a all   order by: c cpu  m memory  p pids  n name"


@define
class View:
    """What of it all is shown."""

    order: str = "cpu"
    first: int = 0
    """How many rows have been scrolled away."""
    everything: bool = False
    ended: bool = False

    def press(self, key: bytes) -> None:
        """Do what a key means; nothing if it means nothing."""
        if key in _QUIT:
            self.ended = True
        elif key in _KEYS:
            self.order, self.first = _KEYS[key], 0
        elif key == b"a":
            self.everything, self.first = not self.everything, 0
        elif key in _UP:
            self.first = max(0, self.first - 1)
        elif key in _DOWN:
            self.first += 1


def show_live() -> None:
    """Draw until somebody has seen enough.

    Raises:
        InvalidArgument: there is no terminal to draw on.
    """
    if not (is_terminal(0) and is_terminal(1)):
        raise InvalidArgument(
            "what runs is shown on a terminal, and this is none",
            hint="name a container: ross top NAME; or see: ross stats",
        )

    async def body(engine: Engine) -> None:
        view, changed = View(), trio.Event()
        async with trio.open_nursery() as nursery:
            watch = Watch(engine, (), nursery, all=False)

            def press(key: bytes) -> None:
                nonlocal changed
                view.press(key)
                changed.set()
                changed = trio.Event()

            await watch.look(_TICK_SECONDS)
            with _screen():
                nursery.start_soon(_read_keys, press)
                nursery.start_soon(_read_sizes, lambda: press(b""))
                while not view.ended:
                    output.write(drawn(watch.rows, view, window_size(1)))
                    with trio.move_on_after(_TICK_SECONDS):
                        await changed.wait()
                        continue
                    watch.all = view.everything
                    await watch.look(_TICK_SECONDS)
            nursery.cancel_scope.cancel()

    with_engine(body)


@contextmanager
def _screen() -> Iterator[None]:
    with raw_mode(0):
        output.write(_ENTER)
        try:
            yield
        finally:
            output.write(_LEAVE)


async def _read_keys(press: Callable[[bytes], None]) -> None:
    while True:
        await trio.lowlevel.wait_readable(0)
        keys = os.read(0, 64)
        if not keys:
            press(b"q")  # the terminal is gone
            return
        for key in [keys] if keys.startswith(b"\x1b") else [keys[at : at + 1] for at in range(len(keys))]:
            press(key)


async def _read_sizes(changed: Callable[[], None]) -> None:
    with trio.open_signal_receiver(signal.SIGWINCH) as signals:
        async for _number in signals:
            changed()


def drawn(rows: Sequence[Row], view: View, size: tuple[int, int]) -> str:
    """A screen: the sum of it, the containers in their order as far as there is room, and the keys.

    Args:
        rows: The containers.
        view: Which of them, and how.
        size: Rows and columns of the terminal; 24 and 80 if it does not say.
    """
    height, width = size[0] or 24, size[1] or 80
    room = max(1, height - 4)
    view.first = max(0, min(view.first, len(rows) - room))
    ordered = sorted(rows, key=_ORDERS[view.order])  # type: ignore[arg-type]  # of one order all are of one type
    headings, *lines = output.table(_HEADINGS, map(_cells, ordered)).splitlines()
    shown = [line[:width] for line in lines[view.first : view.first + room]]
    left = len(lines) - view.first - len(shown)
    texts = [_sum(rows, view)[:width], "", f"{_BOLD}{headings[:width]}{_PLAIN}", *shown]
    texts += [""] * (height - 1 - len(texts))
    return (
        _HOME + _LINE_END.join((*texts, f"{_HELP}{f'   {left} more below' if left > 0 else ''}"[:width])) + _TO_THE_END
    )


def _sum(rows: Sequence[Row], view: View) -> str:
    running = [row for row in rows if row.alive]
    processors = sum(row.processors or 0 for row in running)
    used = sum(row.sample.memory.used_bytes for row in running if row.sample is not None)
    listed = f" of {len(rows)}" if view.everything else ""
    return f"ross: {len(running)}{listed} running   cpu {100 * processors:.1f}%   memory {output.binary_size(used)}"


def _cells(row: Row) -> tuple[str, ...]:
    info, sample = row.info, row.sample if row.alive else None
    health = f" ({info.health.state.value})" if info.health is not None and row.alive else ""
    measured = ("",) * 6
    if sample is not None:
        measured = (
            f"{100 * row.processors:.1f}" if row.processors is not None else "",
            output.binary_size(sample.memory.used_bytes),
            f"{100 * sample.memory_share:.1f}",
            output.size(sample.io.read_bytes),
            output.size(sample.io.written_bytes),
            str(sample.pids.count),
        )
    up = output.ago(info.started_at).lower() if row.alive else ""
    return (info.name, f"{info.state.value}{health}", *measured, up, info.image)
