"""Trees that are deeper than there are descriptors, and longer than a path can say: walked all the same, and never left."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from typing import TYPE_CHECKING

import pytest

from ross.linux.archive.applied import Applied
from ross.linux.archive.settle import settle
from ross.linux.compare import compare_trees
from ross.linux.descent import HELD, Descent
from ross.linux.files import remove_tree
from ross.linux.usage import Meter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DEPTH = 200
NAME = "d" * 30
"""So many of it are longer than a path can be."""
SPARE_DESCRIPTORS = 2 * HELD + 10


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where trees are made; emptied by another than is tested, since pytest cannot remove such trees."""
    yield tmp_path
    subprocess.run(["find", os.fspath(tmp_path), "-mindepth", "1", "-delete"], check=True)


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """So many as two walks may hold, and some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 -- numbers, not paths
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken + SPARE_DESCRIPTORS, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def make_deep(top: Path, *, depth: int = DEPTH, name: str = NAME) -> None:
    """Directories inside of each other, each with a file of one block."""
    top.mkdir(parents=True)
    fd = os.open(top, os.O_RDONLY)
    for _level in range(depth):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
        file = os.open("file", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fd)
        os.write(file, b"x" * 100)
        os.utime(file, ns=(0, 0))
        os.close(file)
    os.close(fd)


def measure(top: Path) -> Meter:
    meter = Meter(top.stat().st_dev, checkpoint=lambda: None)
    parent = os.open(top.parent, os.O_RDONLY)
    try:
        meter.tree(parent, top.name)
    finally:
        os.close(parent)
    return meter


@pytest.mark.usefixtures("few_descriptors")
def test_deep_tree_is_removed(place: Path) -> None:
    make_deep(place / "top")

    freed = remove_tree(place / "top")

    assert not (place / "top").exists()
    assert freed > DEPTH


@pytest.mark.usefixtures("few_descriptors")
def test_tree_that_is_wide_deep_down_is_removed(place: Path) -> None:
    """What was noted of a directory high above is noted anew on the way back: nothing is forgotten, nothing is looked for twice."""
    for number in range(5):
        make_deep(place / "top" / f"branch{number}", depth=2 * HELD)

    remove_tree(place / "top")

    assert not (place / "top").exists()


@pytest.mark.usefixtures("few_descriptors")
def test_deep_tree_is_measured(place: Path) -> None:
    make_deep(place / "top")

    found = measure(place / "top")

    assert found.inodes == 1 + 2 * DEPTH
    assert found.content_bytes == 100 * DEPTH


@pytest.mark.usefixtures("few_descriptors")
def test_deep_trees_are_compared(place: Path) -> None:
    for name in ("one", "other"):
        make_deep(place / name, name="d")
    last = os.path.join("other", *["d"] * 150)  # noqa: PTH118 -- a path as it is
    (place / last / "more").touch()

    found = compare_trees(place / "one", place / "other", checkpoint=lambda: None, directory_times=False)

    assert found == [f"/{'d/' * 150}more is missing"]


@pytest.mark.usefixtures("few_descriptors")
def test_deep_directories_of_a_layer_are_merged(place: Path) -> None:
    """Where entries stand below what is a link in the layers below, they belong where that leads, however deep they are."""
    own, below = place / "own", place / "below"
    make_deep(own / "link", name="d", depth=200)
    make_deep(own / "target", name="d", depth=150)
    (below / "target").mkdir(parents=True)
    (below / "link").symlink_to("target")

    settle(own, below, Applied(implied={b"link", b"target"}))

    assert not (own / "link").exists()
    assert (own / "target" / "/".join(["d"] * 200) / "file").read_bytes() == b"x" * 100


def test_descriptors_are_closed(place: Path) -> None:
    make_deep(place / "top", depth=3 * HELD)
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208
    parent = os.open(place, os.O_RDONLY)

    with Descent(parent, "top") as here:
        for _level in range(3 * HELD):
            here.enter(NAME)
        for _level in range(2 * HELD):
            here.leave()
        with pytest.raises(FileNotFoundError):
            here.enter("missing")
        assert here.depth == HELD

    os.close(parent)
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_directory_that_was_moved_out_leads_nowhere(place: Path) -> None:
    """Somebody takes the directory that is being emptied out of the tree: what is beside it now is none of ours."""
    top, elsewhere = place / "top", place / "elsewhere"
    make_deep(top, depth=3 * HELD)
    elsewhere.mkdir()
    (elsewhere / "file").touch()
    parent = os.open(place, os.O_RDONLY)
    try:
        with Descent(parent, "top") as here:
            for _level in range(3 * HELD):
                here.enter(NAME)
            cut = top.joinpath(*[NAME] * (2 * HELD + 1))
            cut.rename(elsewhere / NAME)
            for _level in range(HELD - 1):
                here.leave()

            with pytest.raises(OSError, match="was moved") as caught:
                here.leave()

            assert caught.value.errno == errno.ESTALE
    finally:
        os.close(parent)


def test_tree_that_is_moved_about_is_not_left_by_the_meter(place: Path) -> None:
    """It says that it does not know, and has counted nothing of what is elsewhere."""
    top, elsewhere = place / "top", place / "elsewhere"
    make_deep(top, depth=3 * HELD)
    elsewhere.mkdir()
    (elsewhere / "large").write_bytes(b"x" * 1_000_000)
    visited = 0

    def moves() -> None:
        nonlocal visited
        visited += 1
        if visited == 3 * HELD + 1:  # it is at the bottom
            top.joinpath(*[NAME] * (2 * HELD + 1)).rename(elsewhere / NAME)

    meter = Meter(top.stat().st_dev, checkpoint=moves)
    parent = os.open(place, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="was moved"):
            meter.tree(parent, "top")
    finally:
        os.close(parent)
    assert meter.content_bytes == 100 * 3 * HELD
