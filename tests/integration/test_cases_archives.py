"""Past vulnerabilities of engines in unpacking, by their ids, each with the proof that Ross withstands it.

Links and dots in general are in ``test_hostile_layers``, archives that are loaded in ``test_archives``, everything odd at random in
``test_exact``.
"""

from __future__ import annotations

import gzip
import os
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import zstandard

from ross.errors import Corrupt, ResourceExhausted, RossError
from ross.linux.archive.limits import ArchiveLimits
from tests.integration.test_hostile_layers import Place, header
from tests.support.ext4 import ext4_in_memory
from tests.support.images import Layer
from tests.support.tar_writer import record

if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    with ext4_in_memory() as path:
        yield path


@pytest.fixture
def place(disk: Path) -> Place:
    return Place(disk / f"case{len(list(disk.iterdir()))}")


@pytest.fixture
def below(place: Place, disk: Path) -> Place:
    """The layer under it."""
    return Place(disk / f"{place.top.name}-below")


BREAKOUTS = {
    "link below, file through it": (("x", ".."), Layer().add("x/canary/file", b"dead")),
    "absolute link below": (("x", "/"), Layer().add("x/../canary2", b"dead")),
    "link to the canary below, whiteout through it": (("x", "../canary"), Layer().whiteout("x/file")),
    "link to the canary below, opaque": (("x", "../canary"), Layer().opaque("x")),
    "link to the canary below, hard link through it": (("x", "../canary"), Layer().hard_link("y", "x/file").add("y", b"dead")),
    "link to the canary below, hard link into it": (("x", "../canary"), Layer().add("f").hard_link("x/new", "f")),
    "link to a file below, mode": (("x", "../canary/file"), Layer().add("x", b"", mode=0o4777)),
    "link below, directory with a mode": (("x", "../canary"), Layer().directory("x", mode=0o777, uid=7)),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BREAKOUTS))
def test_cve_2014_6407_and_2014_9357_links_of_one_layer_used_by_the_next(place: Place, below: Place, name: str) -> None:
    (link, target), layer = BREAKOUTS[name]
    below.apply(Layer().symlink(link, target).tar())
    with suppress(Corrupt):
        place.apply(layer.tar(), below=below.root)
    assert place.unchanged()
    assert below.unchanged()


@pytest.mark.parametrize("name", [".", "./", "", "/", "././", "//."])
def test_cve_2021_29136_a_link_in_the_place_of_the_root(place: Place, name: str) -> None:
    with pytest.raises(Corrupt, match="entry for its root"):
        place.apply(Layer().symlink(name, "../canary").add("file", b"dead").tar())
    assert place.unchanged()


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.SYMTYPE])
@pytest.mark.parametrize("by", ["symlink", "hard link"])
def test_cve_2021_32760_no_mode_is_changed_through_a_link(place: Place, kind: bytes, by: str) -> None:
    layer = Layer().symlink("x", "../canary/file")
    if by == "hard link":
        layer.hard_link("y", "x")
    with suppress(Corrupt):
        place.apply(layer.add("y" if by == "hard link" else "x", type=kind, linkname="z", mode=0o6777, uid=7).tar())
    assert place.unchanged()


def test_cve_2025_47290_a_layer_that_swaps_its_own_directories_for_links(place: Place, below: Place) -> None:
    below.apply(Layer().directory("d").symlink("e", "d").tar())
    layer = Layer()
    for number in range(200):
        layer.directory("d").add(f"d/f{number}", b"1").symlink("d", "../canary").add("d/file", b"dead")
        layer.symlink("e", "/../canary").add("e/file", b"dead").directory("e")
    with suppress(Corrupt):
        place.apply(layer.tar(), below=below.root)
    assert place.unchanged()


@pytest.mark.parametrize(
    "magic", [b"\xfd7zXZ\0", b"BZh9", b"\x1f\x9d", b"\x89LZO", b"\x04\x22\x4d\x18", b"!<arch>\n", b"#!/bin/sh\n"]
)
def test_cve_2026_41567_no_program_unpacks_anything(
    place: Place, magic: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    executed = tmp_path / "executed"
    for name in ("xz", "unxz", "pigz", "unpigz", "gzip", "zstd", "bzip2", "lz4", "tar", "sh"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho {name} >> {executed}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Corrupt):
        place.apply(magic + bytes(2048))
    for pack in (gzip.compress, zstandard.compress):
        place.apply(pack(Layer().add("usr/bin/xz", b"#!/bin/sh\n", mode=0o755).tar()))
    assert not executed.exists()


ZEROS = 256 << 20
BOMBS = {
    "gzip": lambda: gzip.compress(Layer().add("zeros", bytes(ZEROS)).tar(), 1),
    "zstd": lambda: zstandard.compress(Layer().add("zeros", bytes(ZEROS)).tar()),
    "behind the end": lambda: zstandard.compress(Layer().add("small").tar() + bytes(ZEROS)),
    "many frames": lambda: zstandard.compress(Layer().add("small").tar()) + zstandard.compress(bytes(1 << 20)) * 300,
}


@pytest.mark.parametrize("name", list(BOMBS))
def test_cve_2017_14992_and_2023_25153_bombs(place: Place, name: str) -> None:
    before = resident()
    with pytest.raises(ResourceExhausted, match="more than 50 times"):
        place.apply(BOMBS[name](), limits=ArchiveLimits(ratio=50, ratio_from_bytes=32 << 20))
    written = sum(path.stat().st_blocks * 512 for path in place.root.rglob("*"))
    assert written < 64 << 20, "it was stopped before it had filled the disk"
    assert resident() - before < 2 * ZEROS, "what is in memory is what the test made"


def test_cve_2023_25153_headers_are_bounded(place: Place) -> None:
    big = record(b"comment", b"x" * (2 << 20))
    with pytest.raises(ResourceExhausted, match="extended header"):
        place.apply(header(type=b"x", size=b"%o" % len(big)) + big + bytes(1024))
    with pytest.raises(ResourceExhausted, match="entries"):
        place.apply(header() * 20_000, limits=ArchiveLimits(entries=10_000))


def long_chain() -> Layer:
    layer = Layer()
    deep = "/".join(["d" * 200] * 15)
    for number in range(16):
        layer.directory("/".join(["d" * 200] * number)) if number else None
        layer.symlink("/".join(["d" * 200] * number + [chr(97 + number)]), "d" * 200)
    return layer.symlink("out", f"{deep}/../../../../../../../../../../../../../../../../canary").add(
        "out/file", b"dead"
    )


CPYTHON = {
    "2025-4517 a chain as long as a path may be": long_chain(),
    "2025-4330 a link out of a link": Layer().symlink("a", ".").symlink("a/b", "../canary").add("b/file", b"dead"),
    "2025-4138 a link that is rewritten": Layer().symlink("a", "b/../..").directory("b").add("a/canary/file", b"dead"),
    "2025-4435 a refused entry is reused": Layer().hard_link("x", "nowhere").add("x", b"1"),
    "2024-12718 the mode and time of what a link names": Layer().symlink("x", "../canary/file").add("x", mode=0o777, mtime=1),
    "2019-20907 a link to itself": Layer().symlink("x", "x").add("x/y", b"1"),
    "links in a circle": Layer().symlink("x", "y/a").symlink("y", "x/b").add("x/y/z", b"1"),
}  # fmt: skip


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", list(CPYTHON))
def test_cpython_tarfile(place: Place, name: str) -> None:
    with suppress(RossError):
        place.apply(CPYTHON[name].tar())
    assert place.unchanged()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", [b"0", b"x", b"g", b"L", b"K", b"V", b"5"])
@pytest.mark.parametrize("size", [-1, -512, -1024, -(1 << 40)])
def test_cve_2025_8194_and_2019_20907_sizes_that_lead_back(place: Place, kind: bytes, size: int) -> None:
    field = (size % (1 << 96)).to_bytes(12, "big")
    with pytest.raises(Corrupt, match="negative size"):
        place.apply(header() + header(type=kind, size=field) + bytes(2048))


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "data",
    [
        b"0 a=b\n",
        b"00 a=b\n",
        b"6 a=b\n" * 3 + b"5 a=b\n",
        b"-6 a=b\n",
        b"7 a=bb\n6",
        b"999999999999 a=b\n",
        b"6 =bb\n",
    ],
)
def test_cve_2019_20907_pax_records_that_lead_nowhere(place: Place, data: bytes) -> None:
    padded = data + bytes(-len(data) % 512)
    with pytest.raises(Corrupt, match="malformed extended header"):
        place.apply(header(type=b"x", size=b"%o" % len(data)) + padded + header() + bytes(1024))


TRICKS = {
    "a name with a newline": (header(name=b"a\nb"), "a\nb"),
    "a time beyond all": (header(mtime=b"\x80" + b"\0" * 3 + b"\x20" + b"\0" * 7), "x"),
    "a time before all": (header(mtime=b"\xff" * 4 + b"\xe0" + b"\0" * 7), "x"),
    "a mode of other bits": (header(mode=b"7777777"), "x"),
    "the same name twice": (header() + header(), "x"),
}


@pytest.mark.parametrize("name", list(TRICKS))
def test_format_tricks_are_refused_or_harmless(place: Place, name: str) -> None:
    data, made = TRICKS[name]
    with suppress(Corrupt):
        place.apply(data + bytes(1024))
        assert [path.name for path in place.root.iterdir()] == [made]
    assert place.unchanged()


def resident() -> int:
    with Path(f"/proc/{os.getpid()}/statm").open() as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
