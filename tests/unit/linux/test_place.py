"""Packing trees, and placing archives in trees that others change: what comes out is what went in, and nothing leads out."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ross.errors import Corrupt, FailedPrecondition, RossError
from ross.linux.archive.packer import pack
from ross.linux.archive.place import Placed, Placing, Root, place
from ross.linux.syscalls import exchange
from tests.support.images import Layer

if TYPE_CHECKING:
    from collections.abc import Callable

OURS = Placing(owner=(os.geteuid(), os.getegid()), privileged=False)


@contextmanager
def opened(path: Path, flags: int = os.O_PATH | os.O_NOFOLLOW) -> Iterator[int]:
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def packed(path: Path, name: bytes = b".", *, as_layer: bool = False) -> bytes:
    with opened(path) as fd:
        return b"".join(pack(fd, name, as_layer=as_layer))


def placed(data: bytes, path: Path, how: Placing = OURS) -> Placed:
    chunks = iter([data[start : start + 1000] for start in range(0, len(data), 1000)])
    with opened(path, os.O_RDONLY | os.O_DIRECTORY) as fd:
        return place(lambda: next(chunks, b""), fd, how)


def look(top: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        content = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else b""  # noqa: PTH115
        mtime = status.st_mtime_ns
        found[str(path.relative_to(top))] = (stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), mtime, content)
    return found


def populate(top: Path) -> None:
    (top / "d/e").mkdir(parents=True)
    (top / "d/empty").write_bytes(b"")
    (top / "d/file").write_bytes(b"x" * 1000)
    (top / "d/e/large").write_bytes(bytes(range(256)) * 4000)
    (top / ("long" * 40)).write_bytes(b"long")
    (top / "unicode-\N{SNOWMAN}").write_bytes(b"snow")
    os.mkfifo(top / "fifo", 0o640)
    (top / "link").symlink_to("d/file")
    (top / "far").symlink_to("/" + "very/" * 30 + "far")
    os.link(top / "d/file", top / "zz")
    os.utime(top / "d/file", ns=(1, 1_234_567_890_123_456_789))
    os.utime(top / "d/empty", ns=(1, -1_500_000_000))
    (top / "d/e").chmod(0o2750)
    os.utime(top / "d", ns=(5, 5))


def test_what_is_placed_is_what_was_packed(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    populate(source)
    raw = b"not-\xff-utf8"
    with (source / os.fsdecode(raw)).open("wb") as file:
        file.write(b"raw")

    how = Placing(owner=(os.geteuid(), os.getegid()))
    data = packed(source)
    done = placed(data, target, how)

    assert look(target) == look(source)
    assert (target / "zz").stat().st_ino == (target / "d/file").stat().st_ino
    assert done.entries == len(look(source))
    assert packed(source) == data, "the same bytes for the same tree"


def test_python_reads_what_is_packed(tmp_path: Path) -> None:
    """An implementation that is not ours agrees about names, kinds, times and contents."""
    populate(tmp_path)

    with tarfile.open(fileobj=io.BytesIO(packed(tmp_path, b"top"))) as archive:
        members = {member.name: member for member in archive}
        large = archive.extractfile("top/d/e/large")
        assert large is not None
        assert large.read() == (tmp_path / "d/e/large").read_bytes()

    assert members.keys() == {"top", *(f"top/{name}" for name in look(tmp_path))}
    assert members["top/d/file"].islnk()
    assert members["top/far"].linkname == os.readlink(tmp_path / "far")  # noqa: PTH115
    assert float(members["top/d/empty"].mtime) == -1.5


def test_holes_stay_holes_and_are_not_read(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    with (source / "sparse").open("wb") as file:
        file.seek(50 << 20)
        file.write(b"end")
        file.truncate(60 << 20)

    placed(packed(source), target)

    assert (target / "sparse").stat().st_size == 60 << 20
    assert (target / "sparse").stat().st_blocks * 512 < 1 << 20
    with (target / "sparse").open("rb") as file:
        file.seek(50 << 20)
        assert file.read(4) == b"end\0"


def test_compressed_archives_are_placed(tmp_path: Path) -> None:
    placed(gzip.compress(Layer().add("f", b"data").tar()), tmp_path)

    assert (tmp_path / "f").read_bytes() == b"data"


HOSTILE: dict[str, Callable[[Path], Layer]] = {
    "dots": lambda _out: Layer().add("../escaped", b"x"),
    "dots below": lambda _out: Layer().directory("a").add("a/../../escaped", b"x"),
    "absolute": lambda out: Layer().add(f"{out}/escaped", b"x"),
    "by a link": lambda out: Layer().symlink("l", str(out)).add("l/escaped", b"x"),
    "by a relative link": lambda _out: Layer().symlink("l", "../out").add("l/escaped", b"x"),
    "by a link there was": lambda _out: Layer().add("old/escaped", b"x"),
    "over a link there was": lambda _out: Layer().add("old", b"x"),
    "a directory over a link": lambda _out: Layer().directory("old", mode=0o777).add("old/escaped", b"x"),
    "hard link out": lambda _out: Layer().hard_link("h", "../out/canary").add("h", b"x"),
    "hard link by a link": lambda _out: Layer().hard_link("h", "old/canary").add("h", b"x"),
    "link over a file then a file": lambda out: Layer().add("f").symlink("f", f"{out}/canary").add("f", b"x"),
}


@pytest.mark.parametrize("hostile", [pytest.param(make, id=name) for name, make in HOSTILE.items()])
@pytest.mark.parametrize("rooted", [False, True])
def test_no_archive_leads_out(hostile: Callable[[Path], Layer], rooted: bool, tmp_path: Path) -> None:
    """Neither here nor, with links followed inside its root, in a container."""
    out, inside = tmp_path / "out", tmp_path / "in"
    for path in (out, inside):
        path.mkdir()
    (out / "canary").write_bytes(b"sings")
    (inside / "old").symlink_to(out)
    before = look(out)

    with opened(inside) as fd:
        how = Placing(owner=OURS.owner, root=Root(fd=fd, path=b"/")) if rooted else OURS
        try:
            placed(hostile(out).tar(), inside, how)
        except RossError as error:
            message = error.message
        else:
            message = ""

    assert "layer" not in message
    assert look(out) == before
    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        (Layer().add("d", b"x"), "cannot take the place of a directory"),
        (Layer().directory("f"), "cannot take the place of a non-directory"),
        (Layer().symlink("d", "f"), "cannot take the place of a directory"),
        (Layer().add("x/f", b"x"), "is not what was asked for"),
    ],
)
def test_nothing_takes_the_place_of_another_kind(layer: Layer, what: str, tmp_path: Path) -> None:
    (tmp_path / "d/inside").mkdir(parents=True)
    (tmp_path / "f").write_bytes(b"old")
    name = b"y" if "asked" in what else b""

    with pytest.raises((FailedPrecondition, Corrupt), match=what):
        placed(layer.tar(), tmp_path, Placing(owner=OURS.owner, name=name))

    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "f"]
    assert (tmp_path / "f").read_bytes() == b"old"


def test_a_broken_archive_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    data = Layer().add("f", b"new" * 5000).tar()

    with pytest.raises(Corrupt, match="truncated"):
        placed(data[:2000], tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_bytes() == b"old"


def test_what_only_root_gives_is_not_given_by_default(tmp_path: Path) -> None:
    layer = Layer().add("suid", b"#!", mode=0o6755).add("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)

    done = placed(layer.tar(), tmp_path)

    assert stat.S_IMODE((tmp_path / "suid").stat().st_mode) == 0o755
    assert done.left_out == [b"null"]
    assert not (tmp_path / "null").exists()


def test_hidden_places_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    how = Placing(owner=OURS.owner, hidden=frozenset({(b"mnt",)}))

    placed(Layer().directory("mnt").add("other", b"x").tar(), tmp_path, how)
    with pytest.raises(FailedPrecondition, match="hidden by a mount"):
        placed(Layer().add("mnt/f", b"x").tar(), tmp_path, how)

    assert not (tmp_path / "mnt/f").exists()


@contextmanager
def swapping(one: Path, other: Path) -> Iterator[list[int]]:
    """Swap what two names denote, as fast as the machine can, for the length of a block."""
    count = [0]
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            exchange(one, other)
            count[0] += 1

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield count
    finally:
        stop.set()
        thread.join()


def test_directories_swapped_for_links_lead_nowhere(tmp_path: Path) -> None:
    """CVE-2018-15664, CVE-2026-41568, CVE-2026-42306: a directory and a link to one outside change places 10^5 times meanwhile."""
    out, inside = tmp_path / "out", tmp_path / "in"
    for path in (out, inside / "d/e"):
        path.mkdir(parents=True)
    (out / "canary").write_bytes(b"SECRET")
    (inside / "d/canary").write_bytes(b"own")
    (inside / "link").symlink_to(out)
    before = look(out)
    data = Layer().add("d/f", b"x").directory("d/new").hard_link("d/g", "d/f").symlink("d/s", "f").add("d/new/h").tar()
    rounds = reached = 0

    with opened(inside) as root, swapping(inside / "d", inside / "link") as count:
        rooted = Placing(owner=OURS.owner, root=Root(fd=root, path=b"/"))
        while count[0] < 100_000 or rounds < 200:
            rounds += 1
            for how in (OURS, rooted):
                with suppress(RossError):
                    reached += placed(data, inside, how).entries
            found = b""
            with suppress(OSError):
                found = packed(inside)
            assert b"SECRET" not in found

    assert reached, "some went all the way"
    assert look(out) == before
