"""Pins, tags, and the collection of what nothing references: nothing more, nothing less."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from ross.layout import StateLayout
from ross.oci.digest import Digest
from ross.oci.reference import Reference
from ross.services.collector import Collector
from ross.services.pins import Pins
from ross.services.snapshotter import Snapshotter
from ross.services.store import ContentStore
from ross.services.tags import TagRecord, Tags

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


class World:
    """A store with images that share layers, and what the collector needs."""

    def __init__(self, root: Path) -> None:
        layout = StateLayout(root=root)
        self.store, self.snapshotter, self.pins = ContentStore(layout), Snapshotter(layout), Pins()
        self.collector = Collector(store=self.store, snapshotter=self.snapshotter, pins=self.pins)
        self.roots: set[Digest] = set()
        self.collector.add_root(lambda: self.roots)

    async def image(self, layers: list[bytes]) -> tuple[Digest, set[Digest]]:
        """Put an image in. Returns its manifest, and everything that it is made of."""
        for layer in layers:
            await self.store.write(Digest.of(layer), layer)
        diff_ids = [str(Digest.of(b"diff " + layer)) for layer in layers]
        config = json.dumps({
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }).encode()
        await self.store.write(Digest.of(config), config)
        described = [{"mediaType": "x", "digest": str(Digest.of(layer)), "size": len(layer)} for layer in layers]
        manifest = json.dumps({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": "c", "digest": str(Digest.of(config)), "size": len(config)},
            "layers": described,
        }).encode()
        await self.store.write_manifest(Digest.of(manifest), manifest)
        return Digest.of(manifest), {Digest.of(manifest), Digest.of(config), *(Digest.of(layer) for layer in layers)}

    def content(self) -> set[Digest]:
        return {info.digest for info in (*self.store.blobs(), *self.store.manifests())}


LAYERS = st.lists(st.sampled_from([b"one", b"two", b"three", b"four"]), max_size=3)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(LAYERS, st.sampled_from(["root", "pin", "none"])), max_size=5))
def test_what_is_referenced_stays_and_the_rest_goes(
    tmp_path_factory: pytest.TempPathFactory, images: list[tuple[list[bytes], str]]
) -> None:
    root = tmp_path_factory.mktemp("world")

    async def body() -> None:
        world = World(root)
        await world.store.recover()
        await world.snapshotter.recover()
        kept: set[Digest] = set()
        for layers, how in images:
            manifest, content = await world.image(layers)
            if how == "root":
                world.roots.add(manifest)
            elif how == "pin":
                world.pins.hold(manifest)
            if how != "none":
                kept |= content
        before = world.content()
        removed = await world.collector.collect()
        assert world.content() == kept
        assert set(removed.deleted) == before - kept
        assert (await world.collector.collect()).deleted == ()

    trio.run(body)


async def test_index_keeps_the_manifests_that_are_there(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.store.recover()
    await world.snapshotter.recover()
    manifest, content = await world.image([b"one"])
    listed = [{"mediaType": MANIFEST, "digest": str(digest), "size": 1} for digest in (manifest, Digest.of(b"absent"))]
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed}).encode()
    await world.store.write_manifest(Digest.of(index), index)
    world.roots = {Digest.of(index)}
    assert (await world.collector.collect()).deleted == ()
    world.roots = set()
    assert set((await world.collector.collect()).deleted) == content | {Digest.of(index)}


async def test_collection_can_be_cancelled_and_done_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.store.recover()
    await world.snapshotter.recover()
    for layer in (b"one", b"two"):
        await world.image([layer])
    with trio.CancelScope() as scope:
        scope.cancel()
        await world.collector.collect()
    assert not world.collector._lock.locked()
    await world.collector.collect()
    assert world.content() == set()


async def test_manifest_that_goes_while_it_is_read_is_no_damage(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path)
    going, _content = await world.image([b"one"])
    staying, kept = await world.image([b"two"])
    world.roots = {staying}
    limiter = trio.to_thread.current_default_thread_limiter()
    limiter.total_tokens = 1

    async with trio.open_nursery() as nursery:
        async with limiter:
            nursery.start_soon(world.collector.learn)
            await wait_all_tasks_blocked()  # it is about to read
            nursery.start_soon(world.store.remove_manifest, going)
            await wait_all_tasks_blocked()

    await world.collector.collect()
    assert world.content() == kept
    assert caplog.records == []


def test_pin_is_released_once() -> None:
    pins, digest = Pins(), Digest.of(b"x")
    one, other = pins.hold(digest), pins.hold(digest)
    one.release()
    one.release()
    assert pins.held() == {digest}
    one.add(digest)
    other.release()
    assert pins.held() == frozenset()


def test_names_are_kept_and_never_clash_with_repositories(tmp_path: Path) -> None:
    layout = StateLayout(root=tmp_path)
    tags = Tags(layout)
    record = TagRecord(target=Digest.of(b"t"), manifest=Digest.of(b"m"))
    names = [
        Reference.parse(text) for text in ("a", "a:b", "a/b", "a/b:c", "localhost:5000/x:1", f"a@{Digest.of(b'd')}")
    ]
    for name in names:
        tags.set(name, record)
    again = Tags(layout)
    again.recover()
    assert {str(name) for name, _ in again.records()} == {str(name.with_default_tag()) for name in names}
    for name in names:
        again.remove(name)
    assert not list((tmp_path / "tags").iterdir()), "nothing is left of names that are gone"


def test_what_is_no_name_is_removed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    layout = StateLayout(root=tmp_path)
    Tags(layout).set(Reference.parse("good"), TagRecord(target=Digest.of(b"t"), manifest=Digest.of(b"m")))
    for path in ("docker.io/library/x/:bad", "stray", "docker.io/UPPER/:x", "docker.io/x/:.x"):
        (tmp_path / "tags" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tags" / path).write_text("{}")
    tags = Tags(layout)
    tags.recover()
    assert [str(name) for name, _ in tags.records()] == ["docker.io/library/good:latest"]
    assert len(caplog.records) == 4
    caplog.clear()
