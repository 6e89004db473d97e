"""A check that repairs, and what is read meanwhile."""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING

import pytest
import trio

from ross.model.containers import ContainerSpec
from ross.oci.digest import Digest
from ross.services.snapshotter import committed_name
from tests.integration.test_cancellation_storage import checker_of, usage_of
from tests.integration.test_collecting import missing
from tests.integration.test_image_races import open_source
from tests.support.images import ARCHITECTURE, Layer
from tests.support.scripted_registry import make_image

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


async def test_layer_is_not_exchanged_under_a_copy_of_a_container_at_rest(filesystem: Path) -> None:
    content = {f"d{number}/f": os.urandom(100_000) for number in range(20)}
    layer = Layer()
    for name, data in content.items():
        layer.directory(name.partition("/")[0]).add(name, data)
    async with open_source(filesystem, make_image(layer.tar(), architecture=ARCHITECTURE)) as source:
        services = source.services
        image = await source.pull()
        assert image.chain_id is not None
        container = await services.containers.create(image, ContainerSpec(args=("x",)))
        (services.snapshotter.files(committed_name(image.chain_id)) / "intruder").touch()
        copied = io.BytesIO()
        begun, checked = trio.Event(), trio.Event()

        async def write(piece: bytes) -> None:
            begun.set()
            await checked.wait()
            copied.write(piece)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(container.files.export, write)
            await begun.wait()
            report = await checker_of(services, usage_of(services)).check(repair=True)
            checked.set()

        with tarfile.open(fileobj=io.BytesIO(copied.getvalue())) as tar:
            found = {name: tar.extractfile(name) for name in content}
            assert {name: file.read() for name, file in found.items() if file is not None} == content
        (finding,) = report.findings
        assert "is being read or written" in finding.resolution
        report = await checker_of(services, usage_of(services)).check(repair=True)
        assert [finding.repaired for finding in report.findings] == [True]
        await container.remove(force=False)


async def test_content_that_was_a_stranger_and_is_pulled_meanwhile_stays(filesystem: Path) -> None:
    image = make_image(Layer().add("f", b"x").tar(), architecture=ARCHITECTURE)
    async with open_source(filesystem, image) as source:
        services = source.services
        stranger = services.state.blob(Digest.parse(image.layer_digests[0]))
        stranger.parent.mkdir(parents=True)
        stranger.write_bytes(b"nobody's")
        checker = checker_of(services, usage_of(services))
        (problem,) = await checker._check_strangers()

        pulled = await source.pull()
        assert problem.mend is not None
        await problem.mend()

        assert missing(services, pulled) == []
        stranger.with_name("other").touch()
        (problem,) = await checker._check_strangers()
        assert problem.mend is not None
        await problem.mend()
        assert not stranger.with_name("other").exists()
        assert list(services.state.trash.iterdir()) == []


async def test_content_that_goes_and_comes_again_while_it_is_checked_is_not_wrong(filesystem: Path) -> None:
    async with open_source(filesystem, make_image(Layer().tar(), architecture=ARCHITECTURE)) as source:
        store = source.services.store
        documents = [f'{{"schemaVersion": 2, "manifests": [], "number": {number}}}'.encode() for number in range(100)]
        for document in documents:
            await store.write_manifest(Digest.of(document), document, durable=False)

        async def come_and_go() -> None:
            for document in documents:
                await store.remove_manifest(Digest.of(document))
                await store.write_manifest(Digest.of(document), document, durable=False)

        for _round in range(5):
            async with trio.open_nursery() as nursery:
                for _time in range(3):
                    nursery.start_soon(come_and_go)
                report = await checker_of(source.services, usage_of(source.services)).check(repair=False)
            assert {finding.problem for finding in report.findings} <= {"orphan"}
