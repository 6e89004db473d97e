"""Files of variables, line by line, as Docker reads them; every row was tried against its client of version 28.2."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ross.cli.parse import read_env_files
from ross.errors import InvalidArgument

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("B=1\n", ["B=1"]),
        ("B=1", ["B=1"]),
        ("", []),
        ("# B=0\n\n   \n\t# B=2\nB=1\n", ["B=1"]),
        ("  B=1\n\tC=2\n", ["B=1", "C=2"]),
        ("B= 1 \n", ["B= 1 "]),
        ("B=1 # no comment\n", ["B=1 # no comment"]),
        ("B='1'\nC=\"2\"\n", ["B='1'", 'C="2"']),
        ("B=$C${C}\n", ["B=$C${C}"]),
        ("B=1\\\nC=2\n", ["B=1\\", "C=2"]),
        ("B=\n", ["B="]),
        ("B=x=y\n", ["B=x=y"]),
        ("B=1\nB=2\n", ["B=1", "B=2"]),
        ("B=1\r\nC=2\r\n", ["B=1", "C=2"]),
        ("B=1\rC=2\n", ["B=1\rC=2"]),
        ("\N{ZERO WIDTH NO-BREAK SPACE}B=1\n", ["B=1"]),
        ("B=1\N{LINE SEPARATOR}C=2\n", ["B=1\N{LINE SEPARATOR}C=2"]),
        ("B=1\N{NEXT LINE}C=2\x0cD=3\x1cE=4\n", ["B=1\N{NEXT LINE}C=2\x0cD=3\x1cE=4"]),
        ("b.c-d=1\n", ["b.c-d=1"]),
        ("OURS\n", ["OURS=ours"]),
        ("GONE\nB=1\n", ["B=1"]),
    ],
)
def test_lines(tmp_path: Path, content: str, expected: list[str]) -> None:
    path = tmp_path / "env"
    path.write_bytes(content.encode())
    assert read_env_files([str(path)], {"OURS": "ours"}) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"export B=1\n", "with the name 'export B'"),
        (b"B =1\n", "with the name 'B '"),
        (b"B C\n", "with the name 'B C'"),
        (b"=1\n", "with the name ''"),
        (b"  =1\n", "with the name ''"),
        (b"B=1\n\xff=1\n", "is not UTF-8"),
    ],
)
def test_lines_that_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "env"
    path.write_bytes(content)
    with pytest.raises(InvalidArgument, match=message):
        read_env_files([str(path)], {})
