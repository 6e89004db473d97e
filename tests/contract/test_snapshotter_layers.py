"""What a snapshotter promises about files in layers, after containerd's test suite for it; and how they differ."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from ross.errors import NotFound
from ross.model.snapshots import ChangeKind
from tests.support.snapshots import SnapshotsUnderTest, mounted

pytestmark = pytest.mark.integration

Step = Callable[[Path], object]
Seen = dict[str, tuple[object, ...]]


def look(root: Path) -> Seen:
    """Everything below a root that a layer can say something about."""
    found: Seen = {}
    for path in sorted(root.rglob("*")):
        entry = path.lstat()
        what: object = path.read_bytes() if path.is_file() and not path.is_symlink() else entry.st_rdev
        what = str(path.readlink()) if path.is_symlink() else what
        found[str(path.relative_to(root))] = (entry.st_mode, entry.st_uid, entry.st_gid, what)
    return found


async def build(snapshots: SnapshotsUnderTest, prefix: str, *steps: Step) -> list[Seen]:
    """Commit a layer for each step. What is seen after it must be what it made. Returns what each looks like."""
    below, seen = "", []
    for number, step in enumerate(steps):
        key, name = f"{prefix}key{number}", f"{prefix}{number}"
        await snapshots.prepare(key, parent=below)
        with mounted(await snapshots.mounts(key)) as root:
            step(root)
            seen.append(look(root))
        await snapshots.commit(key, name)
        below = name
    for number, wanted in enumerate(seen):
        await snapshots.view(f"{prefix}look", parent=f"{prefix}{number}")
        with mounted(await snapshots.mounts(f"{prefix}look")) as root:
            assert look(root) == wanted, f"layer {number}"
        await snapshots.remove(f"{prefix}look")
    return seen


def base(root: Path) -> None:
    for path in ("a/b/c", "bin", "etc"):
        (root / path).mkdir(parents=True)
    (root / "bin/tool").write_bytes(b"\x7fELF" * 1000)
    (root / "bin/tool").chmod(0o4755)
    (root / "etc/conf").write_text("one")
    (root / "etc/link").symlink_to("conf")
    (root / "a/b/c/deep").write_text("deep")
    os.mkfifo(root / "a/fifo")
    os.mknod(root / "a/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))


async def changed(snapshots: SnapshotsUnderTest, name: str, *, against: str = "") -> dict[str, str]:
    found = await snapshots.changes(name, base=against)
    paths = [change.text for change in found]
    assert len(set(paths)) == len(paths)
    for path in paths:
        above = path.rpartition("/")[0]
        assert not above or paths.index(above) < paths.index(path), "each directory before what is inside of it"
    return {change.text: f"{change.change.value} {change.kind.value}" for change in found}


async def test_files_are_updated_and_deleted(snapshots: SnapshotsUnderTest, prefix: str) -> None:
    def update(root: Path) -> None:
        (root / "etc/conf").write_text("two")
        (root / "etc/link").unlink()
        (root / "new").write_text("new")

    seen = await build(snapshots, prefix, base, update, lambda root: (root / "new").unlink())
    assert "etc/link" in seen[0]
    assert "etc/link" not in seen[1]
    assert "new" not in seen[2]
    assert await changed(snapshots, f"{prefix}1") == {
        "/etc": "modified directory",
        "/etc/conf": "modified file",
        "/etc/link": "deleted link",
        "/new": "added file",
    }
    assert await changed(snapshots, f"{prefix}2") == {"/new": "deleted file"}
    assert await changed(snapshots, f"{prefix}2", against=f"{prefix}0") == {
        "/etc": "modified directory",
        "/etc/conf": "modified file",
        "/etc/link": "deleted link",
    }


async def test_first_layer_differs_from_nothing(snapshots: SnapshotsUnderTest, prefix: str) -> None:
    await build(snapshots, prefix, base)
    assert await changed(snapshots, f"{prefix}0") == {
        "/a": "added directory",
        "/a/b": "added directory",
        "/a/b/c": "added directory",
        "/a/b/c/deep": "added file",
        "/a/fifo": "added fifo",
        "/a/null": "added characterDevice",
        "/bin": "added directory",
        "/bin/tool": "added file",
        "/etc": "added directory",
        "/etc/conf": "added file",
        "/etc/link": "added link",
    }
    assert await changed(snapshots, f"{prefix}0", against=f"{prefix}0") == {}


async def test_directory_that_is_made_anew_hides_the_old(snapshots: SnapshotsUnderTest, prefix: str) -> None:
    def anew(root: Path) -> None:
        shutil.rmtree(root / "a")
        (root / "a/b").mkdir(parents=True)
        (root / "a/b/other").write_text("other")

    seen = await build(snapshots, prefix, base, anew, lambda root: shutil.rmtree(root / "a"))
    assert {name for name in seen[1] if name.startswith("a")} == {"a", "a/b", "a/b/other"}
    assert await changed(snapshots, f"{prefix}1") == {
        "/a": "modified directory",
        "/a/b": "modified directory",
        "/a/b/c": "deleted directory",
        "/a/b/other": "added file",
        "/a/fifo": "deleted fifo",
        "/a/null": "deleted characterDevice",
    }
    assert await changed(snapshots, f"{prefix}2") == {"/a": "deleted directory"}
    assert await changed(snapshots, f"{prefix}0", against=f"{prefix}2") == {
        path: what for path, what in (await changed(snapshots, f"{prefix}0")).items() if path.startswith("/a")
    }


async def test_owners_and_permissions_are_changed_through_layers(snapshots: SnapshotsUnderTest, prefix: str) -> None:
    def chown(root: Path) -> None:
        for path in (root / "etc/conf", root / "bin", root / "etc/link"):
            os.chown(path, 1000, 70_000, follow_symlinks=False)
        (root / "etc").chmod(0o2750)

    def again(root: Path) -> None:
        os.chown(root / "bin", 0, 0)
        (root / "bin/tool").chmod(0o700)
        os.setxattr(root / "etc/conf", "user.note", b"hello")

    seen = await build(snapshots, prefix, base, chown, again)
    assert seen[1]["etc/conf"][1:3] == (1000, 70_000)
    assert await changed(snapshots, f"{prefix}1") == {
        "/bin": "modified directory",
        "/etc": "modified directory",
        "/etc/conf": "modified file",
        "/etc/link": "modified link",
    }
    assert await changed(snapshots, f"{prefix}2") == {
        "/bin": "modified directory",
        "/bin/tool": "modified file",
        "/etc": "modified directory",
        "/etc/conf": "modified file",
    }


async def test_directory_permissions_survive_the_commit(snapshots: SnapshotsUnderTest, prefix: str) -> None:
    def permissions(root: Path) -> None:
        for number, mode in enumerate((0o700, 0o777, 0o1777, 0o2755, 0o000)):
            (root / f"dir{number}").mkdir()
            (root / f"dir{number}").chmod(mode)
            os.chown(root / f"dir{number}", number, number + 1)

    def inside(root: Path) -> None:
        for number in range(5):
            (root / f"dir{number}/file").touch()

    seen = await build(snapshots, prefix, permissions, inside)
    assert [stat.S_IMODE(int(str(seen[1][f"dir{number}"][0]))) for number in range(5)] == [
        0o700,
        0o777,
        0o1777,
        0o2755,
        0,
    ]


async def test_files_and_directories_are_renamed(snapshots: SnapshotsUnderTest, prefix: str) -> None:
    def rename(root: Path) -> None:
        (root / "bin/tool").rename(root / "bin/renamed")
        shutil.move(root / "a/b", root / "moved")
        (root / "fresh").mkdir()
        (root / "fresh/file").write_text("fresh")
        (root / "fresh").rename(root / "etc/was-fresh")

    seen = await build(snapshots, prefix, base, rename)
    assert seen[1]["bin/renamed"] == seen[0]["bin/tool"]
    assert seen[1]["moved/c/deep"] == seen[0]["a/b/c/deep"]
    assert await changed(snapshots, f"{prefix}1") == {
        "/a": "modified directory",
        "/a/b": "deleted directory",
        "/bin": "modified directory",
        "/bin/renamed": "added file",
        "/bin/tool": "deleted file",
        "/etc": "modified directory",
        "/etc/was-fresh": "added directory",
        "/etc/was-fresh/file": "added file",
        "/moved": "added directory",
        "/moved/c": "added directory",
        "/moved/c/deep": "added file",
    }


async def test_kinds_change(snapshots: SnapshotsUnderTest, prefix: str) -> None:
    def change(root: Path) -> None:
        shutil.rmtree(root / "a")
        (root / "a").write_text("now a file")
        (root / "etc/conf").unlink()
        (root / "etc/conf").mkdir()
        (root / "etc/conf/inside").touch()
        (root / "bin/tool").unlink()
        (root / "bin/tool").symlink_to("elsewhere")

    await build(snapshots, prefix, base, change)
    assert await changed(snapshots, f"{prefix}1") == {
        "/a": "modified file",
        "/bin": "modified directory",
        "/bin/tool": "modified link",
        "/etc": "modified directory",
        "/etc/conf": "modified directory",
        "/etc/conf/inside": "added file",
    }


async def test_what_comes_back_as_it_was_is_no_difference(snapshots: SnapshotsUnderTest, prefix: str) -> None:
    """Copied up, touched and set back: the layers differ, what is seen does not, except for the last byte."""

    def copy_up(root: Path) -> None:
        for path in (root / "bin/tool", root / "etc/conf", root / "etc"):
            path.chmod(path.stat().st_mode)
        times = (root / "etc/conf").stat()
        (root / "etc/conf").write_text("one")
        os.utime(root / "etc/conf", ns=(times.st_atime_ns, times.st_mtime_ns))

    def last_byte(root: Path) -> None:
        times = (root / "bin/tool").stat()
        with (root / "bin/tool").open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"X")
        (root / "bin/tool").chmod(0o4755)
        os.utime(root / "bin/tool", ns=(times.st_atime_ns, times.st_mtime_ns))

    await build(snapshots, prefix, base, copy_up, last_byte)
    assert await changed(snapshots, f"{prefix}1") == {}
    assert await changed(snapshots, f"{prefix}2") == {"/bin": "modified directory", "/bin/tool": "modified file"}


async def test_siblings_are_compared(snapshots: SnapshotsUnderTest, prefix: str) -> None:
    await build(snapshots, prefix, base)
    for name, text in (("left", "left"), ("right", "right")):
        await snapshots.prepare(f"{prefix}{name}", parent=f"{prefix}0")
        with mounted(await snapshots.mounts(f"{prefix}{name}")) as root:
            (root / "etc/conf").write_text(text)
            (root / name).touch()
    assert await changed(snapshots, f"{prefix}left", against=f"{prefix}right") == {
        "/etc": "modified directory",
        "/etc/conf": "modified file",
        "/left": "added file",
        "/right": "deleted file",
    }


async def test_odd_names_and_many_changes(snapshots: SnapshotsUnderTest, prefix: str) -> None:
    odd = [b"new\nline", b"\xff\xfe", "ü".encode(), b".wh.x", b" ", b"x" * 255]

    def make(root: Path) -> None:
        for name in odd:
            (root / os.fsdecode(name)).touch()
        (root / "many").mkdir()
        for number in range(1000):
            (root / f"many/{number}").touch()

    await build(snapshots, prefix, make)
    found = await snapshots.changes(f"{prefix}0")
    assert {change.path for change in found} == {
        *(b"/" + name for name in odd),
        b"/many",
        *(b"/many/%d" % number for number in range(1000)),
    }
    assert {change.change for change in found} == {ChangeKind.ADDED}


async def test_nesting_deeper_than_a_path_is_told(snapshots: SnapshotsUnderTest, prefix: str) -> None:
    await snapshots.prepare(f"{prefix}deep")
    upper = (await snapshots.mounts(f"{prefix}deep")).upper
    fd = os.open(upper, os.O_RDONLY)
    for _level in range(30):
        os.mkdir("d" * 200, dir_fd=fd)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    with pytest.raises(Exception, match="nested deeper than a path can say"):
        await snapshots.changes(f"{prefix}deep")
    assert (await snapshots.usage(f"{prefix}deep")).inodes == 31


async def test_diff_of_what_is_not_there(snapshots: SnapshotsUnderTest, prefix: str) -> None:
    await snapshots.prepare(f"{prefix}a")
    for name, against in ((f"{prefix}no", ""), (f"{prefix}a", f"{prefix}no")):
        with pytest.raises(NotFound):
            await snapshots.changes(name, base=against)
