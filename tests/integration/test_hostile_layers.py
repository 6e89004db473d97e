"""Layers that try to get out of their directory, or to do harm in it: refused with a clear error, or harmless; a canary outside stays."""

from __future__ import annotations

import io
import os
import stat
import struct
import tarfile
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from ross.errors import Corrupt, ResourceExhausted, RossError
from ross.linux.archive.apply import apply_layer
from ross.linux.archive.inflate import LayerBytes
from ross.linux.archive.limits import ArchiveLimits
from ross.linux.archive.settle import settle, settle_alone
from ross.linux.mount import mount_overlay, unmount
from tests.support.ext4 import fresh_ext4
from tests.support.images import Layer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ross.linux.archive.applied import Applied

pytestmark = pytest.mark.integration

FIFO, CHAR, BLOCK, LINK, SYMLINK, DIR = (
    tarfile.FIFOTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.DIRTYPE,
)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with fresh_ext4(tmp_path_factory.mktemp("disk"), size="512M") as path:
        yield path


class Place:
    """A layer's directory, with a canary beside it and one at an absolute path."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.root = top / "layer"
        self.root.mkdir(parents=True)
        self.canary = top / "canary"
        self.canary.mkdir(mode=0o750)
        (self.canary / "file").write_text("alive")
        (self.canary / "file").chmod(0o640)
        os.utime(self.canary / "file", ns=(10**18, 10**18))
        self._before = self.look()

    def look(self) -> list[tuple[str, int, int, int, int, bytes]]:
        found = []
        for path in (self.top, self.canary, *sorted(self.canary.rglob("*"))):
            status = path.lstat()
            data = path.read_bytes() if path.is_file() else b""
            modified = status.st_mtime_ns if path.is_file() else 0
            found.append((path.name, status.st_mode, status.st_uid, status.st_nlink, modified, data))
        return found

    def unchanged(self) -> bool:
        return self.look() == self._before

    def apply(self, tar: bytes, *, limits: ArchiveLimits | None = None, below: Path | None = None) -> Applied:
        blob = self.top.parent / f"{self.top.name}.tar"
        blob.write_bytes(tar)
        limits = limits or ArchiveLimits()
        with LayerBytes(blob, limits=limits) as source:
            applied = apply_layer(source, self.root, limits=limits)
        if below is None:
            settle_alone(self.root, applied)
        else:
            settle(self.root, below, applied)
        return applied


@pytest.fixture
def place(disk: Path, request: pytest.FixtureRequest) -> Place:
    number = len(list(disk.iterdir()))
    return Place(disk / f"case{number}")


def escape_by_links(outside: str) -> dict[str, Layer]:
    """Entries below, onto and through links that lead outside, by every kind of entry."""
    return {
        "file below an absolute link": Layer().symlink("x", outside).add("x/file", b"dead"),
        "file below a relative link": Layer().symlink("x", "../canary").add("x/file", b"dead"),
        "file below a chain of links": Layer().symlink("a", "b").symlink("b", "../canary").add("a/file", b"dead"),
        "file below a link through the root": Layer().symlink("x", "/..").add(f"x{outside}/file", b"dead"),
        "file over a link to a file": Layer().symlink("x", f"{outside}/file").add("x", b"dead"),
        "directory over a link": Layer().symlink("x", outside).directory("x", mode=0o777, uid=7),
        "directory below a link": Layer().symlink("x", outside).directory("x/new"),
        "mode through a link": Layer().symlink("x", f"{outside}/file").add("x", type=FIFO, mode=0o777),
        "hard link to the outside": Layer().hard_link("x", f"{outside}/file"),
        "hard link by dots": Layer().hard_link("x", "../canary/file"),
        "hard link through a link": Layer().symlink("d", outside).hard_link("x", "d/file").add("x", b"dead"),
        "hard link onto a link": Layer().symlink("l", f"{outside}/file").hard_link("x", "l").add("x", b"dead"),
        "whiteout through a link": Layer().symlink("x", outside).whiteout("x/file"),
        "opaque through a link": Layer().symlink("x", outside).opaque("x"),
        "device below a link": Layer().symlink("x", outside).add("x/dev", type=CHAR, devmajor=1, devminor=3),
        "symlink below a link": Layer().symlink("x", outside).symlink("x/l", "/etc/passwd"),
        "times through a link": Layer().directory("x", mtime=5).symlink("x", outside),
        "link swapped for a directory": Layer()
        .directory("x")
        .add("x/file", b"1")
        .symlink("x", outside)
        .add("x/file", b"dead"),
        "dangling link to the outside": Layer().symlink("x", f"{outside}/made").add("x/file", b"dead"),
        "link to proc": Layer().symlink("x", "/proc/self/cwd").add("x/file", b"dead"),
    }


@pytest.mark.parametrize("name", list(escape_by_links("/")))
def test_no_link_leads_out(place: Place, name: str) -> None:
    layer = escape_by_links(str(place.canary))[name]
    with suppress(Corrupt):  # harmless is as good as refused
        place.apply(layer.tar())
    assert place.unchanged()


@pytest.mark.parametrize("name", ["../canary/file", "x/../../canary/file", "..", "a/..", "../../../../etc/cron.d/x"])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, DIR, SYMLINK, LINK, FIFO])
def test_dots_are_refused(place: Place, name: str, kind: bytes) -> None:
    with pytest.raises(Corrupt, match=r"'\.\.', which is refused"):
        place.apply(Layer().add(name, type=kind, linkname="x").tar())
    assert place.unchanged()


@pytest.mark.parametrize("name", ["/etc/x", "//etc/x", "./etc/./x", "/./etc//x"])
def test_absolute_paths_stay_inside(place: Place, name: str) -> None:
    place.apply(Layer().add(name, b"inside").tar())
    assert (place.root / "etc/x").read_bytes() == b"inside"


@pytest.mark.parametrize("name", [".wh..", ".wh...", ".wh.", "a/.wh..", "a/.wh...", "a/.wh."])
def test_whiteouts_of_nothing_in_particular_are_refused(place: Place, name: str) -> None:
    with pytest.raises(Corrupt, match="whiteout"):
        place.apply(Layer().directory("a").add(name).tar())
    assert place.unchanged()


def test_whiteouts_and_opaque_directories_become_the_overlays_marks(place: Place, disk: Path) -> None:
    below = Place(disk / f"{place.top.name}-below")
    below.apply(Layer().add("b").tar())
    place.apply(Layer().directory("a").opaque("a").whiteout("b").add("a/.wh..wh.plnk").tar(), below=below.root)
    assert os.getxattr(place.root / "a", "trusted.overlay.opaque") == b"y"
    gone = (place.root / "b").lstat()
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    assert not list((place.root / "a").iterdir())


def test_whiteouts_of_what_is_not_below_leave_no_mark(place: Place, disk: Path) -> None:
    below = Place(disk / f"{place.top.name}-below")
    below.apply(Layer().directory("a").directory("hidden").add("hidden/x").tar())
    place.apply(
        Layer().whiteout("a/none").whiteout("b/none").opaque("hidden").whiteout("hidden/x").tar(), below=below.root
    )
    assert sorted(str(path.relative_to(place.root)) for path in place.root.rglob("*")) == ["a", "b", "hidden"]


def test_opaque_root_hides_everything_below(place: Place, disk: Path) -> None:
    below = Place(disk / f"{place.top.name}-below")
    below.apply(Layer().directory("a").add("a/x").add("b").tar())
    place.apply(Layer().directory("a").add("./.wh..wh..opq").tar(), below=below.root)
    assert os.getxattr(place.root / "a", "trusted.overlay.opaque") == b"y"
    assert stat.S_ISCHR((place.root / "b").lstat().st_mode)


@pytest.mark.parametrize(("target", "seen"), [("d", {"d", "link"}), (".", set())])
def test_what_hides_all_below_a_link_hides_what_is_where_it_leads(
    place: Place, disk: Path, target: str, seen: set[str]
) -> None:
    """As for who unpacks into the merged tree, where the link is followed on the way to the mark."""
    below = Place(disk / f"{place.top.name}-below")
    below.apply(Layer().directory("d").add("d/x").symlink("link", target).tar())
    place.apply(Layer().add("link/.wh..wh..opq").tar(), below=below.root)
    assert merged(place, below) == seen
    if "d" in seen:
        assert os.getxattr(place.root / "d", "trusted.overlay.opaque") == b"y"


def test_directory_in_the_place_of_a_file_shows_nothing_of_what_that_had_replaced(place: Place) -> None:
    place.apply(Layer().add("x").directory("x").whiteout("y").add("y/z").tar())
    assert os.getxattr(place.root / "x", "trusted.overlay.opaque") == b"y"
    assert os.getxattr(place.root / "y", "trusted.overlay.opaque") == b"y"
    assert (place.root / "y/z").is_file()


def test_hard_link_by_a_link_of_the_layers_below_leaves_that_link(place: Place, disk: Path) -> None:
    below = Place(disk / f"{place.top.name}-below")
    below.apply(Layer().directory("usr").add("usr/x", b"x").symlink("lib", "usr").tar())
    place.apply(Layer().hard_link("lib/y", "lib/x").tar(), below=below.root)
    assert not (place.root / "lib").exists(), "a directory here would hide the link"
    assert (place.root / "usr/y").samefile(place.root / "usr/x")


def test_image_cannot_forge_the_overlays_attributes(place: Place) -> None:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("d")
        info.type = DIR
        info.pax_headers = {
            "SCHILY.xattr.trusted.overlay.redirect": "/../canary",
            "SCHILY.xattr.trusted.overlay.opaque": "y",
            "SCHILY.xattr.user.overlay.opaque": "y",
            "SCHILY.xattr.user.kept": "value",
        }
        tar.addfile(info)
    place.apply(layer.getvalue())
    assert os.listxattr(place.root / "d") == ["user.kept"]


def merged(place: Place, below: Place) -> set[str]:
    """The names that an overlay of the two shows."""
    target = place.top / "merged"
    target.mkdir()
    mount_overlay(target, lower=[place.root, below.root], upper=None, work=None)
    try:
        names = {entry.name for entry in os.scandir(target)}
        for name in names:
            (target / name).lstat()  # what is shown is there
        return names
    finally:
        unmount(target)


def test_device_0_0_is_the_whiteout_that_it_looks_like(place: Place, disk: Path) -> None:
    """As in Docker and containerd, which make the device, and leave it to the overlay. Where nothing is below it is nothing; block
    devices and other numbers are what they are."""
    below = Place(disk / f"{place.top.name}-below")
    below.apply(Layer().add("gone").directory("tree").add("tree/x").add("stays").add("again", b"old").tar())
    layer = Layer().add("again", type=CHAR).add("again", b"new").directory("mine").add("mine/x").add("mine", type=CHAR)
    layer.add("gone", type=CHAR).add("tree", type=CHAR).add("none", type=CHAR).add("deep/none", type=CHAR)
    layer.add("block", type=BLOCK).add("zero-one", type=CHAR, devminor=1)
    place.apply(layer.tar(), below=below.root)
    assert merged(place, below) == {"stays", "again", "deep", "block", "zero-one"}
    assert (place.root / "again").read_bytes() == b"new"
    assert not list((place.root / "deep").iterdir())


def test_device_0_0_is_no_target_of_a_link_and_is_not_left_alone(place: Place, disk: Path) -> None:
    with pytest.raises(Corrupt, match="which is no file"):
        place.apply(Layer().add("x", type=CHAR).hard_link("y", "x").tar())
    alone = Place(disk / f"{place.top.name}-alone")
    alone.apply(Layer().add("x", type=CHAR).add("y").tar())
    assert [path.name for path in alone.root.iterdir()] == ["y"]


FORGED = (
    "opaque",
    "redirect",
    "metacopy",
    "origin",
    "impure",
    "nlink",
    "upper",
    "uuid",
    "protattr",
    "whiteout",
    "overlay.opaque",
    "xwhiteouts",
)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, DIR, CHAR, FIFO, SYMLINK])
def test_no_attribute_of_the_overlay_comes_from_an_image(place: Place, kind: bytes) -> None:
    """Those of the kernel's documentation, by both prefixes, and as it escapes them; on every kind of entry, and by a global header."""
    headers = {f"SCHILY.xattr.{space}.overlay.{name}": "y" for space in ("trusted", "user") for name in FORGED}
    headers |= {"SCHILY.xattr.trusted.other": "y", "SCHILY.xattr.security.selinux": "y"}
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", format=tarfile.PAX_FORMAT, pax_headers=headers) as tar:
        for name in ("once", "twice"):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.devmajor, info.devminor = kind, "x", 1, 3
            info.pax_headers = headers if name == "once" else {}
            tar.addfile(info)
    place.apply(layer.getvalue())
    for name in ("once", "twice"):
        assert os.listxattr(place.root / name, follow_symlinks=False) == []


def test_attributes_are_exact(place: Place) -> None:
    layer = Layer().add("f", b"x", mode=0o4711, uid=1000, gid=50, mtime=1.5).directory("d", mode=0o1777, uid=3, mtime=7)
    place.apply(
        layer
        .add("d/inner", b"y")
        .add("fifo", type=FIFO, mode=0o600)
        .add("null", type=CHAR, devmajor=1, devminor=3)
        .tar()
    )
    file, directory = (place.root / "f").stat(), (place.root / "d").stat()
    assert (stat.S_IMODE(file.st_mode), file.st_uid, file.st_gid, file.st_mtime_ns) == (0o4711, 1000, 50, 1_500_000_000)
    assert (stat.S_IMODE(directory.st_mode), directory.st_uid, directory.st_mtime_ns) == (0o1777, 3, 7_000_000_000)
    assert stat.S_ISFIFO((place.root / "fifo").stat().st_mode)
    assert (place.root / "null").stat().st_rdev == os.makedev(1, 3)


def test_names_mean_the_same_however_they_are_spelled(place: Place) -> None:
    layer = Layer().directory("./a/").directory("a//b/.").add("/a/b/f", b"1").add("./a/./b/g/", b"2")
    layer.directory("a/b").add("a/b/h", b"3").directory("c/.").add("c/i", b"4")
    place.apply(layer.hard_link("a/./linked", "./a//b/f/").whiteout("./a/b/gone").tar())
    found = sorted(str(path.relative_to(place.root)) for path in place.root.rglob("*"))
    assert found == ["a", "a/b", "a/b/f", "a/b/g", "a/b/h", "a/linked", "c", "c/i"]
    assert (place.root / "a/linked").samefile(place.root / "a/b/f")


def test_directory_that_is_replaced_takes_its_attributes_along(place: Place) -> None:
    layer = Layer().directory("d", mode=0o711, uid=7).add("d", b"file").directory("d", mode=0o700, uid=8, mtime=9)
    place.apply(layer.directory("e", mode=0o711, uid=7).symlink("e", "d").tar())
    assert (place.root / "e").is_symlink()
    found = (place.root / "d").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_mtime_ns) == (0o700, 8, 9 * 10**9)


def test_what_a_directory_gives_to_new_files_is_not_given(place: Place) -> None:
    layer = Layer().directory("team", mode=0o2775, gid=50).add("team/file", b"x", mode=0o666).directory("team/sub")
    place.apply(layer.tar())
    team, file, sub = ((place.root / name).stat() for name in ("team", "team/file", "team/sub"))
    assert (stat.S_IMODE(team.st_mode), team.st_gid) == (0o2775, 50)
    assert (stat.S_IMODE(file.st_mode), file.st_gid) == (0o666, 0)
    assert (stat.S_IMODE(sub.st_mode), sub.st_gid) == (0o755, 0)


def test_later_entries_replace_earlier_ones_whatever_they_were(place: Place) -> None:
    layer = (
        Layer().directory("x").add("x/inner", b"1").add("x", b"file").symlink("y", "x").directory("y").add("y/z", b"2")
    )
    place.apply(layer.add("h", b"old").hard_link("k", "h").add("h", b"new").tar())
    assert (place.root / "x").read_bytes() == b"file"
    assert (place.root / "y/z").read_bytes() == b"2"
    assert (place.root / "k").read_bytes() == b"old", "writing one name of a file leaves its other names"
    assert (place.root / "h").read_bytes() == b"new"


def test_what_needs_the_layers_below_is_settled(place: Place, disk: Path) -> None:
    below = Place(disk / f"{place.top.name}-below")
    base = (
        Layer()
        .directory("usr", mode=0o711, uid=4)
        .directory("usr/lib", mode=0o755)
        .add("usr/lib/a", b"hello", mode=0o640, uid=9)
    )
    below.apply(base.symlink("lib", "usr/lib").tar())
    place.apply(Layer().add("lib/b", b"b").add("usr/c", b"c").hard_link("linked", "usr/lib/a").tar(), below=below.root)
    assert not (place.root / "lib").exists(), "a link below stays a link: nothing hides it"
    assert (place.root / "usr/lib/b").read_bytes() == b"b"
    directory, linked = (place.root / "usr").stat(), (place.root / "linked").stat()
    assert (stat.S_IMODE(directory.st_mode), directory.st_uid) == (0o711, 4)
    assert (stat.S_IMODE(linked.st_mode), linked.st_uid, linked.st_nlink) == (0o640, 9, 2)


def test_hard_link_to_nothing_is_refused(place: Place) -> None:
    with pytest.raises(Corrupt, match="does not exist"):
        place.apply(Layer().hard_link("x", "nowhere").tar())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tar: tar[:700], "truncated"),
        (lambda tar: tar[:100] + b"\xff" + tar[101:], "checksum"),
        (lambda tar: b"\x1f\x8b" + tar, "damaged"),
        (lambda tar: b"\x28\xb5\x2f\xfd" + tar, "damaged"),
    ],
)
def test_damage_is_told(place: Place, damage: object, message: str) -> None:
    assert callable(damage)
    with pytest.raises(Corrupt, match=message):
        place.apply(damage(Layer().add("x", b"y" * 600).tar()))


def header(**fields: bytes) -> bytes:
    """A raw header, for what tarfile would not write."""
    block = bytearray(512)
    values = {
        "name": b"x",
        "mode": b"0000644",
        "uid": b"0",
        "gid": b"0",
        "size": b"0",
        "mtime": b"0",
        "type": b"0",
    } | fields
    at = {"name": 0, "mode": 100, "uid": 108, "gid": 116, "size": 124, "mtime": 136, "type": 156, "link": 157}
    at |= {"major": 329, "minor": 337}
    for key, value in values.items():
        block[at[key] : at[key] + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (header(type=b"S"), Corrupt, "sparse"),
        (header(type=b"?"), Corrupt, "unknown type"),
        (header(uid=b"\xff" + b"\xff" * 7), Corrupt, "no user or group id"),
        (header(type=b"x", size=b"77777777777"), ResourceExhausted, "extended header"),
        (header(type=b"x", size=b"5") + b"99 a=".ljust(512, b"\0"), Corrupt, "malformed extended header"),
        (header(size=b"zzz"), Corrupt, "malformed number"),
        (header(size=b"\xff" * 11 + b"\x00"), Corrupt, "negative size"),
        (header(type=b"x", size=b"\xff" * 10 + b"\xfe\x00"), Corrupt, "negative size"),
        (header(type=b"3", major=b"0010000"), Corrupt, "device 4096:0, which cannot be"),
        (header(type=b"4", minor=b"\x80\0\0\0\0\x10\0\0"), Corrupt, "device 0:1048576"),
    ],
)
def test_malformed_headers_are_refused(place: Place, data: bytes, error: type[RossError], message: str) -> None:
    with pytest.raises(error, match=message):
        place.apply(data + bytes(2048))


def test_archive_without_its_end_is_read(place: Place) -> None:
    place.apply(header(name=b"a" * 99))
    assert (place.root / ("a" * 99)).exists()


def test_path_and_entries_are_bounded(place: Place) -> None:
    with pytest.raises(Corrupt, match="path of"):
        place.apply(Layer().add("d/" * 3000 + "x", b"").tar())
    with pytest.raises(ResourceExhausted, match="entries"):
        place.apply(Layer().add("a").add("b").add("c").tar(), limits=ArchiveLimits(entries=2))
    with pytest.raises(Corrupt, match="cannot be made: File name too long"):
        place.apply(Layer().add("n" * 300).tar())


def test_bomb_is_refused_before_it_fills_the_disk(place: Place) -> None:
    import gzip

    limits = ArchiveLimits(ratio=100, ratio_from_bytes=4 << 20)
    packed = gzip.compress(Layer().add("zeros", bytes(32 << 20)).tar())
    with pytest.raises(ResourceExhausted, match="more than 100 times"):
        place.apply(packed, limits=limits)
    with pytest.raises(ResourceExhausted, match="more than 1048576 bytes"):
        place.apply(packed, limits=ArchiveLimits(unpacked_bytes=1 << 20))


def test_full_disk_is_told_with_what_to_do(disk: Path, tmp_path: Path) -> None:
    with fresh_ext4(tmp_path / "small", size="8M") as small:
        place = Place(small / "case")
        blob = tmp_path / "blob.tar"
        blob.write_bytes(Layer().add("big", bytes(16 << 20)).tar())
        with (
            LayerBytes(blob, limits=ArchiveLimits()) as source,
            pytest.raises(ResourceExhausted, match="does not fit") as caught,
        ):
            apply_layer(source, place.root, limits=ArchiveLimits())
        assert caught.value.hint is not None


def test_base_256_numbers_are_read(place: Place) -> None:
    owner = b"\x80" + struct.pack(">Q", 70_000)[1:]
    place.apply(header(uid=owner) + bytes(1024))
    assert (place.root / "x").stat().st_uid == 70_000
