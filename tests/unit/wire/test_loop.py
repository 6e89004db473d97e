"""Calls as Trio tasks: results, errors, cancellation from every side, bounds, file descriptors."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from ross.errors import Internal, NotFound, ResourceExhausted, Unavailable
from ross.nursery.introspect import task_tree
from ross.wire.bytestream import ByteStreamServer
from ross.wire.errors import translated
from ross.wire.limits import Limits
from ross.wire.loop import open_kj_loop
from ross.wire.schema import schema

if TYPE_CHECKING:
    from ross.wire.listener import Connection
    from tests.unit.wire.conftest import Pair


class Directory(schema.Containers.Server):  # type: ignore[misc]
    """Blocks in ``list``, fails in ``get`` with whatever it is given."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.notes: list[str] = []
        self.running = 0

    async def get_context(self, context: Any) -> None:
        assert self.error is not None
        raise self.error

    async def list_context(self, context: Any) -> None:
        self.running += 1
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            self.notes.append("cancelled")
            raise
        finally:
            self.running -= 1


class Gate(schema.Gate.Server):  # type: ignore[misc]
    async def version_context(self, context: Any) -> None:
        await trio.lowlevel.checkpoint()
        context.results.version = {"version": "1.2", "protocol": 7}


async def test_call_returns_what_the_method_set(pair: Pair) -> None:
    async with pair(Gate()) as connection:
        answer = await connection.bootstrap().cast_as(schema.Gate).version()
        assert (answer.version.version, answer.version.protocol) == ("1.2", 7)


async def test_error_of_a_method_arrives_whole_and_without_a_traceback(pair: Pair) -> None:
    server = Directory(NotFound("no image is called 'x'", hint="ross pull x", kind="image"))
    async with pair(server) as connection:
        client = connection.bootstrap().cast_as(schema.Containers)
        with pytest.raises(NotFound, match="no image is called 'x'") as caught, translated():
            await client.get("x")
        assert (caught.value.hint, caught.value.facts) == ("ross pull x", {"kind": "image"})
        with pytest.raises(Exception, match="no image") as raw:
            await client.get("x")
        assert "Traceback" not in str(raw.value)
        assert "\n" not in str(getattr(raw.value, "description", "")).rstrip("\n")


async def test_unexpected_error_is_logged_and_only_its_id_is_told(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    async with pair(Directory(KeyError("secret-path"))) as connection:
        with pytest.raises(Internal, match=r"internal error [0-9a-f]{8}") as caught, translated():
            await connection.bootstrap().cast_as(schema.Containers).get("x")
        assert "secret-path" not in str(caught.value)
    assert caplog.records[0].getMessage() == f"internal error {caught.value.facts['id']}"
    caplog.clear()


async def test_cancelling_a_call_cancels_the_method(pair: Pair) -> None:
    server = Directory()
    async with pair(server) as connection:
        client = connection.bootstrap().cast_as(schema.Containers)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_wait_for, client)
            await wait_all_tasks_blocked()
            assert server.running == 1
            assert any("Directory.list_context" in node.name for node in task_tree("tests"))
            nursery.cancel_scope.cancel()
        await wait_all_tasks_blocked()
        assert server.notes == ["cancelled"]


async def _wait_for(client: Any) -> None:
    with translated():
        await client.list()


async def test_dropping_the_promise_cancels_the_method(pair: Pair) -> None:
    server = Directory()
    async with pair(server) as connection:
        promise = connection.bootstrap().cast_as(schema.Containers).list()
        await wait_all_tasks_blocked()
        assert server.running == 1
        del promise
        await wait_all_tasks_blocked()
        assert server.notes == ["cancelled"]


async def test_losing_the_connection_cancels_the_method() -> None:
    server = Directory()
    async with open_kj_loop() as loop, trio.open_nursery() as nursery:
        ours, theirs = socket.socketpair()
        from ross.wire.listener import _serve_one

        nursery.start_soon(_serve_one, loop, theirs, lambda _connection: server)
        async with loop.connect(ours) as connection:
            promise = connection.bootstrap().cast_as(schema.Containers).list()
            await wait_all_tasks_blocked()
            assert server.running == 1
        await wait_all_tasks_blocked()
        assert server.notes == ["cancelled"]
        assert not nursery.child_tasks, "the connection's tasks are gone"
        del promise


async def test_call_on_a_lost_connection_is_unavailable() -> None:
    async with open_kj_loop() as loop:
        ours, theirs = socket.socketpair()
        async with loop.connect(ours) as connection:
            client = connection.bootstrap().cast_as(schema.Gate)
            theirs.close()
            with pytest.raises(Unavailable, match="connection to the daemon was lost"), translated():
                await client.version()
            await connection.closed.wait()


async def test_end_of_the_server_ends_its_calls(tmp_path: Any) -> None:
    server = Directory()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        listener.setblocking(False)
        async with open_kj_loop() as loop, trio.open_nursery() as outer:
            serving = trio.CancelScope()

            async def serve(*, task_status: trio.TaskStatus[None]) -> None:
                with serving:
                    await loop.serve(listener, lambda _connection: server, task_status=task_status)

            await outer.start(serve)
            async with loop.connect(tmp_path / "s") as connection:
                client = connection.bootstrap().cast_as(schema.Containers)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_expect_lost, client)
                    await wait_all_tasks_blocked()
                    serving.cancel()
        assert server.notes == ["cancelled"]


async def _expect_lost(client: Any) -> None:
    with pytest.raises((Unavailable, Internal)), translated():
        await client.list()


async def test_too_many_calls_fail_and_the_others_go_on(pair: Pair) -> None:
    server = Directory()
    async with pair(server, limits=Limits(calls_in_flight=3)) as connection:
        client = connection.bootstrap().cast_as(schema.Containers)
        promises = [client.list() for _ in range(3)]
        await wait_all_tasks_blocked()
        with pytest.raises(ResourceExhausted, match="too many calls in flight"), translated():
            await client.list()
        assert server.running == 3
        promises.pop()
        await wait_all_tasks_blocked()
        promises.append(client.list())
        await wait_all_tasks_blocked()
        assert server.running == 3


MIB = 1 << 20


def asking(client: Any, size: int) -> Any:
    """A call of about this size, on its way."""
    return client.list(filter={"before": "x" * size})


async def test_calls_that_are_too_large_together_fail_and_the_others_go_on(pair: Pair) -> None:
    server = Directory()
    async with pair(server, limits=Limits(bytes_in_flight=5 * MIB)) as connection:
        client = connection.bootstrap().cast_as(schema.Containers)
        promises = [asking(client, 2 * MIB), asking(client, 2 * MIB)]
        await wait_all_tasks_blocked()
        for _ in range(3):
            with pytest.raises(ResourceExhausted, match="too large together"), translated():
                await asking(client, 2 * MIB)
        promises.append(asking(client, 1000))
        await wait_all_tasks_blocked()
        assert server.running == 3
        promises.pop(0)
        await wait_all_tasks_blocked()
        promises.append(asking(client, 2 * MIB))
        await wait_all_tasks_blocked()
        assert server.running == 3


async def test_one_call_may_be_as_large_as_a_message(pair: Pair) -> None:
    server = Directory()
    async with pair(server, limits=Limits(bytes_in_flight=MIB)) as connection:
        client = connection.bootstrap().cast_as(schema.Containers)
        for _ in range(3):
            promise = asking(client, 15 * MIB)
            await wait_all_tasks_blocked()
            assert server.running == 1
            del promise
            await wait_all_tasks_blocked()
            assert server.running == 0


class Stuck(schema.Container.Server):  # type: ignore[misc]
    """Its input is taken when it is let go on."""

    def __init__(self) -> None:
        self.go = trio.Event()
        self.taken = 0

    async def attach_context(self, context: Any) -> None:
        async def write(data: bytes) -> None:
            await self.go.wait()
            self.taken += len(data)

        async def done() -> None:
            pass

        context.results.stdin = ByteStreamServer(write, done=done)


async def test_what_waits_behind_a_call_counts_too(pair: Pair) -> None:
    """KJ lets the pieces of a stream wait for the one before, and makes no call of them until then."""
    limits, box = Limits(bytes_in_flight=2 * MIB, message_bytes=MIB), Stuck()
    async with pair(box, limits=limits) as connection:
        stdin = (await connection.bootstrap().cast_as(schema.Container).attach()).stdin

        async def write() -> None:
            with translated():
                await stdin.write(data=b"x" * (MIB // 4))

        async def lose() -> None:
            with pytest.raises(Unavailable):
                await write()

        for times in (10, 1, 10):
            async with trio.open_nursery() as nursery:
                for _ in range(times):
                    nursery.start_soon(write)
                await wait_all_tasks_blocked()
                box.go.set()
        assert box.taken == 21 * MIB // 4
        box.go = trio.Event()
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(lose)


async def test_nothing_is_held_of_calls_that_are_over(pair: Pair) -> None:
    ends: list[Connection] = []
    server = Directory(NotFound("none"))

    def bootstrap(connection: Connection) -> Directory:
        ends.append(connection)
        return server

    async with pair(bootstrap) as connection:
        client = connection.bootstrap().cast_as(schema.Containers)
        for _ in range(3):
            with pytest.raises(NotFound), translated():
                await client.get("x" * MIB)
            promises = [asking(client, 1000), asking(client, MIB)]
            await wait_all_tasks_blocked()
            ledger = ends[0]._transport._ledger
            assert ledger is not None
            assert MIB < ledger.held_bytes < MIB + 2000
            promises.clear()
            await wait_all_tasks_blocked()
            assert ledger.held_bytes == 0


async def test_answers_do_not_count_for_what_is_in_flight(pair: Pair) -> None:
    """A server that calls its client gets answers, which no call of that client holds."""

    class Box(schema.Container.Server):  # type: ignore[misc]
        running = 0

        async def top_context(self, context: Any) -> None:
            Box.running += 1
            await trio.sleep_forever()

        async def logs_context(self, context: Any) -> None:
            for _ in range(40):
                with pytest.raises(NotFound), translated():
                    await context.params.sink.write(chunk={})

    class Sink(schema.LogSink.Server):  # type: ignore[misc]
        async def write_context(self, context: Any) -> None:
            raise NotFound("y" * 5000)

    async with pair(Box(), limits=Limits(bytes_in_flight=150_000)) as connection:
        client = connection.bootstrap().cast_as(schema.Container)
        promises = [client.top()]
        await client.logs(sink=Sink())
        promises.append(client.top(columns="x" * 80_000))
        await wait_all_tasks_blocked()
        assert Box.running == 2
        with pytest.raises(ResourceExhausted), translated():
            await client.top(columns="x" * 80_000)
        del promises


async def test_what_the_block_raises_is_in_no_group(pair: Pair) -> None:
    with pytest.raises(ValueError, match="mine"):
        async with open_kj_loop() as loop:
            ours, theirs = socket.socketpair()
            with theirs:
                async with loop.connect(ours):
                    raise ValueError("mine")


async def test_loop_can_be_opened_again_and_only_once_at_a_time() -> None:
    for _ in range(2):
        async with open_kj_loop():
            with pytest.raises(RuntimeError, match="already runs"):
                async with open_kj_loop():
                    raise AssertionError("opened twice")


def open_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class FdTaker(schema.Containers.Server):  # type: ignore[misc]
    """``get`` takes a number and notes what is behind it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def get_context(self, context: Any) -> None:
        fd = self.connection.claim_fd(int(context.params.name))
        try:
            inode, inheritable = os.fstat(fd).st_ino, os.get_inheritable(fd)
        finally:
            os.close(fd)
        raise NotFound("taken", inode=inode, inheritable=inheritable)


async def test_file_descriptors_arrive_in_order_with_their_messages(pair: Pair, tmp_path: Any) -> None:
    async with pair(FdTaker) as connection:
        client = connection.bootstrap().cast_as(schema.Containers)
        for index in range(40):
            path = tmp_path / str(index)
            path.touch()
            with path.open() as file:
                (number,) = connection.send_fds([file.fileno()])
            with pytest.raises(NotFound) as caught, translated():
                await client.get(str(number))
            assert caught.value.facts == {"inode": path.stat().st_ino, "inheritable": False}


async def test_many_descriptors_at_once_and_beyond_the_limit(pair: Pair) -> None:
    async with pair(FdTaker, limits=Limits(unclaimed_fds=20)) as connection:
        client = connection.bootstrap().cast_as(schema.Containers)
        before = open_fds()
        with open(os.devnull) as file:  # noqa: PTH123, ASYNC230 -- nothing is read
            numbers = connection.send_fds([file.fileno()] * 20)
            assert numbers == list(range(20))
            with pytest.raises(NotFound), translated():
                await client.get("19")
            connection.send_fds([file.fileno()] * 2)
        with pytest.raises(Unavailable), translated():
            await client.get("20")
        await wait_all_tasks_blocked()
        assert open_fds() <= before, "nothing that arrived stays open"


async def test_slow_reader_costs_bounded_memory_and_stalls_nobody(tmp_path: Any) -> None:
    """A peer that asks and never reads: the server stops reading its requests; another peer is served."""

    class Big(schema.Gate.Server):  # type: ignore[misc]
        answered = 0

        async def version_context(self, context: Any) -> None:
            context.results.version = {"version": "x" * 60_000}
            Big.answered += 1

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        listener.setblocking(False)
        limits = Limits(write_high_bytes=200_000, write_low_bytes=50_000, calls_in_flight=10_000)
        async with open_kj_loop(limits) as loop, trio.open_nursery() as nursery:
            await nursery.start(loop.serve, listener, lambda _connection: Big())
            stalled = socket.socketpair()
            async with loop.connect(tmp_path / "s") as connection:
                client = connection.bootstrap().cast_as(schema.Gate)
                await client.version()
                connection._transport._want_read = False
                connection._transport.resume_reading = lambda: None  # type: ignore[method-assign]  # a peer that never reads
                promises = [client.version() for _ in range(2000)]
                await wait_all_tasks_blocked()
                answered = Big.answered
                assert answered < 1500
                async with loop.connect(tmp_path / "s") as other:
                    assert len((await other.bootstrap().cast_as(schema.Gate).version()).version.version) == 60_000
                await wait_all_tasks_blocked()
                assert Big.answered == answered + 1
                del promises
            for end in stalled:
                end.close()
            nursery.cancel_scope.cancel()
