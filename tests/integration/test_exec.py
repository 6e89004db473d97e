"""What is executed in a running container: as the container is, with what was asked for otherwise; and what is left of it: nothing."""

from __future__ import annotations

import json
import os
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
import trio

from ross.client import connect
from ross.errors import FailedPrecondition, InvalidArgument, NotFound, Reason, RossError
from ross.linux.process import which
from tests.support.daemon import Daemon, command
from tests.support.images import ImageBuilder, Layer, busybox_layer, push
from tests.support.terminal import Terminal
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from ross.client import Container, Engine
    from ross.model.execs import ExecInfo

pytestmark = pytest.mark.integration

PASSWD = b"root:x:0:0::/root:/bin/sh\nuser:x:1000:100::/home/user:/bin/sh\n1001:x:0:0::/:/bin/sh\n"
NONE, DEFAULT = "0" * 16, "00000000a80425fb"
GROUP = b"root:x:0:\nusers:x:100:\nextra:x:200:user\n"


@pytest.fixture(scope="module")
def shared(one_daemon: Daemon, registry: str) -> Daemon:
    """One daemon for all of these tests, with a container ``box`` whose image would like to be asked for its own ps and nsenter."""
    layer = busybox_layer().add("etc/passwd", PASSWD).add("etc/group", GROUP).add("home/user/.keep", b"")
    lying = Layer()
    for name in ("bin/ps", "bin/nsenter", "usr/bin/ps", "usr/bin/nsenter"):
        lying.add(name, b"#!/bin/sh\necho lied >> /lied\n", mode=0o755)
    lying.symlink("leads", "/proc/self/fd/7")
    lying.add("script", b"#!/bin/nosuch\n", mode=0o755)
    image = push(registry, "test/exec:1", ImageBuilder().layer(layer).layer(lying).build())
    flags = ["-e", "A=image", "-w", "/home", "--hostname", "here", "--pids-limit", "100"]
    one_daemon.ok("run", "-d", "--name", "box", *flags, image, "sh", "-c", "exec sleep 1000000")
    return one_daemon


@pytest.fixture
async def box(engine: Engine) -> Container:
    return await engine.containers.get("box")


async def eventually(condition: Callable[[], bool], *, seconds: float = 60) -> None:
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 -- of another process
            await trio.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


def monitor_pid(daemon: Daemon, info: ExecInfo) -> int:
    return int((daemon.run / "execs" / info.id / "monitor.pid").read_text())


def descriptors(pid: int) -> set[str]:
    return {path.name for path in Path(f"/proc/{pid}/fd").iterdir()}


def cgroups(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text()


# -- as the container is ----------------------------------------------------------------------------------------------


LIMITS = """
grep Seccomp: /proc/self/status | cut -f2
limits() { sed 's/open files *[0-9]* */open files /' /proc/$1/limits; }
[ "$(limits 1)" = "$(limits self)" ] && echo same
"""
"""Of open files only the hard limit: runc 1.1 sets both while the Go program that is to become ours raises its own soft one."""


@pytest.mark.parametrize(
    ("options", "script", "expected"),
    [
        ({}, "pwd; echo $A; hostname; echo $HOME; id -u; id -G", "/home image here /root 0 0"),
        ({"workdir": "/tmp"}, "pwd", "/tmp"),
        ({"env": {"A": "mine", "B": "two words"}}, "echo $A-$B", "mine-two words"),
        ({"env": ["HOME=/elsewhere"]}, "echo $HOME", "/elsewhere"),
        ({"user": "user"}, "id -u; id -g; id -G; echo $HOME", "1000 100 100 200 /home/user"),
        ({"user": "user:root"}, "id -u; id -g; id -G", "1000 0 0"),
        ({"user": "1001"}, "id -u; id -g; echo $HOME", "1001 0 /"),
        ({"user": "12345:54321"}, "id -u; id -g; id -G", "12345 54321 54321"),
        ({"terminal": True}, "echo $TERM; tty | cut -c1-8", "xterm /dev/pts"),
        ({}, "echo ${TERM-none}; cat /proc/1/comm", "none sleep"),
        ({}, "grep Cap /proc/self/status | cut -f2", f"{NONE} {DEFAULT} {DEFAULT} {DEFAULT} {NONE}"),
        ({"user": "user"}, "grep -E 'CapInh|CapPrm|CapEff|CapAmb' /proc/self/status | cut -f2 | sort -u", NONE),
        ({"privileged": True}, "grep -E 'CapInh|CapEff' /proc/self/status | cut -f2 | cut -c1-7,9", "00000000 000001ff"),
        ({}, LIMITS, "2 same"),
        ({"workdir": "/proc"}, None, "inside the kernel's own filesystems"),
        ({"workdir": "/leads"}, None, "inside the kernel's own filesystems"),
        ({"workdir": "/nosuch"}, None, "has no directory '/nosuch'"),
        ({"workdir": "relative"}, None, "not an absolute path"),
        ({"user": "nobody-here"}, None, "has no user 'nobody-here'"),
        ({"user": "4294967296"}, None, "is no user id"),
        ({"env": ["=x"]}, None, "neither NAME=value nor NAME"),
        ({"env": ["A=x\0y"]}, None, "zero byte"),
        ({"when_gone": "dance"}, None, "is no policy"),
    ],
)  # fmt: skip
async def test_what_is_executed_is_as_the_container_is(
    box: Container, options: dict[str, object], script: str | None, expected: str
) -> None:
    if script is None:
        with pytest.raises(RossError) as caught:
            await box.exec(["true"], **options)  # type: ignore[arg-type]
        assert expected in caught.value.message
        return
    done = await box.exec(["sh", "-c", script], **options)  # type: ignore[arg-type]
    assert done.stdout.decode().split() == expected.split(), done
    assert done.outcome.exit_code == 0


async def test_descriptor_of_a_directory_is_no_working_directory(box: Container) -> None:
    """CVE-2024-21626: whatever the runtime or its monitor has open, nothing is executed from there."""
    for number in range(3, 41):
        with pytest.raises(FailedPrecondition):
            await box.exec(["pwd"], workdir=f"/proc/self/fd/{number}")


async def test_init_and_exec_have_no_descriptors_but_the_standard_three(box: Container) -> None:
    first = (await box.info()).pid
    executed = await box.open_exec(["sleep", "1000"], when_gone="kill")
    second = (await executed.info()).pid
    await eventually(
        lambda: Path(f"/proc/{second}/comm").read_text() == "sleep\n"
    )  # what the runtime has open is closed then
    for pid in (first, second):
        assert descriptors(pid) == {"0", "1", "2"}
    await executed.signal("KILL")
    assert (await executed.wait()).signal == 9


async def test_monitor_is_not_in_the_containers_group(box: Container, shared: Daemon) -> None:
    executed = await box.open_exec(["sleep", "1000"], when_gone="kill")
    info = await executed.info()
    assert f"/ross/{(await box.info()).id}" in cgroups(info.pid)
    assert "/ross/" not in cgroups(monitor_pid(shared, info))
    await executed.signal("KILL")
    await executed.wait()


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["nosuch"], Reason.COMMAND_NOT_FOUND),
        (["/bin/nosuch"], Reason.COMMAND_NOT_FOUND),
        (["/script"], Reason.COMMAND_NOT_FOUND),
        (["/etc"], Reason.COMMAND_NOT_EXECUTABLE),
        (["/etc/passwd"], Reason.COMMAND_NOT_EXECUTABLE),
        (["/proc/nosuch"], Reason.COMMAND_NOT_FOUND),
        (["/dev/null"], Reason.COMMAND_NOT_EXECUTABLE),
    ],
)
async def test_program_that_cannot_be_executed_is_told(
    box: Container, shared: Daemon, args: list[str], reason: str
) -> None:
    with pytest.raises(FailedPrecondition) as caught:
        await box.exec(args)
    assert caught.value.reason == reason, caught.value
    await eventually(lambda: not any((shared.run / "execs").iterdir()))


async def test_runtime_is_not_overwritten_through_proc(box: Container) -> None:
    """CVE-2019-5736: what is executed from /proc/self/exe is a copy of the runtime, and cannot write to it."""
    programs = [which(name) for name in ("runc", "conmon")]
    before = [sha256(program.read_bytes()).digest() for program in programs if program]
    done = await box.exec(["/proc/self/exe", "--version"])
    assert b"runc" in done.stdout or done.outcome.exit_code != 0
    await box.exec(["sh", "-c", "for pid in /proc/[0-9]*; do echo x > $pid/exe; done"])
    assert [sha256(program.read_bytes()).digest() for program in programs if program] == before


# -- streams ----------------------------------------------------------------------------------------------------------


async def test_streams_are_apart_and_whole(box: Container) -> None:
    data = os.urandom(3 << 20)
    done = await box.exec(["sh", "-c", "cat; echo err >&2; exit 3"], input=data)
    assert (done.outcome.exit_code, done.stderr, done.truncated) == (3, b"err\n", False)
    assert done.stdout == data


async def test_input_ends_alone(box: Container) -> None:
    """Half-close: what is executed reads the end of its input and goes on writing."""
    received = bytearray()

    async def keep(data: bytes) -> None:
        received.extend(data)

    executed = await box.open_exec(["sh", "-c", "sort; echo end"], stdin=True, stdout=keep)
    await executed.write(b"b\na\n")
    await executed.close_stdin()
    assert (await executed.wait()).exit_code == 0
    assert bytes(received) == b"a\nb\nend\n"


async def test_output_beyond_the_bound_is_dropped_and_memory_stays_flat(box: Container, shared: Daemon) -> None:
    """CVE-2022-1708, 2022-31030: the output of ``yes`` without end."""
    for round_ in range(4):
        with trio.move_on_after(0.5):
            await box.exec(["yes"], max_output_bytes=1 << 20)
        if round_ == 0:
            before = shared.rss_bytes()
    assert shared.rss_bytes() < before + (8 << 20)
    done = await box.exec(["sh", "-c", "yes | head -c 3000000"], max_output_bytes=1 << 20)
    assert (len(done.stdout), done.truncated, done.outcome.exit_code) == (1 << 20, True, 0)


async def test_own_descriptors_reach_the_process(box: Container) -> None:
    into, out, err = os.pipe(), os.pipe(), os.pipe()
    before = os.fstat(out[1]).st_ino
    executed = await box.open_exec(
        ["sh", "-c", "readlink /proc/self/fd/1; cat; echo x >&2"], stdio=[into[0], out[1], err[1]]
    )
    for fd in (into[0], out[1], err[1]):
        os.close(fd)
    os.write(into[1], b"through the kernel\n")
    os.close(into[1])
    assert (await executed.wait()).exit_code == 0
    assert os.read(out[0], 1000).decode() == f"pipe:[{before}]\nthrough the kernel\n"
    assert os.read(err[0], 1000) == b"x\n"
    for fd in (out[0], err[0]):
        os.close(fd)


async def test_descriptors_of_files_are_refused(box: Container, tmp_path: Path) -> None:
    """A runtime would give them to the container's user."""
    null = os.open("/dev/null", os.O_RDWR)
    for what in (tmp_path, tmp_path / "file", tmp_path / "fifo"):
        if what.name == "file":
            what.touch()
        elif what.name == "fifo":
            os.mkfifo(what)
        fd = os.open(what, os.O_RDONLY | os.O_NONBLOCK)
        with pytest.raises(InvalidArgument, match="only pipes"):
            await box.open_exec(["true"], stdio=[null, null, fd])
        os.close(fd)
    os.close(null)


async def test_terminal_has_the_size_from_the_first_moment_and_follows(box: Container) -> None:
    received = bytearray()

    async def keep(data: bytes) -> None:
        received.extend(data)

    script = "stty size; read line; stty size"
    executed = await box.open_exec(["sh", "-c", script], stdin=True, stdout=keep, terminal=True, rows=33, columns=99)
    await eventually(lambda: b"33 99" in received)
    for rows in range(1, 300):
        await executed.resize(rows=rows, columns=7)
    await executed.resize(rows=11, columns=22)
    await executed.write(b"go\n")
    await executed.wait()
    assert b"11 22" in received, received


# -- its life ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "signal"), [("hup", 1), ("kill", 9)])
async def test_holder_that_is_gone(shared: Daemon, policy: Literal["hup", "kill"], signal: int) -> None:
    async with connect(shared.socket) as engine:
        container = await engine.containers.get("box")
        executed = await container.open_exec(["sleep", "100000"], when_gone=policy)
        identity, pid = (await executed.info()).id, (await executed.info()).pid
        assert alive(pid)
    await eventually(lambda: not alive(pid))
    async with connect(shared.socket) as engine:
        found = {info.id: info for info, _exec in await (await engine.containers.get("box")).execs()}
        with trio.fail_after(60):
            while found[identity].outcome is None:
                found = {info.id: info for info, _exec in await (await engine.containers.get("box")).execs()}
        outcome = found[identity].outcome
        assert outcome is not None
        assert outcome.signal == signal


async def test_who_looks_while_it_is_begun_does_not_end_it(box: Container, shared: Daemon) -> None:
    """What is listed is held by whoever lists it, who lets go of it before whoever has begun it has heard of it."""
    async with connect(shared.socket) as others, trio.open_nursery() as nursery:
        seen = await others.containers.get("box")

        async def look() -> None:
            while True:
                await seen.execs()

        nursery.start_soon(look)
        for _time in range(20):
            done = await box.exec(["sh", "-c", "sleep 0.1; echo well"])
            assert (done.outcome.exit_code, done.stdout) == (0, b"well\n")
        nursery.cancel_scope.cancel()


async def test_holder_that_leaves_it(shared: Daemon) -> None:
    async with connect(shared.socket) as engine:
        container = await engine.containers.get("box")
        executed = await container.open_exec(["sleep", "100000"], when_gone="leave")
        identity = (await executed.info()).id
    async with connect(shared.socket) as engine:
        container = await engine.containers.get("box")
        (found,) = [one for info, one in await container.execs() if info.id == identity]
        assert alive((await found.info()).pid)
        await found.signal("TERM")
        assert (await found.wait()).signal == 15


async def test_killed_client_takes_its_exec_with_it(shared: Daemon, box: Container) -> None:
    client = shared.popen("exec", "-i", "box", "cat")
    with trio.fail_after(60):
        while not (running := [info for info, _exec in await box.execs() if info.args == ("cat",) and info.pid]):  # noqa: ASYNC110
            await trio.sleep(0.05)
    client.kill()
    client.communicate()
    await eventually(lambda: not alive(running[0].pid))


async def test_attach_and_resize_by_the_hundred_leave_nothing(box: Container, shared: Daemon) -> None:
    """CVE-2022-23471, 2025-64329: in short; the long form runs by hand."""

    async def keep(_data: bytes) -> None:
        return

    rounds = int(os.environ.get("ROSS_ROUNDS", "200"))
    executed = await box.open_exec(["cat"], stdin=True, terminal=True, when_gone="kill")
    for pace in ("log", "block", "drop"):
        await box.attach(stdout=keep, pace=pace)
    await trio.lowlevel.checkpoint()
    fds, rss = shared.open_fds(), 0
    for number in range(rounds):
        attached = await box.attach(stdout=keep, pace=("log", "block", "drop")[number % 3])
        again = await executed.attach(stdout=keep)
        await executed.resize(rows=1 + number % 200, columns=80)
        del attached, again
        if number == rounds // 2:
            rss = shared.rss_bytes()
    await eventually(lambda: shared.open_fds() <= fds + 8)  # of connections that the next would use
    assert shared.rss_bytes() < rss + (4 << 20)
    await executed.signal("KILL")
    await executed.wait()


async def test_exec_in_what_does_not_run_or_is_frozen(shared: Daemon, engine: Engine) -> None:
    image = (await (await engine.containers.get("box")).info()).image
    container = await (await engine.images.get(image)).create(["sleep", "1000"])
    with pytest.raises(FailedPrecondition, match="is created: nothing can be executed"):
        await container.exec(["true"])
    with pytest.raises(FailedPrecondition, match="is created: nothing runs in it"):
        await container.top()
    await container.start()
    identity = (await container.info()).id
    runc = ["runc", "--root", str(shared.run / "runtime")]
    await trio.run_process([*runc, "pause", identity])
    with pytest.raises(FailedPrecondition, match="paused"):
        await container.exec(["true"])
    await trio.run_process([*runc, "resume", identity])
    assert (await container.exec(["true"])).outcome.exit_code == 0
    await container.pause()
    with pytest.raises(FailedPrecondition, match="is paused: nothing can be executed"):
        await container.exec(["true"])
    await container.resume()
    await container.remove(force=True)
    with pytest.raises(NotFound):
        await container.exec(["true"])


async def test_end_of_the_container_is_the_end_of_its_execs(shared: Daemon, engine: Engine) -> None:
    image = (await (await engine.containers.get("box")).info()).image
    container = await (await engine.images.get(image)).create(["sleep", "1000"])
    await container.start()
    executed = [await container.open_exec(["sleep", "2000"], when_gone=policy) for policy in ("hup", "leave")]
    outcomes = []
    async with trio.open_nursery() as nursery:

        async def wait(number: int) -> None:
            outcomes.append((await executed[number].wait()).signal)

        nursery.start_soon(wait, 0)
        nursery.start_soon(wait, 1)
        await container.stop(timeout=0)
    assert outcomes == [9, 9]
    await container.remove()
    await eventually(lambda: not any((shared.run / "execs").iterdir()))


async def test_exec_whose_monitor_is_killed(box: Container, shared: Daemon) -> None:
    executed = await box.open_exec(["sleep", "1000"], when_gone="kill")
    info = await executed.info()
    os.kill(monitor_pid(shared, info), 9)
    os.kill(info.pid, 9)
    outcome = await executed.wait()
    assert outcome.exit_code == 255
    assert "its monitor was killed" in outcome.error


# -- what runs --------------------------------------------------------------------------------------------------------


async def test_top_reads_the_kernel_and_runs_nothing_of_the_image(box: Container) -> None:
    """CVE-2022-1227."""
    executed = await box.open_exec(["sh", "-c", "sleep 4242; true"], user="12345", when_gone="kill")
    pid = (await executed.info()).pid
    with trio.fail_after(60):
        table = await box.top()
        while "sleep 4242" not in {row.values[-1] for row in table.rows}:
            await trio.sleep(0.02)
            table = await box.top()
    assert table.titles == ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")
    rows = {row.values[1]: row.values for row in table.rows}
    assert rows[str(pid)][0] == "12345"
    assert [row.values[-1] for row in table.rows if row.values[2] == str(pid)] == ["sleep 4242"]
    table = await box.top("-eo pid,nspid,comm=NAME")
    assert table.titles == ("PID", "NSPID", "NAME")
    assert ("1", "sleep") in {row.values[1:] for row in table.rows}
    assert (await box.top("aux")).titles[:3] == ("USER", "PID", "%CPU")
    with pytest.raises(InvalidArgument, match="no column 'nosuch'"):
        await box.top("-o nosuch")
    await executed.signal("KILL")
    await executed.wait()
    assert (await box.exec(["cat", "/lied"])).outcome.exit_code == 1


# -- the command line -------------------------------------------------------------------------------------------------


def test_command_line(shared: Daemon, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# comment\n\n  B=from a file\nA=overwritten\nROSS_SOCKET\n")
    done = shared.ross("exec", "--env-file", str(tmp_path / "env"), "-eA=x", "-u", "user", "-w/tmp", "box", "sh", "-c",
                       'echo $A $B; pwd; id -u; echo err >&2; test -n "$ROSS_SOCKET" && exit 9')  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (9, "x from a file\n/tmp\n1000\n", "err\n")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["box", "nosuch"], 127, "no program 'nosuch'"),
        (["box", "/etc"], 126, "is a directory"),
        (["nosuch", "true"], 125, "no container 'nosuch'"),
        (["box"], 125, "nothing to execute"),
        (["--detach-keys", "ctrl-1", "box", "true"], 125, "no key"),
        (["box", "sh", "-c", "kill -9 $$"], 137, ""),
    ],
)
def test_exit_codes(shared: Daemon, words: list[str], code: int, said: str) -> None:
    done = shared.ross("exec", *words)
    assert done.returncode == code, done
    assert said in done.stderr


def test_output_into_a_file_leaves_its_owner(shared: Daemon, tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out, (tmp_path / "in").open("wb+") as into:
        into.write(b"y" * (1 << 20))
        into.seek(0)
        argv = command("exec", "-i", "-u", "12345", "box", "cat")
        subprocess.run(argv, stdin=into, stdout=out, stderr=out, env=shared.environment(), check=True, timeout=60)
    assert (tmp_path / "out").read_bytes() == b"y" * (1 << 20)
    assert (tmp_path / "out").stat().st_uid == os.getuid()


def test_terminal_and_detach_keys(shared: Daemon) -> None:
    script = "echo ready; until stty size | grep 123; do sleep 0.1; done; stty -echo; echo now; exec cat -v"
    terminal = Terminal(shared, "exec", "-it", "--detach-keys", "ctrl-a,z", "box", "sh", "-c", script)
    terminal.read_until(b"ready")
    terminal.resize(40, 123)
    terminal.read_until(b"now")
    terminal.send(b"a\x01b\n")
    terminal.read_until(b"a^Ab")
    terminal.send(b"\x01z")
    assert terminal.wait() == 0


def test_detached_exec_goes_on(shared: Daemon) -> None:
    shared.ok("exec", "-d", "box", "sh", "-c", "exec sleep 31415")

    def pids() -> list[int]:
        table = json.loads(shared.ross("top", "box", "-o", "pid,args", "--format", "json").stdout)
        return [int(row["PID"]) for row in table if row["COMMAND"] == "sleep 31415"]

    until(pids)
    (pid,) = pids()
    os.kill(pid, 9)


def test_table_of_processes_is_bounded(shared: Daemon) -> None:
    """Whatever a container calls its processes, and however many there are."""
    many = "x=$(printf '%04000d' 0); for i in $(seq 250); do sleep 600 $x 2>&- & done; wait"
    image = json.loads(shared.ross("inspect", "box").stdout)[0]["Config"]["Image"]
    shared.ok("run", "-d", "--name", "many", image, "sh", "-c", many)

    def top(columns: str) -> list[list[str]]:
        return [row.split(" ") for row in shared.ross("top", "many", "-o", columns).stdout.splitlines()[1:]]

    until(lambda: sum(len(row[-1]) == 4000 for row in top("args")) == 250)
    table = json.loads(shared.ross("top", "many", "-o", "args,pid,cmd,command=OTHER", "--format", "json").stdout)
    assert 1 << 20 < sum(len(text) for row in table for text in row.values()) <= (2 << 20) + 251 * 10
    assert sum(row["CMD"].endswith("0\N{HORIZONTAL ELLIPSIS}") for row in table) == 250
    assert "twice" in shared.ross("top", "many", "-o", ",".join(["args"] * 64)).stderr
    shared.ok("rm", "-f", "many")
