"""Opening paths that somebody else chose, while somebody else renames."""

from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest

from ross.linux import openat2 as module
from ross.linux.openat2 import openat2

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def top(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "a/file").write_text("here")
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def test_renames_on_the_way_do_not_lead_astray(top: int, tmp_path: Path) -> None:
    ended = threading.Event()

    def rename() -> None:
        while not ended.is_set():
            (tmp_path / "a/b").rename(tmp_path / "a/x")
            (tmp_path / "a/x").rename(tmp_path / "a/b")

    renaming = threading.Thread(target=rename)
    renaming.start()
    try:
        found = 0
        for _ in range(3000):
            try:
                fd = openat2(top, "a/b/c/../../../../../a/file", os.O_RDONLY)
            except (FileNotFoundError, BlockingIOError):
                continue
            assert os.read(fd, 10) == b"here"
            os.close(fd)
            found += 1
    finally:
        ended.set()
        renaming.join()
    assert found


def test_what_says_for_ever_that_it_is_to_be_tried_again_ends(top: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def never(*_arguments: object, what: str = "") -> int:
        asked.append(1)
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), what)

    monkeypatch.setattr(module, "syscall", never)
    with pytest.raises(BlockingIOError):
        openat2(top, "a", os.O_PATH)
    assert len(asked) > 100
