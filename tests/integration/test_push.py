"""Pushing to real registries, and what other engines find there."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from typing import TYPE_CHECKING

import httpx
import pytest

import ross
from ross.errors import NotFound
from ross.model.images import BlobProgress, PullPhase
from tests.integration.test_registry import HTPASSWD, entry
from tests.support.images import ARCHITECTURE, BuiltImage, ImageBuilder, Layer, busybox_layer, push, push_index
from tests.support.registry import running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

OTHER = "arm64" if ARCHITECTURE != "arm64" else "amd64"


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A second registry, empty at first."""
    with running_registry(tmp_path_factory.mktemp("target")) as address:
        yield address


@pytest.fixture(scope="module")
def image() -> BuiltImage:
    """Small layers in each compression, and one that goes in chunks."""
    made = ImageBuilder(config={"Labels": {"a": "b"}})
    made.layer(busybox_layer(), compression="+gzip").layer(Layer().add("zstd", b"z" * 5000), compression="+zstd")
    made.layer(Layer().add("plain", b"p" * 5000), compression="").layer(Layer().add("large", os.urandom(9 << 20)))
    return made.build()


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def raw_manifest(reference: str) -> bytes:
    done = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{reference}"], capture_output=True, check=True
    )
    return done.stdout


def index_of(registry: str, name: str) -> tuple[str, list[BuiltImage]]:
    images = [
        ImageBuilder(overrides={"architecture": one}).layer(Layer().add("which", f"{name} {one}".encode())).build()
        for one in (ARCHITECTURE, OTHER)
    ]
    platforms = [{"os": "linux", "architecture": one} for one in (ARCHITECTURE, OTHER)]
    return push_index(registry, name, list(zip(platforms, images, strict=True))), images


def test_round_trip_keeps_every_digest(
    daemon: Daemon, registry: str, target: str, image: BuiltImage, tmp_path: Path
) -> None:
    """Pulled from one registry, pushed to another, pulled from there by Podman and by skopeo: the same bytes everywhere."""
    source, copy = push(registry, "push/app:1", image), f"{target}/other/app:2"
    daemon.ok("pull", "-q", source)
    daemon.ok("tag", source, copy)
    done = daemon.ross("push", copy)
    assert (done.returncode, done.stdout) == (0, f"{copy}: digest: {image.digest} size: {len(image.manifest)}\n"), done
    assert done.stderr.startswith(f"Pushing {copy}\n")
    assert done.stderr.count(": Complete\n") == len(image.blobs)

    assert raw_manifest(copy) == image.manifest
    run("skopeo", "copy", "--src-tls-verify=false", "--preserve-digests", f"docker://{copy}", f"dir:{tmp_path / 'dir'}")
    for digest, data in image.blobs.items():
        assert (tmp_path / "dir" / digest.partition(":")[2]).read_bytes() == data
    with tempfile.TemporaryDirectory(prefix="p") as short:  # Podman wants a short path
        storage = ("--root", f"{short}/root", "--runroot", f"{short}/run", "--storage-driver", "vfs")
        identity = run("podman", *storage, "pull", "-q", "--tls-verify=false", copy).strip()
        assert identity == json.loads(image.manifest)["config"]["digest"].partition(":")[2]
        (seen,) = json.loads(run("podman", *storage, "image", "inspect", identity))
    assert seen["Digest"] == image.digest
    assert seen["RootFS"]["Layers"] == json.loads(image.blobs[f"sha256:{identity}"])["rootfs"]["diff_ids"]

    again = daemon.ross("image", "push", copy)
    assert again.stderr.count(": Already exists\n") == len(image.blobs), "what is there is not sent"
    daemon.ross("tag", source, f"{target}/third/app:1")
    mounted = daemon.ross("push", f"{target}/third/app:1")
    assert mounted.stderr.count(": Mounted\n") == len(image.blobs), "nor what another repository there has"
    assert raw_manifest(f"{target}/third/app:1") == image.manifest


def test_an_index_goes_whole_or_by_platform(daemon: Daemon, registry: str, target: str) -> None:
    source, images = index_of(registry, "push/both:1")
    copy = f"{target}/push/both:1"
    daemon.ross("pull", "-q", source)
    daemon.ross("tag", source, copy)
    done = daemon.ross("push", copy)
    assert done.returncode == 1
    assert f"neither here nor at {target}: linux/{OTHER}\n" in done.stderr
    assert "hint: pull those too" in done.stderr
    assert httpx.get(f"http://{target}/v2/push/both/tags/list").status_code == 404

    daemon.ok("push", "--platform", f"linux/{ARCHITECTURE}", copy)
    assert raw_manifest(copy) == images[0].manifest
    assert "is not in the store for linux/" in daemon.ross("push", "--platform", f"linux/{OTHER}", copy).stderr

    daemon.ross("pull", "-q", "--platform", f"linux/{OTHER}", source)
    daemon.ross("tag", source, copy)
    assert daemon.ross("push", "-q", copy).stdout == f"{copy}\n"
    assert raw_manifest(copy) == raw_manifest(source)
    assert raw_manifest(f"{target}/push/both@{images[1].digest}") == images[1].manifest


def test_an_index_whose_rest_is_there_already_is_pushed(daemon: Daemon, registry: str, target: str) -> None:
    source, images = index_of(registry, "push/sparse:1")
    push(target, "push/sparse:other", images[1])
    daemon.ross("pull", "-q", source)
    daemon.ross("tag", source, f"{target}/push/sparse:1")
    daemon.ok("push", "-q", f"{target}/push/sparse:1")
    assert raw_manifest(f"{target}/push/sparse:1") == raw_manifest(source)


def test_all_tags(daemon: Daemon, busybox: str, target: str) -> None:
    daemon.ross("pull", "-q", busybox)
    names = [f"{target}/all/app:{tag}" for tag in ("1", "2", "latest")]
    for name in (*names, f"{target}/all/application:9"):
        daemon.ross("tag", busybox, name)
    assert daemon.ross("push", "-aq", f"{target}/all/app").stdout.split() == names
    tags = httpx.get(f"http://{target}/v2/all/app/tags/list").json()["tags"]
    assert sorted(tags) == ["1", "2", "latest"]


def test_pushes_that_cannot_be(daemon: Daemon, busybox: str, target: str) -> None:
    daemon.ross("pull", "-q", busybox)
    identity = daemon.ross("images", "-q").stdout.strip()
    daemon.ross("tag", busybox, "127.0.0.1:1/app:1")
    for words, message in (
        ((f"{target}/nosuch:1",), f"no image here is called {target}/nosuch:1"),
        ((busybox.rpartition(":")[0],), f"hint: there is {busybox}"),
        ((identity,), "no image here is called"),
        ((f"{busybox}@sha256:{'0' * 64}",), "a push goes to a tag"),
        (("-a", busybox), "says a tag"),
        (("-a", f"{target}/nosuch"), "no image here is called"),
        (("127.0.0.1:1/app:1",), "no connection to 127.0.0.1:1"),
        (("UPPER",), "lower case"),
    ):
        done = daemon.ross("push", *words)
        assert (done.returncode, done.stdout) == (1, ""), words
        assert message in done.stderr, done.stderr


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A registry with a password, and a place for credentials that the daemon looks into."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    with running_registry(tmp_path / "private", htpasswd=tmp_path / "htpasswd") as address:
        yield address


def test_pushing_needs_the_right_password(private: str, tmp_path: Path, daemon: Daemon, busybox: str) -> None:
    name = f"{private}/app:1"
    daemon.ross("pull", "-q", busybox)
    daemon.ross("tag", busybox, name)
    done = daemon.ross("push", name)
    assert (done.returncode, "wants credentials" in done.stderr, "hint: " in done.stderr) == (1, True, True)
    (tmp_path / "config.json").write_text(entry(name, "user:wrong-word"))
    assert "does not accept the stored credentials" in daemon.ross("push", name).stderr
    (tmp_path / "config.json").write_text(entry(name, "user:secret-word"))
    assert daemon.ross("push", "-q", name).stdout == f"{name}\n"
    assert "word" not in daemon.log, "no secret is ever logged"


async def test_progress_and_names_through_the_client_library(daemon: Daemon, busybox: str, target: str) -> None:
    seen: list[BlobProgress] = []
    async with ross.connect(daemon.socket) as engine:
        image = await engine.images.pull(busybox)
        pushed = await image.push(f"{target}/library/fresh:1", on_progress=seen.append)
        assert pushed.digest == (await image.info()).target
        with pytest.raises(NotFound):
            await engine.images.get(f"{target}/library/fresh:1")
    last = {one.digest: one for one in seen}
    assert {one.phase for one in last.values()} <= {PullPhase.DONE, PullPhase.MOUNTED, PullPhase.EXISTS}
    assert all(one.current_bytes == one.total_bytes for one in last.values())
