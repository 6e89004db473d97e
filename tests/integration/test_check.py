"""Checking the root, and mending it: every kind of damage is found, and gone after --repair."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.images import ImageBuilder, Layer, busybox_layer, push

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def image(registry: str) -> str:
    """Several layers that need what is below: implied directories, links to lower files, whiteouts, opaque directories."""
    big = Layer().add("big", bytes(range(256)) * 20_000)
    second = Layer().add("etc/implied/file", b"x").hard_link("etc/passwd.link", "etc/passwd").whiteout("tmp")
    third = Layer().directory("var").opaque("var").add("var/new", b"new").symlink("var/link", "new")
    builder = ImageBuilder().layer(busybox_layer()).layer(big, compression="+zstd")
    return push(registry, "test/check:1", builder.layer(second).layer(third, compression="").build())


def check(daemon: Daemon, *words: str) -> tuple[int, list[dict[str, Any]]]:
    answered = daemon.ross("system", "check", "--format", "json", *words)
    assert answered.stdout, answered.stderr
    findings: list[dict[str, Any]] = json.loads(answered.stdout)["findings"]
    return answered.returncode, findings


def layers(daemon: Daemon) -> list[Path]:
    """The files of the unpacked layers, bottom first."""
    records = {
        path.parent: json.loads(path.read_text()) for path in daemon.root.glob("snapshots/sha256-*/metadata.json")
    }
    ordered: list[Path] = []
    parent = None
    while len(ordered) < len(records):
        name, here = next((record["name"], path) for path, record in records.items() if record["parent"] == parent)
        ordered.append(here / "fs")
        parent = name
    return ordered


def test_sound_root_has_no_findings(daemon: Daemon, image: str) -> None:
    assert check(daemon) == (0, [])
    daemon.ok("pull", "-q", image)
    assert check(daemon) == (0, [])
    daemon.ok("run", "--name", "x", image, "sh", "-c", "rm -r /etc /var; echo >/big")
    assert check(daemon, "--repair") == (0, [])
    assert daemon.ross("system", "check").stdout.endswith("1 images, 4 unpacked layers: all right\n")


def damage_content(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_damaged_and_missing_content_is_fetched_again(daemon: Daemon, image: str) -> None:
    daemon.ok("pull", "-q", image)
    blobs = sorted(daemon.root.glob("blobs/sha256/*"), key=lambda path: path.stat().st_size)
    manifest = next(daemon.root.glob("manifests/sha256/*"))
    before = {path: path.read_bytes() for path in (*blobs, manifest)}
    daemon.expect_log("the manifest .* cannot be read")
    daemon.expect_log("the config .* cannot be read")
    for path in (*blobs[1:], manifest):
        damage_content(path)
    blobs[0].unlink()

    code, findings = check(daemon)

    assert code == 1
    wrong = {(one["kind"], one["problem"]) for one in findings if one["severity"] == "error"}
    assert {("blob", "damaged"), ("blob", "missing"), ("manifest", "damaged")} <= wrong
    assert not any(one["repaired"] for one in findings)
    code, findings = check(daemon, "--repair")
    assert code == 0, findings
    assert all(one["repaired"] and "fetched again from" in one["resolution"] for one in findings)
    assert {path: path.read_bytes() for path in before} == before
    assert check(daemon) == (0, [])
    assert daemon.ross("run", "--rm", image, "cat", "/var/new").stdout == "new"


def test_content_that_cannot_be_had_stays_wrong_and_the_reason_is_told(daemon: Daemon, registry: str) -> None:
    lost = push(registry, "test/lost:1", ImageBuilder().layer(busybox_layer()).layer(Layer().add("l", b"lost")).build())
    daemon.ok("pull", "-q", lost)
    blob = min(daemon.root.glob("blobs/sha256/*"), key=lambda path: path.stat().st_size)
    damage_content(blob)
    damaged = blob.read_bytes()
    daemon.ok("tag", lost, "127.0.0.1:1/elsewhere:1")
    daemon.ok("untag", lost, lost)

    answered = daemon.ross("system", "check", "--repair", timeout=200)

    assert answered.returncode == 1
    assert "cannot be repaired: " in answered.stdout
    assert "127.0.0.1:1" in answered.stdout
    assert answered.stdout.endswith("1 wrong\n")
    assert blob.read_bytes() == damaged, "what cannot be replaced stays"


def change_file(path: Path) -> None:
    found = (path / "big").stat()
    with (path / "big").open("r+b") as file:
        file.seek(4_000_000)
        file.write(b"!")
    os.utime(path / "big", ns=(found.st_atime_ns, found.st_mtime_ns))


def test_changed_layers_are_found_and_unpacked_again(daemon: Daemon, image: str) -> None:
    daemon.ok("pull", "-q", image)
    base, big, second, third = layers(daemon)
    (base / "bin" / "intruder").write_text("x")
    change_file(big)
    (second / "tmp").unlink()  # the whiteout
    os.setxattr(third / "var", "trusted.overlay.opaque", b"x")

    code, findings = check(daemon)

    assert code == 1
    assert [one["kind"] for one in findings] == ["snapshot"] * 4
    told = " ".join(one["detail"] for one in findings)
    for words in ("/bin/intruder should not be there", "/big has other content", "/tmp is missing", "trusted.overlay"):
        assert words in told
    code, findings = check(daemon, "--repair")
    assert (code, [one["repaired"] for one in findings]) == (0, [True] * 4), findings
    assert check(daemon) == (0, [])
    assert daemon.ross("run", "--rm", image, "ls", "/var", "/bin/intruder", "/tmp").stdout == "/var:\nlink\nnew\n"
    assert not list(daemon.root.glob("snapshots/unpack-*"))


def test_layer_is_not_exchanged_under_a_running_container(daemon: Daemon, image: str) -> None:
    daemon.ok("run", "-d", "--name", "user", image, "sleep", "100000")
    (layers(daemon)[0] / "bin" / "intruder").write_text("x")
    code, findings = check(daemon, "--repair")
    assert code == 1
    assert findings[0]["resolution"] == "cannot be repaired: the container user runs on it; stop it first"
    daemon.ok("stop", "-t", "0", "user")
    assert check(daemon, "--repair")[0] == 0
    daemon.ok("start", "user")


def test_missing_layer_and_lost_files(daemon: Daemon, image: str) -> None:
    daemon.ok("pull", "-q", image)
    subprocess.run(["rm", "-r", layers(daemon)[2]], check=True)
    code, findings = check(daemon)
    assert (code, findings[0]["detail"]) == (1, "its files are missing")
    assert check(daemon, "--repair")[0] == 0
    assert check(daemon) == (0, [])


def test_strangers_and_orphans(daemon: Daemon, image: str) -> None:
    daemon.ok("pull", "-q", image)
    (daemon.root / "stray").mkdir()
    (daemon.root / "stray" / "file").write_text("x")
    (daemon.root / os.fsdecode(b"blobs/sha256/\xff")).write_text("x")
    daemon.ok("untag", image)
    code, findings = check(daemon)
    assert code == 1
    assert {one["problem"] for one in findings} == {"unknown", "orphan"}
    assert sum(one["problem"] == "unknown" for one in findings) == 2
    code, findings = check(daemon, "--repair")
    assert code == 0
    assert not (daemon.root / "stray").exists()
    daemon.ok("system", "prune", "-f")
    assert check(daemon) == (0, [])
