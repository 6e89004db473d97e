"""What occupies the disk, measured against du; and pruning."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio

import ross
from ross.errors import FailedPrecondition
from ross.oci.digest import Digest
from tests.support.images import ImageBuilder, Layer, busybox_layer, push
from tests.support.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration


def measured(daemon: Daemon) -> dict[str, Any]:
    answered = daemon.ross("system", "df", "-v", "--format", "json")
    assert answered.returncode == 0, answered.stderr
    found: dict[str, Any] = json.loads(answered.stdout)
    return found


def rows(usage: dict[str, Any]) -> dict[str, dict[str, int]]:
    return {row["kind"]: row for row in usage["rows"]}


def du(path: Path) -> int:
    # Blocks that ext4 has not allocated yet are not counted, by nobody.
    os.sync()
    return int(subprocess.run(["du", "-s", "-B1", path], capture_output=True, check=True).stdout.split()[0])


@pytest.fixture(scope="module")
def shared(registry: str) -> tuple[str, str]:
    """Two images with layers in common: hard links, sparse and small files, attributes."""
    base = busybox_layer()
    top = Layer().directory("many")
    for number in range(300):
        top.add(f"many/{number}", bytes([number % 256]) * (number * 37))
    top.hard_link("many/link", "many/299")
    first = ImageBuilder().layer(base).layer(top)
    second = ImageBuilder(config={"Labels": {"keep": "no"}}).layer(first.layers[0][0])
    second.layer(Layer().add("own", b"x" * 300_000))
    return push(registry, "test/usage:1", first.build()), push(registry, "test/usage:2", second.build())


def test_every_byte_is_accounted_for(daemon: Daemon, shared: tuple[str, str]) -> None:
    for image in shared:
        daemon.ok("pull", "-q", image)
    daemon.ok("run", "--name", "writer", shared[0], "sh", "-c", "yes | head -c 3000000 >/file")
    ingest = daemon.root / "ingest" / f"sha256-{'a' * 64}"
    ingest.mkdir()
    record = {"digest": f"sha256:{'a' * 64}", "size_bytes": 90_000, "created_at": 1}
    (ingest / "metadata.json").write_text(json.dumps(record))
    (ingest / "data").write_bytes(b"x" * 70_000)
    stranger = daemon.root / "blobs" / "sha256" / "stranger"
    stranger.mkdir()
    (stranger / "file").write_bytes(b"x" * 50_000)
    (daemon.root / "outside").symlink_to("/usr")
    expected = du(daemon.root)

    usage = measured(daemon)

    kinds = rows(usage)
    assert abs(usage["total_bytes"] - expected) <= expected // 100
    assert sum(row["size_bytes"] for row in usage["rows"]) == usage["total_bytes"]
    directories = kinds["records"]["size_bytes"] - sum(
        item["size_bytes"] for item in usage["items"] if item["kind"] == "record"
    )
    things = sum(item["size_bytes"] for item in usage["items"] if item["kind"] != "image")
    assert things + directories == usage["total_bytes"]
    assert (kinds["images"]["total"], kinds["images"]["active"]) == (2, 1)
    assert 0 < kinds["images"]["reclaimable_bytes"] < kinds["images"]["size_bytes"]
    assert kinds["containers"]["reclaimable_bytes"] == kinds["containers"]["size_bytes"] > 3_000_000
    assert kinds["downloads"]["reclaimable_bytes"] == kinds["downloads"]["size_bytes"] >= 70_000
    unknown = {item["name"] for item in usage["items"] if item["kind"] == "unknown"}
    assert unknown == {"blobs/sha256/stranger", "outside"}
    assert kinds["unknown"]["size_bytes"] >= 50_000
    images = {item["name"]: item for item in usage["items"] if item["kind"] == "image"}
    assert images[shared[0]]["shared_bytes"] == images[shared[1]]["shared_bytes"] > 1_000_000
    table = daemon.ross("system", "df").stdout
    assert table.splitlines()[0].split() == ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]
    assert "Unknown" in table
    assert "Total" in table

    subprocess.run(["rm", "-r", stranger, daemon.root / "outside", ingest], check=True)


def test_running_container_is_active_and_not_counted_twice(daemon: Daemon, shared: tuple[str, str]) -> None:
    daemon.ok("run", "-d", shared[0], "sleep", "600")
    os.sync()
    alone = subprocess.run(["du", "-sx", "-B1", daemon.root], capture_output=True, check=True).stdout.split()[0]

    usage = measured(daemon)

    assert abs(usage["total_bytes"] - int(alone)) <= int(alone) // 100
    assert rows(usage)["containers"]["active"] == 1
    assert rows(usage)["containers"]["reclaimable_bytes"] == 0


def test_prune_takes_what_nobody_uses_and_says_so(daemon: Daemon, shared: tuple[str, str]) -> None:
    for image in shared:
        daemon.ok("pull", "-q", image)
    running = daemon.ross("run", "-d", shared[0], "sleep", "600").stdout.strip()
    stopped = daemon.ross("run", "-d", shared[1], "true").stdout.strip()
    daemon.ok("wait", stopped)

    gentle = daemon.ross("system", "prune", "-f")

    assert gentle.returncode == 0, gentle.stderr
    assert f"Deleted Containers:\n{stopped}\n" in gentle.stdout
    assert "Total reclaimed space: " in gentle.stdout
    assert len(daemon.ross("images", "-q").stdout.split()) == 2, "named images stay without -a"
    assert daemon.ross("image", "prune", "-f", "-a", "--filter", "label!=keep").stdout == (
        "Total reclaimed space: 0B\n"
    )
    before = du(daemon.root)

    thorough = daemon.ross("system", "prune", "-fa")

    assert f"untagged: {shared[1]}\n" in thorough.stdout
    assert "deleted: sha256:" in thorough.stdout
    assert du(daemon.root) < before - 300_000
    assert daemon.ross("ps", "-q", "--no-trunc").stdout.strip() == running
    daemon.ok("images", "--format", "json")
    assert rows(measured(daemon))["images"]["reclaimable_bytes"] == 0


def test_prune_filters(daemon: Daemon, shared: tuple[str, str]) -> None:
    daemon.ok("pull", "-q", shared[1])
    first = daemon.ross("create", "--label", "a=1", shared[1], "true").stdout.strip()
    time.sleep(0.01)
    second = daemon.ross("create", "--label", "b=1", shared[1], "true").stdout.strip()
    for terms in (["until=1h"], ["label=c"], ["label=a=2"], ["label!=a", "label!=b"], ["until=1", "label=a"]):
        words = [word for term in terms for word in ("--filter", term)]
        assert daemon.ross("container", "prune", "-f", *words).stdout == "Total reclaimed space: 0B\n"
    assert f"\n{first}\n" in daemon.ross("container", "prune", "-f", "--filter", "label!=b").stdout
    assert daemon.ross("ps", "-aq", "--no-trunc").stdout.split() == [second]
    for bad in ("x=1", "until=", "label=", "until=whenever", "dangling=true"):
        refused = daemon.ross("system", "prune", "-f", "--filter", bad)
        assert refused.returncode == 1
        assert refused.stderr.startswith("error: ")


def test_prune_asks_and_takes_no_silence_for_an_answer(daemon: Daemon, shared: tuple[str, str]) -> None:
    daemon.ok("pull", "-q", shared[1])
    stopped = daemon.ross("create", shared[1], "true").stdout.strip()
    for words in (("system", "prune"), ("image", "prune", "-a"), ("container", "prune")):
        refused = daemon.ross(*words, input="")
        assert refused.returncode == 1
        assert refused.stderr.endswith(
            "error: nobody has answered, so nothing was removed\nhint: to remove it all the same: --force\n"
        )
    for answer, left in ((b"n\n", [stopped]), (b"\n", [stopped]), (b"y\n", [])):
        terminal = Terminal(daemon, "system", "prune")
        terminal.read_until(b"[y/N] ")
        terminal.send(answer)
        terminal.read_until(b"Total reclaimed" if not left else b"nothing was removed")
        assert terminal.wait() == (0 if not left else 1)
        assert daemon.ross("ps", "-aq", "--no-trunc").stdout.split() == left


async def test_content_of_an_image_is_looked_at_and_not_removed(daemon: Daemon, shared: tuple[str, str]) -> None:
    async with ross.connect(daemon.socket) as engine:
        image = await engine.images.pull(shared[0])
        info = await image.info()
        assert [one.digest for one in await engine.content.list(kind="manifest")] == [info.manifest]
        blobs = {one.digest: one.size_bytes for one in await engine.content.list(kind="blob")}
        assert set(blobs) == {info.id, *info.layers}
        async with engine.content.read(info.manifest) as chunks:
            assert Digest.of(b"".join([chunk async for chunk in chunks])) == info.manifest
        for digest in (info.manifest, info.id, *info.layers):
            with pytest.raises(FailedPrecondition, match="in use"):
                await engine.content.remove(digest)
        await engine.images.remove(shared[0])
        assert await engine.content.list() != (), "held by the reference to the image"
        assert (await image.info()).names == ()
    async with ross.connect(daemon.socket) as engine:
        with trio.fail_after(60):  # the other connection is told to be gone a moment later
            while await engine.content.list():
                await engine.collect()
