"""Copying files into and out of containers, by Docker's rules; export and diff."""

from __future__ import annotations

import gzip
import io
import os
import stat
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import trio
from attrs import frozen

import ross
from ross.cli.copying import copy_in, copy_out
from ross.errors import FailedPrecondition, NotFound, RossError
from tests.support.daemon import Daemon, command

if TYPE_CHECKING:
    from collections.abc import Callable

    from ross.client.files import Files

pytestmark = pytest.mark.integration

FIXTURE: Final = """
mkdir -p TOP/dir/sub TOP/there/dir && cd TOP
echo file > file; echo other > other; echo a > dir/a; echo b > dir/sub/b; echo keep > there/keep
ln -s file link; ln -s dir dirlink; ln -s there therelink; ln -s missing dangling
"""


def make(
    daemon: Daemon,
    busybox: str,
    *,
    running: bool,
    script: str = FIXTURE.replace("TOP", "/t"),
    flags: tuple[str, ...] = (),
) -> str:
    """A container in which a script has run; going on, or stopped."""
    identity = daemon.ok("run", "-d", *flags, busybox, "sh", "-c", f"{script}\ntouch /ready; exec sleep 100000").strip()
    for _attempt in range(200):
        if daemon.ross("cp", f"{identity}:/ready", "-").returncode == 0:
            break
    else:
        pytest.fail("the container did not get ready")
    if not running:
        daemon.ok("stop", "-t", "0", identity)
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


# -- what is seen, and whose it is -------------------------------------------------------------------------------------


@pytest.fixture
def boxes(shared: Daemon, busybox: str) -> Iterator[Callable[..., str]]:
    """Makes containers that go with the test: ``boxes("script", "-v", ...)``."""
    made: list[str] = []

    def run(script: str, *flags: str) -> str:
        made.append(shared.ok("run", "-d", *flags, busybox, "sh", "-c", f"{script}; exec sleep 100000").strip())
        return made[-1]

    yield run
    shared.ross("rm", "-f", *made)


async def ready(files: Files, path: str) -> None:
    """Wait until a script has made a file."""
    with trio.fail_after(60):
        while True:
            try:
                await files.stat(path)
            except NotFound:
                await trio.sleep(0.02)
            else:
                return


async def test_owners(shared: Daemon, boxes: Callable[..., str], tmp_path: Path) -> None:
    """Root's inside and the caller's here; or, with -a, whose they were."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_bytes(b"x")
    for path in (tmp_path / "d", tmp_path / "d/f"):
        os.chown(path, 1234, 5678)
    os.setxattr(tmp_path / "d/f", "user.mark", b"kept")
    (tmp_path / "d/f").chmod(0o4751)

    async with ross.connect(shared.socket) as engine:
        files = engine.containers.get(boxes("true")).now.files
        for keep, owner in ((False, (0, 0)), (True, (1234, 5678))):
            name = f"/{keep}"
            await copy_in(files, str(tmp_path / "d"), name, keep=keep, follow=False)
            for inner in (name, f"{name}/f"):
                found = await files.stat(inner)
                assert (found.uid, found.gid) == owner
            assert (await files.stat(f"{name}/f")).mode == 0o4751
        for keep, owner, mode in ((False, (0, 0), 0o751), (True, (1234, 5678), 0o4751)):
            await copy_out(files, "/True", str(tmp_path / f"out-{keep}"), keep=keep, follow=False)
            found_here = (tmp_path / f"out-{keep}/f").stat()
            assert (found_here.st_uid, found_here.st_gid) == owner
            assert stat.S_IMODE(found_here.st_mode) == mode
            assert os.getxattr(tmp_path / f"out-{keep}/f", "user.mark") == b"kept"


async def test_mounts(shared: Daemon, boxes: Callable[..., str], tmp_path: Path) -> None:
    """Seen as the container sees them while it runs; refused, since they are not there, while it does not."""
    outside, fixed = tmp_path / "outside", tmp_path / "fixed"
    for path in (outside, fixed):
        path.mkdir()
        (path / "f").write_bytes(b"outside\n")
    name = boxes("true", "-v", f"{outside}:/mnt/deep", "-v", f"{fixed}:/fixed:ro")

    async with ross.connect(shared.socket) as engine:
        container = engine.containers.get(name).now
        files = container.files
        (tmp_path / "new").write_bytes(b"new\n")
        await copy_in(files, str(tmp_path / "new"), "/mnt/deep/new", keep=False, follow=False)
        assert (outside / "new").read_bytes() == b"new\n"
        await copy_out(files, "/mnt", str(tmp_path / "mnt"), keep=False, follow=False)
        assert tree(tmp_path / "mnt") == {"deep": "/", "deep/f": "outside\n", "deep/new": "new\n"}
        with pytest.raises(FailedPrecondition, match="Read-only"):
            await copy_in(files, str(tmp_path / "new"), "/fixed", keep=False, follow=False)
        with pytest.raises(
            FailedPrecondition, match="mount"
        ):  # the kernel would let it be replaced, and unmount it in there
            await copy_in(files, str(tmp_path / "new"), "/etc/hosts", keep=False, follow=False)
        assert (await files.stat("/etc/hosts")).size_bytes > 20
        for kernels in ("/proc/cpuinfo", "/sys/kernel", "/proc/1/root/etc"):
            with pytest.raises(FailedPrecondition):
                await copy_out(files, kernels, str(tmp_path / "kernel"), keep=False, follow=False)

        await container.stop(timeout=0)

        for hidden in ("/mnt/deep", "/mnt/deep/f", "/fixed", "/etc/hosts"):
            with pytest.raises((FailedPrecondition, NotFound)):
                await copy_out(files, hidden, str(tmp_path / "no"), keep=False, follow=False)
        (tmp_path / "tree/deep").mkdir(parents=True)
        (tmp_path / "tree/deep/f").write_bytes(b"lost")
        with pytest.raises(FailedPrecondition, match="hidden by a mount"):
            await copy_in(files, f"{tmp_path}/tree/.", "/mnt", keep=False, follow=False)
        assert tree(outside) == {"f": "outside\n", "new": "new\n"}


async def test_read_only_containers_are_not_written_to(
    shared: Daemon, boxes: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "f").write_bytes(b"x")

    async with ross.connect(shared.socket) as engine:
        container = engine.containers.get(boxes("true", "--read-only")).now
        with pytest.raises(FailedPrecondition, match="Read-only"):
            await copy_in(container.files, str(tmp_path / "f"), "/tmp", keep=False, follow=False)
        await container.stop(timeout=0)
        with pytest.raises(FailedPrecondition, match="read-only"):
            await copy_in(container.files, str(tmp_path / "f"), "/tmp", keep=False, follow=False)


async def test_a_process_with_another_root(shared: Daemon, boxes: Callable[..., str], tmp_path: Path) -> None:
    """Whose first process has called chroot: the container's root filesystem is meant, not that process's."""
    script = "mkdir -p /jail/bin; cp /bin/busybox /jail/bin/sleep; touch /ready; exec chroot /jail /bin/sleep 1000"

    async with ross.connect(shared.socket) as engine:
        files = engine.containers.get(boxes(script)).now.files
        await ready(files, "/ready")
        await copy_out(files, "/jail", str(tmp_path / "jail"), keep=False, follow=False)

    assert (tmp_path / "jail/bin/sleep").exists()


async def test_a_container_that_swaps_directories_for_links(
    shared: Daemon, boxes: Callable[..., str], tmp_path: Path
) -> None:
    """CVE-2018-15664: it does so as fast as it can while files go in and out; nothing comes from the host, or gets there."""
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "secret").write_bytes(b"SECRET")
    script = f"""mkdir /d /e; echo own > /d/secret; ln -s {canary} /l; touch /ready
    while true; do mv /d /x; mv /l /d; mv /d /l; mv /x /d; done"""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/new").write_bytes(b"new")
    done = 0

    async with ross.connect(shared.socket) as engine:
        files = engine.containers.get(boxes(script)).now.files
        await ready(files, "/ready")
        for number in range(60):
            for work in (
                lambda: copy_in(files, f"{tmp_path}/in/.", "/d", keep=False, follow=False),
                lambda: copy_in(files, str(tmp_path / "in/new"), "/d/new", keep=False, follow=False),
                lambda number=number: copy_out(files, "/d", str(tmp_path / f"o{number}"), keep=False, follow=True),
                lambda number=number: copy_out(
                    files, "/d/secret", str(tmp_path / f"s{number}"), keep=False, follow=True
                ),
            ):
                with suppress(RossError):
                    await work()
                    done += 1

    assert done > 20
    assert tree(canary) == {"secret": "SECRET"}
    copied = tree(tmp_path)
    assert {what for name, what in copied.items() if name[0] == "s" or name.endswith("/secret")} <= {"own\n", "SECRET"}
    assert [name for name, what in copied.items() if what == "SECRET"] == ["canary/secret"]


async def test_large_files_take_no_memory(shared: Daemon, boxes: Callable[..., str], tmp_path: Path) -> None:
    """Far more than the daemon has, most of it a hole, out and in again."""
    async with ross.connect(shared.socket) as engine:
        files = engine.containers.get(boxes("truncate -s 192M /large; echo end >> /large; touch /ready")).now.files
        await ready(files, "/ready")
        before = shared.rss_bytes()
        await copy_out(files, "/large", str(tmp_path), keep=False, follow=False)
        await copy_in(files, str(tmp_path / "large"), "/again", keep=False, follow=False)
        grown = shared.rss_bytes() - before

        assert (tmp_path / "large").stat().st_size == (192 << 20) + 4
        assert (tmp_path / "large").stat().st_blocks < 4096
        assert (await files.stat("/again")).size_bytes == (192 << 20) + 4
    assert grown < 48 << 20


# -- the command line ---------------------------------------------------------------------------------------------------


def test_the_command_line(shared: Daemon, boxes: Callable[..., str], tmp_path: Path) -> None:
    name = boxes("mkdir /t; echo one > /t/one; rm /etc/group; chmod 700 /tmp; touch /ready")
    while shared.ross("cp", f"{name}:/ready", "-").returncode != 0:
        time.sleep(0.05)

    out = subprocess.run(command("cp", f"{name}:t/.", "-"), env=shared.environment(), capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(out.stdout)) as archive:
        assert archive.getnames() == [".", "one"]
    sent = subprocess.run(
        command("container", "cp", "-", f"{name}:/tmp"),
        env=shared.environment(),
        input=gzip.compress(out.stdout),
        check=False,
    )
    assert sent.returncode == 0
    copied = shared.ross("cp", "-q", f"{name}:/tmp/one", str(tmp_path))
    assert (copied.returncode, copied.stdout, copied.stderr) == (0, "", "")
    assert (tmp_path / "one").read_text() == "one\n"
    assert shared.ross("diff", name).stdout.splitlines() == [
        "C /etc", "D /etc/group", "A /ready", "A /t", "A /t/one", "C /tmp", "A /tmp/one",
    ]  # fmt: skip
    exported = [tmp_path / "a.tar", tmp_path / "b.tar"]
    for path in exported:
        shared.ok("export", "-o", str(path), name)
    assert exported[0].read_bytes() == exported[1].read_bytes()
    with tarfile.open(exported[0]) as archive:
        names = archive.getnames()
    assert {"t/one", "bin/busybox", "etc/passwd", "proc"} <= set(names)
    assert not [one for one in names if one.startswith("proc/")]
    imported = shared.ross("import", str(exported[0]), "exported:1")
    assert imported.returncode == 0, imported.stderr
    assert shared.ross("run", "--rm", "exported:1", "cat", "/t/one").stdout == "one\n"


@pytest.mark.parametrize(
    ("words", "code", "problem"),
    [
        (("cp", "nobody:/x", "."), 1, "no container"),
        (("cp", "a:/x", "b:/x"), 1, "from one container to another"),
        (("cp", "./x", "./y"), 1, "must be in a container"),
        (("cp", "a:", "./y"), 1, "names no file"),
        (("cp", "only"), 2, "destination"),
        (("diff", "nobody"), 1, "no container"),
        (("export", "-o", "x", "nobody"), 1, "no container"),
        (("commit", "nobody"), 1, "no container"),
    ],
)
def test_mistakes(words: tuple[str, ...], code: int, problem: str, shared: Daemon, tmp_path: Path) -> None:
    argv = command(*words)
    environment = {**shared.environment(), "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, cwd=tmp_path, check=False)

    assert done.returncode == code
    assert problem.lower() in done.stderr.lower()
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
