"""Mounts of directories and files that whoever creates a container has opened: these, and nothing else that is at their paths."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

import ross
from ross.errors import FailedPrecondition, InvalidArgument
from ross.linux.mount import bind, mounts_below, unmount
from ross.model.mounts import Mount, MountKind, Recursion
from tests.support.daemon import let_others_pass
from tests.support.waiting import baseline, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ross.client import Image
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration


@pytest.fixture
def given(tmp_path: Path) -> Path:
    directory = tmp_path / "given"
    directory.mkdir()
    directory.chmod(0o777)
    (directory / "file").write_text("mine\n")
    let_others_pass(tmp_path)
    return directory


@pytest.fixture(autouse=True)
def _nothing_left(shared: Daemon) -> Iterator[None]:
    before = baseline(shared)
    yield
    shared.clean_up()
    until(lambda: baseline(shared) == before)
    assert not mounts_below(shared.run)
    assert not [*(shared.run / "binds").glob("*")]


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.mark.parametrize("userns", ["host", "auto"])
async def test_directory_and_file_are_mounted_as_they_were_opened(plain: Image, given: Path, userns: str) -> None:
    script = "cat /d/file; echo more >/d/new; cat /f; echo x 2>/dev/null >/f || echo read-only"
    mounts = [Mount(target="/d"), Mount(target="/f", read_only=True)]
    with opened(given) as directory, opened(given / "file") as file:
        done = await plain.run(
            ["sh", "-c", script],
            network="none",
            userns=userns,
            mounts=mounts,
            mount_fds={"/d": directory, "/f/": file},
        )
    assert done.stdout == b"mine\nmine\nread-only\n"
    assert (given / "new").read_text() == "more\n"


def replaced(given: Path) -> Iterator[None]:
    """Once for each thing that is at its path meanwhile, or leads to it; then it is back."""
    moved = given.with_name("moved")
    given.rename(moved)
    given.mkdir()
    (given / "file").write_text("another's\n")
    yield
    shutil.rmtree(given)
    given.symlink_to(moved)
    yield
    given.unlink()
    moved.rename(given)
    elsewhere = given.parent.with_name(f"{given.parent.name}-elsewhere")
    given.parent.rename(elsewhere)
    given.parent.symlink_to(elsewhere)
    yield
    given.parent.unlink()
    elsewhere.rename(given.parent)


async def test_what_is_at_the_path_later_is_not_mounted(plain: Image, given: Path) -> None:
    with opened(given) as directory:
        box = await plain.create(
            ["cat", "/d/file"], network="none", mounts=[Mount(target="/d")], mount_fds={"/d": directory}
        )
    await box.start()
    assert (await box.wait()).exit_code == 0
    (info,) = [mount for mount in (await box.info()).spec.mounts if mount.target == "/d"]
    assert info.source == str(given)
    for _instead in replaced(given):
        with pytest.raises(FailedPrecondition, match="handed over to be mounted on '/d' is not at"):
            await box.start()
    await box.start()  # it is where it was again
    assert (await box.wait()).exit_code == 0
    await box.remove()


async def test_others_have_it_as_it_was_handed_over_too(plain: Image, given: Path) -> None:
    with opened(given) as directory:
        first = await plain.create(["true"], network="none", mounts=[Mount(target="/d")], mount_fds={"/d": directory})
    done = await plain.run(["cat", "/d/file"], network="none", volumes_from=[first])
    assert done.stdout == b"mine\n"
    second = await plain.create(["cat", "/d/file"], network="none", volumes_from=[first])
    for _instead in replaced(given):
        with pytest.raises(FailedPrecondition, match="is not at"):
            await second.start()
    for box in (first, second):
        await box.remove()


@contextmanager
def shared_below(given: Path) -> Iterator[Path]:
    """A mount in there that is the host's, and shared."""
    below, other = given / "below", given.with_name("other")
    below.mkdir()
    other.mkdir()
    (other / "name").touch()
    bind(other, below)
    subprocess.run(["mount", "--make-shared", str(below)], check=True)
    try:
        yield below
    finally:
        unmount(below)


@pytest.mark.parametrize("recursion", [Recursion.ENABLED, Recursion.DISABLED])
async def test_what_is_mounted_below_is_seen_and_stays(plain: Image, given: Path, recursion: Recursion) -> None:
    with shared_below(given) as below, opened(given) as directory:
        done = await plain.run(
            ["sh", "-c", "ls /d/below; grep -c ' /d/inner ' /proc/self/mountinfo"],
            network="none",
            mounts=[Mount(target="/d", recursion=recursion), Mount(target="/d/inner", kind=MountKind.TMPFS)],
            mount_fds={"/d": directory},
        )
        assert done.stdout.split() == ([b"name", b"1"] if recursion is Recursion.ENABLED else [b"1"])
        assert (below / "name").exists()


async def test_what_is_not_opened_or_not_meant_is_refused(plain: Image, given: Path) -> None:
    mount = Mount(target="/d")
    deleted = given.with_name("deleted")
    deleted.mkdir()
    with (
        opened(given) as directory,
        opened(given, os.O_PATH) as path,
        opened(given / "file") as file,
        opened(given.parent / "deleted") as gone,
    ):
        deleted.rmdir()
        read_end, write_end = os.pipe()
        for mounts, fds, message in (
            ([mount], {"/d": path}, "a mere path"),
            ([mount], {"/d": read_end}, "neither a directory nor a regular file"),
            ([mount], {"/d": file}, "not opened for writing"),
            ([Mount(target="/d", source="/etc")], {"/d": directory}, "no mount lacks a source"),
            ([], {"/d": directory}, "no mount lacks a source"),
            ([mount], {}, "not an absolute path"),
            ([Mount(target="/d", idmap=True)], {"/d": directory}, "cannot be mapped"),
        ):
            with pytest.raises(InvalidArgument, match=message):
                await plain.create(["true"], network="none", mounts=mounts, mount_fds=fds)
        with pytest.raises(FailedPrecondition, match=r"is not at .*deleted"):
            await plain.create(["true"], network="none", mounts=[mount], mount_fds={"/d": gone})
        os.close(read_end)
        os.close(write_end)


def test_a_mount_of_another_namespace_is_refused(shared: Daemon, busybox: str, given: Path) -> None:
    """A path of there leads to something else here."""
    script = f"""
import os, trio, ross
from ross.errors import FailedPrecondition
from ross.model.mounts import Mount
async def main():
    fd = os.open({str(given)!r}, os.O_RDONLY)
    assert os.listdir(fd) == ["there"]
    async with ross.connect({str(shared.socket)!r}) as engine:
        image = await engine.images.get({busybox!r})
        try:
            await image.create(["true"], network="none", mounts=[Mount(target="/d")], mount_fds={{"/d": fd}})
        except FailedPrecondition as error:
            print(error.hint)
trio.run(main)
"""
    command = f'mount -t tmpfs tmpfs {given} && mkdir {given}/there && exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-ec", command, "sh", sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "not be in another mount namespace" in done.stdout, done.stderr


def test_a_container_keeps_it_when_the_daemon_is_killed(daemon: Daemon, busybox: str, given: Path) -> None:
    daemon.ok("pull", "-q", busybox)

    async def create() -> None:
        async with ross.connect(daemon.socket) as engine:
            image = await engine.images.get(busybox)
            with opened(given) as directory:
                await image.create(
                    ["cat", "/d/file"],
                    name="kept",
                    network="none",
                    mounts=[Mount(target="/d")],
                    mount_fds={"/d": directory},
                )

    trio.run(create)
    daemon.kill()
    daemon.start()
    assert daemon.ross("start", "-a", "kept").stdout == "mine\n"
    daemon.ross("rm", "kept")
