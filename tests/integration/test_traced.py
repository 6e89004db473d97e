"""What the daemon does, seen by the kernel: which programs it executes, and what comes of delays at the worst moments. Needs strace."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import re
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import zstandard

import ross
from ross.errors import Corrupt, RossError
from ross.linux.syscalls import exchange
from tests.integration.test_hostile_layers import Place
from tests.support.archives import docker_archive
from tests.support.ext4 import ext4_in_memory
from tests.support.faulty_registry import FaultyRegistry, faulty_registry
from tests.support.images import (
    ARCHITECTURE,
    CONFIG,
    LAYER,
    MANIFEST,
    BuiltImage,
    ImageBuilder,
    Layer,
    busybox_layer,
    digest_of,
)
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

PROGRAMS: Final = (
    "xz",
    "unxz",
    "xzcat",
    "pigz",
    "unpigz",
    "gzip",
    "gunzip",
    "zstd",
    "unzstd",
    "bzip2",
    "lz4",
    "tar",
    "unlz4",
)


@pytest.fixture
def source() -> Iterator[FaultyRegistry]:
    with faulty_registry() as registry:
        yield registry


@contextmanager
def traced(daemon: Daemon, log: Path, *options: str) -> Iterator[None]:
    """The daemon with its threads and children under strace, started anew, for the length of the block."""
    daemon.terminate()
    daemon.start(under=["strace", "-D", "-f", "-q", "-e", "signal=none", "-s", "4096", *options, "-o", str(log)])
    pid = daemon.pid
    try:
        yield
    finally:
        daemon.terminate()
        until(
            lambda: re.search(rf"^{pid} +\+\+\+ exited", log.read_text(), re.MULTILINE)
        )  # the tracer has seen the end
        daemon.start()


def executed(log: Path) -> list[str]:
    """Every attempt to execute something, by what it was: the daemon itself comes first."""
    calls = re.findall(r"^\d+ +(?:execve|execveat)\((.*)", log.read_text(), re.MULTILINE)
    found = []
    for call in calls:
        if "ross.linux.archive.worker" in call:
            found.append("worker")
        elif '"daemon", "--root"' in call and sys.executable in call:
            found.append("daemon")
        elif call.startswith('"/sbin/ldconfig", ["/sbin/ldconfig", "-p"]'):
            found.append("ldconfig")  # by Trio, once, while it is imported: where is the library of threads?
        elif match := re.match(r'"[^"]*/(runc|conmon)", \["[^"]*", "--version"\]', call):
            found.append(f"{match[1]} --version")
        else:
            found.append(call[:300])
    return found


def lz4(data: bytes) -> bytes:
    """The beginning of a frame; nobody gets beyond it."""
    return b"\x04\x22\x4d\x18\x64\x40\xa7" + len(data).to_bytes(4, "little") + data


PACK: Final[dict[str, Callable[[bytes], bytes]]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": zstandard.compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "lz4": lz4,
}  # fmt: skip
READ: Final = {"plain", "gzip", "zstd"}


def image_with(programs: bytes, more: bytes, pack: Callable[[bytes], bytes], kind: str) -> BuiltImage:
    """Two layers: one with programs, plain, and one above that is packed in some way, whatever its media type says."""
    packed = pack(more)
    config = json.dumps({
        "architecture": ARCHITECTURE,
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest_of(programs), digest_of(more)]},
        "config": {"Env": ["PATH=/usr/bin:/bin"]},
    }).encode()
    layers = [(programs, LAYER), (packed, f"{LAYER}+{kind}" if kind in {"gzip", "zstd"} else f"{LAYER}+gzip")]
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)},
        "layers": [
            {"mediaType": media_type, "digest": digest_of(data), "size": len(data)} for data, media_type in layers
        ],
    }
    blobs = {digest_of(data): data for data in (config, programs, packed)}
    return BuiltImage(manifest=json.dumps(manifest).encode(), blobs=blobs)


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 256 << 10):
        yield data[start : start + (256 << 10)]


async def code_of(call: Awaitable[object]) -> int:
    try:
        await call
    except RossError:
        return 1
    return 0


@pytest.mark.timeout(240)
async def test_cve_2026_41567_nothing_is_executed_to_unpack_anything(
    daemon: Daemon, source: FaultyRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image has every program that unpacks, and so has the host's PATH; the kernel tells what is executed."""
    canaries = tmp_path / "bin"
    canaries.mkdir()
    rootfs = busybox_layer()
    for name in PROGRAMS:
        (canaries / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/executed\nexec /bin/cat\n")
        (canaries / name).chmod(0o755)
        for place in ("usr/bin", "usr/local/bin", "sbin"):
            rootfs.add(f"{place}/{name}", b"#!/bin/sh\ntouch /executed\n", mode=0o755)
    monkeypatch.setenv("PATH", f"{canaries}:{os.environ['PATH']}")
    programs = rootfs.add("usr/lib/large", os.urandom(2 << 20)).tar()
    archive = docker_archive(ImageBuilder().layer(Layer().add("y")), ["loaded:1"]).tar()
    log = tmp_path / "trace"
    done = dict[str, int]()
    with traced(daemon, log, "--seccomp-bpf", "-e", "trace=execve,execveat"):
        async with ross.connect(daemon.socket) as engine:
            for kind, pack in PACK.items():
                small, large = Layer().add(kind, b"x").tar(), Layer().add(kind, os.urandom(3 << 20)).tar()
                for name, layer in (("small", small), ("large", large)):
                    reference = source.serve(f"{name}/{kind}", "1", image_with(programs, layer, pack, kind))
                    done[f"pull {name} {kind}"] = await code_of(engine.images.pull(reference))
                importing = engine.images.import_filesystem(pieces(pack(large)))
                done[f"import {kind}"] = await code_of(importing)
                done[f"load {kind}"] = await code_of(engine.images.load(pieces(pack(archive))))
        right = {what for what, code in done.items() if code == 0}
        assert right == {what for what in done if what.rpartition(" ")[2] in READ}
        found = executed(log)
        assert found.count("worker") >= 3, "large layers are unpacked by workers"
        begun = ["daemon", "ldconfig", "runc --version", "conmon --version"]
        assert sorted(found) == sorted([*begun, *["worker"] * found.count("worker")])
        # That the tracer sees what the daemon's children execute.
        ran = daemon.ross("run", "--rm", f"{source.host}/small/plain:1", "true")
        assert ran.returncode == 0, ran.stderr
        new = executed(log)[len(found) :]
        assert any("conmon" in call for call in new)
        assert any("runc" in call for call in new)
        assert not [call for call in new if any(f'/{name}"' in call for name in PROGRAMS)]
    assert not (tmp_path / "executed").exists()
    assert not list(daemon.root.glob("snapshots/*/fs/executed"))


DELAYS: Final = (
    "-e", "trace=openat2,mkdirat,mknodat,symlinkat,linkat,unlinkat,renameat,renameat2,fchmodat,fchownat",
    "-e", "inject=openat2:delay_exit=1500",
    "-e", "inject=mkdirat,mknodat,symlinkat,linkat,unlinkat,renameat,renameat2,fchmodat,fchownat:delay_enter=300",
)  # fmt: skip
"""Between a path's being looked up and what is done there."""


def racing_layer(*targets: str) -> Layer:
    """Directories that become links to elsewhere and again directories, with things made below in every state."""
    layer = Layer().add("large", os.urandom(1 << 20))
    for number in range(12):
        for target in targets:
            layer.directory("d").add(f"d/f{number}", b"1").directory("d/sub").symlink("d", target)
            layer.add(f"d/file{number}", b"dead").hard_link(f"d/h{number}", "large").directory(f"d/new{number}")
            layer.whiteout("d/etc").whiteout("d/file").opaque("d").symlink("d/link", "/")
            layer.symlink("shared/lib", target).add("shared/lib/data", b"dead").directory("shared/lib")
    return layer


@pytest.mark.timeout(240)
def test_cve_2025_47290_a_layer_that_races_while_others_are_unpacked_beside_it(
    daemon: Daemon, source: FaultyRegistry, tmp_path: Path
) -> None:
    """Two pulls share layers, one has a layer that swaps its directories for links into those of the other, and into the host."""
    place = Place(tmp_path / "host")
    base = (
        Layer().directory("etc").add("etc/file", b"alive").directory("shared").add("shared/base", os.urandom(2 << 20))
    )
    shared = (
        Layer().directory("shared/lib").add("shared/lib/data", os.urandom(2 << 20)).add("shared/lib/file", b"alive")
    )
    base_tar, shared_tar = base.tar(), shared.tar()
    committed = str(daemon.root / f"snapshots/{digest_of(base_tar).replace(':', '-')}/fs")
    evil = racing_layer(
        str(place.canary), "../../../../host/canary", committed, f"../../{Path(committed).parent.name}/fs/etc"
    )
    good = Layer().add("shared/lib/more", os.urandom(1 << 20)).whiteout("shared/lib/file")

    def built(top: Layer) -> BuiltImage:
        return ImageBuilder().layer(base_tar).layer(shared_tar).layer(top).build()

    images = [source.serve("good", "1", built(good)), source.serve("evil", "1", built(evil))]
    source.bytes_per_second = 8_000_000
    with traced(daemon, tmp_path / "trace", *DELAYS):
        pulls = [daemon.popen("pull", "-q", image) for image in (*images, images[1])]
        for pull in pulls:
            _out, err = pull.communicate(timeout=200)
            assert b"internal error" not in err, err
        assert pulls[0].returncode == 0
    assert "DELAYED" in (tmp_path / "trace").read_text()
    assert place.unchanged()
    checked = daemon.ross("system", "check")
    assert (checked.returncode, checked.stdout.endswith("all right\n")) == (0, True), checked.stdout
    assert {path.name for path in Path(committed).iterdir()} == {"etc", "shared"}
    assert {path.name for path in Path(committed, "shared").iterdir()} == {"base"}


@pytest.mark.parametrize("name", ["d/e/f{}", "d/e/new{}/f", "d/.wh.w{}"])
def test_cve_2025_47290_somebody_swaps_directories_while_a_layer_is_applied(name: str) -> None:
    """More than any layer could do: another process has the directories, and swaps them all the time."""
    with ext4_in_memory(size="256M") as disk:
        place = Place(disk / "case")
        (place.root / "swapped").symlink_to("../canary")
        ended = threading.Event()
        swaps = 0

        def swap() -> None:
            nonlocal swaps
            while not ended.is_set():
                with suppress(FileNotFoundError):
                    exchange(place.root / "d", place.root / "swapped")
                    swaps += 1

        swapper = threading.Thread(target=swap)
        swapper.start()
        try:
            while swaps < 2000:
                layer = Layer().directory("d").directory("d/e")
                for number in range(500):
                    layer.add(name.format(number), b"dead", mode=0o666)
                with suppress(Corrupt):
                    place.apply(layer.tar())
        finally:
            ended.set()
            swapper.join()
        assert place.unchanged()
