"""What is drawn on the screen of ``ross top``, and what its keys do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve

from ross.cli.live import View, drawn
from ross.cli.watch import Row
from ross.model.containers import ContainerInfo, ContainerSpec, ContainerState
from ross.model.stats import ContainerStats, MemoryUse, PidsUse
from ross.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Sequence

SOME = Digest.of(b"some")


def row(
    name: str, *, cpu: float = 0.0, memory: int = 0, pids: int = 1, state: ContainerState = ContainerState.RUNNING
) -> Row:
    info = ContainerInfo(
        id=name * 8, name=name, image="busybox", image_id=SOME, manifest=SOME, spec=ContainerSpec(), command=("true",),
        state=state, pid=1, created_at=1, started_at=1, outcome=None, error="", log_path="", rootfs_path="",
    )  # fmt: skip
    made = Row(None, info)  # type: ignore[arg-type]  # nobody asks it
    made.processors = cpu
    made.sample = ContainerStats(
        sampled_at=1, elapsed_ns=1, memory=MemoryUse(used_bytes=memory, limit_bytes=1 << 30), pids=PidsUse(count=pids)
    )
    return made


ROWS = [row("aa", cpu=0.1, memory=300, pids=2), row("bb", cpu=1.5, memory=100, pids=3), row("cc", cpu=0.7, memory=200)]


def lines(rows: Sequence[Row], view: View, size: tuple[int, int] = (24, 100)) -> list[str]:
    return [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in drawn(rows, view, size).split("\r\n")]


def names(shown: list[str]) -> list[str]:
    return [line.split()[0] for line in shown[3:-1] if line]


@pytest.mark.parametrize(
    ("key", "order"), [(b"c", "bb cc aa"), (b"m", "aa cc bb"), (b"p", "bb aa cc"), (b"n", "aa bb cc")]
)
def test_orders(key: bytes, order: str) -> None:
    view = View()
    view.press(key)
    assert names(lines(ROWS, view)) == order.split()


def test_what_is_said_of_all() -> None:
    first = lines(ROWS, View())[0]
    assert first == "ross: 3 running   cpu 230.0%   memory 600B"
    view = View(everything=True)
    stopped = evolve(ROWS[0].info, state=ContainerState.STOPPED)
    shown = lines([*ROWS, _with(row("dd", cpu=9), info=evolve(stopped, name="dd"))], view)
    assert shown[0].startswith("ross: 3 of 4 running   cpu 230.0%")
    assert names(shown)[-1] != ""
    assert next(line for line in shown if line.startswith("dd")).split() == ["dd", "stopped", "busybox"]


def _with(made: Row, **values: Any) -> Row:
    for name, value in values.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize("size", [(5, 20), (8, 40), (24, 80), (100, 300), (0, 0), (1, 1)])
def test_it_fits_every_screen(size: tuple[int, int]) -> None:
    shown = lines([row(f"n{number}") for number in range(50)], View(order="name"), size)
    height, width = size[0] or 24, size[1] or 80
    assert len(shown) <= max(height, 5)
    assert all(len(line) <= width for line in shown)


def test_scrolling_ends_at_the_ends() -> None:
    rows, view = [row(f"n{number:02}") for number in range(10)], View(order="name")
    view.press(b"k")
    assert names(lines(rows, view, (8, 100))) == ["n00", "n01", "n02", "n03"]
    assert "6 more below" in lines(rows, view, (8, 100))[-1]
    for _ in range(20):
        view.press(b"\x1b[B")
    assert names(lines(rows, view, (8, 100))) == ["n06", "n07", "n08", "n09"]
    assert view.first == 6
    view.press(b"\x1b[A")
    assert names(lines(rows, view, (8, 100)))[0] == "n05"


@pytest.mark.parametrize("key", [b"q", b"\x03", b"\x1b"])
def test_keys_that_end_it(key: bytes) -> None:
    view = View()
    view.press(b"x")
    assert not view.ended
    view.press(key)
    assert view.ended


def test_no_name_steers_the_terminal() -> None:
    hostile = _with(row("xx"), info=evolve(ROWS[0].info, image="\x1b[2J\x1b]0;owned\x07"))
    assert "\x1b[2J" not in drawn([hostile], View(), (24, 80))
    assert "\x07" not in drawn([hostile], View(), (24, 80))
