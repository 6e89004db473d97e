"""The puller: a scripted registry on one side, a real store on the other, and layers that are only fetched."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

import pytest
import trio
from attrs import define, field

from ross.errors import Corrupt, InvalidArgument, NotFound, RossError, Unavailable
from ross.layout import StateLayout
from ross.model.images import BlobProgress, PullPhase
from ross.oci.digest import Digest, chain_ids
from ross.oci.image import Descriptor, DocumentPlatform, Index
from ross.oci.reference import Reference
from ross.registry.client import RegistryClient
from ross.registry.credentials import CredentialStore
from ross.registry.retry import RetryPolicy
from ross.registry.session import RegistrySession
from ross.services.documents import choose_platform
from ross.services.pins import Pins
from ross.services.puller import Pulled, Puller
from ross.services.snapshotter import Snapshotter
from ross.services.store import ContentStore
from tests.support.scripted_registry import (
    OCI,
    Handler,
    Request,
    ScriptedImage,
    ScriptedRegistry,
    begin,
    descriptor,
    make_image,
    reply,
    scripted_registry,
    serve_image,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from ross.services.unpacker import LayerSource, Unpacker

HERE = DocumentPlatform(os="linux", architecture="amd64")
LAYERS = (b"small" * 100, b"large" * 100_000)
IMAGE = make_image(*LAYERS, architecture="amd64")
SMALL, LARGE = (Digest.parse(digest) for digest in IMAGE.layer_digests)


class FetchingUnpacker:
    """Fetches as the unpacker does, and unpacks nothing: that has tests of its own."""

    async def unpack(
        self, layers: Sequence[LayerSource], *, progress: Callable[[BlobProgress], None], durable: bool
    ) -> Digest | None:
        assert durable
        async with trio.open_nursery() as nursery:
            for layer in layers:
                nursery.start_soon(layer.fetch)
        return chain_ids(layer.diff_id for layer in layers)[-1]


@define
class Setting:
    """Everything that a pull needs."""

    server: ScriptedRegistry
    puller: Puller
    store: ContentStore
    pins: Pins
    seen: list[BlobProgress] = field(factory=list)

    async def pull(self, *, platform: DocumentPlatform = HERE) -> Pulled:
        with self.pins.hold() as pin:
            reference = Reference.parse(f"{self.server.host}/app:1")
            return await self.puller.pull(reference, platform=platform, pin=pin, progress=self.seen.append)

    def asked_for(self, digest: Digest) -> list[Request]:
        return self.server.sent(f"/v2/app/blobs/{digest}")


@asynccontextmanager
async def pulling_from(handler: Handler, tmp_path: Path, *, certs_dir: Sequence[Path] = ()) -> AsyncIterator[Setting]:
    store = ContentStore(StateLayout(root=tmp_path / "root"))
    await store.recover()
    policy = RetryPolicy(attempts=3, initial_seconds=0)
    credentials = CredentialStore(tmp_path / "config.json")
    async with scripted_registry(handler) as server:
        async with RegistrySession(credentials, user_agent="test", certs_dir=certs_dir) as session:
            registry = RegistryClient(session, policy=policy)
            unpacker = cast("Unpacker", FetchingUnpacker())
            snapshotter = Snapshotter(store.layout)
            puller = Puller(registry=registry, store=store, snapshotter=snapshotter, unpacker=unpacker)
            yield Setting(server, puller, store, Pins())


def serving(image: ScriptedImage) -> Handler:
    async def handle(request: Request, stream: trio.SocketStream) -> None:
        await serve_image(image, request, stream)

    return handle


async def test_a_pull_brings_everything_into_the_store(tmp_path: Path) -> None:
    async with pulling_from(serving(IMAGE), tmp_path) as setting:
        pulled = await setting.pull()

    assert pulled.chain_id == chain_ids([SMALL, LARGE])[-1]
    assert [setting.store.path(digest).read_bytes() for digest in (SMALL, LARGE)] == list(LAYERS)
    assert await setting.store.read_manifest(pulled.target.digest) == IMAGE.manifest
    assert setting.store.ingests.digests() == ()
    assert setting.pins.held() == frozenset()


async def test_a_layer_that_a_mirror_breaks_off_or_falsifies_comes_from_the_registry(tmp_path: Path) -> None:
    async def mirror(request: Request, stream: trio.SocketStream) -> None:
        if request.path.endswith(str(LARGE)):
            await reply(stream, 200, LAYERS[1][:1000], Content_Length=str(len(LAYERS[1])))
        elif request.path.endswith(str(SMALL)):
            await reply(stream, 200, bytes(len(LAYERS[0])))
        else:
            await serve_image(IMAGE, request, stream)

    async with scripted_registry(mirror) as other:
        (tmp_path / "_default").mkdir()
        (tmp_path / "_default/hosts.toml").write_text(f'[host."{other.url}"]')
        async with pulling_from(serving(IMAGE), tmp_path, certs_dir=[tmp_path]) as setting:
            await setting.pull()

    assert [setting.store.path(digest).read_bytes() for digest in (SMALL, LARGE)] == list(LAYERS)
    (asked,) = setting.asked_for(LARGE)
    assert asked.headers["range"] == "bytes=1000-"
    (asked,) = setting.asked_for(SMALL)
    assert "range" not in asked.headers


async def test_progress_tells_each_phase_in_turn(tmp_path: Path) -> None:
    async with pulling_from(serving(IMAGE), tmp_path) as setting:
        await setting.pull()
        await setting.pull()

    phases = list(dict.fromkeys(one.phase for one in setting.seen if one.digest == LARGE))
    assert phases == [PullPhase.WAITING, PullPhase.DOWNLOADING, PullPhase.VERIFYING, PullPhase.EXISTS]
    assert len(setting.asked_for(LARGE)) == 1


async def test_a_layer_that_stands_twice_is_fetched_once(tmp_path: Path) -> None:
    twice = make_image(LAYERS[0], LAYERS[0], architecture="amd64")

    async with pulling_from(serving(twice), tmp_path) as setting:
        await setting.pull()

    assert len(setting.asked_for(SMALL)) == 1


async def test_two_pulls_share_their_blobs(tmp_path: Path) -> None:
    async with pulling_from(serving(IMAGE), tmp_path) as setting:
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(setting.pull)

    assert len(setting.asked_for(LARGE)) == 1


def dropping(keep: int) -> Handler:
    """Sends ``keep`` bytes of what was asked for of the large layer, then drops the connection."""

    async def handle(request: Request, stream: trio.SocketStream) -> None:
        if not request.path.endswith(LARGE.encoded):
            await serve_image(IMAGE, request, stream)
            return
        start = int(request.headers.get("range", "bytes=0-")[6:-1])
        rest = LAYERS[1][start:]
        ranged = {"Content_Range": f"bytes {start}-{len(LAYERS[1]) - 1}/{len(LAYERS[1])}"} if start else {}
        await begin(stream, 206 if start else 200, Content_Length=str(len(rest)), **ranged)
        await stream.send_all(rest[:keep])

    return handle


async def test_a_dropped_layer_goes_on_where_it_stopped(tmp_path: Path) -> None:
    async with pulling_from(dropping(100_000), tmp_path) as setting:
        await setting.pull()

    starts = [request.headers.get("range") for request in setting.asked_for(LARGE)]
    assert starts == [None, *(f"bytes={n}00000-" for n in range(1, 5))]
    assert setting.store.path(LARGE).read_bytes() == LAYERS[1]


async def test_drops_without_progress_end_the_pull_and_keep_what_came(tmp_path: Path) -> None:
    async with pulling_from(dropping(0), tmp_path) as setting:
        with pytest.raises(Unavailable, match="broke"):
            await setting.pull()

    assert len(setting.asked_for(LARGE)) == 3
    assert setting.store.find(LARGE) is None


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (307, {}),
        (307, {"Location": "http://[::1"}),
        (206, {"Content_Encoding": "gzip", "Content_Range": f"bytes 100000-499999/{len(LAYERS[1])}"}),
    ],
)
async def test_an_answer_that_is_none_costs_nothing_of_what_came_before(
    status: int, headers: dict[str, str], tmp_path: Path
) -> None:
    """A registry that talks nonsense when the rest is asked for is told of; the beginning was right, and stays."""
    dropped = dropping(100_000)
    sound = False

    async def handle(request: Request, stream: trio.SocketStream) -> None:
        if request.path.endswith(LARGE.encoded) and "range" in request.headers and not sound:
            await begin(stream, status, **headers)
        else:
            await dropped(request, stream)

    async with pulling_from(handle, tmp_path) as setting:
        with pytest.raises(RossError):
            await setting.pull()
        assert LARGE in setting.store.ingests.digests()
        asked, sound = len(setting.asked_for(LARGE)), True
        await setting.pull()

    assert setting.asked_for(LARGE)[asked].headers["range"] == "bytes=100000-"


async def test_a_wrong_layer_is_refused_and_not_kept(tmp_path: Path) -> None:
    forged = ScriptedImage(
        IMAGE.manifest, IMAGE.blobs | {str(LARGE): b"evil!" * 100_000}, IMAGE.config_digest, IMAGE.layer_digests
    )

    async with pulling_from(serving(forged), tmp_path) as setting:
        with pytest.raises(Corrupt, match=str(LARGE)):
            await setting.pull()

    assert setting.store.find(LARGE) is None
    assert LARGE not in setting.store.ingests.digests()


async def test_a_spoiled_rest_of_an_earlier_pull_is_fetched_anew(tmp_path: Path) -> None:
    async with pulling_from(serving(IMAGE), tmp_path) as setting:
        async with setting.store.ingest(LARGE, len(LAYERS[1])) as ingest:
            assert ingest is not None
            await ingest.write(b"rotten")
        await setting.pull()

    assert [request.headers.get("range") for request in setting.asked_for(LARGE)] == ["bytes=6-", None]
    assert setting.store.path(LARGE).read_bytes() == LAYERS[1]


async def test_a_layer_that_is_too_long_leaves_nothing(tmp_path: Path) -> None:
    async def handle(request: Request, stream: trio.SocketStream) -> None:
        if request.path.endswith(LARGE.encoded):
            await begin(stream, 200)
            while True:
                await stream.send_all(LAYERS[1])
        await serve_image(IMAGE, request, stream)

    async with pulling_from(handle, tmp_path) as setting:
        with pytest.raises(Corrupt, match="more of a blob"):
            await setting.pull()

    assert LARGE not in setting.store.ingests.digests()


async def test_a_cancelled_pull_leaves_an_ingest_and_no_pin(tmp_path: Path) -> None:
    arrived = trio.Event()

    async def handle(request: Request, stream: trio.SocketStream) -> None:
        if not request.path.endswith(LARGE.encoded):
            await serve_image(IMAGE, request, stream)
            return
        await begin(stream, 200, Content_Length=str(len(LAYERS[1])))
        await stream.send_all(LAYERS[1][:1000])
        arrived.set()
        await trio.sleep_forever()

    async with pulling_from(handle, tmp_path) as setting:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(setting.pull)
            await arrived.wait()
            nursery.cancel_scope.cancel()
        assert setting.pins.held() == frozenset()
        assert LARGE in setting.store.ingests.digests()  # the small one may have been on its way too
        setting.server.handler = serving(IMAGE)
        await setting.pull()

    assert setting.store.path(LARGE).read_bytes() == LAYERS[1]


async def test_layers_that_fail_together_are_one_error(tmp_path: Path) -> None:
    missing = ScriptedImage(IMAGE.manifest, {IMAGE.config_digest: IMAGE.blobs[IMAGE.config_digest]}, "", ())

    async with pulling_from(serving(missing), tmp_path) as setting:
        with pytest.raises(NotFound, match="incomplete"):
            await setting.pull()


async def test_foreign_urls_are_never_asked(tmp_path: Path) -> None:
    async with scripted_registry(serving(IMAGE)) as foreign:
        layer = descriptor(LAYERS[0], f"{OCI}.layer.nondistributable.v1.tar", urls=[f"http://{foreign.host}/x"])
        image = make_image(LAYERS[0], architecture="amd64", layers=[layer])
        without = ScriptedImage(
            image.manifest, {image.config_digest: image.blobs[image.config_digest]}, image.config_digest, ()
        )
        async with pulling_from(serving(without), tmp_path) as setting:
            with pytest.raises(NotFound, match="incomplete"):
                await setting.pull()

        assert foreign.requests == []


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        pytest.param(make_image(b"x", architecture="s390x"), NotFound, "it is for linux/s390x only", id="machine"),
        pytest.param(make_image(b"x", architecture="amd64", layers=[]), Corrupt, "has 0 layers", id="layer-count"),
        pytest.param(
            make_image(b"x", architecture="amd64", layers=[descriptor(b"x", "text/plain")]),
            InvalidArgument, "cannot unpack", id="layer-type",
        ),
        pytest.param(
            make_image(b"x", architecture="amd64", config=descriptor(b"{}", "application/vnd.oci.empty.v1+json")),
            InvalidArgument, "not a container image", id="artifact",
        ),
        pytest.param(
            make_image(b"x", architecture="amd64", config=descriptor(b"{}", f"{OCI}.config.v1+json") | {"size": 1 << 40}),
            Corrupt, "refused", id="config-size",
        ),
    ],
)  # fmt: skip
async def test_a_manifest_that_cannot_be_run_is_refused(
    image: ScriptedImage, error: type[Exception], words: str, tmp_path: Path
) -> None:
    async with pulling_from(serving(image), tmp_path) as setting:
        with pytest.raises(error, match=words):
            await setting.pull()

    assert setting.pins.held() == frozenset()


async def test_an_index_leads_to_the_manifest_of_this_machine(tmp_path: Path) -> None:
    other = descriptor(b"elsewhere", f"{OCI}.manifest.v1+json", platform={"os": "linux", "architecture": "s390x"})
    own = descriptor(IMAGE.manifest, f"{OCI}.manifest.v1+json", platform={"os": "linux", "architecture": "amd64"})
    index = json.dumps({"schemaVersion": 2, "manifests": [other, own]}).encode()

    async def handle(request: Request, stream: trio.SocketStream) -> None:
        if request.path.endswith("/manifests/1"):
            await reply(stream, 200, index, Content_Type=f"{OCI}.index.v1+json")
        else:
            await serve_image(IMAGE, request, stream)

    async with pulling_from(handle, tmp_path) as setting:
        pulled = await setting.pull()

    assert (pulled.target.digest, pulled.manifest_descriptor.digest) == (Digest.of(index), Digest.of(IMAGE.manifest))


def index_of(*platforms: str) -> Index:
    def one(text: str) -> Descriptor:
        os, architecture, *variant = text.split("/")
        platform = DocumentPlatform(os=os, architecture=architecture, variant="".join(variant))
        return Descriptor(media_type="m", digest=Digest.of(text.encode()), size=1, platform=platform)

    return Index(schema_version=2, manifests=tuple(one(text) for text in platforms))


@pytest.mark.parametrize(
    ("wanted", "existing", "chosen"),
    [
        ("linux/amd64", ("linux/arm64", "linux/amd64"), "linux/amd64"),
        ("linux/arm/v7", ("linux/arm/v5", "linux/arm/v6", "linux/arm64/v8"), "linux/arm/v6"),
        ("linux/arm/v6", ("linux/arm/v7", "linux/arm/v5"), "linux/arm/v5"),
        ("linux/arm64/v8", ("linux/arm/v7", "linux/arm64"), "linux/arm64"),
        ("linux/amd64", ("linux/amd64/v3", "linux/amd64"), "linux/amd64"),
    ],
)
def test_the_best_platform_is_chosen(wanted: str, existing: tuple[str, ...], chosen: str) -> None:
    platform = index_of(wanted).manifests[0].platform
    assert platform is not None

    assert choose_platform(index_of(*existing), platform, "x").digest == Digest.of(chosen.encode())


def test_a_missing_platform_says_what_exists() -> None:
    with pytest.raises(NotFound, match="does not exist for linux/amd64") as caught:
        choose_platform(index_of("linux/s390x", "linux/arm/v7", "unknown/unknown"), HERE, "x")

    assert caught.value.hint == "it exists for linux/arm/v7, linux/s390x; choose one with --platform"
