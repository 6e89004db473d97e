"""What containers use, and that the kernel has killed them for want of memory: from the counters of their control groups."""

from __future__ import annotations

import json
import os
import signal
from datetime import datetime
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import ross
from ross.errors import FailedPrecondition
from tests.support.terminal import Terminal
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ross.model.stats import ContainerStats
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

BUSY = "while :; do :; done"
EATER = "tail /dev/zero"
SLEEP = "exec sleep 600"


@pytest.fixture
def names(shared: Daemon) -> Iterator[list[str]]:
    """Of containers that are removed at the end of the test."""
    found: list[str] = []
    yield found
    shared.ok("rm", "-f", *found)


def begun(daemon: Daemon, box: str, names: list[str], name: str, script: str, *flags: str) -> str:
    daemon.ok("run", "-d", "--name", name, *flags, box, "sh", "-c", script)
    names.append(name)
    return name


def sampled(daemon: Daemon, *words: str) -> dict[str, dict[str, Any]]:
    lines = daemon.ok("stats", "--no-stream", "--format", "jsonl", *words).splitlines()
    return {one["name"]: one for one in map(json.loads, lines)}


def outcome(daemon: Daemon, name: str) -> dict[str, Any]:
    daemon.ok("wait", name)
    (info,) = json.loads(daemon.ok("inspect", name))
    return dict(info["State"])


def test_what_a_busy_container_uses(shared: Daemon, busybox: str, names: list[str]) -> None:
    script = f"head -c 8000000 /dev/zero > /dev/shm/held; sleep 600 & echo held; {BUSY}"
    begun(shared, busybox, names, "busy", script, "--cpus", "0.2", "-m", "64m", "--pids-limit", "77")
    begun(shared, busybox, names, "idle", SLEEP)
    until_logged(shared, "busy", "held")
    until(lambda: sampled(shared, "busy")["busy"]["cpu"]["throttled_periods"])
    until(lambda: sampled(shared, "idle")["idle"]["cpu_percent"] < 2)

    found = sampled(shared)

    busy, idle = found["busy"], found["idle"]
    assert 2 < busy["cpu_percent"] < 60
    assert busy["cpu"]["time_ns"] > 0
    assert busy["cpu"]["throttled_ns"] > 0
    assert busy["memory"]["limit_bytes"] == 64 << 20
    assert 8_000_000 <= busy["memory"]["used_bytes"] < 32 << 20
    assert busy["memory_percent"] == pytest.approx(100 * busy["memory"]["used_bytes"] / (64 << 20), abs=0.01)
    assert busy["memory"]["oom_kills"] == 0
    assert busy["pids"] == {"count": 2, "limit": 77}
    assert idle["pids"]["count"] >= 1
    assert idle["memory"]["limit_bytes"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    begins = (busy["sampled_at"] - busy["elapsed_ns"]) / 1e9
    (info,) = json.loads(shared.ok("inspect", "busy"))
    created, started = (
        datetime.fromisoformat(text).timestamp() for text in (info["Created"], info["State"]["StartedAt"])
    )
    assert created - 1 < begins < started + 1, "the clock of the processes is coarse"


def test_the_cache_of_files_is_no_use(shared: Daemon, busybox: str, names: list[str]) -> None:
    begun(
        shared, busybox, names, "one", "dd if=/dev/zero of=/file bs=1M count=20 conv=fsync; echo done; exec sleep 600"
    )
    until_logged(shared, "one", "done")

    memory = sampled(shared, "one")["one"]["memory"]

    assert memory["cache_bytes"] >= 15_000_000
    assert memory["used_bytes"] < 15_000_000


def until_logged(daemon: Daemon, name: str, text: str) -> None:
    until(lambda: text in daemon.ok("logs", name))


def test_tables_and_templates(shared: Daemon, busybox: str, names: list[str]) -> None:
    begun(shared, busybox, names, "up", SLEEP, "-m", "64m")
    begun(shared, busybox, names, "down", "exit 3")
    shared.ok("wait", "down")
    identity = shared.ok("ps", "-q", "--filter", "name=up").strip()

    table = shared.ok("stats", "--no-stream").splitlines()
    assert " ".join(table[0].split()) == "CONTAINER ID NAME CPU % MEM USAGE / LIMIT MEM % NET I/O BLOCK I/O PIDS"
    assert [line.split()[:2] for line in table[1:]] == [[identity, "up"]]
    assert "/ 64MiB" in table[1]
    assert table[1].split()[-1] == "1"
    everything = shared.ok(
        "stats", "--no-stream", "-a", "--no-trunc", "--format", "{{.ID}} {{.Name}} {{.PIDs}} {{.CPUPerc}}"
    )
    lines = sorted(line.split() for line in everything.splitlines())
    assert {(len(one[0]), one[1]) for one in lines} == {(64, "up"), (64, "down")}
    assert next(one[2:] for one in lines if one[1] == "down") == ["0", "0.00%"]
    assert shared.ok("stats", "--no-stream", "--format", "table {{.Name}}\t{{.MemPerc}}", "down").split() == [
        *("NAME", "MEM", "%", "down", "0.00%"),
    ]
    done = shared.ross("stats", "--no-stream", "nobody")
    assert (done.returncode, "no container" in done.stderr) == (1, True)
    assert "there is no field" in shared.ross("stats", "--no-stream", "--format", "{{.Nope}}", "up").stderr


def test_a_stream_follows_who_comes_and_goes(shared: Daemon, busybox: str, names: list[str]) -> None:
    begun(shared, busybox, names, "first", SLEEP)
    process = shared.popen("stats", "--format", "jsonl")
    assert process.stdout is not None
    try:
        assert json.loads(process.stdout.readline())["name"] == "first"
        begun(shared, busybox, names, "second", BUSY)
        while (seen := json.loads(process.stdout.readline()))["name"] != "second" or seen["cpu_percent"] is None:
            assert seen["name"] in {"first", "second"}
        assert seen["cpu_percent"] > 0
        shared.ok("kill", "first")
        shared.ok("wait", "first")
        seconds = 0
        while seconds < 3:  # in a row, when only the second is left
            seconds = seconds + 1 if json.loads(process.stdout.readline())["name"] == "second" else 0
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.communicate()


def test_who_hangs_delays_nobody(shared: Daemon, busybox: str, names: list[str]) -> None:
    """Neither a paused container nor one whose monitor is stopped is asked for anything."""
    for name in ("paused", "stuck", "fine"):
        begun(shared, busybox, names, name, SLEEP)
    shared.ok("pause", "paused")
    (info,) = json.loads(shared.ok("inspect", "stuck"))
    monitor = int((shared.run / "monitors" / info["Id"] / "monitor.pid").read_text())
    os.kill(monitor, signal.SIGSTOP)
    try:
        found = sampled(shared)  # which would wait in vain for as long as the monitor is stopped
        assert found.keys() == {"paused", "stuck", "fine"}
        assert all(one["pids"]["count"] >= 1 for one in found.values())
    finally:
        os.kill(monitor, signal.SIGCONT)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_the_library_streams_until_the_end(shared: Daemon, busybox: str, backend: str) -> None:
    async def body() -> None:
        async with ross.connect(shared.socket) as engine:
            container = await (await engine.images.get(busybox)).create(["sh", "-c", BUSY])
            with pytest.raises(FailedPrecondition, match="nothing to be measured"):
                await container.sample()
            await container.start()
            assert (await container.sample()).pids.count >= 1  # the runtime has threads, until it executes the command
            samples: list[ContainerStats] = []
            used = 0.0
            async with container.stats(interval=0.05) as found:
                async for one in found:
                    samples.append(one)
                    if len(samples) >= 5 and not used and (used := one.processors_since(samples[0])):
                        await container.kill()
            assert used > 0
            times = [one.cpu.time_ns for one in samples]
            assert times == sorted(times)
            async with container.stats() as found:
                with pytest.raises(FailedPrecondition):
                    await anext(found)
            await container.remove()

    anyio.run(body, backend=backend)


def test_out_of_memory_is_counted_and_told(shared: Daemon, busybox: str, names: list[str]) -> None:
    """The container's own counters say so, whatever its monitor has seen; and a next run begins anew."""
    script = (
        f"[ -e /once ] && exit 4; touch /once; trap 'exit 3' USR1; {EATER}; echo killed; while :; do sleep 0.05; done"
    )
    begun(shared, busybox, names, "eater", script, "-m", "16m", "--memory-swap", "16m")
    until_logged(shared, "eater", "killed")
    assert sampled(shared, "eater")["eater"]["memory"]["oom_kills"] >= 1
    (info,) = json.loads(shared.ok("inspect", "eater"))
    for seen in (shared.root / "containers" / info["Id"] / "bundle").glob("oom"):
        seen.unlink()

    shared.ok("kill", "-s", "USR1", "eater")
    first = outcome(shared, "eater")
    assert (first["ExitCode"], first["OOMKilled"]) == (3, True)
    assert "(out of memory)" in shared.ok("ps", "-a")
    shared.ok("start", "eater")
    second = outcome(shared, "eater")
    assert (second["ExitCode"], second["OOMKilled"]) == (4, False)


def test_out_of_memory_while_there_was_no_daemon(
    shared: Daemon, busybox: str, names: list[str], tmp_path: Path
) -> None:
    script = f"until [ -e /told/go ]; do sleep 0.05; done; exec {EATER}"
    flags = ("-m", "16m", "--memory-swap", "16m", "-v", f"{tmp_path}:/told:ro")
    begun(shared, busybox, names, "alone", script, *flags)
    (info,) = json.loads(shared.ok("inspect", "alone"))
    shared.kill()
    (tmp_path / "go").touch()
    until((shared.run / "exits" / info["Id"]).exists)
    shared.start()

    ended = outcome(shared, "alone")
    assert (ended["ExitCode"], ended["Signal"], ended["OOMKilled"]) == (137, 9, True)


def test_the_live_screen(shared: Daemon, busybox: str, names: list[str]) -> None:
    begun(shared, busybox, names, "seen", BUSY, "--cpus", "0.2")
    begun(shared, busybox, names, "gone", "exit 0")
    shared.ok("wait", "gone")
    screen = Terminal(shared, "top", size=(12, 100))
    screen.read_until(b"\x1b[?1049h")
    assert b"gone" not in screen.read_until(b"seen")
    screen.send(b"a")
    screen.read_until(b"gone")
    screen.resize(9, 30)
    screen.read_until(b"q quit   a all   order by: c c\x1b[J")
    screen.send(b"q")
    assert screen.read_to_the_end().endswith(b"\x1b[?25h\x1b[?1049l")
    assert screen.wait() == 0


def test_the_live_screen_needs_one(shared: Daemon) -> None:
    refused = shared.ross("top")
    assert refused.returncode == 1
    assert "this is none" in refused.stderr
    assert "goes with a container" in shared.ross("top", "--format", "json").stderr
