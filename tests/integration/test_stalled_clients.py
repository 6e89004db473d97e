"""A client that begins as much as it can, and then neither reads nor sends: nobody else waits for it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

from ross.wire.loop import open_kj_loop
from ross.wire.schema import schema
from tests.support.archives import docker_archive
from tests.support.images import ImageBuilder, Layer, busybox_layer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

CALLS = 50
"""More than there are threads for anything."""
NAME = "localhost/bulky:1"
FILES = "cd /tmp; i=0; while [ $i -lt 1200 ]; do : > $(printf %0200d $i); i=$((i+1)); done; exec sleep 100000"
"""So many changes that telling them takes more than is on its way at a time."""


class StalledChanges(schema.ChangeSink.Server):  # type: ignore[misc]  # the schema is loaded at run time
    async def write_context(self, _context: Any) -> None:
        await trio.sleep_forever()


class StalledBytes(schema.ByteStream.Server):  # type: ignore[misc]
    async def write_context(self, _context: Any) -> None:
        await trio.sleep_forever()

    async def done_context(self, _context: Any) -> None:
        """It never comes so far."""


@pytest.fixture(scope="module")
def busy(one_daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with an image that is larger than what is on its way at a time, and two containers of it."""
    path = tmp_path_factory.mktemp("archive") / "bulky.tar"
    bulk = Layer().add("bulk", bytes(range(256)) * 32_000)
    path.write_bytes(docker_archive(ImageBuilder().layer(busybox_layer()).layer(bulk), [NAME]).tar())
    for words in (
        ("load", "-i", str(path)),
        ("run", "-d", "--name", "held", "--network", "none", NAME, "sh", "-c", FILES),
        ("run", "-d", "--name", "other", "--network", "none", NAME, "sleep", "100000"),
        ("exec", "held", "sh", "-c", "until [ $(ls /tmp | wc -l) = 1200 ]; do sleep 0.1; done"),
    ):
        done = one_daemon.ross(*words)
        assert done.returncode == 0, done.stderr
    yield one_daemon
    one_daemon.ross("rm", "-f", "held", "other")


async def diff(container: Any, _images: Any) -> None:
    await container.diff(sink=StalledChanges())


async def read(container: Any, _images: Any) -> None:
    await container.readFiles(b"/bulk", b"x", False, StalledBytes())


async def export(container: Any, _images: Any) -> None:
    await container.exportFiles(StalledBytes())


async def write(container: Any, _images: Any) -> None:
    begun = await container.writeFiles(b"/tmp", False)
    await begun.writing.finish()


async def load(_container: Any, images: Any) -> None:
    begun = await images.load()
    await begun.loading.finish()


async def bring_in(_container: Any, images: Any) -> None:
    begun = await images.importFilesystem()
    await begun.loading.finish()


async def save(form: str, _container: Any, images: Any) -> None:
    await images.save(names=[NAME], sink=StalledBytes(), options={"format": form})


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(diff, id="diff"),
        pytest.param(read, id="read"),
        pytest.param(export, id="export"),
        pytest.param(write, id="write"),
        pytest.param(load, id="load"),
        pytest.param(bring_in, id="import"),
        pytest.param(partial(save, "both"), id="save"),
        pytest.param(partial(save, "dockerArchive"), id="save-docker"),
    ],
)
async def test_nobody_waits_for_a_client_that_stalls(
    call: Callable[[Any, Any], Awaitable[None]], busy: Daemon, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1_000_000)
    async with open_kj_loop() as loop, loop.connect(busy.socket) as connection:
        engine = connection.bootstrap().cast_as(schema.Engine)
        container = (await engine.containers().containers.get("held")).container
        images = (await engine.images()).images
        async with trio.open_nursery() as nursery:
            for _number in range(CALLS):
                nursery.start_soon(call, container, images)
            with trio.move_on_after(1):  # to let them come as far as they can
                await trio.sleep_forever()

            for words in (
                ("run", "--rm", "--network", "none", NAME, "true"),
                ("exec", "held", "true"),
                ("cp", str(tmp_path / "file"), "held:/tmp/file"),
                ("cp", "held:/tmp/file", str(tmp_path / "back")),
                ("diff", "other"),
                ("save", "-o", str(tmp_path / "saved.tar"), NAME),
                ("load", "-i", str(tmp_path / "saved.tar")),
            ):
                done = await trio.to_thread.run_sync(partial(busy.ross, *words))
                assert done.returncode == 0, (words, done.stderr)
            nursery.cancel_scope.cancel()
