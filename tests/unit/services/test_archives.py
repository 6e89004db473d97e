"""Archives that lie: whatever is in them, nothing outside changes, no name is set, and what was read is gone.

Each known flaw of other engines is named where its like is tried. Layers are only fetched here: unpacking has tests of its own.
"""

from __future__ import annotations

import json
import tarfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
import trio
from attrs import frozen
from trio.testing import wait_all_tasks_blocked

from ross.errors import Cancelled, Corrupt, InvalidArgument, NotFound, ResourceExhausted, RossError
from ross.layout import StateLayout
from ross.model.archives import ArchiveFormat, ImportOptions, LoadedImage, LoadOptions, SaveOptions
from ross.model.images import BlobProgress, Platform
from ross.oci.digest import Digest, chain_ids
from ross.services.archives import members as members_module
from ross.services.archives.service import Archives
from ross.services.collector import Collector
from ross.services.events import Events
from ross.services.feed import Feed
from ross.services.images import Images
from ross.services.pins import Pins
from ross.services.remover import Remover
from ross.services.snapshotter import Snapshotter
from ross.services.store import ContentStore
from tests.support.archives import blob_name, config_of, docker_archive, entry_of, index_of, names_in, oci_layout
from tests.support.images import ARCHITECTURE, INDEX, BuiltImage, ImageBuilder, Layer, digest_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from ross.registry.referrers import ReferrersClient
    from ross.services.puller import Puller
    from ross.services.pusher import Pusher
    from ross.services.unpacker import LayerSource, Unpacker

NAME = "localhost/app:1"
TARS = (Layer().add("etc/one", b"1" * 2000).tar(), Layer().add("etc/two", b"2" * 3000).tar())


def builder(*, compression: str = "+gzip", tars: Sequence[bytes] = TARS, **config: object) -> ImageBuilder:
    made = ImageBuilder(config=dict(config))
    for tar in tars:
        made.layer(tar, compression=compression)
    return made


IMAGE = builder().build()
HONEST = oci_layout([IMAGE], [entry_of(IMAGE, NAME)]).tar()


class FetchingUnpacker:
    """Fetches as the unpacker does, and unpacks nothing."""

    async def unpack(
        self, layers: Sequence[LayerSource], *, progress: Callable[[BlobProgress], None], durable: bool
    ) -> Digest | None:
        assert durable  # nobody settles here
        async with trio.open_nursery() as nursery:
            for layer in layers:
                nursery.start_soon(layer.fetch)
        return chain_ids(layer.diff_id for layer in layers)[-1] if layers else None


@frozen
class Place:
    """The services over a directory, and a canary beside it."""

    root: Path
    store: ContentStore
    pins: Pins
    images: Images
    remover: Remover
    archives: Archives

    async def load(
        self, archive: bytes, *, platform: Platform | None = None, piece: int = 64 << 10
    ) -> tuple[LoadedImage, ...]:
        feed = Feed()
        loaded: tuple[LoadedImage, ...] = ()
        problem: RossError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, feed, archive, piece)
            try:
                loaded = await self.archives.load(feed, LoadOptions(platform=platform), ignore)
            except RossError as error:
                problem = error
            nursery.cancel_scope.cancel()
        if problem is not None:
            raise problem
        return loaded

    async def save(
        self, *names: str, form: ArchiveFormat = ArchiveFormat.BOTH, platform: Platform | None = None
    ) -> bytes:
        found = bytearray()

        async def write(data: bytes) -> None:
            found.extend(data)
            await trio.lowlevel.checkpoint()

        await self.archives.save(names, SaveOptions(format=form, platform=platform), write)
        return bytes(found)

    def leftovers(self) -> list[str]:
        """What a failed load must not leave, or a finished one."""
        found = [f"pin {digest}" for digest in self.pins.held()]
        return found + [str(path) for path in self.root.glob("ingest/*")]


def ignore(_progress: BlobProgress) -> None:
    """Nobody looks."""


async def send(feed: Feed, data: bytes, piece: int) -> None:
    try:
        for at in range(0, len(data), piece):
            await feed.write(data[at : at + piece])
        await feed.done()
    except Cancelled:
        return


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Place]:
    """Services, and around them a directory whose every file is the same afterwards."""
    (directory / "canary").mkdir(exist_ok=True)
    (directory / "canary" / "file").write_text("untouched")
    layout = StateLayout(root=directory / "root")
    layout.root.mkdir(exist_ok=True)
    store, snapshotter, pins = ContentStore(layout), Snapshotter(layout), Pins()
    collector = Collector(store=store, snapshotter=snapshotter, pins=pins)
    await store.recover()
    images = Images(
        layout=layout,
        store=store,
        snapshotter=snapshotter,
        puller=cast("Puller", None),
        pusher=cast("Pusher", None),
        referrers=cast("ReferrersClient", None),
        pins=pins,
        collector=collector,
        events=Events(),
    )
    archives = Archives(
        images=images,
        store=store,
        snapshotter=snapshotter,
        unpacker=cast("Unpacker", FetchingUnpacker()),
        pins=pins,
    )
    remover = Remover(images=images, store=store, collector=collector)
    yield Place(layout.root, store, pins, images, remover, archives)
    outside = sorted(str(path.relative_to(directory)) for path in _outside(directory, layout.root))
    assert outside == ["canary", "canary/file", "root"]
    assert (directory / "canary" / "file").read_text() == "untouched"


def _outside(directory: Path, root: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if root not in path.parents]


async def refused(tmp_path: Path, archive: bytes, error: type[RossError], message: str) -> None:
    """Load, be refused, and find nothing."""
    async with opened(tmp_path) as place:
        with pytest.raises(error, match=message):
            await place.load(archive)
        assert place.images.list() == ()
        assert place.leftovers() == []
        assert place.store.blobs() == ()
        assert place.store.manifests() == ()


# -- honest archives ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [ArchiveFormat.BOTH, ArchiveFormat.OCI_ARCHIVE, ArchiveFormat.DOCKER_ARCHIVE])
@pytest.mark.parametrize("compression", ["", "+gzip", "+zstd"])
async def test_what_is_saved_is_loaded_and_saved_as_the_same_bytes(
    tmp_path: Path, form: ArchiveFormat, compression: str
) -> None:
    image = builder(compression=compression).build()
    async with opened(tmp_path) as place:
        (loaded,) = await place.load(oci_layout([image], [entry_of(image, NAME)]).tar())
        assert (loaded.names, str(loaded.image.manifest)) == ((NAME,), image.digest)
        saved = await place.save(NAME, form=form)
        await place.remover.remove(NAME, force=True)
        assert place.store.blobs() == ()
        (again,) = await place.load(saved)
        assert again.image.id == loaded.image.id
        assert (again.image.manifest == loaded.image.manifest) == (form is not ArchiveFormat.DOCKER_ARCHIVE)
        assert await place.save(NAME, form=form) == saved
        assert place.leftovers() == []


async def test_names_of_the_members_are_sorted_and_the_form_is_what_was_asked_for(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        await place.load(HONEST)
        both, oci, docker = [names_in(await place.save(NAME, form=form)) for form in tuple(ArchiveFormat)[1:]]
    assert both == sorted(both)
    assert set(both) - set(oci) == {"manifest.json"}
    assert [name for name in docker if not name.endswith((".tar", ".json"))] == []


async def test_dockers_old_form_with_links_and_a_layer_that_stands_twice(tmp_path: Path) -> None:
    made = builder(tars=(*TARS, TARS[0]))
    async with opened(tmp_path) as place:
        (loaded,) = await place.load(docker_archive(made, ["app:2", "localhost/app:3"]).tar())
        assert str(loaded.image.id) == digest_of(config_of(made.build()))
        assert loaded.names == ("docker.io/library/app:2", "localhost/app:3")
        assert [str(digest) for digest in loaded.image.layers] == [digest_of(tar) for tar in (*TARS, TARS[0])]


async def test_images_without_a_name_are_kept(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        (loaded,) = await place.load(oci_layout([IMAGE], [entry_of(IMAGE)]).tar())
        assert loaded.names == ()
        assert loaded.image.names == ()
        await place.remover.collect()
        assert place.images.get(str(loaded.image.id)).digest == loaded.image.manifest
        await place.load(oci_layout([IMAGE], [entry_of(IMAGE, NAME)]).tar())
        (again,) = await place.load(oci_layout([IMAGE], [entry_of(IMAGE)]).tar())
        assert again.image.names == (NAME,), "it has a name already"
        assert (await place.remover.remove(NAME, force=False)).untagged == (NAME,)
        assert place.images.list() == (), "with a name it is not kept without one too"


async def test_the_platform_is_chosen_of_what_came_along(tmp_path: Path) -> None:
    other = builder(Labels={"a": "b"})
    other.overrides = {"architecture": "s390x"}
    foreign = other.build()
    entries = [
        entry_of(foreign, platform={"os": "linux", "architecture": "s390x"}),
        entry_of(IMAGE, platform={"os": "linux", "architecture": ARCHITECTURE}),
    ]
    index = index_of(entries)
    top = {
        "mediaType": INDEX,
        "digest": digest_of(index),
        "size": len(index),
        "annotations": entry_of(IMAGE, NAME)["annotations"],
    }

    def layout(*images: BuiltImage) -> bytes:
        return oci_layout(images, [top], more={blob_name(digest_of(index)): index}).tar()

    async with opened(tmp_path) as place:
        (both,) = await place.load(layout(IMAGE, foreign))
        assert str(both.image.manifest) == IMAGE.digest
        assert str(both.image.target) == digest_of(index)
        (only,) = await place.load(layout(foreign))
        assert str(only.image.manifest) == foreign.digest
        with pytest.raises(NotFound, match="does not exist for linux/riscv64"):
            await place.load(layout(IMAGE, foreign), platform=Platform(os="linux", architecture="riscv64"))
        archive = await place.save(NAME)
        assert blob_name(digest_of(index)) in names_in(archive)
        alone = await place.save(NAME, platform=Platform(os="linux", architecture="s390x"))
        assert blob_name(digest_of(index)) not in names_in(alone)
        assert blob_name(foreign.digest) in names_in(alone)
        with pytest.raises(NotFound, match="not in the store for linux/mips"):
            await place.save(NAME, platform=Platform(os="linux", architecture="mips"))


async def test_artifacts_beside_an_image_are_passed_over(tmp_path: Path) -> None:
    document = json.loads(IMAGE.manifest)
    document["config"]["mediaType"] = "application/vnd.example.signature"
    data = json.dumps(document).encode()
    entries = [{**entry_of(IMAGE), "digest": digest_of(data), "size": len(data)}, entry_of(IMAGE, NAME)]
    async with opened(tmp_path) as place:
        loaded = await place.load(oci_layout([IMAGE], entries, more={blob_name(digest_of(data)): data}).tar())
        assert [one.names for one in loaded] == [(NAME,)]


async def test_an_imported_filesystem_becomes_an_image(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        feed = Feed()
        options = ImportOptions(name="base", changes=('CMD ["/bin/sh"]', "ENV A=1"), message="from a tar")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, feed, TARS[0], 700)
            loaded = await place.archives.import_filesystem(feed, options, ignore)
        assert loaded.names == ("docker.io/library/base:latest",)
        assert (loaded.image.command, loaded.image.env) == (("/bin/sh",), ("A=1",))
        assert [str(layer) for layer in loaded.image.layers] == [digest_of(TARS[0])]
        config = json.loads(await place.store.read(loaded.image.id))
        assert config["history"][0]["comment"] == "from a tar"
        assert place.leftovers() == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ImportOptions(name="../x"), "not a host name"),
        (ImportOptions(name=f"a@{IMAGE.digest}"), "cannot be called"),
        (ImportOptions(changes=("RUN x",)), "no change"),
    ],
)
async def test_a_bad_import_is_refused_before_anything_is_read(
    tmp_path: Path, options: ImportOptions, message: str
) -> None:
    async with opened(tmp_path) as place:
        with pytest.raises(InvalidArgument, match=message):
            await place.archives.import_filesystem(Feed(), options, ignore)


# -- hostile archives ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../canary/file", "/etc/passwd", "blobs/../../canary/file", "a/..", "./../x"])
async def test_members_that_lead_out(tmp_path: Path, name: str) -> None:
    """CVE-2014-9356 and CVE-2014-6407: an archive's members were extracted where their names led."""
    await refused(tmp_path, honest().add(name, b"evil").tar(), Corrupt, "leads out of it")


@pytest.mark.parametrize("target", ["../canary/file", "/etc/passwd", "blobs/../../x"])
async def test_links_that_lead_out(tmp_path: Path, target: str) -> None:
    """CVE-2014-6407: links of an archive were followed while it was loaded."""
    await refused(tmp_path, honest().symlink("x", target).tar(), Corrupt, "out of the archive")
    await refused(tmp_path, honest().hard_link("x", target).tar(), Corrupt, "leads out of it")


async def test_a_link_in_the_place_of_a_directory_leads_nowhere(tmp_path: Path) -> None:
    """CVE-2014-9357: a link first, then a member below it. Names are keys here, never paths."""
    canary = tmp_path / "canary"
    archive = honest().symlink("blobs2", "blobs").add("blobs2/file", b"x").tar()
    async with opened(tmp_path) as place:
        assert len(await place.load(archive)) == 1
    assert [path.name for path in canary.iterdir()] == ["file"]


@pytest.mark.parametrize("tag", ["../../etc/passwd:1", "/etc:1", "a/../../b:1", "sha256:x/y", "x" * 300, "A:1"])
async def test_names_that_are_paths(tmp_path: Path, tag: str) -> None:
    """CVE-2014-9358 and CVE-2014-5282: RepoTags and ids led into the engine's own directories."""
    await refused(tmp_path, docker_archive(builder(), ["good:1", tag]).tar(), Corrupt, "not a name")
    await refused(tmp_path, oci_layout([IMAGE], [entry_of(IMAGE, tag)]).tar(), Corrupt, "not a name")


@pytest.mark.parametrize("path", ["../canary/file", "/etc/passwd", "nowhere/layer.tar", ""])
async def test_documents_that_lead_out(tmp_path: Path, path: str) -> None:
    """CVE-2014-9358: layer names and config paths of ``manifest.json``."""
    for overrides in ({"Layers": [path, path]}, {"Config": path}):
        await refused(tmp_path, docker_archive(builder(), ["a:1"], **overrides).tar(), Corrupt, "leads out of it|lacks")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
async def test_devices(tmp_path: Path, kind: bytes) -> None:
    await refused(
        tmp_path, honest().add("dev", type=kind, devmajor=1, devminor=5).tar(), Corrupt, "no archive of images"
    )


async def test_links_in_a_circle(tmp_path: Path) -> None:
    archive = Layer().symlink("manifest.json", "a").symlink("a", "manifest.json").tar()
    await refused(tmp_path, archive, Corrupt, "link to a link")


async def test_members_that_stand_twice(tmp_path: Path) -> None:
    """Two readers would see two archives; the same content twice is only odd."""
    await refused(tmp_path, honest().add("index.json", index_of([])).tar(), Corrupt, "twice")
    await refused(tmp_path, honest().symlink("index.json", "oci-layout").tar(), Corrupt, "twice")
    async with opened(tmp_path) as place:
        await place.load(honest().add("x", b"same").add("./x", b"same").tar())


async def test_blobs_that_are_not_what_their_names_say(tmp_path: Path) -> None:
    document = json.loads(IMAGE.manifest)
    for digest in (IMAGE.digest, document["config"]["digest"], document["layers"][0]["digest"]):
        archive = oci_layout([IMAGE], [entry_of(IMAGE, NAME)], more={blob_name(digest): b"{}"}).tar()
        await refused(tmp_path, archive, Corrupt, "not what its name promises")


async def test_descriptors_that_lie_about_sizes(tmp_path: Path) -> None:
    await refused(tmp_path, oci_layout([IMAGE], [entry_of(IMAGE, NAME, size=7)]).tar(), Corrupt, "promises 7")


async def test_layers_that_the_config_does_not_promise(tmp_path: Path) -> None:
    config = json.loads(config_of(builder().build()))
    config["rootfs"]["diff_ids"].reverse()
    made = builder()
    made.overrides = {"rootfs": config["rootfs"]}
    await refused(tmp_path, docker_archive(made, ["a:1"]).tar(), Corrupt, "its config promises")
    made.overrides = {"rootfs": {"type": "layers", "diff_ids": []}}
    await refused(tmp_path, docker_archive(made, ["a:1"]).tar(), Corrupt, "describes 0")


async def test_a_name_by_another_digest(tmp_path: Path) -> None:
    """A name by digest that an archive could give to its own image would undo pinning by digest."""
    real = builder(Labels={"the": "real one"}).build()
    archive = oci_layout([IMAGE], [entry_of(IMAGE, f"docker.io/library/alpine@{real.digest}")]).tar()
    await refused(tmp_path, archive, Corrupt, "another digest")


async def test_one_name_for_two_images(tmp_path: Path) -> None:
    first, second = docker_archive(builder(), []), builder(Labels={"x": "y"})
    config = config_of(second.build())
    layers = [json.loads(json.dumps(path)) for path in ("l0", "l1")]
    entries = [
        {"Config": "c", "RepoTags": ["a:1"], "Layers": layers},
        {"Config": "d", "RepoTags": ["a:1"], "Layers": layers},
    ]
    archive = (
        Layer().add("c", config_of(builder().build())).add("d", config).add("l0", TARS[0]).add("l1", TARS[1])
        .add("manifest.json", json.dumps(entries).encode())
    )  # fmt: skip
    assert first is not None
    await refused(tmp_path, archive.tar(), Corrupt, "calls two images")


async def test_two_forms_that_disagree(tmp_path: Path) -> None:
    """CVE-2021-41190's kind: one engine would load the one image under a name, another engine the other."""
    other = builder(Labels={"is": "evil"}).build()
    digest = digest_of(config_of(other))
    entry = {"Config": blob_name(digest), "RepoTags": [NAME], "Layers": [blob_name(digest)]}
    both = oci_layout([IMAGE, other], [entry_of(IMAGE, NAME)], more={"manifest.json": json.dumps([entry]).encode()})
    await refused(tmp_path, both.tar(), Corrupt, "call different images")


async def test_two_loads_of_one_archive_share_what_they_bring(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(place.load, HONEST)
        assert [one.names for one in place.images.list()] == [(NAME,)]
        assert place.leftovers() == []


async def test_indexes_without_end(tmp_path: Path) -> None:
    more: dict[str, bytes] = {}
    entry = entry_of(IMAGE)
    for _level in range(6):
        index = index_of([entry])
        more[blob_name(digest_of(index))] = index
        entry = {"mediaType": INDEX, "digest": digest_of(index), "size": len(index)}
    await refused(tmp_path, oci_layout([IMAGE], [entry], more=more).tar(), Corrupt, "deeper than")


async def test_ambiguous_documents(tmp_path: Path) -> None:
    """CVE-2021-41190: one document that is a manifest to one reader and an index to another."""
    both = json.dumps({**json.loads(IMAGE.manifest), "manifests": []}).encode()
    entry = {**entry_of(IMAGE, NAME), "digest": digest_of(both), "size": len(both)}
    archive = oci_layout([IMAGE], [entry], more={blob_name(digest_of(both)): both}).tar()
    await refused(tmp_path, archive, Corrupt, "both an index and a manifest")


async def test_huge_documents_and_headers(tmp_path: Path) -> None:
    """CVE-2017-14992 and CVE-2023-25153: memory without bound for what an archive claims, or carries."""
    huge = b'{"x": "' + b"a" * (5 << 20) + b'"}'
    await refused(tmp_path, Layer().add("manifest.json", huge).tar(), Corrupt, "more than the")
    await refused(tmp_path, honest().add("n" * 600, b"").tar(), Corrupt, "path of 600 bytes")
    pax = honest().add("x", b"", pax_headers={"comment": "c" * (1 << 20)}).tar()
    await refused(tmp_path, pax, ResourceExhausted, "the archive has an extended header")


async def test_a_bomb_is_refused_before_it_fills_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2017-14992: little that unpacks to much."""
    import gzip

    from attrs import evolve

    monkeypatch.setattr(members_module, "LIMITS", evolve(members_module.LIMITS, ratio=100, ratio_from_bytes=1 << 20))
    archive = gzip.compress(honest().add("zeros", bytes(64 << 20)).tar())
    await refused(tmp_path, archive, ResourceExhausted, "more than 100 times")


async def test_more_members_than_there_may_be(tmp_path: Path) -> None:
    """A hundred thousand of them: refused when there are too many, and gone."""
    header = tarfile.TarInfo("x")
    block = header.tobuf()
    await refused(tmp_path, block * 100_000, ResourceExhausted, "the archive has more than 16384 entries")


@pytest.mark.parametrize("at", [0.2, 0.6, 0.95])
async def test_an_archive_that_breaks_off(tmp_path: Path, at: float) -> None:
    await refused(
        tmp_path,
        HONEST[: int(len(HONEST.rstrip(bytes(1))) * at) // 512 * 512 + 100],
        Corrupt,
        "truncated|checksum|lacks|no archive",
    )


@pytest.mark.parametrize("data", [b"", bytes(10240), b"hello" * 1000, Layer().add("bin/sh", b"x").tar()])
async def test_what_is_no_archive_of_images(tmp_path: Path, data: bytes) -> None:
    await refused(tmp_path, data, RossError, "no archive of images|not a tar|checksum|malformed|truncated")


async def test_a_writer_that_goes_away(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        feed = Feed()

        async def begin_and_leave() -> None:
            await feed.write(HONEST[:3000])
            feed.break_off()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(begin_and_leave)
            with pytest.raises(InvalidArgument, match="broke off"):
                await place.archives.load(feed, LoadOptions(), ignore)
        assert place.leftovers() == []


async def test_a_load_that_is_cancelled_leaves_nothing_and_tells_the_writer(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        feed = Feed()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(place.archives.load, feed, LoadOptions(), ignore)
                await feed.write(HONEST[:3000])
                assert list(place.root.glob("ingest/spool-*/metadata.json"))
                scope.cancel()
        assert place.leftovers() == []
        with pytest.raises(Cancelled):
            await feed.write(b"more")


async def test_collection_leaves_a_spool_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        feed = Feed()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(place.archives.load, feed, LoadOptions(), ignore)
            await feed.write(HONEST[:3000])
            await place.remover.collect()
            (spool,) = place.root.glob("ingest/spool-*")
            assert (spool / "metadata.json").exists()
            assert place.store.ingests.busy_directories() == (spool.name,)
            nursery.cancel_scope.cancel()
        assert place.leftovers() == []
        assert place.store.ingests.busy_directories() == ()


async def test_the_next_start_removes_what_a_crash_has_left_of_a_spool(tmp_path: Path) -> None:
    async with opened(tmp_path) as place:
        spool = place.root / "ingest" / "spool-0123456789abcdef"
        spool.mkdir(parents=True)
        (spool / "metadata.json").write_text('{"purpose":"load","created_at":5}')
        (spool / "1").write_bytes(b"x" * 1000)
        await ContentStore(StateLayout(root=place.root)).recover()
        assert not spool.exists()


async def test_a_feed_holds_no_more_than_a_chunk() -> None:
    feed, written = Feed(), 0

    async def write() -> None:
        nonlocal written
        for _ in range(5):
            await feed.write(b"x" * 1000)
            written += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        await wait_all_tasks_blocked()
        assert written == 0
        await feed.next_chunk()
        await wait_all_tasks_blocked()
        assert written == 1
        nursery.cancel_scope.cancel()


def honest() -> Layer:
    """The honest archive, with room for more."""
    return oci_layout([IMAGE], [entry_of(IMAGE, NAME)])
