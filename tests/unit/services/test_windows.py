"""A large blob through several connections: when it is split, what that costs if it goes wrong, and what it never does."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio
from attrs import define, evolve, field
from trio.testing import MockClock, wait_all_tasks_blocked

from ross.errors import Corrupt, RossError, Unavailable
from ross.layout import StateLayout
from ross.oci.digest import Digest
from ross.oci.image import Descriptor
from ross.oci.reference import Reference
from ross.registry.client import RegistryClient
from ross.registry.credentials import CredentialStore
from ross.registry.retry import RetryPolicy, Transient
from ross.registry.session import RegistrySession
from ross.services.puller import Puller
from ross.services.snapshotter import Snapshotter
from ross.services.store import ContentStore
from ross.services.throttle import Throttle
from ross.services.windows import Splitting, Windows
from tests.support.scripted_registry import Handler, Request, ScriptedRegistry, begin, reply, scripted_registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from ross.services.ingest import Ingest

BLOB = random.Random(5).randbytes(6_000_000)
DIGEST = Digest.of(BLOB)
LAYER = Descriptor(media_type="application/vnd.oci.image.layer.v1.tar", digest=DIGEST, size=len(BLOB))
EAGER = Splitting(
    smallest_bytes=200_000,
    largest_bytes=500_000,
    ahead_bytes=2_000_000,
    stretch_seconds=0,
    slow_bytes=1 << 50,
    busy=1e9,
    gain=0,
)


@define
class Setting:
    """A puller, and what it asks."""

    server: ScriptedRegistry
    puller: Puller
    store: ContentStore

    async def fetch(self) -> None:
        await self.puller.fetch_blob(Reference.parse(f"{self.server.host}/app:1"), LAYER)

    def asked(self) -> list[tuple[int, int]]:
        """From where up to where, in the order of the requests."""
        return [part(request) for request in self.server.requests if request.path.endswith(DIGEST.encoded)]

    def windows(self) -> list[tuple[int, int]]:
        return [(first, last) for first, last in self.asked() if first and last < len(BLOB)]


def part(request: Request) -> tuple[int, int]:
    first, _dash, last = request.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")
    return int(first), int(last) + 1 if last else len(BLOB)


async def piecemeal(stream: Any, data: bytes, *, before_last: Callable[[], None] = lambda: None) -> None:
    """A line that gives each connection only so much."""
    for at in range(0, len(data), 60_000):
        if at + 60_000 >= len(data):
            before_last()
        await stream.send_all(data[at : at + 60_000])
        await trio.sleep(0.003)


async def serve(
    request: Request, stream: Any, *, before_last: Callable[[], None] = lambda: None, **headers: str
) -> None:
    first, end = part(request)
    ranged = {"Content_Range": f"bytes {first}-{end - 1}/{len(BLOB)}"} if "range" in request.headers else {}
    await begin(stream, 206 if ranged else 200, **{"Content_Length": str(end - first)} | ranged | headers)
    await piecemeal(stream, BLOB[first:end], before_last=before_last)


def is_window(request: Request) -> bool:
    return not request.headers.get("range", "-").endswith("-")


@asynccontextmanager
async def fetching_from(
    handler: Handler, tmp_path: Path, *, splitting: Splitting = EAGER, downloads: int = 6, certs_dir: Path | None = None
) -> AsyncIterator[Setting]:
    store = ContentStore(StateLayout(root=tmp_path / "root"))
    await store.recover()
    async with scripted_registry(handler) as server:
        session = RegistrySession(
            CredentialStore(tmp_path / "config.json"), user_agent="test", certs_dir=[certs_dir] if certs_dir else []
        )
        async with session:
            puller = Puller(
                registry=RegistryClient(session, policy=RetryPolicy(attempts=3, initial_seconds=0)),
                store=store,
                snapshotter=Snapshotter(store.layout),
                unpacker=cast("Any", None),
                max_downloads=downloads,
                splitting=splitting,
            )
            yield Setting(server, puller, store)
            assert puller._downloads.borrowed_tokens == 0


def whole(setting: Setting) -> bool:
    left = list(setting.store.layout.ingests.iterdir())
    return not left and setting.store.path(DIGEST).read_bytes() == BLOB


async def test_a_large_blob_comes_by_several_connections_each_byte_once(tmp_path: Path) -> None:
    under_way: set[object] = set()
    peak = 0

    async def handle(request: Request, stream: Any) -> None:
        nonlocal peak
        one = object()
        under_way.add(one)
        peak = max(peak, len(under_way))
        try:  # whoever reads the last of it may be done before we are
            await serve(request, stream, before_last=lambda: under_way.discard(one))
        finally:
            under_way.discard(one)

    async with fetching_from(handle, tmp_path) as setting:
        await setting.fetch()

    assert whole(setting)
    assert 3 <= peak <= 4 + 1  # the stream's connection is broken off where the windows begin
    windows = sorted(setting.windows() + [part for part in setting.asked()[1:] if part[1] == len(BLOB)])
    assert all(before[1] == after[0] for before, after in pairwise(windows)), windows
    assert windows[-1][1] == len(BLOB)


@pytest.mark.parametrize("connections", [0, 1])
async def test_it_can_be_switched_off(tmp_path: Path, connections: int) -> None:
    splitting = evolve(EAGER, connections=connections)
    async with fetching_from(serve, tmp_path, splitting=splitting) as setting:
        await setting.fetch()

    assert whole(setting)
    assert setting.asked() == [(0, len(BLOB))]


async def test_places_that_layers_need_are_left_to_them(tmp_path: Path) -> None:
    async with fetching_from(serve, tmp_path, downloads=1) as setting:
        async with setting.puller._downloads:
            await setting.fetch()

    assert whole(setting)
    assert setting.asked() == [(0, len(BLOB))]


async def refused(request: Request, stream: Any) -> None:
    await reply(stream, 416, Content_Range=f"bytes */{len(BLOB)}")


async def ignored(request: Request, stream: Any) -> None:
    await begin(stream, 200, Content_Length=str(len(BLOB)))
    await piecemeal(stream, BLOB)


async def elsewhere(request: Request, stream: Any) -> None:
    first, end = part(request)
    await serve(request, stream, Content_Range=f"bytes {first + 1}-{end}/{len(BLOB)}")


async def of_another_size(request: Request, stream: Any) -> None:
    first, end = part(request)
    await serve(request, stream, Content_Range=f"bytes {first}-{end - 1}/{len(BLOB) + 1}")


async def too_long(request: Request, stream: Any) -> None:
    first, end = part(request)
    await serve(request, stream, Content_Length=str(end - first + 1))


async def encoded(request: Request, stream: Any) -> None:
    await serve(request, stream, Content_Encoding="gzip")


async def throttled(_request: Request, stream: Any) -> None:
    await reply(stream, 429, Retry_After="3600")


async def forbidden(_request: Request, stream: Any) -> None:
    await reply(stream, 403)


@pytest.mark.parametrize(
    "answer", [refused, ignored, elsewhere, of_another_size, too_long, encoded, throttled, forbidden]
)
async def test_a_registry_that_does_not_do_windows_is_asked_no_further(tmp_path: Path, answer: Handler) -> None:
    async def handle(request: Request, stream: Any) -> None:
        await (answer if is_window(request) else serve)(request, stream)

    async with fetching_from(handle, tmp_path) as setting:
        await setting.fetch()

    assert whole(setting)
    assert setting.asked()[0] == (0, len(BLOB))
    assert len(setting.windows()) <= 3  # those that were under way together
    assert setting.asked() == [(0, len(BLOB)), *setting.windows()]  # the stream was never begun again


@pytest.mark.parametrize("keep", [0, 1, 100_000, 199_999])
async def test_a_window_that_breaks_off_is_gone_on_with_where_it_stopped(tmp_path: Path, keep: int) -> None:
    broken: list[tuple[int, int]] = []

    async def handle(request: Request, stream: Any) -> None:
        if is_window(request) and len(broken) < 2:
            first, end = part(request)
            broken.append((first, end))
            await begin(
                stream, 206, Content_Length=str(end - first), Content_Range=f"bytes {first}-{end - 1}/{len(BLOB)}"
            )
            await stream.send_all(BLOB[first : first + keep])
        else:
            await serve(request, stream)

    async with fetching_from(handle, tmp_path) as setting:
        await setting.fetch()

    assert whole(setting)
    assert broken
    again = [first for first, _end in setting.asked()]
    for first, _end in broken:
        if first + keep in again[1:]:
            assert keep == 0 or again.count(first) == 1
        assert again.count(first) <= (2 if keep == 0 else 1)


async def test_windows_of_wrong_content_are_not_used_again(tmp_path: Path) -> None:
    async def handle(request: Request, stream: Any) -> None:
        if is_window(request):
            first, end = part(request)
            head = {"Content_Length": str(end - first), "Content_Range": f"bytes {first}-{end - 1}/{len(BLOB)}"}
            await begin(stream, 206, **head)
            await piecemeal(stream, bytes(end - first))
        else:
            await serve(request, stream)

    async with fetching_from(handle, tmp_path) as setting:
        await setting.fetch()

    assert whole(setting)
    assert setting.asked()[-1] == (0, len(BLOB))
    assert setting.asked().count((0, len(BLOB))) == 2


async def test_wrong_content_without_windows_is_still_told_at_once(tmp_path: Path) -> None:
    async def handle(_request: Request, stream: Any) -> None:
        await reply(stream, 200, bytes(len(BLOB)))

    async with fetching_from(handle, tmp_path, splitting=evolve(EAGER, connections=1)) as setting:
        with pytest.raises(Corrupt):
            await setting.fetch()
        assert setting.asked() == [(0, len(BLOB))]


async def test_what_a_cancelled_fetch_leaves_is_only_the_beginning(tmp_path: Path) -> None:
    """Cancelled while the stream waits for a window, and others are ahead of it."""
    stuck = trio.Event()
    first_window: list[int] = []

    async def handle(request: Request, stream: Any) -> None:
        if is_window(request) and (not first_window or part(request)[0] == first_window[0]):
            first_window.append(part(request)[0])
            first, end = part(request)
            head = {"Content_Length": str(end - first), "Content_Range": f"bytes {first}-{end - 1}/{len(BLOB)}"}
            await begin(stream, 206, **head)
            await trio.sleep_forever()
        await serve(request, stream)
        if first_window and len(setting.windows()) >= 3:
            stuck.set()

    async with fetching_from(handle, tmp_path) as setting:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(setting.fetch)
            await stuck.wait()
            nursery.cancel_scope.cancel()
        directory = setting.store.layout.ingest(f"sha256-{DIGEST.encoded}")
        assert sorted(path.name for path in directory.iterdir()) == ["data", "metadata.json"]
        there = (directory / "data").read_bytes()
        assert there == BLOB[: len(there)]
        assert len(there) <= first_window[0]
        setting.server.handler = serve
        asked = len(setting.asked())
        await setting.fetch()

    assert whole(setting)
    assert setting.asked()[asked][0] == len(there)


async def test_windows_come_from_who_serves_the_stream_and_not_when_it_is_lost(tmp_path: Path) -> None:
    """A mirror that breaks off everything: the registry goes on, and nothing is asked for twice."""

    async def mirror(request: Request, stream: Any) -> None:
        first, end = part(request)
        ranged = {"Content_Range": f"bytes {first}-{end - 1}/{len(BLOB)}"} if first else {}
        await begin(stream, 206 if first else 200, Content_Length=str(end - first), **ranged)
        await piecemeal(stream, BLOB[first:end][:2_500_000])

    async with scripted_registry(mirror) as other:
        (tmp_path / "_default").mkdir()
        (tmp_path / "_default/hosts.toml").write_text(f'[host."{other.url}"]')
        async with fetching_from(serve, tmp_path, certs_dir=tmp_path) as setting:
            await setting.fetch()

        assert whole(setting)
        assert len(other.requests) > 2


# -- when it pays -----------------------------------------------------------------------------------------------------


@define
class Line:
    """A line that gives each connection so much, and all together no more than so much."""

    each: float
    together: float
    connections: int = 0
    most: int = 0
    begun: int = 0

    async def bring(self, count: int) -> None:
        await trio.sleep(count / min(self.each, self.together / self.connections))

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        self.begun += 1
        self.connections += 1
        self.most = max(self.most, self.connections)
        try:
            yield
        finally:
            self.connections -= 1


@define
class FakeRemote:
    """Has windows, through a line."""

    line: Line
    content: bytes

    @asynccontextmanager
    async def window(self, _descriptor: Descriptor, begin: int, end: int) -> AsyncIterator[Any]:
        async with self.line.connected():
            yield FakeStream(self.line, self.content[begin:end])


@define
class SilentRemote:
    """Takes requests for windows, and never answers."""

    asked: list[int] = field(factory=list)

    @asynccontextmanager
    async def window(self, _descriptor: Descriptor, begin: int, _end: int) -> AsyncIterator[Any]:
        self.asked.append(begin)
        await trio.Event().wait()
        yield


@define
class FakeStream:
    line: Line
    content: bytes

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        for at in range(0, len(self.content), 1 << 20):
            chunk = self.content[at : at + (1 << 20)]
            await self.line.bring(len(chunk))
            yield chunk


async def filled(
    line: Line,
    tmp_path: Path,
    *,
    bandwidth: int = 0,
    splitting: Splitting | None = None,
    silent: SilentRemote | None = None,
) -> int:
    """Fill an ingest through a line, as a pull does; returns how many connections there were at most."""
    content = random.Random(1).randbytes(40 << 20)
    descriptor = evolve(LAYER, digest=Digest.of(content), size=len(content))
    store = ContentStore(StateLayout(root=tmp_path))
    await store.recover()
    throttle = Throttle(bandwidth)
    windows = Windows(
        cast("Any", silent or FakeRemote(line, content)),
        descriptor,
        splitting=splitting or Splitting(smallest_bytes=1 << 20, largest_bytes=4 << 20),
        places=trio.CapacityLimiter(6),
        throttle=throttle,
        space=store.space,
    )
    async with trio.open_nursery() as nursery, store.ingest(descriptor.digest, descriptor.size) as ingest:
        assert ingest is not None
        nursery.start_soon(_let_time_pass)
        async with windows.open(ingest, lambda: None):
            while ingest.offset < descriptor.size:
                await _stream(line, content, ingest, windows, throttle)
                await windows.drain()
        await ingest.commit()
        nursery.cancel_scope.cancel()
    return line.most


async def _let_time_pass() -> None:
    """As much as all are waiting for; but none while a thread works, however long the disk takes."""
    clock, threads = trio.lowlevel.current_clock(), trio.to_thread.current_default_thread_limiter()
    assert isinstance(clock, MockClock)
    while True:
        await wait_all_tasks_blocked(0.001)
        left = trio.lowlevel.current_statistics().seconds_to_next_deadline
        if not threads.borrowed_tokens and 0 < left < math.inf:
            clock.jump(left)


async def _stream(line: Line, content: bytes, ingest: Ingest, windows: Windows, throttle: Throttle) -> None:
    async with line.connected():
        windows.waits()
        async with aclosing(FakeStream(line, content[ingest.offset :]).chunks()) as chunks:
            async for chunk in chunks:
                mine = windows.came(chunk)
                await ingest.write(mine)
                windows.written(mine)
                if windows.relieved or len(mine) < len(chunk):
                    return
                await throttle.take(len(chunk))
                windows.waits()


@pytest.fixture
def patient_clock() -> MockClock:
    """Stands still, until it is told what is waited for."""
    return MockClock()


MIB = 1 << 20


async def test_a_line_that_limits_each_connection_gets_all_of_them(patient_clock: MockClock, tmp_path: Path) -> None:
    assert await filled(Line(each=5 * MIB, together=1000 * MIB), tmp_path) == 4


async def test_a_line_that_is_full_gets_no_more_than_a_trial(patient_clock: MockClock, tmp_path: Path) -> None:
    line = Line(each=5 * MIB, together=5 * MIB)
    assert await filled(line, tmp_path) == 2


async def test_a_fast_line_gets_one(patient_clock: MockClock, tmp_path: Path) -> None:
    fast = Splitting(smallest_bytes=1 << 20, largest_bytes=4 << 20, slow_bytes=4 * MIB)
    assert await filled(Line(each=20 * MIB, together=1000 * MIB), tmp_path, splitting=fast) == 1


async def test_who_is_held_back_by_our_own_bound_gets_one(patient_clock: MockClock, tmp_path: Path) -> None:
    assert await filled(Line(each=200 * MIB, together=1000 * MIB), tmp_path, bandwidth=5 * MIB) == 1


async def test_a_stream_stops_for_no_window_that_is_not_served(patient_clock: MockClock, tmp_path: Path) -> None:
    """It is faster than they are: each is forgotten when the stream is there, and another begun further on. What the stream has brought
    would else be thrown away, and asked for again."""
    line, silent = Line(each=5 * MIB, together=5 * MIB), SilentRemote()
    await filled(line, tmp_path, splitting=evolve(EAGER, ahead_bytes=100 * MIB), silent=silent)
    assert len(silent.asked) > 3
    assert line.begun == 1


async def test_errors_of_the_stream_are_not_wrapped(tmp_path: Path) -> None:
    async with fetching_from(refused, tmp_path) as setting:
        with pytest.raises(RossError) as caught:
            await setting.fetch()
    assert isinstance(caught.value, Unavailable | Transient)
