"""An index that is removed while somebody works with all that it lists."""

from __future__ import annotations

import io
import tarfile
from secrets import token_hex
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from ross.model.archives import SaveOptions
from ross.model.containers import ContainerFilter, ContainerSpec, CreateMode
from ross.model.images import Platform, PullOptions, PushOptions
from ross.model.mounts import Mount, MountKind
from tests.integration.test_cancellation import open_services
from tests.integration.test_collecting import missing
from tests.support.images import ARCHITECTURE, ImageBuilder, Layer, push, push_index
from tests.support.scripted_registry import Request, scripted_registry
from tests.support.upload_registry import UploadRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.integration.test_cancellation import Services
    from tests.support.images import BuiltImage

pytestmark = pytest.mark.integration
OTHER = "arm64" if ARCHITECTURE == "amd64" else "amd64"


def build(architecture: str) -> BuiltImage:
    builder = ImageBuilder(overrides={"architecture": architecture})
    for number in range(3):  # with the configs more blobs than are pushed at a time
        builder.layer(Layer().add(f"which{number}", architecture.encode() * 1000))
    return builder.build()


IMAGES = {one: build(one) for one in (ARCHITECTURE, OTHER)}
BLOBS = {digest for image in IMAGES.values() for digest in image.blobs}


@pytest.fixture
async def services(filesystem: Path) -> AsyncIterator[Services]:
    with trio.fail_after(120):
        async with open_services(filesystem / token_hex(4)) as found:
            yield found


async def pull(services: Services, registry: str, name: str) -> str:
    """Have an index for both its platforms."""
    listed = [({"os": "linux", "architecture": one}, image) for one, image in IMAGES.items()]
    reference = push_index(registry, name, listed)
    for one in IMAGES:
        options = PullOptions(platform=Platform(os="linux", architecture=one))
        await services.images.pull(reference, options, lambda _progress: None)
    return reference


async def test_index_that_is_removed_while_it_is_saved_is_saved_whole(services: Services, registry: str) -> None:
    name = await pull(services, registry, "races/saved:1")
    archive = io.BytesIO()
    begun, removed = trio.Event(), trio.Event()

    async def write(piece: bytes) -> None:
        begun.set()
        await removed.wait()
        archive.write(piece)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(services.archives.save, [name], SaveOptions(), write)
        await begun.wait()
        await services.remover.remove(name, force=False)
        removed.set()

    with tarfile.open(fileobj=io.BytesIO(archive.getvalue())) as tar:
        members = tar.getnames()
    saved = {f"sha256:{one.rpartition('/')[2]}" for one in members if one.startswith("blobs/sha256/")}
    assert saved >= BLOBS | {image.digest for image in IMAGES.values()}


async def test_index_that_is_removed_while_it_is_pushed_is_pushed_whole(services: Services, registry: str) -> None:
    name = await pull(services, registry, "races/pushed:1")
    target = UploadRegistry()
    begun, removed = trio.Event(), trio.Event()

    async def handle(request: Request, stream: trio.SocketStream) -> None:
        begun.set()
        await removed.wait()
        await target.handle(request, stream)

    async with scripted_registry(handle) as server, trio.open_nursery() as nursery:
        image = services.images.get(name)
        nursery.start_soon(
            services.images.publisher.push, image, f"{server.host}/app:1", PushOptions(), lambda _progress: None
        )
        await begun.wait()
        await services.remover.remove(name, force=False)
        removed.set()

    assert target.blobs.keys() == BLOBS
    assert {f"app@{image.digest}" for image in IMAGES.values()} <= target.manifests.keys()


async def test_name_given_to_an_image_in_use_denotes_what_is_there(services: Services, registry: str) -> None:
    name = await pull(services, registry, "races/used:1")
    image = services.images.get(name)
    await services.containers.create(image, ContainerSpec(args=("x",)))
    await services.remover.remove(name, force=True)  # what its container is made of stays, without a name
    again = services.images.get(str(image.manifest.config.digest))

    services.images.tag(again, "again:1")

    await services.archives.save(["again:1"], SaveOptions(), to_nobody)
    await services.remover.remove("again:1", force=True)
    for container in services.containers.list(ContainerFilter(all=True)):
        await services.containers.get(container.id).remove(force=False)
    await services.remover.collect()
    assert services.store.manifests() == ()


async def to_nobody(_piece: bytes) -> None:
    await trio.lowlevel.checkpoint()


async def test_image_to_be_mounted_that_is_removed_while_a_container_is_replaced_stays(
    services: Services, registry: str
) -> None:
    name = await pull(services, registry, "races/mounted:1")
    image = services.images.get(name)
    builder = ImageBuilder().layer(Layer().add("mounted", b"x"))
    mounted = push(registry, "races/mounting:1", builder.build())
    wanted = await services.images.pull(mounted, PullOptions(), lambda _progress: None)
    mount = Mount(kind=MountKind.IMAGE, source=mounted, target="/m")
    old = await services.containers.create(image, ContainerSpec(args=("x",), name="web"))
    spec = ContainerSpec(args=("x",), name="web", mounts=(mount,))

    async with trio.open_nursery() as nursery:
        async with old.turn:  # so its removal waits
            nursery.start_soon(services.containers.create, image, spec, CreateMode(replace=True))
            await trio.testing.wait_all_tasks_blocked()
            await services.remover.remove(mounted, force=False)

    (found,) = services.containers.list(ContainerFilter(all=True))
    assert found.id != old.id
    assert missing(services, wanted) == []
    await services.containers.get("web").remove(force=False)
    await services.remover.collect()
    assert services.store.find_manifest(wanted.digest) is None
