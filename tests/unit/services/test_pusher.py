"""The pusher: a real store on one side, a registry that takes pushes on the other."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing
from attrs import define, field

from ross.errors import Corrupt, FailedPrecondition, NotFound
from ross.layout import StateLayout
from ross.model.images import BlobProgress, PullPhase
from ross.model.registries import Notice
from ross.oci.digest import Digest
from ross.oci.reference import Reference
from ross.registry.credentials import CredentialStore
from ross.registry.notices import Notify, unheard
from ross.registry.push import RegistryPusher
from ross.registry.retry import RetryPolicy
from ross.registry.session import RegistrySession
from ross.services.pins import Pins
from ross.services.pusher import Pusher
from ross.services.store import ContentStore
from tests.support.scripted_registry import (
    OCI,
    Handler,
    Request,
    ScriptedImage,
    ScriptedRegistry,
    Stream,
    descriptor,
    digest_of,
    make_image,
    reply,
    scripted_registry,
)
from tests.support.upload_registry import UploadRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MANIFEST, INDEX = f"{OCI}.manifest.v1+json", f"{OCI}.index.v1+json"
IMAGE = make_image(b"one" * 100, b"two" * 100, architecture="amd64")
ARM = make_image(b"three" * 100, architecture="arm64")
MANIFESTS = "/v2/app/manifests/"


@define
class Setting:
    """Everything that a push needs."""

    server: ScriptedRegistry
    store: ContentStore
    pusher: Pusher
    seen: list[BlobProgress] = field(factory=list)

    async def keep(self, image: ScriptedImage) -> None:
        for digest, data in image.blobs.items():
            await self.store.write(Digest.parse(digest), data)
        await self.keep_document(image.manifest)

    async def keep_document(self, data: bytes) -> Digest:
        await self.store.write_manifest(Digest.of(data), data)
        return Digest.of(data)

    async def push(self, target: bytes, *, notify: Notify = unheard) -> None:
        reference = Reference.parse(f"{self.server.host}/app:1")
        with Pins().hold() as pin:
            await self.pusher.push(
                reference,
                Digest.of(target),
                pin=pin,
                elsewhere=lambda _digest: None,
                progress=self.seen.append,
                notify=notify,
            )

    def documents(self) -> list[str]:
        """What was put under which name, in order."""
        return [
            request.path.removeprefix(MANIFESTS)
            for request in self.server.requests
            if request.method == "PUT" and request.path.startswith(MANIFESTS)
        ]


@asynccontextmanager
async def pushing_to(handler: Handler, tmp_path: Path, *, max_uploads: int = 4) -> AsyncIterator[Setting]:
    store = ContentStore(StateLayout(root=tmp_path / "root"))
    await store.recover()
    async with scripted_registry(handler) as server:
        async with RegistrySession(CredentialStore(tmp_path / "config.json"), user_agent="test") as session:
            registry = RegistryPusher(session, policy=RetryPolicy(attempts=2, initial_seconds=0))
            yield Setting(server, store, Pusher(registry=registry, store=store, max_uploads=max_uploads))


def index(*entries: tuple[bytes, str, str], **fields: object) -> bytes:
    listed = [
        descriptor(data, kind) | ({"platform": {"os": "linux", "architecture": one}} if one else {})
        for data, kind, one in entries
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed} | fields).encode()


async def test_the_manifest_goes_last_and_byte_for_byte(tmp_path: Path) -> None:
    registry = UploadRegistry()
    async with pushing_to(registry.handle, tmp_path) as setting:
        await setting.keep(IMAGE)
        await setting.push(IMAGE.manifest)

    assert registry.blobs == IMAGE.blobs
    assert registry.manifests == {"app:1": IMAGE.manifest}
    assert setting.server.requests[-1].path == f"{MANIFESTS}1"
    assert setting.server.requests[-1].headers["content-type"] == MANIFEST
    phases = {one.digest: one.phase for one in setting.seen}
    assert set(phases.values()) == {PullPhase.DONE}
    assert PullPhase.UPLOADING in {one.phase for one in setting.seen}


async def test_no_more_blobs_are_on_their_way_than_allowed(tmp_path: Path) -> None:
    registry, now, most = UploadRegistry(), 0, 0
    full = trio.Event()
    image = make_image(*(b"%d" % number * 50 for number in range(10)), architecture="amd64")

    async def handle(request: Request, stream: Stream) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        if request.method == "PUT" and not full.is_set():
            if now == 3:
                await trio.testing.wait_all_tasks_blocked()
                full.set()
            await full.wait()
        await registry.handle(request, stream)
        now -= 1

    async with pushing_to(handle, tmp_path, max_uploads=3) as setting:
        await setting.keep(image)
        await setting.push(image.manifest)
    assert most == 3


async def test_indexes_in_an_index_go_with_all_that_they_list(tmp_path: Path) -> None:
    registry = UploadRegistry()
    inner = index((IMAGE.manifest, MANIFEST, "amd64"), (ARM.manifest, MANIFEST, "arm64"), annotations={"x": "y"})
    outer = index((inner, INDEX, ""), (ARM.manifest, MANIFEST, "arm64"), unknownField=[1, {"a": None}])
    async with pushing_to(registry.handle, tmp_path) as setting:
        for image in (IMAGE, ARM):
            await setting.keep(image)
        await setting.keep_document(inner)
        await setting.keep_document(outer)
        await setting.push(outer)

    assert registry.blobs == IMAGE.blobs | ARM.blobs
    assert setting.documents() == [digest_of(IMAGE.manifest), digest_of(ARM.manifest), digest_of(inner), "1"]
    assert registry.manifests["app:1"] == outer


async def test_a_sparse_index_needs_its_rest_at_the_registry(tmp_path: Path) -> None:
    registry = UploadRegistry()
    sparse = index((IMAGE.manifest, MANIFEST, "amd64"), (ARM.manifest, MANIFEST, "arm64"))
    async with pushing_to(registry.handle, tmp_path) as setting:
        await setting.keep(IMAGE)
        await setting.keep_document(sparse)
        with pytest.raises(FailedPrecondition, match=r"neither here nor at .*: linux/arm64"):
            await setting.push(sparse)
        assert registry.blobs == {}, "that is found out before anything is sent"
        registry.manifests[f"app@{digest_of(ARM.manifest)}"] = ARM.manifest
        await setting.push(sparse)
    assert registry.manifests["app:1"] == sparse


async def test_a_blob_that_is_not_here_may_be_there(tmp_path: Path) -> None:
    registry = UploadRegistry()
    async with pushing_to(registry.handle, tmp_path) as setting:
        await setting.keep(IMAGE)
        gone = Digest.parse(IMAGE.layer_digests[0])
        await setting.store.remove(gone)
        with pytest.raises(NotFound, match="neither in the store nor at"):
            await setting.push(IMAGE.manifest)
        assert registry.manifests == {}
        registry.blobs[str(gone)] = b""
        await setting.push(IMAGE.manifest)
    assert registry.manifests == {"app:1": IMAGE.manifest}


async def test_content_of_other_digests_than_sha256(tmp_path: Path) -> None:
    layer = b"layer" * 100
    digest = Digest.of(layer, algorithm="sha512")
    config = json.dumps({
        "os": "linux",
        "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [str(digest)]},
    })
    manifest = json.dumps({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(config.encode(), f"{OCI}.config.v1+json"),
        "layers": [descriptor(layer, f"{OCI}.layer.v1.tar") | {"digest": str(digest)}],
    }).encode()
    registry = UploadRegistry()
    async with pushing_to(registry.handle, tmp_path) as setting:
        await setting.store.write(digest, layer)
        await setting.store.write(Digest.of(config.encode()), config.encode())
        await setting.push((await setting.keep_document(manifest), manifest)[1])
    assert registry.blobs[str(digest)] == layer


async def test_an_ambiguous_document_of_the_store_is_not_pushed(tmp_path: Path) -> None:
    """CVE-2021-41190: also what is in the store already is read so strictly that nobody takes it for something else."""
    both = json.dumps({"schemaVersion": 2, "manifests": [], "layers": [], "config": {}}).encode()
    registry = UploadRegistry()
    async with pushing_to(registry.handle, tmp_path) as setting:
        await setting.keep_document(both)
        with pytest.raises(Corrupt, match="both an index and a manifest"):
            await setting.push(both)
    assert setting.server.requests == []


async def test_what_the_registry_says_is_told_once(tmp_path: Path) -> None:
    registry, told = UploadRegistry(), list[Notice]()

    async def handle(request: Request, stream: Stream) -> None:
        if request.method == "HEAD":
            await reply(stream, 404, Warning='299 - "this repository will move"')
        else:
            await registry.handle(request, stream)

    async with pushing_to(handle, tmp_path) as setting:
        await setting.keep(IMAGE)
        await setting.push(IMAGE.manifest, notify=told.append)
    assert [notice.text for notice in told] == ["this repository will move"]
