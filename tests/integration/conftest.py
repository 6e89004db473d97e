"""What integration tests share: a filesystem, a registry with images, a daemon."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

import ross
from ross.linux.apparmor import has_apparmor
from ross.linux.journal import SOCKET
from ross.linux.process import which
from tests.support.archives import BUSYBOX, docker_archive
from tests.support.daemon import Daemon, let_others_pass, running_daemon
from tests.support.ext4 import fresh_ext4
from tests.support.images import ImageBuilder, busybox_image, busybox_layer, push
from tests.support.registry import running_registry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ross.client import Engine, Image
    from tests.support.backends import Run


def criu_works() -> bool:
    """Whether there is a CRIU, and the kernel is one that it knows."""
    program = which("criu")
    return program is not None and subprocess.run([program, "check"], capture_output=True, check=False).returncode == 0


# There is nothing to test with where there is no systemd, journal, AppArmor or CRIU; the machine of `nox -s vm` has them all.
collect_ignore = [
    *([] if Path("/run/systemd/system").is_dir() else ["test_unit.py"]),
    *([] if SOCKET.exists() else ["test_journal.py"]),
    *([] if has_apparmor() and which("apparmor_parser") else ["test_apparmor.py"]),
    *([] if criu_works() else ["test_checkpoint.py"]),
]


@pytest.fixture(scope="session", autouse=True)
def _as_root() -> None:
    """An integration test that cannot run here fails; it is not skipped."""
    assert os.geteuid() == 0, "integration tests need root: they mount, and run containers"


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``host:port`` of a registry."""
    with running_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="session")
def busybox(registry: str) -> str:
    """The reference of an image with busybox."""
    return push(registry, "test/busybox:1", busybox_image())


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the image ``BUSYBOX``, for where there is no registry."""
    path = tmp_path_factory.mktemp("archive") / "busybox.tar"
    path.write_bytes(docker_archive(ImageBuilder().layer(busybox_layer()), [BUSYBOX]).tar())
    return path


@pytest.fixture(scope="module")
def filesystem(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A fresh ext4, one for each file of tests."""
    with fresh_ext4(tmp_path_factory.mktemp("filesystem")) as path:
        yield path


@pytest.fixture
def daemon(filesystem: Path, request: pytest.FixtureRequest) -> Iterator[Daemon]:
    """A daemon of its own for each test, checked for leaks and complaints at the end."""
    directory = filesystem / f"d{len(list(filesystem.iterdir()))}"
    directory.mkdir()
    with running_daemon(directory) as running:
        yield running


@pytest.fixture(scope="module")
def one_daemon(filesystem: Path) -> Iterator[Daemon]:
    """One for all tests of a file, which leave nothing behind."""
    directory = filesystem / "one"
    directory.mkdir()
    let_others_pass(directory)
    with running_daemon(directory) as running:
        yield running


@pytest.fixture(scope="module")
def shared(one_daemon: Daemon, busybox: str) -> Daemon:
    """The same, with the image of the registry that has busybox."""
    one_daemon.ok("pull", "-q", busybox)
    return one_daemon


@pytest.fixture(scope="module")
def loaded(one_daemon: Daemon, archive: Path) -> Daemon:
    """The same, with busybox from an archive: without a registry."""
    one_daemon.ok("load", "-q", "-i", str(archive))
    return one_daemon


@pytest.fixture
async def engine(shared: Daemon) -> AsyncIterator[Engine]:
    """A connection to the one daemon."""
    async with ross.connect(shared.socket) as connected:
        yield connected


@pytest.fixture
async def plain(engine: Engine, busybox: str) -> Image:
    """The image with busybox, by that connection."""
    return await engine.images.get(busybox)


@pytest.fixture(params=["trio", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run an async function, on Trio and on asyncio."""
    return lambda function: anyio.run(function, backend=request.param)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """For a container of this test's own, which goes with the daemon."""
    return f"box{abs(hash(request.node.nodeid))}"


@pytest.fixture
def box(daemon: Daemon, busybox: str) -> str:
    """The reference of an image with busybox, which the daemon has."""
    daemon.ok("pull", "-q", busybox)
    return busybox
