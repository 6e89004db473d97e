"""Lists that are answered however much there is in them, and whatever it says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

import ross
from ross.errors import InvalidArgument
from ross.model.containers import ContainerFilter
from ross.model.events import Event
from ross.model.images import ImageFilter
from ross.wire.convert import to_wire
from tests.support.archives import config_of, entry_of, oci_layout
from tests.support.images import busybox_image

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.daemon import Daemon
    from tests.support.images import BuiltImage

pytestmark = pytest.mark.integration

LONG = "x" * 3_900_000


async def load(engine: ross.Engine, images: list[BuiltImage], name: str) -> list[str]:
    """Load images as ``<name>0:1`` and so on, of one archive; returns what is told of them."""
    entries = [entry_of(image, f"docker.io/library/{name}{number}:1") for number, image in enumerate(images)]
    archive = oci_layout(images, entries).tar()

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(archive), 1 << 20):
            yield archive[start : start + (1 << 20)]

    return [name for one in await engine.images.load(chunks()) for name in one.names]


@pytest.mark.parametrize("kind", ["Labels", "Env", "Cmd", "ExposedPorts"])
async def test_images_with_long_configs_are_listed(daemon: Daemon, kind: str) -> None:
    """Each is within the bounds of a document, and in a message up to five times as long."""
    configs: dict[str, Any] = {
        "Labels": {str(number): "" for number in range(300_000)},
        "Env": ["A=" + LONG],
        "Cmd": [""] * 900_000,
        "ExposedPorts": {f"{number}/udp": {} for number in range(200_000)},
    }
    images = [busybox_image(**{kind: configs[kind], "User": str(number)}) for number in range(5)]
    async with ross.connect(daemon.socket) as engine:
        names = [f"docker.io/library/long{number}:1" for number in range(5)]
        assert await load(engine, images, "long") == names
        listed = await engine.images.list()
        assert sorted(name for info in listed for name in info.names) == names
        assert all(info.abridged for info in listed)
        image = await engine.images.get("long0:1")
        info = await image.info()
        assert info.names == (names[0],)
        assert await image.config() == config_of(images[0])
        assert (await image.history())[0].id == info.id
        async with engine.events(since=1) as events:
            event = await anext(events)
            assert isinstance(event, Event)
            assert (event.name, event.labels) == (names[0], {})
        if kind == "Labels":
            assert len(await engine.images.list(ImageFilter(labels=("299999",)))) == 5
    shown = daemon.ross("images", "--format", "{{.Repository}}")
    assert sorted(shown.stdout.split()) == [f"long{number}" for number in range(5)], shown.stderr


async def test_what_no_kernel_executes_is_refused(daemon: Daemon, box: str) -> None:
    """Of what a container says of itself, a record of 4 MiB is the most that the next daemon reads."""
    async with ross.connect(daemon.socket) as engine:
        await load(engine, [busybox_image(Cmd=["true", LONG])], "long")
        with pytest.raises(InvalidArgument, match="more than 2097152"):
            await (await engine.images.get("long0:1")).create()
        image = await engine.images.get(box)
        for much in ({"env": ["A=" + LONG]}, {"key": LONG}):
            with pytest.raises(InvalidArgument, match="more than 2097152"):
                await image.create(["true"], name="kept", **much)
        kept = await image.create(
            ["sh", "-c", 'echo "$A" | wc -c'], name="kept", env=["A=" + "y" * 120_000, "B=" + "z" * 120_000]
        )
        for much in ({"env": ["A=" + LONG]}, {"key": LONG}):
            with pytest.raises(InvalidArgument, match="more than 2097152"):
                await image.create(["true"], name="kept", replace=True, **much)
        whole = await kept.info()
        (listed,) = await engine.containers.list(all=True)
        assert (listed.id, listed.name, listed.abridged, listed.spec.env) == (whole.id, "kept", True, ())
        assert (whole.abridged, len(whole.spec.env[0])) == (False, 120_002)
    daemon.kill()
    daemon.start()
    assert daemon.ross("start", "-a", "kept").stdout == "120001\n"


async def test_containers_that_take_more_than_a_message_are_listed(daemon: Daemon, box: str) -> None:
    async with ross.connect(daemon.socket) as engine:
        image, limiter = await engine.images.get(box), trio.CapacityLimiter(8)

        async def make(number: int) -> None:
            async with limiter:
                await image.create(["true"], name=f"box{number}", labels={"number": str(number), "long": "x" * 60_000})

        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(make, number)
        listed = await engine.containers.list(all=True)
        assert {info.name: info.spec.labels["number"] for info in listed} == {f"box{n}": str(n) for n in range(300)}
        assert len(listed) == 300
        assert all(len(info.spec.labels["long"]) == 60_000 for info in listed)
        assert [info.created_at for info in listed] == sorted((info.created_at for info in listed), reverse=True)

        first = await engine.containers._capability.list(filter=to_wire(ContainerFilter(all=True)))
        assert 1 < len(first.containers) < 100
        await engine.containers.get(listed[0].name).now.remove()
        for _ in range(2):
            again = await first.rest.next()
            assert again.containers[0].id == listed[len(first.containers)].id, "as it was when it was asked for"
    assert len(daemon.ross("ps", "-aq").stdout.split()) == 299


async def test_snapshots_that_take_more_than_a_message_are_listed(daemon: Daemon) -> None:
    labels = {f"label{number:02}": "x" * 4000 for number in range(16)}
    async with ross.connect(daemon.socket) as engine:
        for number in range(300):
            await engine.snapshots.prepare(f"many{number:03}", labels=labels)
        listed = await engine.snapshots.list(prefix="many")
        assert [info.name for info in listed] == [f"many{number:03}" for number in range(300)]
        assert all(info.labels == labels for info in listed)
        for info in listed:
            await engine.snapshots.remove(info.name)


async def test_execs_with_many_arguments_are_listed(daemon: Daemon, box: str) -> None:
    """Thirty are remembered when they have ended."""
    args = ["true", *["x" * 100_000] * 8]
    async with ross.connect(daemon.socket) as engine:
        container = await (await engine.images.get(box)).create(["sleep", "600"])
        await container.start()
        for _ in range(25):
            await (await container.open_exec(args)).wait()
        found = await container.execs()
        assert len(found) == 25
        info, first = found[0]
        assert (info.abridged, info.args[0], len(info.args)) == (True, "true", 8)
        assert (await first.info()).args == tuple(args)
