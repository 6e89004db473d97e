"""Copying files into and out of containers, by Docker's rules; export and diff."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from attrs import frozen

import ross
from ross.cli.copying import copy_in, copy_out
from ross.errors import RossError
from tests.support.daemon import Daemon, running_daemon

if TYPE_CHECKING:
    from ross.client.files import Files

pytestmark = pytest.mark.integration

FIXTURE: Final = """
mkdir -p TOP/dir/sub TOP/there/dir && cd TOP
echo file > file; echo other > other; echo a > dir/a; echo b > dir/sub/b; echo keep > there/keep
ln -s file link; ln -s dir dirlink; ln -s there therelink; ln -s missing dangling
"""


@pytest.fixture(scope="module")
def shared(filesystem: Path, busybox: str) -> Iterator[Daemon]:
    directory = filesystem / "shared"
    directory.mkdir()
    with running_daemon(directory) as daemon:
        assert daemon.ross("pull", "-q", busybox).returncode == 0
        yield daemon


def make(
    daemon: Daemon,
    busybox: str,
    *,
    running: bool,
    script: str = FIXTURE.replace("TOP", "/t"),
    flags: tuple[str, ...] = (),
) -> str:
    """A container in which a script has run; going on, or stopped."""
    done = daemon.ross("run", "-d", *flags, busybox, "sh", "-c", f"{script}\ntouch /ready; exec sleep 1000")
    assert done.returncode == 0, done.stderr
    identity = done.stdout.strip()
    for _attempt in range(200):
        if daemon.ross("cp", f"{identity}:/ready", "-").returncode == 0:
            break
    else:
        pytest.fail("the container did not get ready")
    if not running:
        assert daemon.ross("stop", "-t", "0", identity).returncode == 0
    return identity


@pytest.fixture(scope="module", params=["running", "stopped"])
def box_in_state(request: pytest.FixtureRequest, shared: Daemon, busybox: str) -> Iterator[str]:
    identity = make(shared, busybox, running=request.param == "running")
    yield identity
    shared.ross("rm", "-f", identity)


def tree(top: Path) -> dict[str, str]:
    """Names below a directory: the text of files, ``/`` for directories, ``-> target`` for links."""
    found = {}
    for path in sorted(top.rglob("*")):
        name = str(path.relative_to(top))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        else:
            found[name] = "/" if path.is_dir() else path.read_text()
    return found


def local(top: Path) -> Path:
    """What the script makes in a container, here."""
    top.mkdir()
    subprocess.run(["sh", "-c", FIXTURE.replace("TOP", str(top))], check=True)
    return top


async def inside(files: Files, path: str, scratch: Path) -> dict[str, str]:
    """The tree at a path of a container."""
    await copy_out(files, f"{path}/.", str(scratch), keep=True, follow=False)
    return tree(scratch)


@frozen
class Rule:
    """What a copy adds to or changes in ``there/``; or, as a text, what it fails with."""

    source: str
    destination: str
    result: dict[str, str] | str
    follow: bool = False


DIR: Final = {"a": "a\n", "sub": "/", "sub/b": "b\n"}


def below(name: str) -> dict[str, str]:
    return {name: "/", **{f"{name}/{path}": what for path, what in DIR.items()}}


RULES: Final = {
    "A: file to a new name": Rule("file", "there/new", {"new": "file\n"}),
    "B: file to a directory that is not there": Rule("file", "there/new/", "does not exist"),
    "C: file to a file": Rule("file", "there/keep", {"keep": "file\n"}),
    "D: file into a directory": Rule("file", "there", {"file": "file\n"}),
    "D: file into a directory with a slash": Rule("file", "there/", {"file": "file\n"}),
    "E: directory to a new name": Rule("dir", "there/new", below("new")),
    "E: directory to a new name with a slash": Rule("dir", "there/new/", below("new")),
    "F: directory to a file": Rule("dir", "there/keep", "cannot be copied to"),
    "G: directory into a directory": Rule(
        "dir", "there/dir", {"dir": "/", **{f"dir/{k}": v for k, v in below("dir").items()}}
    ),
    "G: directory with a slash into a directory": Rule(
        "dir/", "there/dir", {"dir": "/", **{f"dir/{k}": v for k, v in below("dir").items()}}
    ),
    "G: directory merged into one of its name": Rule("dir", "there", below("dir")),
    "H: contents to a new name": Rule("dir/.", "there/new", below("new")),
    "I: contents to a file": Rule("dir/.", "there/keep", "cannot be copied to"),
    "J: contents into a directory": Rule("dir/.", "there", DIR),
    "no parent": Rule("file", "there/no/new", "no |No such"),
    "no source": Rule("nothing", "there", "no |No such"),
    "a file with a slash": Rule("file/", "there", "(?i)not a directory"),
    "to a file with a slash": Rule("file", "there/keep/", "directory"),
    "a link as itself": Rule("link", "there", {"link": "-> file"}),
    "a link followed": Rule("link", "there", {"link": "file\n"}, follow=True),
    "a link to a directory as itself": Rule("dirlink", "there", {"dirlink": "-> dir"}),
    "a link to a directory followed": Rule("dirlink", "there", below("dirlink"), follow=True),
    "a link to a directory with a slash": Rule("dirlink/", "there", below("dirlink")),
    "contents behind a link": Rule("dirlink/.", "there", DIR),
    "a dangling link as itself": Rule("dangling", "there", {"dangling": "-> missing"}),
    "a dangling link followed": Rule("dangling", "there", "no |No such", follow=True),
    "into a directory by a link": Rule("file", "therelink", {"file": "file\n"}),
    "contents into a directory by a link": Rule("dir/.", "therelink/", DIR),
    "file over a directory": Rule("file", "there/other", {"other": "file\n"}),
    "directory over a file of its name": Rule("there", "dir/sub", {}),
}


def after(before: dict[str, str], rule: Rule) -> dict[str, str]:
    return {**before, **rule.result} if isinstance(rule.result, dict) else before


def numbered() -> Iterator[tuple[str, int, Rule]]:
    for number, (name, rule) in enumerate(RULES.items()):
        yield name, number, rule


@contextmanager
def expected(rule: Rule) -> Iterator[None]:
    if isinstance(rule.result, dict):
        yield
        return
    with pytest.raises(RossError, match=rule.result):
        yield


@pytest.mark.parametrize("rule", [pytest.param(rule, id=name) for name, rule in RULES.items()])
async def test_rules_out(rule: Rule, shared: Daemon, box_in_state: str, tmp_path: Path) -> None:
    top = local(tmp_path / "t")
    before = tree(top / "there")

    async with ross.connect(shared.socket) as engine:
        files = engine.containers.get(box_in_state).now.files
        with expected(rule):
            await copy_out(files, f"/t/{rule.source}", f"{top}/{rule.destination}", keep=False, follow=rule.follow)

    assert tree(top / "there") == after(before, rule)


@pytest.mark.parametrize(("number", "rule"), [pytest.param(*rule, id=name) for name, *rule in numbered()])
async def test_rules_in(number: int, rule: Rule, shared: Daemon, box_in_state: str, tmp_path: Path) -> None:
    top, own = local(tmp_path / "t"), f"/rule{number}"
    before = tree(top / "there")

    async with ross.connect(shared.socket) as engine:
        files = engine.containers.get(box_in_state).now.files
        await copy_in(files, str(top), own, keep=False, follow=False)  # a tree of its own for each rule
        with expected(rule):
            await copy_in(files, f"{top}/{rule.source}", f"{own}/{rule.destination}", keep=False, follow=rule.follow)

        assert await inside(files, f"{own}/there", tmp_path / "after") == after(before, rule)
