"""A disk that is full: pulls fail and say why, what takes things away works, and nothing is torn."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.archives import docker_archive
from tests.support.daemon import Daemon, command, running_daemon
from tests.support.ext4 import fresh_ext4
from tests.support.images import ImageBuilder, Layer, push
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration
MIB = 1 << 20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with fresh_ext4(tmp_path / "small", size="160M") as path:
        yield path


def fill(path: Path) -> None:
    """Take every block that is left."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    size = MIB
    try:
        while size >= 512:
            try:
                os.write(fd, b"\1" * size)
                os.fsync(fd)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2
    finally:
        os.close(fd)


def image(registry: str, name: str, size: int) -> str:
    return push(registry, name, ImageBuilder().layer(Layer().add("file", os.urandom(size)), compression="").build())


@pytest.mark.parametrize("floor", ["", "0"], ids=["floor", "no floor"])
def test_full_disk(small: Path, registry: str, floor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROSS_DISK_FLOOR", floor)
    here, wanted = image(registry, "test/full:1", 10 * MIB), image(registry, "test/full:2", 20 * MIB)
    with running_daemon(small) as daemon:
        daemon.ok("pull", "-q", here)
        assert (daemon.root / "reserve").stat().st_blocks * 512 >= 8 * MIB
        daemon.ok("create", "--name", "box", here, "true")
        until(lambda: not any((daemon.root / "pending").iterdir()))
        fill(small / "filler")

        _refused(daemon, wanted)
        daemon.kill()
        daemon.start()
        _refused(daemon, wanted)

        gone = daemon.ross("rm", "box")
        assert gone.returncode == 0, gone.stderr
        removed = daemon.ross("rmi", here)
        assert removed.returncode == 0, removed.stderr
        daemon.ok("system", "prune", "-f")
        assert not list(daemon.root.glob("blobs/*/*"))
        (small / "filler").unlink()
        daemon.ok("pull", "-q", wanted)
        checked = daemon.ross("system", "check")
        assert (checked.returncode, checked.stdout.endswith("all right\n")) == (0, True), checked.stdout
        daemon.expect_log("disk is full|no space|No space|durable|cannot be")


def _refused(daemon: Daemon, wanted: str) -> None:
    refused = daemon.ross("pull", "-q", wanted)
    assert refused.returncode == 1
    assert "internal error" not in refused.stderr
    assert "space" in refused.stderr
    assert "\nhint: " in refused.stderr
    assert not list(daemon.root.glob("snapshots/unpack-*"))


def test_pull_stops_at_the_floor(small: Path, registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROSS_DISK_FLOOR", "100m")
    large = image(registry, "test/floor:1", 45 * MIB)
    with running_daemon(small) as daemon:
        refused = daemon.ross("pull", "-q", large)
        assert refused.returncode == 1
        assert "MiB are free" in refused.stderr
        assert "100 MiB must stay free" in refused.stderr
        assert "ross system prune" in refused.stderr
        found = os.statvfs(small)
        assert found.f_bavail * found.f_frsize > 95 * MIB
        daemon.ok("system", "prune", "-f")
        daemon.ok("system", "check")


def free_bytes(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def ten_layers(name: str) -> ImageBuilder:
    builder = ImageBuilder()
    for number in range(10):
        builder.layer(Layer().add(f"{name}{number}", os.urandom(14 * MIB)), compression="")
    return builder


def test_layers_that_only_together_are_too_much_are_not_begun(
    small: Path, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROSS_DISK_FLOOR", "10m")
    large = push(registry, "test/ten:1", ten_layers("a").build())
    with running_daemon(small) as daemon:
        before = free_bytes(small)
        refused = daemon.ross("pull", "-q", large)
        assert refused.returncode == 1
        assert f"for {large}: " in refused.stderr
        assert "141 MiB are needed, and 10 MiB must stay free" in refused.stderr
        assert before - free_bytes(small) < MIB
        assert not list(daemon.root.glob("ingest/*"))


def test_pull_and_load_on_a_disk_that_ends_meanwhile(
    small: Path, registry: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real ENOSPC: in the middle of ten layers that come in beside each other, and in the middle of an archive."""
    monkeypatch.setenv("ROSS_DISK_FLOOR", "0")
    here, large = image(registry, "test/ends:1", 10 * MIB), ten_layers("b")
    wanted = push(registry, "test/ends:2", large.build())
    archive = docker_archive(large, ["localhost/ends:2"]).tar()
    with running_daemon(small) as daemon:
        daemon.ok("pull", "-q", here)
        for words, data in ((("pull", "-q", wanted), b""), (("load", "-q"), archive)):
            done = subprocess.run(
                command(*words), env=daemon.environment(), input=data, capture_output=True, timeout=150
            )
            assert done.returncode == 1
            # Told by whichever comes to its end first: what is fetched, what is unpacked, or what is made ready for it.
            assert re.search(rb"no space|disk is full", done.stderr, re.IGNORECASE), done.stderr
            assert b"\nhint: " in done.stderr
            assert not list(daemon.root.glob("snapshots/unpack-*"))
            assert not list(daemon.root.glob("ingest/spool-*"))
            checked = daemon.ross("system", "check")
            assert (checked.returncode, checked.stdout.endswith("all right\n")) == (0, True), checked.stdout
        daemon.ok("system", "prune", "-f")
        until(lambda: free_bytes(small) > 100 * MIB)
        daemon.expect_log("disk is full|no space|No space|durable|cannot be")
