"""Control groups, made by the runtime and by systemd: limits, live updates, pauses, parents, out of memory. By version 1 and 2, as the host
has it; systemd where it runs. The session ``vm`` of nox runs this where both are there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

import ross
from ross.errors import FailedPrecondition, InvalidArgument
from ross.linux.cgroup_counters import find_hierarchies
from ross.model.containers import ContainerState
from ross.model.limits import HugePages, Throttle, ThrottleKind
from ross.model.mounts import Mount, MountKind
from ross.shim.groups import Groups
from tests.support.archives import BUSYBOX
from tests.support.daemon import Daemon, running_daemon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ross.client import Container, Engine

pytestmark = pytest.mark.integration

HIERARCHIES = find_hierarchies()
V1 = "memory" in HIERARCHIES.legacy
SYSTEMD = Path("/run/systemd/system").is_dir()
CONTROLLERS = HIERARCHIES.legacy if V1 else Path("/sys/fs/cgroup/cgroup.controllers").read_text().split()
DISK = next(path for path in sorted(Path("/dev").iterdir(), reverse=True) if path.is_block_device())
SECONDS = 120
"""A machine without a processor of its own is slow."""


@pytest.fixture(scope="module", params=["cgroupfs", *(["systemd"] if SYSTEMD else [])])
def manager(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def daemon(filesystem: Path, manager: str, archive: Path) -> Iterator[Daemon]:
    """One for all that a manager does."""
    directory = filesystem / manager
    directory.mkdir()
    with running_daemon(directory, settings={"ROSS_CGROUP_MANAGER": manager}) as running:
        trio.run(load, running, archive.read_bytes())
        yield running


async def load(daemon: Daemon, archive: bytes) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield archive

    async with ross.connect(daemon.socket) as engine:
        await engine.images.load(chunks())


@asynccontextmanager
async def running(
    daemon: Daemon, *args: str, start: bool = True, **options: Any
) -> AsyncIterator[tuple[Engine, Container]]:
    """A container, removed with the block."""
    with trio.fail_after(SECONDS):
        async with ross.connect(daemon.socket) as engine:
            image = await engine.images.get(BUSYBOX)
            container = await image.create(args or ("sleep", "600"), **options)
            try:
                if start:
                    await container.start()
                yield engine, container
            finally:
                await container.discard()


async def place_of(container: Container, manager: str, controller: str, parent: str = "") -> Path:
    """Where its group is, by what the kernel says of its process."""
    info = await container.info()
    group = Groups(manager=manager).path(info.id, parent)
    found = HIERARCHIES.directory(controller, group)
    assert found is not None, group
    assert str(info.pid) in (found / "cgroup.procs").read_text().split()
    return found


def words(directory: Path, version_1: str, version_2: str) -> str:
    return (directory / (version_1 if V1 else version_2)).read_text().strip()


def systemctl(*words: str) -> str:
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, check=True).stdout


def groups_of(pid: str) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text()


async def test_limits(daemon: Daemon, manager: str) -> None:
    options: dict[str, Any] = {
        "memory": 64 << 20,
        "memory_swap": 96 << 20,
        "cpus": 0.5,
        "cpu_shares": 512,
        "pids_limit": 50,
        "memory_reservation": 32 << 20,
        "cpuset_cpus": "0",
        "cpuset_mems": "0",
        "throttles": [Throttle(kind=ThrottleKind.READ_BPS, device=str(DISK), rate=1 << 20)],
    }
    async with running(daemon, **options) as (_engine, container):
        names = ("memory", "cpu", "pids", "cpuset", "blkio")
        memory, cpu, pids, cpuset, disks = [await place_of(container, manager, one) for one in names]
        assert words(memory, "memory.limit_in_bytes", "memory.max") == str(64 << 20)
        swap = (96 if V1 else 32) << 20
        assert words(memory, "memory.memsw.limit_in_bytes", "memory.swap.max") == str(swap)
        assert words(cpu, "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"
        assert words(cpu, "cpu.shares", "cpu.weight") == ("512" if V1 else "20")
        assert (pids / "pids.max").read_text() == "50\n"
        assert (cpuset / "cpuset.cpus").read_text() == "0\n"
        assert (cpuset / "cpuset.mems").read_text() == "0\n"
        assert words(memory, "memory.soft_limit_in_bytes", "memory.low") == str(32 << 20)
        assert str(1 << 20) in words(disks, "blkio.throttle.read_bps_device", "io.max")
        sample = await container.sample()
        assert (sample.memory.limit_bytes, sample.pids.limit) == (64 << 20, 50)


async def test_huge_pages(daemon: Daemon, manager: str) -> None:
    """Limited where the kernel counts them, which it may do in a hierarchy that no container is in; else refused."""
    huge = HugePages(page_bytes=2 << 20, limit_bytes=6 << 20)
    if "hugetlb" not in CONTROLLERS:
        with pytest.raises(FailedPrecondition, match="huge pages of 2MB"):
            async with running(daemon, huge_pages=[huge]):
                pass
        return
    async with running(daemon, huge_pages=[huge]) as (_engine, container):
        group = await place_of(container, manager, "hugetlb")
        assert words(group, "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max") == str(6 << 20)


async def test_what_it_uses(daemon: Daemon) -> None:
    script = "head -c 8000000 /dev/zero > /dev/shm/held; head -c 4000000 /dev/zero > /file; sync; while :; do :; done"
    async with running(daemon, "sh", "-c", script, cpus=0.2, memory=64 << 20) as (_engine, container):
        samples = []
        async with container.stats(interval=0.2) as found:
            async for one in found:
                samples.append(one)
                written = V1 or one.io.written_bytes >= 4_000_000  # by version 1 what is written back is nobody's
                if one.memory.used_bytes >= 8_000_000 and one.cpu.throttled_periods >= 5 and written:
                    break
        first, last = samples[0], samples[-1]
        assert last.cpu.throttled_ns > 0
        assert last.cpu.time_ns >= first.cpu.time_ns
        assert 0 < last.processors_since() < 1
        assert last.memory.used_bytes < last.memory.limit_bytes == 64 << 20
        assert last.memory.cache_bytes > 0
        assert 0 < last.pids.count < 5
        assert last.io.writes > 0 or V1
        assert last.memory.oom_kills == 0


async def test_live_update_holds(daemon: Daemon, manager: str) -> None:
    """Also when systemd reads its units again, and when the container is started again."""
    async with running(daemon, memory=64 << 20) as (_engine, container):
        await container.update(memory=32 << 20, memory_swap=48 << 20, cpus=0.25, cpu_shares=300, pids_limit=33)
        for turn in ("at once", "behind a reload", "in the next run"):
            if turn == "behind a reload" and manager == "systemd":
                systemctl("daemon-reload")
            elif turn == "in the next run":
                await container.restart(timeout=0)
            memory, cpu, pids = [await place_of(container, manager, one) for one in ("memory", "cpu", "pids")]
            assert words(memory, "memory.limit_in_bytes", "memory.max") == str(32 << 20), turn
            assert words(memory, "memory.memsw.limit_in_bytes", "memory.swap.max") == str((48 if V1 else 16) << 20), (
                turn
            )
            assert words(cpu, "cpu.cfs_quota_us", "cpu.max").split()[0] == "25000", turn
            assert words(cpu, "cpu.shares", "cpu.weight") == ("300" if V1 else "12"), turn
            assert (pids / "pids.max").read_text() == "33\n", turn
        await container.update(pids_limit=-1, memory=-1)
        pids, memory = [await place_of(container, manager, one) for one in ("pids", "memory")]
        assert (pids / "pids.max").read_text() == "max\n"
        assert words(memory, "memory.limit_in_bytes", "memory.max") in {"max", "9223372036854771712"}


async def test_pause_freezes_and_resume_goes_on(daemon: Daemon, manager: str) -> None:
    script = "while :; do echo x > /dev/null; done"
    async with running(daemon, "sh", "-c", script) as (_engine, container):
        freezer = await place_of(container, manager, "freezer")
        await container.pause()
        state = words(freezer, "freezer.state", "cgroup.events")
        assert "FROZEN" in state or "frozen 1" in state
        assert (await container.info()).state is ContainerState.PAUSED
        before, after = await container.sample(), await container.sample()
        assert after.cpu.time_ns - before.cpu.time_ns < 50_000_000
        await container.resume()
        state = words(freezer, "freezer.state", "cgroup.events")
        assert "THAWED" in state or "frozen 0" in state
        while (await container.sample()).cpu.time_ns <= after.cpu.time_ns:  # noqa: ASYNC110 -- the kernel tells nobody
            await trio.sleep(0.02)
        await container.pause()
        await container.stop(timeout=0)
        assert (await container.wait()).exit_code == 137


async def test_parent(daemon: Daemon, manager: str) -> None:
    parent = "rosstest-inner.slice" if manager == "systemd" else "/rosstest/inner"
    async with running(daemon, cgroup_parent=parent) as (_engine, container):
        memory = await place_of(container, manager, "memory", parent)
        assert {"rosstest", "rosstest.slice"} & {path.name for path in memory.parents}
        assert (await container.sample()).pids.count >= 1
        assert (await container.top("-o args")).rows
        await container.kill()
        await container.wait()
    with trio.fail_after(SECONDS):
        while memory.exists():  # noqa: ASYNC110 -- systemd removes it in its own time
            await trio.sleep(0.05)
    if manager == "systemd":
        systemctl("stop", "rosstest.slice")
    for top in {HIERARCHIES.unified, *HIERARCHIES.legacy.values()} - {None}:
        for group in (top / "rosstest/inner", top / "rosstest"):  # type: ignore[operator]
            if group.is_dir():
                group.rmdir()


@pytest.mark.parametrize("parent", ["/..", "../../system.slice", "/rosstest/../../x", "a\0b"])
async def test_parent_that_climbs_out_is_refused(daemon: Daemon, parent: str) -> None:
    with pytest.raises(InvalidArgument, match=r"parent .* of a control group"):
        async with running(daemon, cgroup_parent=parent):
            raise AssertionError("it was made")


@pytest.mark.parametrize("how", ["stop", "kill", "remove"])
async def test_what_a_killed_runtime_has_left_frozen_can_be_ended(daemon: Daemon, manager: str, how: str) -> None:
    """Nobody knows that it is: its record says that it runs."""
    async with running(daemon) as (_engine, container):
        if "freezer" in HIERARCHIES.legacy:
            state, frozen = await place_of(container, manager, "freezer") / "freezer.state", "FROZEN"
        else:
            state, frozen = await place_of(container, manager, "memory") / "cgroup.freeze", "1"
        await trio.Path(state).write_text(frozen)
        with trio.fail_after(SECONDS):
            if how == "stop":
                await container.stop(timeout=1)
            elif how == "kill":
                await container.kill()
            else:
                await container.remove(force=True)
            assert (await container.wait()).exit_code == 137


async def test_out_of_memory(daemon: Daemon, manager: str) -> None:
    """Each time, and not of one that is killed otherwise."""
    options: dict[str, Any] = {"memory": 16 << 20, "memory_swap": 16 << 20}
    async with running(daemon, "tail", "/dev/zero", start=False, **options) as (_engine, container):
        for _time in range(3):
            await container.start()
            ended = await container.wait()
            assert (ended.exit_code, ended.signal, ended.oom) == (137, 9, True)
    async with running(daemon, **options) as (_engine, container):
        await container.kill()
        ended = await container.wait()
        assert (ended.exit_code, ended.signal, ended.oom) == (137, 9, False)


async def test_out_of_memory_while_the_daemon_sleeps(daemon: Daemon, manager: str, tmp_path: Path) -> None:
    """systemd has taken the group away by the time that anybody can look at its counters."""
    options: dict[str, Any] = {"memory": 16 << 20, "memory_swap": 16 << 20}
    options["mounts"] = [Mount(kind=MountKind.BIND, source=str(tmp_path), target="/told", read_only=True)]
    script = "until [ -e /told/now ]; do sleep 0.05; done; exec tail /dev/zero"
    async with running(daemon, "sh", "-c", script, **options) as (_engine, container):
        memory = await place_of(container, manager, "memory")
        process = Path(f"/proc/{(await container.info()).pid}")
        os.kill(daemon.pid, signal.SIGSTOP)
        await trio.Path(tmp_path / "now").touch()
        try:
            with trio.fail_after(SECONDS):
                while process.exists() or (manager == "systemd" and memory.exists()):  # noqa: ASYNC110, ASYNC240 -- nobody tells
                    await trio.sleep(0.05)
        finally:
            os.kill(daemon.pid, signal.SIGCONT)
        ended = await container.wait()
        assert (ended.exit_code, ended.signal, ended.oom) == (137, 9, True)


async def test_out_of_memory_of_a_child(daemon: Daemon) -> None:
    """The first process goes on, and ends well."""
    script = "tail /dev/zero; exit 5"
    options: dict[str, Any] = {"memory": 16 << 20, "memory_swap": 16 << 20}
    async with running(daemon, "sh", "-c", script, **options) as (_engine, container):
        ended = await container.wait()
        assert (ended.exit_code, ended.signal, ended.oom) == (5, 0, True)


async def test_monitor_is_outside(daemon: Daemon, manager: str) -> None:
    async with running(daemon) as (_engine, container):
        info = await container.info()
        monitor = (daemon.run / "monitors" / info.id / "monitor.pid").read_text().strip()
        for controller in ("memory", "pids", "cpu"):
            place = await place_of(container, manager, controller)
            assert monitor not in (place / "cgroup.procs").read_text().split()
        assert info.id not in groups_of(monitor)


async def test_inside_it_sees_its_own_group_as_the_root(daemon: Daemon) -> None:
    script = (
        "cat /proc/self/cgroup; head -n1 /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/memory/cgroup.procs 2>/dev/null"
    )
    async with running(daemon, "sh", "-c", script) as (_engine, container):
        assert (await container.wait()).exit_code in {0, 1}
        async with container.logs() as entries:
            shown = b"".join([entry.data async for entry in entries]).decode().splitlines()
    assert all(line.endswith(":/") or "name=" in line for line in shown if ":" in line and "==" not in line), shown


async def test_another_manager_takes_over(daemon: Daemon, manager: str) -> None:
    """The settings may change from one daemon to the next, and what runs is found where it was made."""
    other = {"cgroupfs": "systemd", "systemd": "cgroupfs"}[manager] if SYSTEMD else manager
    async with ross.connect(daemon.socket) as engine:
        image = await engine.images.get(BUSYBOX)
        container = await image.create(["sleep", "600"], memory=64 << 20)
        await container.start()
        identity = (await container.info()).id
    daemon.kill()
    daemon.start(settings={"ROSS_CGROUP_MANAGER": other})
    async with ross.connect(daemon.socket) as engine:
        assert (await engine.info()).cgroup_manager == other
        same = await engine.containers.get(identity)
        assert (await same.sample()).memory.limit_bytes == 64 << 20
        await same.update(memory=32 << 20, memory_swap=32 << 20)
        memory = await place_of(same, manager, "memory")
        assert words(memory, "memory.limit_in_bytes", "memory.max") == str(32 << 20)
        await same.stop(timeout=0)
        await same.remove()
        await engine.shutdown()
    daemon.wait_ended()
    daemon.start(settings={"ROSS_CGROUP_MANAGER": manager})


async def test_systemd_knows_its_scopes(daemon: Daemon, manager: str) -> None:
    async with running(daemon, memory=64 << 20) as (_engine, container):
        info = await container.info()
        if manager != "systemd":
            assert "scope" not in str(await place_of(container, manager, "memory"))
            return
        question = ("show", f"ross-{info.id}.scope", "--property=ActiveState,Slice,MemoryMax")
        assert sorted(systemctl(*question).split()) == [
            "ActiveState=active",
            f"MemoryMax={64 << 20}",
            "Slice=ross.slice",
        ]
        await container.kill()
        await container.wait()
    assert "ActiveState=inactive" in systemctl(*question).split()


def test_what_the_engine_tells(daemon: Daemon, manager: str) -> None:
    assert json.loads(daemon.ross("info", "--format", "json").stdout)["cgroup_manager"] == manager
