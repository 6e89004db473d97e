"""Pulls from a registry that does everything wrong: they end right, or with a clear error, and nothing verified is downloaded again."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support import faults
from tests.support.ext4 import ext4_in_memory
from tests.support.faulty_registry import Auth, FaultyRegistry, faulty_registry
from tests.support.images import ImageBuilder, Layer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

SEVERAL = {"ROSS_MAX_CONNECTIONS_PER_BLOB": "4"}


@pytest.fixture
def faulty() -> Iterator[FaultyRegistry]:
    with faulty_registry() as registry:
        yield registry


def served(registry: FaultyRegistry, name: str) -> str:
    layer = Layer().add("data", random.Random(name).randbytes(400_000))
    return registry.serve("app", name, ImageBuilder().layer(layer, compression="").build())


@pytest.mark.timeout(240)
def test_random_faults_end_right_or_clearly() -> None:
    told: list[str] = []
    with ext4_in_memory() as disk:
        outcomes = faults.run(disk, pulls=25, seeded=20_261_124, tell=told.append)
    assert outcomes["wrong"] == 0, told
    assert outcomes["right"] > 2
    assert len(outcomes) > 3, "too few kinds of ends to prove anything"


def test_the_count_notices_what_is_downloaded_again(faulty: FaultyRegistry) -> None:
    served(faulty, "x")
    blob = next(digest for digest, data in faulty.blobs().items() if len(data) > 400_000)
    url = f"http://{faulty.host}/v2/app/blobs/{blob}"
    with httpx.Client(trust_env=False) as client:
        client.get(url, headers={"Range": "bytes=0-99999"})
        assert faulty.again() == []
        client.get(url, headers={"Range": "bytes=100000-"})
        assert faulty.again() == []
        client.get(url, headers={"Range": "bytes=99000-"})
    assert len(faulty.again()) == 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_daemon_pulls_through_passing_trouble(daemon: Daemon, faulty: FaultyRegistry, seed: int) -> None:
    reference = served(faulty, f"s{seed}")
    faulty.auth = Auth(scheme="bearer", uses=2)
    faulty.plan = faults.RandomPlan(random.Random(seed), 0.4, only=faults.HARMLESS)
    daemon.ok("pull", "-q", reference)
    assert faulty.again() == []
    assert faulty.leaked == []


def test_daemon_goes_on_after_a_kill_where_it_stopped(daemon: Daemon, faulty: FaultyRegistry) -> None:
    reference = served(faulty, "slow")
    layer = next(digest for digest, data in faulty.blobs().items() if len(data) > 100_000)
    data = daemon.root / "ingest" / layer.replace(":", "-") / "data"
    faulty.bytes_per_second = 50_000
    client = daemon.popen("pull", reference)
    while not (data.exists() and data.stat().st_size):
        assert client.poll() is None
        time.sleep(0.01)
    daemon.kill()
    client.communicate()
    there = data.stat().st_size
    faulty.bytes_per_second = 0
    daemon.start()
    faulty.forget_requests()
    daemon.ok("pull", "-q", reference)
    (request,) = [one for one in faulty.served if one.blob == layer]
    assert (request.start, request.start + request.sent) == (there, len(faulty.blobs()[layer]))


def test_daemon_fetches_a_large_layer_by_several_connections_and_goes_on_after_a_kill(
    daemon: Daemon, faulty: FaultyRegistry
) -> None:
    """Through redirects, which get no credentials; what windows had is lost with the daemon, and no byte before them."""
    daemon.terminate()
    daemon.start(settings=SEVERAL)
    layer = Layer().add("data", random.Random(3).randbytes(48 << 20))
    reference = faulty.serve("app", "large", ImageBuilder().layer(layer, compression="").build())
    digest, blob = max(faulty.blobs().items(), key=lambda one: len(one[1]))
    data = daemon.root / "ingest" / digest.replace(":", "-") / "data"
    redirect = faults.kinds(random.Random(1))["redirect to storage"].fault
    faulty.auth = Auth(scheme="bearer")
    faulty.plan = lambda request: ("redirected", redirect) if request.blob and not request.redirected else None
    faulty.bytes_per_second = 6 << 20
    client = daemon.popen("pull", reference)
    while sum(one.window and one.sent > 0 for one in faulty.served) < 2:
        assert client.poll() is None
        time.sleep(0.01)
    daemon.kill()
    client.communicate()
    there = data.stat().st_size
    assert [path.name for path in data.parent.iterdir() if path.name.startswith("ahead")] == []
    daemon.start(settings=SEVERAL)
    faulty.forget_requests()

    daemon.ok("pull", "-q", reference)
    assert next(one for one in faulty.served if one.blob == digest).asked[0] == there
    assert any(one.window for one in faulty.served)
    assert faulty.again() == []
    assert faulty.leaked == []
    assert (daemon.root / "blobs" / digest.replace(":", "/")).read_bytes() == blob
    daemon.ok("system", "check")
