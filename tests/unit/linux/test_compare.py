"""Two trees: what is the same, and every way of not being the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ross.linux.compare import compare_trees

if TYPE_CHECKING:
    from collections.abc import Callable

TIME = (1_700_000_000_123_456_789, 1_700_000_000_123_456_789)


def tree(root: Path) -> Path:
    (root / "d" / "deep").mkdir(parents=True)
    (root / "d" / "file").write_bytes(b"x" * 3_000_000)
    (root / "d" / "deep" / "other").write_bytes(b"other")
    os.link(root / "d" / "file", root / "name")
    (root / "link").symlink_to("d/file")
    os.mkfifo(root / "fifo")
    for path in (*root.rglob("*"), root):
        os.utime(path, ns=TIME, follow_symlinks=False)
    return root


def compared(one: Path, other: Path, *, directory_times: bool = True) -> list[str]:
    return list(compare_trees(one, other, checkpoint=lambda: None, directory_times=directory_times))


def test_same_trees_do_not_differ(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    assert compared(tree(tmp_path / "a"), tree(tmp_path / "b")) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def keep_time(path: Path, change: Callable[[Path], object]) -> None:
    change(path)
    os.utime(path, ns=TIME, follow_symlinks=False)


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(2_500_000)
        file.write(b"y")


def relink(path: Path) -> None:
    path.unlink()
    path.symlink_to("elsewhere")


def split(path: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("where", "change", "told"),
    [
        ("d/file", rewrite, "has other content"),
        ("d/file", lambda path: os.truncate(path, 5), "has 5 bytes, not 3000000"),
        ("d/deep", lambda path: path.chmod(0o700), "has the mode 0o40700, not 0o40755"),
        ("d/deep/other", lambda path: path.chmod(0o4644), "has the mode 0o104644, not 0o100644"),
        ("link", relink, "leads to 'elsewhere', not to 'd/file'"),
        ("name", split, "is not a name of the same file as it should be"),
        ("d/deep/more", lambda path: path.mkdir(), "should not be there"),
        ("d/deep/other", lambda path: os.setxattr(path, "user.x", b"1"), "differs in the attribute user.x"),
        ("", lambda path: path.chmod(0o700), "has the mode"),
    ],
)
def test_every_change_is_told(tmp_path: Path, where: str, change: Callable[[Path], object], told: str) -> None:
    actual, wanted = tree(tmp_path / "a"), tree(tmp_path / "b")
    keep_time(actual / where, change)
    for path in (*actual.rglob("*"), actual):
        os.utime(path, ns=TIME, follow_symlinks=False)
    found = compared(actual, wanted)
    assert found
    assert any(line.endswith(told) or told in line for line in found), found
    assert len(found) <= 2, "nothing else is told, but for the other name of the same file"


def test_missing_times_and_types(tmp_path: Path) -> None:
    actual, wanted = tree(tmp_path / "a"), tree(tmp_path / "b")
    (actual / "fifo").unlink()
    (actual / "d" / "deep" / "other").unlink()
    (actual / "d" / "deep" / "other").mkdir()
    found = compared(actual, wanted, directory_times=False)
    assert found == ["/fifo is missing", "/d/deep/other is of another type"]
    assert "/ has another time of change" in compared(actual, wanted)


def test_many_differences_are_not_all_told(tmp_path: Path) -> None:
    for side in ("a", "b"):
        (tmp_path / side).mkdir()
    for number in range(100):
        (tmp_path / "a" / str(number)).touch()
    assert len(compared(tmp_path / "a", tmp_path / "b")) == 10


def test_checkpoint_ends_it_and_nothing_stays_open(tmp_path: Path) -> None:
    actual, wanted = tree(tmp_path / "a"), tree(tmp_path / "b")
    before = len(list(Path("/proc/self/fd").iterdir()))
    calls = 0

    def checkpoint() -> None:
        nonlocal calls
        calls += 1
        if calls > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare_trees(actual, wanted, checkpoint=checkpoint)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
