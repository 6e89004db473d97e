"""What is little and wants much: refused, within bounds of memory and disk, and nothing of it stays. In full size: ``nox -s bombs``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ross.errors import ResourceExhausted
from ross.layout import StateLayout
from ross.linux.archive.applied import Applied
from ross.linux.archive.settle import settle
from ross.services import space
from ross.services.space import DiskSpace
from tests.support.bombs import GIB, MIB, Bomb, Range, bomb_range, bombs
from tests.support.images import busybox_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

SLOW = {"zeros, zstd", "behind the end, imported", "files", "directories"}
BOMBS = [bomb for bomb in bombs(size=GIB // 2, trailing=GIB + 64 * MIB, entries=12_000) if bomb.name not in SLOW]


@pytest.fixture(scope="module")
def where() -> Iterator[Range]:
    with bomb_range(disk_size="300M") as found:
        yield found


@pytest.mark.parametrize("bomb", BOMBS, ids=lambda bomb: bomb.name)
def test_cve_2017_14992_and_2023_25153_bombs(where: Range, bomb: Bomb) -> None:
    assert where.explode(bomb).wrong == []


def test_what_bombs_leave_is_a_daemon_that_works(where: Range) -> None:
    reference = where.registry.serve("honest", "1", busybox_image())
    pulled = where.daemon.ross("pull", "-q", reference)
    assert pulled.returncode == 0, pulled.stderr


def test_inodes_are_left_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = os.statvfs(tmp_path)
    monkeypatch.setattr(space, "_FLOOR_INODES", found.f_files)
    few = os.statvfs_result((*found[:6], 3, 3, *found[8:]))
    monkeypatch.setattr(os, "statvfs", lambda _path: few)
    with pytest.raises(ResourceExhausted, match=r"3 inodes are free, and \d+ must stay free"):
        DiskSpace(StateLayout(root=tmp_path), floor_bytes=1).require(0, what="it")


def test_settling_through_many_links_is_bounded(tmp_path: Path) -> None:
    own, below = tmp_path / "own", tmp_path / "below"
    (below / "d").mkdir(parents=True)
    for number in range(50):
        (below / f"l{number}").symlink_to("d")
        (own / f"l{number}").mkdir(parents=True)
    applied = Applied(implied={b"l%d" % number for number in range(50)})
    with pytest.raises(ResourceExhausted, match="too many links"):
        settle(own, below, applied, max_steps=1000)
