"""The same suite for the service and for a client of a real daemon."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import Daemon, running_daemon
from tests.support.ext4 import fresh_ext4
from tests.support.snapshots import SnapshotsUnderTest, clear, open_client, open_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def _as_root() -> None:
    """What cannot run here fails; it is not skipped."""
    assert os.geteuid() == 0, "the contract suites need root: they mount, and run a daemon"


@pytest.fixture(scope="session")
def filesystem(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with fresh_ext4(tmp_path_factory.mktemp("contract")) as path:
        yield path


@pytest.fixture(scope="session")
def daemon(filesystem: Path) -> Iterator[Daemon]:
    directory = filesystem / "daemon"
    directory.mkdir()
    with running_daemon(directory) as running:
        yield running


@pytest.fixture(params=["service", "client"])
async def snapshots(
    request: pytest.FixtureRequest, filesystem: Path, daemon: Daemon, prefix: str
) -> AsyncIterator[SnapshotsUnderTest]:
    """The snapshots, of which each test leaves none behind."""
    opened = open_service(filesystem / "service") if request.param == "service" else open_client(daemon.socket)
    async with opened as found:
        yield found
        await clear(found, prefix=prefix)
        assert await found.list() == ()


@pytest.fixture
def prefix() -> str:
    """What the names of a test begin with."""
    return f"t{secrets.token_hex(3)}-"
