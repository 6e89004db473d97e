"""Layers that two pulls share, or that are moved, thrown away or left in the middle of being unpacked."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.integration.test_collecting import missing
from tests.integration.test_image_races import layers, open_source
from tests.support.images import ARCHITECTURE
from tests.support.scripted_registry import make_image

pytestmark = pytest.mark.integration


async def test_pull_that_cannot_clear_up_leaves_its_layers_to_others(
    filesystem: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = make_image(*layers(1000, 1000), architecture=ARCHITECTURE)
    async with open_source(filesystem, image) as source:
        services = source.services
        stall = source.stall(f"/blobs/{image.layer_digests[1]}")
        given_up = trio.CancelScope()

        async with trio.open_nursery() as nursery:

            async def pull() -> None:
                with given_up:
                    await source.pull("app:1")

            nursery.start_soon(pull)
            await stall.reached.wait()
            with trio.fail_after(60):
                while not list(services.state.snapshots.glob("unpack-*/fs/f0")):  # noqa: ASYNC110
                    await trio.sleep(0.01)
            services.state.trash.rmdir()
            services.state.trash.touch()  # so nothing can be taken away
            given_up.cancel()
            nursery.start_soon(source.pull, "app:2")
            await trio.testing.wait_all_tasks_blocked(0.05)
            services.state.trash.unlink()
            stall.passed.set()

        assert missing(services, services.images.get(f"{source.host}/app:2")) == []
        assert "cannot be removed" in caplog.text
        for info in services.snapshotter.list():
            if info.name.startswith("unpack-"):
                await services.snapshotter.remove(info.name)
