"""Logs of real containers: the files change while the monitor writes, and not a byte is lost; flags, drivers, resuming."""

from __future__ import annotations

import itertools
import json
import re
import time
from typing import TYPE_CHECKING

import pytest
import trio

import ross
from ross.linux.journal import SOCKET
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

LINES = 40_000
PACED = f"for part in 0 1 2 3 4 5 6 7; do seq $((part * 5000 + 1)) $((part * 5000 + 5000)) | sed s/$/-{'x' * 40}/; sleep 0.3; done"
"""Some 4 MB in the log, with time enough in between for files to be changed on a slow machine."""


def numbers(text: str) -> list[int]:
    return [int(line.partition("-")[0]) for line in text.splitlines()]


def log_files(daemon: Daemon, name: str) -> list[str]:
    identity = json.loads(daemon.ross("inspect", name).stdout)[0]["Id"]
    return sorted(path.name for path in (daemon.root / "containers" / identity).glob("log*"))


def test_no_line_is_lost_while_files_change(shared: Daemon, busybox: str) -> None:
    options = ["--log-opt", "max-size=64k", "--log-opt", "max-file=1000"]
    shared.ross("run", "-d", "--name", "fast", *options, busybox, "sh", "-c", f"{PACED}; sleep 1; seq 1 3 >&2")
    followed = shared.ross("logs", "-f", "fast")
    assert numbers(followed.stdout) == list(range(1, LINES + 1))
    assert followed.stderr == "1\n2\n3\n"
    assert len(log_files(shared, "fast")) > 3
    assert shared.ross("logs", "fast").stdout == followed.stdout
    assert numbers(shared.ross("logs", "--tail", "5000", "--stdout", "fast").stdout) == list(
        range(LINES - 4_999, LINES + 1)
    )
    shared.ross("rm", "fast")


def test_log_is_bounded_and_tells_what_is_gone(shared: Daemon, busybox: str) -> None:
    for files in ("1", "3"):
        options = ["--log-opt", "max-size=64k", "--log-opt", f"max-file={files}"]
        shared.ross("run", "--name", "small", *options, busybox, "sh", "-c", f"{PACED}; echo 0-end")
        whole = re.sub(
            r"\A(?!\d+-).*\n", "", shared.ross("logs", "small").stdout
        )  # the beginning of that line may be gone
        found = numbers(whole)
        expected = [*range(LINES - len(found) + 2, LINES + 1), 0]
        assert str(expected[0]).endswith(str(found[0]))  # a part of its number may be gone as well
        assert found[1:] == expected[1:]
        assert len(log_files(shared, "small")) == max(int(files), 2)
        shared.ross("rm", "small")


def test_change_of_files_is_finished_by_the_next_daemon(daemon: Daemon, box: str) -> None:
    """The daemon is killed again and again while files change; nothing is lost, and the log goes on being bounded."""
    options = ["--log-opt", "max-size=16k", "--log-opt", "max-file=1000"]
    script = "count() { i=$1; while [ $i -lt $2 ]; do echo $i; i=$((i+1)); done; }; count 0 10000; "
    script += "while ! [ -e /more ]; do sleep 0.1; done; count 10000 20000; exec sleep 600"
    daemon.ross("run", "-d", "--name", "busy", *options, box, "sh", "-c", script)
    for _kill in range(3):
        daemon.kill()
        daemon.start()
    daemon.ross("exec", "busy", "touch", "/more")
    deadline = time.monotonic() + 150
    found: list[int] = []
    while len(found) < 20_000 and time.monotonic() < deadline:
        found = [int(line) for line in daemon.ross("logs", "busy").stdout.split()]
    assert found == list(range(20_000))
    until(lambda: len(log_files(daemon, "busy")) > 2)
    daemon.ross("rm", "-f", "busy")


def test_reading_goes_on_exactly_where_it_was(shared: Daemon, busybox: str) -> None:
    shared.ross("run", "--name", "once", busybox, "sh", "-c", "for i in 1 2 3 4 5 6; do echo $i; done; printf end")

    async def body() -> None:
        found: list[bytes] = []
        position = 0
        while len(found) < 7:  # a connection for each entry
            async with ross.connect(shared.socket) as engine:
                container = await engine.containers.get("once")
                async with container.logs(after=position) as entries:
                    async for entry in entries:
                        found.append(entry.data)
                        position = entry.position
                        break
        assert found == [b"1\n", b"2\n", b"3\n", b"4\n", b"5\n", b"6\n", b"end"]

    trio.run(body)
    shared.ross("rm", "once")


def test_flags(shared: Daemon, busybox: str, tmp_path: Path) -> None:
    wait = "until [ -e /told/{} ]; do sleep 0.05; done"
    script = f"echo one; echo two >&2; {wait.format('3')}; echo three; {wait.format('4')}; printf four"
    told = ("-v", f"{tmp_path}:/told:ro")
    identity = shared.ok("run", "-d", "--name", "flags", *told, busybox, "sh", "-c", script).strip()
    log = shared.root / "containers" / identity / "log"
    until(lambda: log.read_text().count("\n") == 2)
    (tmp_path / "3").touch()
    until(lambda: log.read_text().count("\n") == 3)
    (tmp_path / "4").touch()
    assert shared.ok("wait", "flags") == "0\n"
    for words, stdout, stderr in (
        ((), "one\nthree\nfour", "two\n"),
        (("--stdout",), "one\nthree\nfour", ""),
        (("--stderr",), "", "two\n"),
        (("--stdout", "--stderr"), "one\nthree\nfour", "two\n"),
        (("--stream", "stderr", "-n", "1"), "", "two\n"),
        (("-n", "2"), "three\nfour", ""),
        (("-n", "2", "--stderr"), "", "two\n"),
        (("-f", "-n", "1"), "four", ""),
        (("--since", "1h"), "one\nthree\nfour", "two\n"),
        (("--until", "1h"), "", ""),
        (("--since", "1h", "--tail", "1", "-f"), "four", ""),
    ):
        done = shared.ross("logs", *words, "flags")
        assert (done.returncode, done.stdout, done.stderr) == (0, stdout, stderr), words
    stamped = shared.ross("logs", "-t", "--stdout", "flags").stdout.splitlines()
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (one|three|four)", line) for line in stamped), (
        stamped
    )
    third = stamped[1].split()[0]
    assert shared.ross("logs", "--since", third, "--stdout", "flags").stdout == "three\nfour"
    assert shared.ross("logs", "--until", third, "--tail", "1", "--stdout", "flags").stdout == "three\n"
    shared.ross("rm", "flags")


def test_pairs_of_flags(shared: Daemon, busybox: str) -> None:
    """As podman 4.3 prints it, except that times are inclusive, as Docker's, and the last lines are those before the end."""
    identity = shared.ross("run", "-d", "--name", "pairs", busybox, "true").stdout.strip()
    assert shared.ross("wait", "pairs").stdout == "0\n"
    lines = [
        f"2026-01-31T12:00:0{i}.000000000+00:00 {'stderr' if i in (2, 5) else 'stdout'} F line{i}\n" for i in range(8)
    ]
    (shared.root / "containers" / identity / "log").write_text("".join(lines))
    flags = {
        "tail": (("--tail", "3"), {5, 6, 7}),
        "since": (("--since", "2026-01-31T12:00:02Z"), {2, 3, 4, 5, 6, 7}),
        "until": (("--until", "2026-01-31T12:00:05Z"), {0, 1, 2, 3, 4, 5}),
        "follow": (("-f",), set(range(8))),
        "timestamps": (("-t",), set(range(8))),
    }
    special = {("tail", "until"): {3, 4, 5}}
    for pair in itertools.combinations(flags, 2):
        words = [word for name in pair for word in flags[name][0]]
        shown = special.get(pair, flags[pair[0]][1] & flags[pair[1]][1])
        done = shared.ross("logs", *words, "pairs")
        for stream, text in (("stdout", done.stdout), ("stderr", done.stderr)):
            expected = [
                f"2026-01-31T12:00:0{i}.000000000Z " * ("timestamps" in pair) + f"line{i}"
                for i in sorted(shown)
                if f" {stream} " in lines[i]
            ]
            assert text.splitlines() == expected, (pair, stream)
    shared.ross("rm", "pairs")


def test_drivers(shared: Daemon, busybox: str) -> None:
    done = shared.ross("run", "--name", "quiet", "--log-driver", "none", busybox, "echo", "seen")
    assert done.stdout == "seen\n"
    refused = shared.ross("logs", "quiet")
    assert refused.returncode != 0
    assert "keeps no log" in refused.stderr
    assert log_files(shared, "quiet") == []
    (info,) = json.loads(shared.ross("inspect", "quiet").stdout)
    assert info["LogPath"] == ""
    assert info["HostsPath"] == str(shared.root / "containers" / info["Id"] / "etc/hosts")
    shared.ross("rm", "quiet")
    for words, message in (
        (("--log-driver", "syslog"), "there is no log driver 'syslog'"),
        *([] if SOCKET.exists() else [(("--log-driver", "journald"), "this host has no journal to log to")]),
        (("--log-driver", "journald", "--log-opt", "max-size=1m"), "no option 'max-size'"),
        (("--log-driver", "journald", "--log-opt", "tag={{.Name}}"), "cannot be a tag"),
        (("--log-driver", "none", "--log-opt", "max-size=1m"), "no option 'max-size'"),
        (("--log-opt", "max-size=1"), "between 4k and 512g"),
        (("--log-opt", "max-file=0"), "0 files"),
        (("--log-opt", "tag=x"), "no option 'tag'"),
    ):
        assert message in shared.ross("create", *words, busybox, "true").stderr
    for driver in ("file", "json-file", "k8s-file", "local"):
        done = shared.ross("run", "--name", "kept", "--log-driver", driver, busybox, "echo", "seen")
        assert shared.ross("logs", "kept").stdout == "seen\n"
        shared.ross("rm", "kept")


def test_long_line_takes_little_memory(shared: Daemon, busybox: str) -> None:
    options = ["--log-opt", "max-size=-1"]
    shared.ross("run", "--name", "long", *options, busybox, "sh", "-c", "head -c 64000000 /dev/zero | tr '\\0' x")
    before = shared.rss_bytes()
    with shared.popen("logs", "-t", "long") as client:
        assert client.stdout is not None
        size = len(client.stdout.read(40))
        while piece := client.stdout.read(1 << 20):
            size += len(piece)
    assert client.returncode == 0
    assert size == 64_000_000 + len("2026-11-24T08:06:01.050269449Z ")
    assert shared.rss_bytes() - before < 16 << 20
    shared.ross("rm", "long")
