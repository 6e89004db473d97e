"""What containers have of others: namespaces of processes and of IPC, mounts; by reference, and what becomes of it at their end."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio

import ross
from ross.errors import FailedPrecondition, InvalidArgument, NotFound
from ross.linux.mount import mounts_below
from ross.model.containers import ContainerSpec, ContainerState
from ross.model.mounts import Mount
from ross.model.namespaces import NamespaceMode, Namespaces
from ross.wire.schema import schema
from tests.support.archives import BUSYBOX
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ross.client import Container, Engine
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

ANSWERS = "until [ -s /dev/shm/note ]; do sleep 0.05; done; cat /dev/shm/note; readlink /proc/self/ns/ipc; touch /dev/shm/answer"


@pytest.fixture
async def engine(loaded: Daemon) -> AsyncIterator[Engine]:
    with trio.fail_after(150):
        async with ross.connect(loaded.socket) as connected:
            yield connected
            for info in await connected.containers.list(all=True):
                await connected.containers.get(info.id).now.discard()


async def begun(engine: Engine, *args: str, **options: Any) -> Container:
    container = await (await engine.images.get(BUSYBOX)).create(args or ("sleep", "600"), **options)
    await container.start()
    return container


async def said(container: Container) -> str:
    await container.wait()
    async with container.logs() as entries:
        return b"".join([entry.data async for entry in entries]).decode()


async def test_processes_of_another(engine: Engine) -> None:
    """They see each other; and it ends with the one whose namespace it is."""
    first = await begun(engine, "sleep", "601")
    second = await begun(engine, "sh", "-c", "ps -o pid,args; sleep 602", pid=first)
    third = await begun(engine, "sh", "-c", "ps -o pid,args", pid=second)
    shown = await said(third)
    assert "sleep 601" in shown
    assert "sleep 602" in shown
    assert shown.split("\n")[1].split() == ["1", "sleep", "601"]
    assert (await third.wait()).exit_code == 0
    assert (await first.info()).state is ContainerState.RUNNING
    done = await second.exec(["sh", "-c", "ps | grep -c sleep"])
    assert int(done.stdout) >= 2
    info = await second.info()
    assert info.spec.namespaces.pid_container == (await first.info()).id
    await first.kill()
    ended = await second.wait()
    assert (ended.exit_code, ended.signal) == (137, 9)
    await first.wait()
    with pytest.raises(FailedPrecondition, match="namespace this one shares, does not run"):
        await second.start()
    await first.start()
    await second.start()
    await first.remove(force=True)
    await second.wait()
    with pytest.raises(FailedPrecondition, match="namespace this one shares, has been removed"):
        await second.start()


async def test_its_own_end_leaves_the_other(engine: Engine) -> None:
    first = await begun(engine)
    second = await begun(engine, "sh", "-c", "sleep 603 & sleep 604", pid=first)
    await second.stop(timeout=0)
    await second.remove()
    assert "603" not in str((await first.top("-o args")).rows)
    assert (await first.info()).state is ContainerState.RUNNING


async def test_shared_memory_and_queues_of_another(engine: Engine, loaded: Daemon) -> None:
    script = (
        "echo kept > /dev/shm/note; readlink /proc/self/ns/ipc; while [ ! -e /dev/shm/answer ]; do sleep 0.05; done"
    )
    first = await begun(engine, "sh", "-c", script)
    second = await begun(engine, "sh", "-c", ANSWERS, ipc=first)
    note, namespace = (await said(second)).splitlines()
    assert note == "kept"
    assert (await said(first)).splitlines() == [namespace]
    assert (await first.wait()).exit_code == 0
    await trio.to_thread.run_sync(until, lambda: not list((loaded.root / "containers").glob("*/shm")))
    assert not [path for path in mounts_below(loaded.root) if path.name == "shm"]
    with pytest.raises(InvalidArgument, match="has the size it has"):
        await begun(engine, ipc=first, shm_size=1 << 20)
    with pytest.raises(InvalidArgument, match="shares the namespace"):
        await begun(engine, ipc=first, sysctls={"kernel.msgmax": "1000"})


async def test_mounts_of_others(engine: Engine, tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(name)
    image = await engine.images.get(BUSYBOX)

    def mounts(**places: str) -> list[Any]:
        return [Mount(source=str(tmp_path / source), target=f"/{target}") for target, source in places.items()]

    first = await image.create(["true"], mounts=mounts(a="one", b="two"))
    script = "cat /a/name /b/name; touch /a/new || echo a; touch /b/new || echo b"
    second = await begun(engine, "sh", "-c", script, volumes_from=[(first, "ro")], mounts=mounts(b="three"))
    shown = await said(second)
    assert shown.startswith("onethree")
    assert "touch: /a/new: Read-only" in shown
    assert "touch: /b/new" not in shown
    third = await begun(engine, "sh", "-c", "touch /a/new && cat /b/name", volumes_from=[second])
    assert "Read-only" in await said(third)
    fourth = await begun(engine, "sh", "-c", "touch /a/new && cat /b/name", volumes_from=[(second, "rw"), first])
    assert await said(fourth) == "three"
    assert (tmp_path / "one/new").exists()
    with pytest.raises(InvalidArgument, match="are not had"):
        await image.create(["true"], volumes_from=[(first, "zz")])


async def test_only_a_container_of_this_engine_can_be_shared(engine: Engine) -> None:
    class Forged(schema.Container.Server):  # type: ignore[misc]  # the schema is loaded at run time
        """Answers, but not as the engine's own do."""

        async def identify_context(self, context: Any) -> None:
            assert context.params.nonce

    class Handed:
        """What a container of the library is to ``create``."""

        def shared_over(self, session: object) -> Forged:
            assert session is not None
            return Forged()

    image = await engine.images.get(BUSYBOX)
    with pytest.raises(InvalidArgument, match="no container of this engine"):
        await image.create(["true"], pid=Handed())  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        await image.create(["true"], pid=engine.containers.get("nobody").now)
    with pytest.raises(InvalidArgument, match="goes with a reference"):
        await image.create(spec=ContainerSpec(namespaces=Namespaces(pid=NamespaceMode.CONTAINER)))


def test_flags(loaded: Daemon, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("there\n")
    loaded.ok("run", "-d", "--name", "owner", "-v", f"{tmp_path}:/data", BUSYBOX, "sleep", "605")
    flags = ["--pid", "container:owner", "--ipc", "container:owner", "--volumes-from", "owner:ro"]
    done = loaded.ross(
        "run", "--rm", *flags, BUSYBOX, "sh", "-c", "ps | grep -c '[s]leep 605'; cat /data/file; touch /data/x"
    )
    assert done.stdout == "1\nthere\n"
    assert "Read-only" in done.stderr
    for flags, words in (
        (["--pid", "container:nobody"], "no container 'nobody'"),
        (["--pid", "container:"], "has no name"),
        (["--pid", "other"], "there is no namespace"),
        (["--uts", "container:owner"], "there is no namespace"),
        (["--volumes-from", "owner:zz"], "write NAME"),
    ):
        done = loaded.ross("run", "--rm", *flags, BUSYBOX, "true")
        assert done.returncode == 125, flags
        assert words in done.stderr, done.stderr
        assert "Traceback" not in done.stderr
    loaded.ok("create", "--name", "guest", "--pid", "container:owner", BUSYBOX, "true")
    owner, guest = json.loads(loaded.ross("inspect", "owner", "guest").stdout)
    assert (owner["HostConfig"]["PidMode"], owner["HostConfig"]["IpcMode"]) == ("private", "private")
    assert (guest["HostConfig"]["PidMode"], guest["HostConfig"]["IpcMode"]) == (f"container:{owner['Id']}", "private")
    loaded.ok("rm", "-f", "owner", "guest")
