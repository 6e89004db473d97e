"""What runs has tried to get out of other engines by the runtime, the monitor, what is executed, and the log; here it stays in.

Beside ``test_sandbox_proofs.py`` and ``test_exec.py``; all in one daemon.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import sys
import tarfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import trio

from ross.errors import FailedPrecondition, RossError
from ross.linux.process import which
from ross.linux.syscalls import exchange
from ross.model.mounts import Mount, MountKind
from tests.support.images import ImageBuilder, busybox_layer, push
from tests.support.syscalls import answers, program, seizer, socketcall

if TYPE_CHECKING:
    from ross.client import Container, Engine, Image
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

PTRACE, SEIZE = 101, 0x4206
AF_INET, AF_ALG = 2, 38
UP: Final = "../" * 30


@pytest.fixture(scope="module")
def hostile(registry: str) -> str:
    """An image with programs that try."""
    layer = busybox_layer().symlink("fds", "/proc/self/fd")
    layer.add("evil", b"#!/proc/self/exe\n", mode=0o755)
    layer.add("seize", seizer(6000), mode=0o755)
    layer.add("trace-init", program([(PTRACE, SEIZE, 1)]), mode=0o755)
    layer.add("socketcall", socketcall(AF_INET, 1), mode=0o755)
    layer.add("socketcall-alg", socketcall(AF_ALG, 5), mode=0o755)
    return push(registry, "test/hostile:1", ImageBuilder().layer(layer).build())


@pytest.fixture(scope="module")
def shared(one_daemon: Daemon, hostile: str) -> Daemon:
    """One for all, with that image."""
    one_daemon.ok("pull", "-q", hostile)
    return one_daemon


@pytest.fixture
async def image(engine: Engine, hostile: str) -> Image:
    return await engine.images.get(hostile)


def mounts_of_the_host() -> str:
    return Path("/proc/self/mountinfo").read_text()


def mounts_but_of_other_tests(ours: Path) -> list[str]:
    """Those of the host, without what is below the directories of tests that run beside these, whose directory is ``ours``."""
    return [
        line
        for line in mounts_of_the_host().splitlines()
        if (place := Path(line.split()[4])).is_relative_to(ours) or not place.is_relative_to(ours.parent)
    ]


def monitor_of(daemon: Daemon, identity: str) -> int:
    return int((daemon.run / "monitors" / identity / "monitor.pid").read_text())


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/comm").exists() and Path(f"/proc/{pid}/comm").read_text() == "conmon\n"


# -- programs of the host ---------------------------------------------------------------------------------------------


def programs() -> dict[str, str]:
    """The digests of what the engine executes."""
    paths = [*filter(None, map(which, ("runc", "conmon"))), Path(sys.executable).resolve()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


async def test_programs_of_the_host_are_not_written_to(engine: Engine, image: Image, registry: str) -> None:
    """CVE-2019-5736: /proc/self/exe as entrypoint, as interpreter of a script and as what is executed, under the eyes of a first
    process that writes to whatever it sees being executed."""
    before = programs()
    assert len(before) == 3
    config = {"Entrypoint": ["/proc/self/exe"], "Cmd": ["init"]}
    entry = push(registry, "test/entry:1", ImageBuilder(config=config).layer(busybox_layer()).build())
    for one in (await engine.images.pull(entry), image):
        for args in ((), ["/proc/self/exe", "--version"], ["/evil"], ["/proc/1/exe"]):
            try:
                await one.run(args)
            except RossError:
                continue
    script = "while :; do for exe in /proc/[0-9]*/exe; do echo x > $exe; echo x >> $exe; done; done 2>/dev/null"
    container = await image.create(["sh", "-c", script], cpus=0.5)
    await container.start()
    for args in (["/proc/self/exe", "--version"], ["/evil"], ["true"]) * 7:
        try:
            await container.exec(args)
        except RossError:
            continue
    await container.remove(force=True)
    assert programs() == before


async def test_no_working_directory_is_a_descriptor_of_the_runtime(image: Image) -> None:
    """CVE-2024-21626: whatever is open while a container is made, none begins there; by a link of the image neither."""
    for number in range(3, 41):
        for path in (f"/proc/self/fd/{number}", f"/fds/{number}", f"/fds/../fd/{number}"):
            with pytest.raises(FailedPrecondition, match="which is refused"):
                await image.run(["pwd"], workdir=path)


async def test_monitor_has_no_directory_that_a_child_could_get(shared: Daemon, image: Image) -> None:
    """CVE-2024-21626: what the parent of a container has open, it closes on execution."""
    container = await image.create(["sleep", "1000"])
    await container.start()
    info = await container.info()
    for pid in (shared.pid, monitor_of(shared, info.id)):
        inherited = [path for path in directories_of(pid) if not closed_on_exec(pid, path.name)]
        assert inherited == [], pid
    await container.remove(force=True)


def directories_of(pid: int) -> list[Path]:
    return [path for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_dir()]


def closed_on_exec(pid: int, fd: str) -> bool:
    try:
        lines = Path(f"/proc/{pid}/fdinfo/{fd}").read_text().splitlines()
    except FileNotFoundError:  # closed meanwhile
        return True
    return bool(int(next(line for line in lines if line.startswith("flags:")).split()[1], 8) & os.O_CLOEXEC)


async def test_first_process_that_traces_gets_nothing_of_who_enters(shared: Daemon, image: Image) -> None:
    """CVE-2016-9962: what enters a container could be traced, with descriptors of the host open in it."""
    script = (
        "while :; do /seize; done & while :; do ls -l /proc/[0-9]*/fd; done 2>/dev/null | sed -n 's/.* -> //p' >> /seen"
    )
    container = await image.create(["sh", "-c", script], cpus=1)
    await container.start()
    await until_there(container, "/seen")
    assert answers((await container.exec(["/trace-init"])).stdout) == ["allowed"], (
        "processes of the container can be traced"
    )
    for number in range(40):
        done = await container.exec(["echo", str(number)])
        assert done.stdout == b"%d\n" % number
    await container.kill()
    await container.wait()
    async with container.files.read("/seen") as chunks:
        archive = io.BytesIO(b"".join([chunk async for chunk in chunks]))
    with tarfile.open(fileobj=archive) as members:
        member = members.extractfile("seen")
        assert member is not None
        seen = set(member.read().decode().rpartition("\n")[0].splitlines())  # the last line may be half written
    assert any(line.startswith("pipe:") for line in seen), "it has looked"
    strange = {line for line in seen if not line.startswith(("pipe:", "/dev/null", "/seen", "/proc", "/bin", "/seize"))}
    assert strange == set()
    await container.remove()


async def test_sockets_by_the_call_of_old_programs_are_denied(image: Image) -> None:
    """CVE-2026-31431: what the profile denies by socket(2), a 32-bit program asks for by socketcall(2)."""
    for name in ("/socketcall", "/socketcall-alg"):
        assert answers((await image.run([name])).stdout) == ["ENOSYS"]
    assert answers((await image.run(["/socketcall"], seccomp="unconfined")).stdout) == ["allowed"]


# -- places of the host -----------------------------------------------------------------------------------------------


async def test_mounts_into_a_volume_that_another_container_changes(image: Image, tmp_path: Path) -> None:
    """CVE-2021-30465, CVE-2025-31133, CVE-2025-52565, CVE-2025-52881, CVE-2023-28642: a container swaps a directory of a volume for a
    link to the host while mounts and masks of another are made in there. Of the host nothing is shown, changed or mounted on; nor is an
    empty file or directory made there (CVE-2024-45310), whatever the version of the runtime."""
    canary, volume = tmp_path / "canary", tmp_path / "volume"
    for path in (canary, volume / "t/in"):
        path.mkdir(parents=True)
    (canary / "secret").write_text("of the host")
    (volume / "link").symlink_to(f"{UP}{canary}")
    ended = threading.Event()

    def swap() -> None:
        while not ended.wait(0.0002):
            exchange(volume / "t", volume / "link")

    swapping = threading.Thread(target=swap)
    swapping.start()
    mounts = [
        Mount(source=str(volume), target="/vol"),
        Mount(source=str(volume), target="/dev/vol"),
        Mount(kind=MountKind.TMPFS, target="/vol/t/in"),
        Mount(source="/etc/hostname", target="/vol/t/file"),
        Mount(kind=MountKind.TMPFS, target="/dev/vol/t/made"),
        Mount(source="/etc", target="/vol/t/new/etc", read_only=True),
    ]
    ran = 0
    for _time in range(25):
        try:
            done = await image.run(
                ["sh", "-c", "cat /vol/t/secret /dev/vol/t/secret"], mounts=mounts, mask=["/vol/t/mask"]
            )
            ran += 1
        except RossError:
            continue
        assert done.stdout == b""
    ended.set()
    swapping.join()
    assert ran
    assert (canary / "secret").read_text() == "of the host"
    assert [path.name for path in canary.rglob("*")] == ["secret"]
    mounted = mounts_of_the_host()
    assert str(canary) not in mounted
    assert str(volume) not in mounted
    shutil.rmtree(volume)


async def until_there(container: Container, path: str) -> None:
    """Wait until what runs in a container has written a file."""
    with trio.fail_after(60):
        while (await container.exec(["test", "-s", path])).outcome.exit_code:  # noqa: ASYNC110 -- of another process
            await trio.sleep(0.05)


async def test_export_of_what_swaps_directories_for_links(image: Image, tmp_path: Path) -> None:
    """CVE-2023-0778: a link in the place of a directory led an export to the host's files."""
    (tmp_path / "secret").write_text("of the host")
    script = f"""mkdir /d; echo own > /d/secret; ln -s {UP}{tmp_path} /l; echo > /ready
    while :; do mv /d /x; mv /l /d; mv /d /l; mv /x /d; done"""
    container = await image.create(["sh", "-c", script], cpus=1)
    await container.start()
    await until_there(container, "/ready")
    seen = tried = 0
    while tried < 12 or not seen:
        tried += 1
        try:
            async with container.files.export() as chunks:
                data = b"".join([chunk async for chunk in chunks])
        except RossError:
            continue
        assert b"of the host" not in data
        seen += b"own\n" in data
    assert seen
    await container.remove(force=True)


async def test_sockets_of_daemon_and_monitors_have_paths_that_others_cannot_walk(shared: Daemon, image: Image) -> None:
    """CVE-2020-15257: a container in the host's network reached the shim by an abstract socket, whoever it was."""
    container = await image.create(["sleep", "1000"], network="host")
    await container.start()
    executed = await container.open_exec(["sleep", "1000"], when_gone="kill")
    ours = {shared.pid, *shared.monitors()}
    assert len(ours) >= 3
    inodes = {link[8:-1] for pid in ours for link in links_of(pid) if link.startswith("socket:[")}
    table = (await container.exec(["cat", "/proc/net/unix"])).stdout.decode().splitlines()[1:]
    named = [fields[7] for fields in map(str.split, table) if len(fields) > 7 and fields[6] in inodes]
    assert named, "the container sees the host's sockets, and ours among them"
    assert [name for name in named if not name.startswith("/")] == []
    # Clients are to walk to the daemon's own, which is bound under another name and then renamed.
    for name in set(named) - {f"{shared.socket}.new"}:
        assert any(parent.stat().st_mode & 0o077 == 0 for parent in Path(name).parents if parent.exists()), name
    assert (await container.exec(["ls", str(shared.run), str(shared.root)])).outcome.exit_code != 0
    await executed.signal("KILL")
    await container.remove(force=True)


def links_of(pid: int) -> set[str]:
    found: set[str] = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.add(str(path.readlink()))
    return found


@pytest.mark.parametrize("name", ["../../canary", "/etc", "..", ".", "a/../../b", "%2e%2e", "x\0y", ""])
async def test_no_name_is_a_path(
    engine: Engine, shared: Daemon, name: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """CVE-2025-0750: an id or the path of a log became the path of a mount, and something of the host was unmounted."""
    ours = tmp_path_factory.getbasetemp()
    before = mounts_but_of_other_tests(ours)
    assert any(str(shared.root.parent.parent) in line for line in before)
    for kind in (engine.containers.get, engine.images.get):
        with pytest.raises(RossError):
            await kind(name)
    assert mounts_but_of_other_tests(ours) == before
    assert shared.running


# -- memory, and the log ----------------------------------------------------------------------------------------------


async def test_monitor_outlives_a_hundred_lacks_of_memory(shared: Daemon, image: Image) -> None:
    """CVE-2019-14891: the monitor was in the container's control group, and died with what ran there."""
    script = "for i in $(seq 100); do tail /dev/zero; done; exit 7"
    container = await image.create(["sh", "-c", script], memory=8 << 20, memory_swap=8 << 20)
    await container.start()
    monitor = monitor_of(shared, (await container.info()).id)
    assert alive(monitor)
    with trio.fail_after(150):
        outcome = await container.wait()
    assert (outcome.exit_code, outcome.oom, outcome.error) == (7, True, "")
    await container.remove()


FORGED: Final = (
    b"2020-01-01T00:00:00.000000000+00:00 stderr F forged\n",
    b"\n2020-01-01T00:00:00.000000000+00:00 stderr P forged\r\n",
    b"a\0b\n\0\n\xff\xfe\xed\xa0\x80\n",
    b"\r2020-01-01T00:00:00.000000000+00:00 stderr F forged\r",
    b"x" * 9000 + b" stdout F y\n",
    b"\x1b[2J\xe2\x80\xa82020-01-01T00:00:00.000000000+00:00 stderr F no newline",
)


async def test_no_output_is_a_record_of_its_own(shared: Daemon, image: Image, tmp_path: Path) -> None:
    """What looks like a record in the output of one stream is text of that stream, with the time at which it was written."""
    (tmp_path / "forged").write_bytes(b"".join(FORGED))
    container = await image.create(["cat", "/forged"], mounts=[Mount(source=f"{tmp_path}/forged", target="/forged")])
    begun = (await container.info()).created_at
    await container.start()
    await container.wait()
    async with container.logs() as entries:
        found = [entry async for entry in entries]
    assert {entry.stream.value for entry in found} == {"stdout"}
    assert b"".join(entry.data for entry in found) == b"".join(FORGED)
    assert all(entry.time > begun for entry in found)
    info = json.loads(shared.ross("inspect", (await container.info()).id).stdout)[0]
    printed = shared.popen("logs", info["Id"])
    stdout, stderr = printed.communicate(timeout=60)
    assert (stdout, stderr) == (b"".join(FORGED), b"")
    await container.remove()
