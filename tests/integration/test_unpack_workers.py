"""Large layers are unpacked by processes of their own, while they come in; those end with their layer, whatever happens."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.faulty_registry import FaultyRegistry, faulty_registry
from tests.support.images import ImageBuilder, Layer, busybox_layer
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration


@pytest.fixture
def source() -> Iterator[FaultyRegistry]:
    with faulty_registry() as registry:
        yield registry


@pytest.fixture
def slow(source: FaultyRegistry) -> str:
    """The reference of an image whose layer takes long to come in, unless the registry is let go faster."""
    layer = Layer()
    for number in range(40):
        layer.add(f"file{number}", os.urandom(100_000))
    source.bytes_per_second = 300_000
    return source.serve("slow", "1", ImageBuilder().layer(busybox_layer()).layer(layer).build())


def workers(daemon: Daemon) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{daemon.pid}/task").iterdir():
        with suppress(OSError):  # it has ended
            found += map(int, (task / "children").read_text().split())
    return found


def has_ended(pid: int) -> bool:
    try:
        return " Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


def until_working(daemon: Daemon) -> int:
    """Wait until a worker has written something, before its layer has come in whole; returns its pid."""
    until(lambda: any((daemon.root / "snapshots").glob("unpack-*/fs/file*")) and workers(daemon))
    assert any((daemon.root / "ingest").glob("sha256-*")), "the download is still under way"
    return workers(daemon)[0]


def until_none(daemon: Daemon) -> None:
    """Wait until neither a worker nor its layer is left."""
    until(lambda: not workers(daemon) and not any((daemon.root / "snapshots").glob("unpack-*")))


def test_worker_that_is_killed_is_told_and_the_next_pull_works(
    daemon: Daemon, source: FaultyRegistry, slow: str
) -> None:
    client = daemon.popen("pull", "-q", slow)
    os.kill(until_working(daemon), signal.SIGKILL)
    source.bytes_per_second = 0  # whether the blob was right is told first
    _out, err = client.communicate(timeout=60)
    assert (client.returncode, b"the process that unpacked the layer has ended" in err) == (1, True), err
    until_none(daemon)
    assert daemon.ross("run", "--rm", slow, "sh", "-c", "ls / | grep -c file").stdout == "40\n"


def test_worker_ends_with_the_pull_that_nobody_waits_for(daemon: Daemon, source: FaultyRegistry, slow: str) -> None:
    client = daemon.popen("pull", "-q", slow)
    until_working(daemon)
    client.kill()
    client.communicate()
    until_none(daemon)
    source.bytes_per_second = 0
    daemon.ok("pull", "-q", slow)


def test_worker_ends_with_its_daemon(daemon: Daemon, source: FaultyRegistry, slow: str) -> None:
    client = daemon.popen("pull", "-q", slow)
    pid = until_working(daemon)
    daemon.kill()
    client.communicate()
    until(lambda: has_ended(pid))
    source.bytes_per_second = 0
    daemon.start()
    until_none(daemon)
    daemon.ok("pull", "-q", slow)
