"""The client library against a real daemon, on Trio and on asyncio: references, pipelining, cancellation, events."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

import ross
from ross.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, Reason, Unavailable
from ross.model.containers import ContainerState
from ross.model.events import Event
from ross.model.snapshots import SnapshotKind
from ross.oci.digest import Digest

if TYPE_CHECKING:
    from ross.client.content import Content
    from ross.client.snapshots import Snapshots
    from tests.support.backends import Run
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration


def test_life_of_a_container(daemon: Daemon, box: str, run: Run) -> None:
    async def body() -> None:
        async with ross.connect(daemon.socket) as engine:
            image = await engine.images.get(box)
            container = await image.create(
                ["sh", "-c", "echo out; exit 7"], name="mine", env={"A": "1"}, network="none"
            )
            assert (await container.info()).state is ContainerState.CREATED
            await container.start()
            assert (await container.wait()).exit_code == 7
            async with container.logs() as entries:
                assert [entry.data async for entry in entries] == [b"out\n"]
            same = await engine.containers.get("mine")
            assert (await same.info()).spec.env == ("A=1",)
            await same.remove()
            assert (await container.info()).state is ContainerState.REMOVED
            with pytest.raises(NotFound, match="has been removed"):
                await container.start()

    run(body)


def test_whole_run_in_one_call(daemon: Daemon, box: str, run: Run) -> None:
    async def body() -> None:
        async with ross.connect(daemon.socket) as engine:
            image = await engine.images.get(box)
            done = await image.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
            assert (done.outcome.exit_code, done.stdout, done.stderr) == (3, b"out\n", b"err\n")
            with pytest.raises(FailedPrecondition) as caught:
                await image.run(["nosuch"])
            assert caught.value.reason == Reason.COMMAND_NOT_FOUND
            assert await engine.containers.list(all=True) == ()

    run(body)


def test_calls_travel_behind_one_another(daemon: Daemon, box: str, run: Run) -> None:
    async def body() -> None:
        async with ross.connect(daemon.socket) as engine:
            pulled = engine.images.pull(box)
            created = pulled.now.create(["true"], name="piped")
            started = created.now.start()
            await started
            container = await created
            assert (await container.wait()).exit_code == 0
            await container.remove()
            # A stage that fails fails the rest with its own error, and leaves nothing.
            broken = engine.images.get("nosuch").now.create(["true"]).now.start()
            with pytest.raises(NotFound, match="no image 'nosuch'"):
                await broken
            assert await engine.containers.list(all=True) == ()

    run(body)


def test_errors_are_the_daemons(daemon: Daemon, box: str, run: Run) -> None:
    async def body() -> None:
        async with ross.connect(daemon.socket) as engine:
            image = await engine.images.get(box)
            container = await image.create(["true"], name="taken")
            with pytest.raises(AlreadyExists, match="the name 'taken' is taken") as caught:
                await image.create(["true"], name="taken")
            assert caught.value.hint is not None
            with pytest.raises(InvalidArgument, match="not an absolute path"):
                await image.create(["true"], workdir="relative")
            with pytest.raises(InvalidArgument, match="no option 'nonsense'"):
                image.create(["true"], nonsense=True)  # type: ignore[call-arg]  # what a program without types would do
            with pytest.raises(InvalidArgument, match="list of words"):
                image.create("sleep 5")
            await container.remove()
        with pytest.raises(Unavailable, match="no daemon answers"):
            async with ross.connect(str(daemon.socket) + ".none"):
                raise AssertionError("connected to nothing")

    run(body)


def test_what_the_block_raises_is_raised_as_it_is(daemon: Daemon, run: Run) -> None:
    async def body() -> None:
        with pytest.raises(ZeroDivisionError):
            async with ross.connect(daemon.socket):
                raise ZeroDivisionError

    run(body)


def test_cancelling_a_call_ends_it_in_the_daemon(daemon: Daemon, box: str, run: Run) -> None:
    async def body() -> None:
        async with ross.connect(daemon.socket) as engine:
            image = await engine.images.get(box)
            container = await image.create(["sleep", "100000"])
            await container.start()
            with anyio.move_on_after(0.3) as scope:
                await container.wait()
            assert scope.cancelled_caught
            with anyio.fail_after(60):
                while any("wait_context" in task.name for task in await engine.tasks()):  # noqa: ASYNC110 -- of another process
                    await anyio.sleep(0.01)
            await container.stop(timeout=0)
            assert (await container.wait()).signal == 9
            await container.remove()

    run(body)


def test_discarding_waits_for_no_daemon_that_is_stopped(daemon: Daemon, box: str, run: Run) -> None:
    async def body() -> None:
        async with ross.connect(daemon.socket) as engine:
            image = await engine.images.get(box)
            container = await image.create(["true"], name="mine")
            os.kill(daemon.pid, signal.SIGSTOP)
            try:
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    with pytest.raises(Unavailable, match=r"did not remove the container within 0\.1 s"):
                        await container.discard(seconds=0.1)
            finally:
                os.kill(daemon.pid, signal.SIGCONT)
            await container.discard()
            assert await engine.containers.list(all=True) == ()
            await container.discard()

    run(body)


def test_input_and_output_of_a_process(daemon: Daemon, box: str, run: Run) -> None:
    async def body() -> None:
        async with ross.connect(daemon.socket) as engine:
            image = await engine.images.get(box)
            container = await image.create(["cat"], stdin=True, auto_remove=True)
            received = bytearray()

            async def keep(data: bytes) -> None:
                received.extend(data)

            process = await container.attach(stdin=True, stdout=keep)
            await container.start()
            sent = bytes(range(256)) * 4000
            await process.write(sent)
            await process.close_stdin()
            assert (await process.wait()).exit_code == 0
            assert bytes(received) == sent
            await container.wait()
            assert await engine.containers.list(all=True) == ()

    run(body)


def test_events_tell_what_happens(daemon: Daemon, box: str, run: Run) -> None:
    async def body() -> None:
        async with ross.connect(daemon.socket) as engine, engine.events() as events:
            image = await engine.images.get(box)
            await image.run(["true"], name="seen")
            actions = []
            async for event in events:
                assert isinstance(event, Event)
                actions.append(event.action)
                if event.action == "destroy":
                    break
            assert [action for action in actions if action != "kill"] == ["create", "attach", "start", "die", "destroy"]

    run(body)


def test_held_image_outlives_its_name(daemon: Daemon, box: str, run: Run) -> None:
    async def body() -> None:
        async with ross.connect(daemon.socket) as engine:
            image = await engine.images.get(box)
            removed = await engine.images.remove(box)
            assert removed.deleted == ()
            assert (await image.run(["echo", "still"])).stdout == b"still\n"
            del image
        async with ross.connect(daemon.socket) as engine:
            with anyio.fail_after(60):
                while await engine.images.list():  # noqa: ASYNC110 -- as soon as the daemon has let go of the last connection
                    await engine.collect()

    run(body)
    blobs = daemon.root / "blobs/sha256"
    assert list(blobs.iterdir()) == []


def test_shutdown_on_request(daemon: Daemon, run: Run) -> None:
    async def body() -> None:
        async with ross.connect(daemon.socket) as engine:
            await engine.shutdown()

    run(body)
    daemon.wait_ended()
    daemon.start()


def test_content_and_snapshots(daemon: Daemon, box: str, run: Run) -> None:
    async def body() -> None:
        async with ross.connect(daemon.socket) as engine:
            await content(engine.content)
            (layer,) = [info for info in await engine.snapshots.list() if info.kind is SnapshotKind.COMMITTED]
            await snapshots(engine.snapshots, layer.name)
            assert await engine.snapshots.list() == (layer,)

    async def content(store: Content) -> None:
        data = b"0123456789" * 150_000
        digest = Digest.of(data)
        before = await store.list()
        async with store.write(digest, len(data)) as writer:
            await writer.write(data[:1_200_000])
            with pytest.raises(Unavailable):
                async with store.write(digest, len(data)):
                    raise AssertionError("two write")
        (ingest,) = await store.ingests()
        assert (ingest.digest, ingest.offset, ingest.active) == (digest, 1_200_000, False)
        async with store.write(digest, len(data)) as writer:
            assert writer.offset == 1_200_000
            await writer.write(data[writer.offset :])
            made = await writer.commit(labels={"a": "b"})
        assert (made.size_bytes, made.labels) == (len(data), {"a": "b"})
        async with store.read(digest, offset=5, length=1_100_000) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == data[5:1_100_005]
        async with store.read(digest) as chunks:  # left in the middle
            await anext(chunks)
        assert (await store.update(digest, labels={"c": "d"}, forget=["a"])).labels == {"c": "d"}
        assert [one.digest for one in await store.list(labels=["c"])] == [digest]
        assert await store.remove(digest) >= len(data)
        with pytest.raises(NotFound):
            await store.info(digest)
        with anyio.move_on_after(0.05) as scope:
            async with store.write(digest, len(data)) as writer:
                await writer.write(data[:100])
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        with anyio.fail_after(60):
            while any(one.active for one in await store.ingests()):  # noqa: ASYNC110 -- what is dropped is let go of soon
                await anyio.sleep(0.01)
        for ingest in await store.ingests():  # none, if it was cancelled before the first byte
            await store.abort(ingest.digest)
        assert await store.ingests() == ()
        assert await store.list() == before

    async def snapshots(all_: Snapshots, layer: str) -> None:
        made = await all_.prepare("mine", parent=layer, labels={"a": "b"})
        assert (made.kind, made.parent, made.labels) == (SnapshotKind.ACTIVE, layer, {"a": "b"})
        with pytest.raises(AlreadyExists):
            await all_.view("mine", parent=layer)
        (Path((await all_.mounts("mine")).upper) / "new").write_text("new")
        async with all_.diff("mine") as changes:
            assert [change.text async for change in changes] == ["/new"]
        assert (await all_.usage("mine")).inodes == 2
        assert (await all_.update("mine", labels={"c": "d"}, forget=["a"])).labels == {"c": "d"}
        assert (await all_.commit("mine", "done")).kind is SnapshotKind.COMMITTED
        assert (await all_.view("look", parent="done")).kind is SnapshotKind.VIEW
        assert [info.name for info in await all_.list(parent="done")] == ["look"]
        with pytest.raises(FailedPrecondition):
            await all_.remove("done")
        await all_.remove("look")
        assert await all_.remove("done") > 0
        with pytest.raises(NotFound):
            await all_.stat("done")

    run(body)
