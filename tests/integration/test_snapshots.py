"""Snapshots of clients, images and containers in one daemon: who keeps them, and what a container has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

import ross
from ross.capabilities.snapshots import SnapshotsServer
from ross.errors import Denied, FailedPrecondition
from ross.layout import StateLayout
from ross.model.snapshots import SnapshotKind, SnapshotOwner
from ross.services.snapshots import Snapshots
from ross.services.snapshotter import Snapshotter
from ross.wire.loop import open_kj_loop
from tests.support.images import ImageBuilder, Layer, busybox_layer, push
from tests.support.snapshots import OfClient, mounted

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

WORK = """
echo new > /etc/new; echo root:x:0:0:::/bin/sh > /etc/passwd; rm /etc/group; chmod 700 /root; mkdir -p /var/a/b; ln -s x /var/a/link
echo x >> /etc/hosts; touch /dev/shm/x /dev/x; sleep 600
"""


def test_what_a_container_has_changed(daemon: Daemon, box: str) -> None:
    async def body() -> None:
        async with ross.connect(daemon.socket) as engine:
            container = await (await engine.images.get(box)).create(["sh", "-c", WORK])
            identity = (await container.info()).id
            snapshots = OfClient(engine.snapshots)
            made = await snapshots.stat(identity)
            assert (made.kind, made.owner) == (SnapshotKind.ACTIVE, SnapshotOwner.CONTAINER)
            assert made.parent is not None
            assert (await snapshots.stat(made.parent)).owner is SnapshotOwner.NOBODY
            assert await snapshots.changes(identity) == ()
            before = await snapshots.usage(identity)
            assert before.inodes == 2, "its top directory and /etc; nothing of the init layer"
            await container.start()
            with anyio.fail_after(60):
                while not any(change.text == "/var/a/link" for change in await snapshots.changes(identity)):  # noqa: ASYNC110 -- nobody tells when a file appears
                    await anyio.sleep(0.05)
            changes = await snapshots.changes(identity)
            assert {change.text: f"{change.change.value} {change.kind.value}" for change in changes} == {
                "/etc": "modified directory",
                "/etc/group": "deleted file",
                "/etc/new": "added file",
                "/etc/passwd": "modified file",
                "/root": "modified directory",
                "/var": "modified directory",
                "/var/a": "added directory",
                "/var/a/b": "added directory",
                "/var/a/link": "added link",
            }
            assert (await snapshots.usage(identity)).inodes > before.inodes
            for attempt in (snapshots.remove(identity), snapshots.commit(identity, "mine")):
                with pytest.raises(FailedPrecondition, match="belongs to the container"):
                    await attempt
            await container.remove(force=True)
            assert [info.kind for info in await snapshots.list()] == [SnapshotKind.COMMITTED]

    anyio.run(body, backend="trio")


def test_clients_keep_theirs_over_restarts_and_collections(daemon: Daemon, registry: str) -> None:
    builder = ImageBuilder().layer(busybox_layer()).layer(Layer().add("second", b"2"))
    image = push(registry, "test/snapshots:1", builder.build())
    daemon.ok("pull", "-q", image)

    async def make() -> tuple[str, ...]:
        async with ross.connect(daemon.socket) as engine:
            snapshots = engine.snapshots
            (bottom,) = [info for info in await snapshots.list() if info.parent is None]
            (top,) = await snapshots.list(parent=bottom.name)
            with pytest.raises(FailedPrecondition, match="layer of an image"):
                await snapshots.remove(top.name)
            await snapshots.prepare("mine", parent=bottom.name, labels={"a": "b"})
            with mounted(await snapshots.mounts("mine")) as root:
                (root / "bin/sh").unlink()
                (root / "built").write_text("by hand")
            await snapshots.commit("mine", "built", labels={"for": "good"})
            await snapshots.view("look", parent="built")
            return bottom.name, top.name

    async def look(*expected: str) -> None:
        async with ross.connect(daemon.socket) as engine:
            await engine.collect()
            assert {info.name for info in await engine.snapshots.list()} == set(expected)
            assert (await engine.snapshots.stat("built")).labels == {"for": "good"}
            with mounted(await engine.snapshots.mounts("look")) as root:
                assert (root / "built").read_text() == "by hand"
                assert not (root / "bin/sh").exists()
                assert (root / "bin/cat").exists()

    async def remove() -> None:
        async with ross.connect(daemon.socket) as engine:
            await engine.snapshots.remove("look")
            await engine.snapshots.remove("built")
            await engine.collect()
            assert await engine.snapshots.list() == ()

    bottom, top = anyio.run(make, backend="trio")
    daemon.kill()
    daemon.start()
    anyio.run(look, bottom, top, "built", "look", backend="trio")
    assert daemon.ross("run", "--rm", image, "cat", "/second").stdout == "2"
    daemon.ok("rmi", image)
    anyio.run(look, bottom, "built", "look", backend="trio")
    assert "Snapshots" in daemon.ross("system", "df").stdout
    anyio.run(remove, backend="trio")


async def test_how_it_is_mounted_is_told_to_root_only(tmp_path: Path) -> None:
    snapshotter = Snapshotter(StateLayout(root=tmp_path))
    await snapshotter.recover()
    async with open_kj_loop():
        server = SnapshotsServer(Snapshots(snapshotter), for_root=False)
        with pytest.raises(Denied, match="to root only"):
            await server.mounts_context(None)
