"""Command lines as people type them."""

from __future__ import annotations

import pytest

from ross.cli.app import build_app, execute
from ross.cli.argv import normalise


@pytest.mark.parametrize(
    ("typed", "parsed"),
    [
        ("run -it alpine sh -c x", "run -i -t -- alpine sh -c x"),
        ("run --rm -dit alpine", "run --rm -d -i -t -- alpine"),
        ("run -eA=1 -e B=2 -m512m alpine", "run -e=A=1 -e=B=2 -m=512m -- alpine"),
        ("run -ite X=y alpine", "run -i -t -e=X=y -- alpine"),
        ("run --name=x alpine --help", "run --name=x -- alpine --help"),
        ("run -h host -it alpine -h", "run -h=host -i -t -- alpine -h"),
        ("container create -hhost alpine", "container create -h=host -- alpine"),
        ("stop -h", "stop -h"),
        ("run --name x alpine -- -y", "run --name=x -- alpine -- -y"),
        ("run --entrypoint -x alpine", "run --entrypoint=-x -- alpine"),
        ("container run -it alpine ls -la", "container run -i -t -- alpine ls -la"),
        ("create -t alpine", "create -t -- alpine"),
        ("logs -fn 5 web", "logs -f -n=5 web"),
        ("logs web -f", "logs web -f"),
        ("ps -aq", "ps -a -q"),
        ("stop -t0 a b", "stop -t=0 a b"),
        ("rm -f a", "rm -f a"),
        ("image ls -q", "image ls -q"),
        ("run -xyz alpine", "run -xyz -- alpine"),
        ("run -i -it --name a --name=b alpine -i -i", "run -i -t --name=b -- alpine -i -i"),
        ("run -w /a --workdir /b -e A -e A alpine", "run --workdir=/b -e=A -e=A -- alpine"),
        ("run --sig-proxy --no-sig-proxy alpine", "run --no-sig-proxy -- alpine"),
        ("ps -q -q -a", "ps -q -a"),
        ("rm -f a -f", "rm a -f"),
        ("run", "run"),
        ("--help", "--help"),
        ("nosuch -x", "nosuch -x"),
    ],
)
def test_lines_are_normalised(typed: str, parsed: str) -> None:
    assert normalise(build_app(), typed.split()) == parsed.split()


@pytest.mark.parametrize("words", [[], ["--help"], ["image", "--help"], ["system"], ["container", "-h"]])
def test_help_says_what_each_command_is_for(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(words) == 0
    rows = [line[2:].rstrip("│ \n") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    commands = [row for row in rows if not row.startswith(" ")]
    assert len(commands) > 3
    assert not [row for row in commands if len(row.split("  ", 1)) < 2]
