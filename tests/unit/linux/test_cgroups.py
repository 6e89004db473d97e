"""Groups inside of groups, deeper than Python recurses, as whoever may make some has made them. Plain directories stand in for them."""

from __future__ import annotations

import inspect
import os
import sys
from typing import TYPE_CHECKING

import pytest

from ross.linux.cgroups import groups_of, remove_inside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEVELS = 600


@pytest.fixture
def little_recursion() -> Iterator[None]:
    """Not so much as the groups are deep."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 300)
    yield
    sys.setrecursionlimit(before)


def nest(top: Path, *, levels: int = LEVELS) -> Path:
    directory = top
    for _level in range(levels):
        directory /= "g"
        directory.mkdir()
    return directory


@pytest.mark.usefixtures("little_recursion")
def test_deep_groups_are_removed(tmp_path: Path) -> None:
    nest(tmp_path)
    (tmp_path / "beside").mkdir()

    remove_inside(tmp_path)

    assert os.listdir(tmp_path) == []  # noqa: PTH208 -- names


def test_groups_that_are_in_use_stay_with_those_above(tmp_path: Path) -> None:
    inner = nest(tmp_path, levels=40)
    (inner / "process").touch()  # which keeps it, as one that lives in a group does
    (tmp_path / "g" / "idle" / "inner").mkdir(parents=True)

    remove_inside(tmp_path)

    assert inner.is_dir()
    assert not (tmp_path / "g" / "idle").exists()


@pytest.mark.usefixtures("little_recursion")
def test_deep_groups_are_found(tmp_path: Path) -> None:
    inner = nest(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)

    found = list(groups_of(tmp_path))

    assert found[0] == tmp_path
    assert found[-1] == inner
    assert len(found) == LEVELS + 1
