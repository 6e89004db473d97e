"""The same thing again and again, and much of it at once: what the daemon has of it at the end is what it had before.

``ROSS_ROUNDS`` and ``ROSS_STREAM_BYTES`` make it long; ``nox -s endurance`` does.
"""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import trio
from attrs import frozen

from ross.client import connect
from tests.support.daemon import Daemon, running_daemon

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from typing import IO

    from ross.client import Container, Engine
    from ross.client.processes import PaceName

pytestmark = [pytest.mark.integration, pytest.mark.timeout(7200)]

MiB: Final = 1 << 20
ROUNDS: Final = int(os.environ.get("ROSS_ROUNDS", "200"))
STREAM_BYTES: Final = int(os.environ.get("ROSS_STREAM_BYTES", str(64 * MiB)))
WARM_UP: Final = 100
FEW: Final = 8
PART_BYTES: Final = 4 * MiB
SLACK_BYTES: Final = 4 * MiB
"""What an allocator may keep, whatever the number of rounds."""


@pytest.fixture(scope="module")
def shared(filesystem: Path, busybox: str) -> Iterator[Daemon]:
    """One daemon for all, with a container ``box`` that has a terminal."""
    directory = filesystem / "shared"
    directory.mkdir()
    # Its last events it keeps: of so few it has all before anything is measured.
    with running_daemon(directory, settings={"ROSS_KEPT_EVENTS": str(WARM_UP)}) as daemon:
        daemon.ok("pull", "-q", busybox)
        daemon.ok("run", "-dt", "--name", "box", busybox, "sleep", "1000000")
        yield daemon


@pytest.fixture
async def box(engine: Engine) -> Container:
    return await engine.containers.get("box")


@frozen(kw_only=True)
class Use:
    """What the daemon has, and the monitors."""

    tasks: int
    fds: int
    monitors_fds: int
    rss_bytes: int

    def is_within(self, other: Use) -> bool:
        """Whether it is no more, but for memory, and for what two that overlapped have left."""
        pairs = ((self.tasks, other.tasks), (self.fds, other.fds), (self.monitors_fds, other.monitors_fds))
        return all(ours <= theirs + FEW for ours, theirs in pairs)


async def use_of(daemon: Daemon, engine: Engine) -> Use:
    monitors = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in daemon.monitors())  # noqa: PTH208
    tasks = len(await engine.tasks())
    return Use(tasks=tasks, fds=daemon.open_fds(), monitors_fds=monitors, rss_bytes=daemon.rss_bytes())


async def settled(daemon: Daemon, engine: Engine, before: Use) -> Use:
    """What it has when no task and no descriptor is more than there was."""
    with trio.move_on_after(60):
        while not (after := await use_of(daemon, engine)).is_within(before):  # noqa: ASYNC110 -- of other processes
            await trio.sleep(0.05)
    assert after.is_within(before), (before, after)
    return after


async def keep_nothing(_data: bytes) -> None:
    return


async def again_and_again(
    daemon: Daemon, engine: Engine, once: Callable[[int], Awaitable[None]], *, rounds: int, warm_up: int = WARM_UP
) -> None:
    """Do something so often; nothing of it may be left."""
    for number in range(warm_up):
        await once(number)
    before = await use_of(daemon, engine)
    for number in range(rounds):
        await once(number)
    after = await settled(daemon, engine, before)
    print(f"{rounds} rounds: {before} -> {after}")  # noqa: T201 -- shown with -s, and where it fails
    assert after.rss_bytes < before.rss_bytes + SLACK_BYTES


async def test_containers_that_come_and_go_and_are_listed(shared: Daemon, engine: Engine, busybox: str) -> None:
    """What the daemon has said of them, or they have told it, goes with them."""
    image = await engine.images.get(busybox)

    async def once(_number: int) -> None:
        container = await image.create(["true"], labels={"one": "label"})
        assert len(await engine.containers.list(all=True)) == 2
        await container.remove()

    await again_and_again(shared, engine, once, rounds=max(ROUNDS, 600), warm_up=5 * WARM_UP)


async def test_resizes(shared: Daemon, engine: Engine, box: Container) -> None:
    """CVE-2022-23471: of the first process, and of what is executed."""
    attached = await box.attach(stdout=keep_nothing)
    executed = await box.open_exec(["sleep", "1000000"], terminal=True, when_gone="kill")

    async def once(number: int) -> None:
        await (attached if number % 2 else executed).resize(rows=1 + number % 200, columns=80)

    await again_and_again(shared, engine, once, rounds=ROUNDS)
    await executed.signal("KILL")
    await executed.wait()


@pytest.mark.parametrize("pace", ["log", "drop", "block"])
async def test_attaching_and_letting_go(shared: Daemon, engine: Engine, box: Container, pace: PaceName) -> None:
    """CVE-2025-64329."""

    async def once(_number: int) -> None:
        await box.attach(stdin=True, stdout=keep_nothing, pace=pace)

    await again_and_again(shared, engine, once, rounds=ROUNDS)


async def test_attaching_to_what_is_executed(shared: Daemon, engine: Engine, box: Container) -> None:
    """CVE-2025-64329."""
    executed = await box.open_exec(["sleep", "1000000"], when_gone="kill")

    async def once(_number: int) -> None:
        await executed.attach(stdout=keep_nothing)

    await again_and_again(shared, engine, once, rounds=ROUNDS)
    await executed.signal("KILL")
    await executed.wait()


async def test_clients_that_come_and_go(shared: Daemon, engine: Engine) -> None:
    """A connection each, dropped while it is attached."""

    async def client() -> None:
        async with connect(shared.socket) as other:
            await (await other.containers.get("box")).attach(stdout=keep_nothing)

    async def once(_number: int) -> None:
        await trio.to_thread.run_sync(trio.run, client)  # a thread has one loop of Cap'n Proto

    await again_and_again(shared, engine, once, rounds=ROUNDS // 10)


async def test_output_without_end_that_nobody_wants(shared: Daemon, engine: Engine, box: Container) -> None:
    """CVE-2022-1708, 2022-31030: ``yes`` with a cap on its output, until its client has had enough."""

    async def once(_number: int) -> None:
        with trio.move_on_after(0.2):
            await box.exec(["yes"], max_output_bytes=MiB)

    for _time in range(5):
        await once(0)
    before = await use_of(shared, engine)
    peak = 0
    for number in range(max(ROUNDS // 100, 2)):
        await once(number)
        peak = max(peak, shared.rss_bytes())
    after = await settled(shared, engine, before)
    assert peak < before.rss_bytes + 8 * MiB
    assert after.rss_bytes < before.rss_bytes + SLACK_BYTES


def feed(stdin: IO[bytes], size: int, sent: hashlib._Hash) -> None:
    """Write so many bytes that no compression or repetition makes few."""
    block = os.urandom(MiB)
    for number in range(size // MiB):
        piece = number.to_bytes(8, "big") + block[8:]
        sent.update(piece)
        stdin.write(piece)
    stdin.close()


@pytest.mark.parametrize("words", [["run", "-i", "--rm"], ["exec", "-i"]], ids=["run", "exec"])
def test_stream_in_and_out(shared: Daemon, busybox: str, words: list[str]) -> None:
    """Every byte comes back as it went in, and the daemon's memory does not grow with them. Those of exec it never sees."""
    client = shared.popen(*words, busybox if words[0] == "run" else "box", "cat")
    assert client.stdin is not None
    assert client.stdout is not None
    sent, received, count = hashlib.sha256(), hashlib.sha256(), 0
    feeder = threading.Thread(target=feed, args=(client.stdin, STREAM_BYTES, sent))
    feeder.start()
    peak = early = 0
    while piece := client.stdout.read(MiB):
        received.update(piece)
        count += len(piece)
        peak = max(peak, shared.rss_bytes())
        early = early or (peak if count >= 16 * MiB else 0)
    feeder.join()
    assert client.wait() == 0
    client.stdout.close()
    assert client.stderr is not None
    client.stderr.close()
    print(f"{count} bytes: daemon {early} -> at most {peak}")  # noqa: T201 -- shown with -s, and where it fails
    assert (count, received.digest()) == (STREAM_BYTES, sent.digest())
    assert peak < early + 8 * MiB


def test_line_without_an_end(shared: Daemon, busybox: str) -> None:
    """A line as long as the whole output, through monitor, log and client: neither of the first two keeps it."""
    part = f"head -c {PART_BYTES} /dev/zero | tr '\\0' x; sleep 0.3"  # in which the daemon, on a busy host, gets to change files
    script = f"for part in $(seq {STREAM_BYTES // PART_BYTES}); do {part}; done"
    with shared.popen("run", "--name", "line", busybox, "sh", "-c", script) as client:
        assert client.stdout is not None
        count = peak = monitor_peak = early = 0
        while piece := client.stdout.read(MiB):
            assert piece.strip(b"x") == b""
            count += len(piece)
            peak = max(peak, shared.rss_bytes())
            early = early or (peak if count >= 16 * MiB else 0)
            monitor_peak = max(monitor_peak, *map(rss_bytes, shared.monitors()))
    assert client.returncode == 0
    print(f"{count} bytes: daemon {early} -> at most {peak}, monitor at most {monitor_peak}")  # noqa: T201
    assert count == STREAM_BYTES
    assert peak < early + 8 * MiB
    assert monitor_peak < 16 * MiB
    last = shared.ross("logs", "--tail", "1", "line")
    # Three files of 10 MiB, and what each grows by until it is changed.
    assert 0 < len(last.stdout) <= 3 * (10 * MiB + PART_BYTES), "of the log there is what its bounds allow"
    assert set(last.stdout.rpartition("\n")[2]) == {"x"}
    assert shared.rss_bytes() < early + 8 * MiB
    shared.ross("rm", "line")


def rss_bytes(pid: int) -> int:
    """0 for one that has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
