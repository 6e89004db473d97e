"""``save``, ``load`` and ``import`` before they reach a daemon: what is read, what is written, and when."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ross.cli.app import execute
from ross.cli.archives import open_input, open_output
from ross.errors import FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_appears_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "x.tar"
    with open_output(str(target)) as fd:
        os.write(fd, b"data")
        assert not target.exists()
    assert target.read_bytes() == b"data"
    assert target.stat().st_mode & 0o777 == 0o600


def test_what_fails_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    target = tmp_path / "x.tar"
    target.write_text("before")
    with pytest.raises(KeyError), open_output(str(target)) as fd:
        os.write(fd, b"half")
        raise KeyError
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    with open_output(str(fifo)) as fd:
        os.write(fd, b"data")
    assert os.read(reader, 100) == b"data"
    os.close(reader)
    assert fifo.is_fifo()


def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="No such file"), open_output(str(tmp_path / "no" / "x.tar")):
        pass
    with pytest.raises(InvalidArgument, match="No such file"), open_input(str(tmp_path / "x.tar")):
        pass
    with pytest.raises(InvalidArgument, match="is a directory"), open_input(str(tmp_path)):
        pass
    with pytest.raises(FailedPrecondition, match="No space left"), open_output("/dev/full") as fd:
        os.write(fd, b"data")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["save"], 1, "no image was named"),
        (["image", "save", "--format", "zip", "x"], 2, "format"),
        (["load", "-i", "/nonexistent"], 1, "no daemon answers"),
        (["import"], 2, "file"),
    ],
)
def test_usage(
    words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROSS_SOCKET", "/nonexistent/ross.sock")
    assert execute(words) == code
    said = capsys.readouterr().err
    assert message in said.lower()
    assert "Traceback" not in said
