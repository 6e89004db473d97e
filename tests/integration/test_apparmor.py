"""The profile of AppArmor that containers have where the host has one for them: what it denies, who is without it, and that it is not lost.

Where there is no AppArmor a profile is refused: ``tests/unit/shim/test_config.py``. The session ``vm`` of nox runs this where it is.
"""

from __future__ import annotations

import json
import subprocess
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

import ross
from ross.errors import AlreadyExists, FailedPrecondition
from tests.support.archives import BUSYBOX

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ross.client import Container
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

SOURCE = Path(__file__).parents[2] / "contrib/apparmor/ross-default"
SECONDS = 120
OURS = "ross-default (enforce)"
OTHER = "profile ross-test-other flags=(attach_disconnected,complain) {\n  file,\n  capability,\n}\n"


def parser(action: str, *, text: str) -> None:
    subprocess.run(["apparmor_parser", action], input=text, text=True, capture_output=True, check=True)


@contextmanager
def profile(text: str = SOURCE.read_text()) -> Iterator[None]:
    """A profile, of contrib's file if there is no other, is loaded for the length of a block."""
    parser("--replace", text=text)
    try:
        yield
    finally:
        parser("--remove", text=text)


@pytest.fixture
def _profile() -> Iterator[None]:
    """It is loaded for the length of a test."""
    with profile():
        yield


@asynccontextmanager
async def made(daemon: Daemon, script: str = "sleep 600", **options: Any) -> AsyncIterator[Container]:
    with trio.fail_after(SECONDS):
        async with ross.connect(daemon.socket) as engine:
            image = await engine.images.get(BUSYBOX)
            container = await image.create(["sh", "-c", script], **options)
            try:
                yield container
            finally:
                await container.discard()


async def output(daemon: Daemon, script: str, **options: Any) -> list[str]:
    """The lines that a container prints."""
    async with made(daemon, script, **options) as container:
        return await shown(container)


async def shown(container: Container) -> list[str]:
    await container.start()
    await container.wait()
    async with container.logs() as entries:
        return b"".join([entry.data async for entry in entries]).decode().splitlines()


WHICH = "cat /proc/self/attr/current"


@pytest.mark.usefixtures("_profile")
async def test_containers_have_it_unless_they_are_to_have_another_or_none(loaded: Daemon) -> None:
    assert await output(loaded, WHICH) == [OURS]
    assert await output(loaded, WHICH, terminal=True, user="1000:1000", no_new_privileges=True) == [OURS]
    assert await output(loaded, WHICH, privileged=True) == ["unconfined"]
    assert await output(loaded, WHICH, apparmor="unconfined") == ["unconfined"]
    assert await output(loaded, WHICH, apparmor="ross-default", privileged=True) == [OURS]
    with profile(OTHER):
        assert await output(loaded, WHICH, apparmor="ross-test-other") == ["ross-test-other (complain)"]


@pytest.mark.usefixtures("_profile")
async def test_what_it_denies_even_to_who_has_all_capabilities(loaded: Daemon) -> None:
    script = "mkdir /m; for words in 'mount -t tmpfs t /m' 'mount -o bind /bin /m' 'dd if=/dev/zero of=/proc/sysrq-trigger count=0' "
    script += "'dd if=/dev/zero of=/proc/sys/vm/swappiness count=0' 'dd if=/dev/zero of=/proc/sys/kernel/core_pattern count=0' "
    script += "'head -c 1 /proc/kcore'; do $words 2>&1 | grep -c 'Permission denied'; done"
    wide: dict[str, Any] = {"cap_add": ["ALL"], "seccomp": "unconfined", "unmask": ["ALL"]}
    assert await output(loaded, script, **wide) == ["1"] * 6
    without = await output(loaded, script, **wide, apparmor="unconfined")
    assert without[:5] == ["0"] * 5, "it was the profile that denied it"


@pytest.mark.usefixtures("_profile")
async def test_what_it_lets_them_do(loaded: Daemon) -> None:
    script = "echo x > /f && cat /f; sleep 600 & kill $!; wait $!; echo $?; trap 'echo ended; exit 3' TERM; echo ready; sleep 600 & wait"
    async with made(loaded, script, network="none") as container:
        await container.start()
        async with container.logs(follow=True, stderr=False) as entries:
            lines = []
            async for entry in entries:
                lines.append(entry.data)
                if entry.data == b"ready\n":
                    done = await container.exec(["sh", "-c", f"{WHICH}; kill -0 1 && echo $?"])
                    assert done.stdout.decode().splitlines() == [OURS, "0"]
                    whole = await container.exec(["sh", "-c", WHICH], privileged=True)
                    assert whole.stdout == b"unconfined\n"
                    await container.stop(timeout=60)
        assert lines == [b"x\n", b"143\n", b"ready\n", b"ended\n"]
        assert (await container.wait()).exit_code == 3


async def test_it_is_not_lost(loaded: Daemon) -> None:
    """One that was made while it was loaded does not start without; one that was made before has none."""
    with trio.fail_after(SECONDS):
        await made_with_and_started_without(loaded)


async def made_with_and_started_without(daemon: Daemon) -> None:
    async with ross.connect(daemon.socket) as engine:
        image = await engine.images.get(BUSYBOX)
        before = await image.create(["sh", "-c", WHICH])
        with profile():
            after = await image.create(["sh", "-c", WHICH], key="one")
        try:
            with pytest.raises(FailedPrecondition, match="no profile 'ross-default' of AppArmor loaded"):
                await after.start()
            with pytest.raises(FailedPrecondition, match="no profile 'ross-default' of AppArmor loaded"):
                await image.create(["true"], apparmor="ross-default")
            same = await image.create(["sh", "-c", WHICH], key="one")  # it was asked for in the same way
            assert (await same.info()).id == (await after.info()).id
            with pytest.raises(AlreadyExists, match="in another way"):
                await image.create(["sh", "-c", WHICH], key="one", apparmor="unconfined")
            with profile():
                assert [await shown(one) for one in (before, after)] == [["unconfined"], [OURS]]
                (info,) = json.loads(daemon.ross("inspect", (await after.info()).id).stdout)
                assert info["AppArmorProfile"] == "ross-default"
        finally:
            await before.discard()
            await after.discard()
