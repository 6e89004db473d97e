"""A check that repairs, and what is read meanwhile."""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING

import pytest
import trio

from ross.model.containers import ContainerSpec
from ross.services.snapshotter import committed_name
from tests.integration.test_cancellation_storage import checker_of, usage_of
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
