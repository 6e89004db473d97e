"""Logs in the journal of the host: what is in it, every way of reading it, following, going on, and that nobody else can forge any.

Where there is no journal, it is refused: ``test_container_logs.py``. The session ``vm`` of nox runs this where there is one.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

import ross
from ross.errors import InvalidArgument
from ross.linux.journal import SOCKET
from ross.model.records import Stream
from tests.support.archives import BUSYBOX
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ross.client import Container
    from ross.model.records import LogEntry
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

SECONDS = 120
"""A machine without a processor of its own is slow."""
SCRIPT = "echo one; sleep 1; echo two >&2; sleep 1; echo three; sleep 1; printf four"


@asynccontextmanager
async def made(daemon: Daemon, script: str, **options: Any) -> AsyncIterator[Container]:
    """A container that logs to the journal, removed with the block."""
    with trio.fail_after(SECONDS):
        async with ross.connect(daemon.socket) as engine:
            image = await engine.images.get(BUSYBOX)
            container = await image.create(["sh", "-c", script], log_driver="journald", **options)
            try:
                yield container
            finally:
                await container.discard()


@asynccontextmanager
async def ended(daemon: Daemon, script: str, **options: Any) -> AsyncIterator[Container]:
    async with made(daemon, script, **options) as container:
        await container.start()
        await container.wait()
        yield container


async def read(container: Container, **options: Any) -> list[LogEntry]:
    async with container.logs(**options) as entries:
        return [entry async for entry in entries]


async def identity_of(container: Container) -> str:
    return (await container.info()).id


def text(entries: list[LogEntry], stream: Stream | None = None) -> bytes:
    return b"".join(entry.data for entry in entries if stream in {None, entry.stream})


def journal(*words: str) -> list[dict[str, Any]]:
    """What the journal has, when it has taken in all that it was sent."""
    subprocess.run(["journalctl", "--sync"], check=True)
    done = subprocess.run(["journalctl", "-q", "-o", "json", *words], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def readers(daemon: Daemon) -> list[str]:
    """The command lines of all that read the journal for a daemon."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            argv = (path / "cmdline").read_text().split("\0")
            parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        if argv[0].endswith("journalctl") and parent in {1, daemon.pid}:
            found.append(" ".join(argv))
    return found


# -- what is in it ----------------------------------------------------------------------------------------------------


async def test_fields_of_an_entry(loaded: Daemon) -> None:
    async with ended(loaded, "echo out; echo err >&2", name="web", log_options={"tag": "shop {1}"}) as container:
        identity = await identity_of(container)
        assert text(await read(container)) == b"out\nerr\n"
    out, err = journal(f"CONTAINER_ID_FULL={identity}")
    assert (out["CONTAINER_ID"], out["CONTAINER_NAME"], out["CONTAINER_TAG"]) == (identity[:12], "web", "shop {1}")
    assert (out["SYSLOG_IDENTIFIER"], out["PRIORITY"], err["PRIORITY"]) == ("shop {1}", "6", "3")
    async with ended(loaded, "echo out", name="plain") as container:
        (out,) = journal(f"CONTAINER_ID_FULL={await identity_of(container)}")
    assert (out["SYSLOG_IDENTIFIER"], out["CONTAINER_NAME"], out.get("CONTAINER_TAG")) == ("plain", "plain", None)


async def test_every_byte_is_kept(loaded: Daemon) -> None:
    script = (
        r"printf '\000\001\377\n\n\033[31m\tx \n'; head -c 30000 /dev/zero | tr '\0' x; printf '\nMESSAGE=y\n\nend'"
    )
    async with ended(loaded, script) as container:
        found = await read(container)
    expected = b"\0\1\xff\n\n\x1b[31m\tx \n" + b"x" * 30000 + b"\nMESSAGE=y\n\nend"
    assert text(found) == expected
    assert [entry.partial for entry in found][-1]
    assert text(found, Stream.STDERR) == b""


async def test_terminal(loaded: Daemon) -> None:
    async with ended(loaded, "echo out; echo err >&2", terminal=True) as container:
        assert text(await read(container), Stream.STDOUT) == b"out\r\nerr\r\n"


async def test_attached_reader_sees_what_is_logged(loaded: Daemon) -> None:
    done = loaded.ross("run", "--name", "seen", "--log-driver", "journald", BUSYBOX, "sh", "-c", "echo x; echo y >&2")
    assert (done.returncode, done.stdout, done.stderr) == (0, "x\n", "y\n")
    (info,) = json.loads(loaded.ross("inspect", "seen").stdout)
    assert (info["LogPath"], info["HostConfig"]["LogConfig"]["Type"]) == ("", "journald")
    logged = loaded.ross("logs", "seen")
    assert (logged.returncode, logged.stdout, logged.stderr) == (0, "x\n", "y\n")


def forge(identity: str) -> None:
    """Write what a monitor would, as nobody."""
    forged = f"MESSAGE=forged\nPRIORITY=6\nCONTAINER_ID_FULL={identity}\n".encode()
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
            os._exit(ours.sendto(forged, str(SOCKET)) != len(forged))
    assert os.waitpid(child, 0)[1] == 0


async def test_what_others_write_in_its_name_is_not_its_log(loaded: Daemon) -> None:
    async with ended(loaded, "echo mine") as container:
        identity = await identity_of(container)
        forge(identity)
        assert [entry["MESSAGE"] for entry in journal(f"CONTAINER_ID_FULL={identity}")] == ["mine\n", "forged"]
        assert text(await read(container)) == b"mine\n"
        assert text(await read(container, tail=1)) == b"mine\n"


# -- reading ----------------------------------------------------------------------------------------------------------


async def test_what_is_asked_for(loaded: Daemon) -> None:
    out, err = Stream.STDOUT, Stream.STDERR
    async with ended(loaded, SCRIPT) as container:
        whole = await read(container)
        times = {entry.data.strip(): entry.time for entry in whole}
        assert list(times.values()) == sorted(times.values())
        assert abs(times[b"four"] - time.time_ns()) < SECONDS * 10**9
        for options, stdout, stderr in (
            ({}, b"one\nthree\nfour", b"two\n"),
            ({"stderr": False}, b"one\nthree\nfour", b""),
            ({"stdout": False}, b"", b"two\n"),
            ({"tail": 0}, b"", b""),
            ({"tail": 1}, b"four", b""),
            ({"tail": 2}, b"three\nfour", b""),
            ({"tail": 3}, b"three\nfour", b"two\n"),
            ({"tail": 9}, b"one\nthree\nfour", b"two\n"),
            ({"tail": 2, "stdout": False}, b"", b"two\n"),
            ({"tail": 1, "until": times[b"three"]}, b"three\n", b""),
            ({"since": times[b"two"]}, b"three\nfour", b"two\n"),
            ({"since": times[b"two"] + 1}, b"three\nfour", b""),
            ({"until": times[b"two"]}, b"one\n", b"two\n"),
            ({"until": times[b"two"] - 1}, b"one\n", b""),
            ({"since": times[b"two"], "until": times[b"three"]}, b"three\n", b"two\n"),
            ({"since": times[b"three"], "until": times[b"two"]}, b"", b""),
            ({"follow": True, "tail": 1}, b"four", b""),
            ({"follow": True}, b"one\nthree\nfour", b"two\n"),
        ):
            found = await read(container, **options)
            assert (text(found, out), text(found, err)) == (stdout, stderr), options


async def test_last_lines_of_two_runs(loaded: Daemon) -> None:
    async with ended(
        loaded, "seq 1 300; head -c 20000 /dev/zero | tr '\\0' x; echo; sleep 1; echo end >&2"
    ) as container:
        await container.start()
        await container.wait()
        run = b"".join(b"%d\n" % number for number in range(1, 301)) + b"x" * 20000 + b"\n"
        whole = await read(container)
        assert text(whole, Stream.STDOUT) == run * 2
        assert text(await read(container, tail=302), Stream.STDOUT) == run
        assert text(await read(container, tail=2)) == b"x" * 20000 + b"\nend\n"
        assert text(await read(container, tail=304), Stream.STDOUT) == b"x" * 20000 + b"\n" + run


async def test_follows_until_the_end(loaded: Daemon) -> None:
    script = "echo begin; while ! [ -e /go ]; do sleep 0.1; done; seq 1 500; echo end >&2"
    async with made(loaded, script) as container:
        found: list[LogEntry] = []
        async with container.logs(follow=True) as entries:  # before the start: from the first line on
            await container.start()
            async for entry in entries:
                found.append(entry)
                if len(found) == 1:
                    assert entry.data == b"begin\n"
                    await container.exec(["touch", "/go"])
        assert text(found, Stream.STDOUT) == b"begin\n" + b"".join(b"%d\n" % number for number in range(1, 501))
        assert text(found, Stream.STDERR) == b"end\n"
    await trio.to_thread.run_sync(until, lambda: not readers(loaded))


async def test_last_lines_and_what_comes(loaded: Daemon) -> None:
    async with made(
        loaded, "echo 1; echo 2 >&2; while ! [ -e /go ]; do sleep 0.1; done; echo 3; echo 4 >&2"
    ) as container:
        await container.start()
        while len(await read(container)) < 2:  # noqa: ASYNC110 -- only those who follow are told of what is written
            await trio.sleep(0.1)
        for tail, expected in ((0, b"3\n4\n"), (1, b"2\n3\n4\n")):
            async with container.logs(follow=True, tail=tail) as entries:
                if tail:
                    first = await anext(aiter(entries))
                    assert first.data == b"2\n"
                    await container.exec(["touch", "/go"])
                    assert first.data + text([entry async for entry in entries]) == expected
                else:
                    with trio.move_on_after(2) as scope:
                        assert not [entry async for entry in entries]
                    assert scope.cancelled_caught


async def test_follows_up_to_a_time(loaded: Daemon) -> None:
    async with made(loaded, "echo 1; sleep 600") as container:
        await container.start()
        found = await read(container, follow=True, until=time.time_ns() + 5 * 10**9)
        assert text(found) == b"1\n"
        assert (await container.info()).state.value == "running"


# -- readers that go, and come again ----------------------------------------------------------------------------------


async def test_reading_goes_on_exactly_where_it_was(loaded: Daemon) -> None:
    """A connection for each entry; some have been written within one millisecond, or microsecond."""
    async with ended(loaded, "seq 1 200; echo e >&2; seq 1 200; printf end") as container:
        whole = await read(container)
        positions = [entry.position for entry in whole]
        last = [entry for entry in whole if entry.stream is Stream.STDOUT][-5:]
        assert len(whole) == 402
        assert positions == sorted(set(positions))
        assert len({entry.time // 10**6 for entry in whole}) < len(whole)
        for number in (0, 199, 200, 202, 400, 401):
            rest = await read(container, after=positions[number])
            assert [entry.data for entry in rest] == [entry.data for entry in whole[number + 1 :]]
            assert not any(entry.gap for entry in rest)
            again = await read(container, after=positions[number], tail=5, stderr=False)
            assert [entry.data for entry in again] == [
                entry.data for entry in last if entry.position > positions[number]
            ]
            for entry, same in zip(rest, whole[number + 1 :], strict=True):
                middle = entry.position
                assert entry.time == same.time
            if rest:  # a position of a reading that went on is as good
                assert await read(container, after=middle) == []
                third = rest[len(rest) // 2]
                assert text(await read(container, after=third.position)) == text(rest[len(rest) // 2 + 1 :])
        with pytest.raises(InvalidArgument, match="does not go as far"):
            await read(container, after=positions[-1] << 2)


async def test_reader_that_goes_takes_the_program_along(loaded: Daemon) -> None:
    async with made(loaded, "echo 1; sleep 600") as container:
        await container.start()
        async with container.logs(follow=True) as entries:
            assert (await anext(aiter(entries))).data == b"1\n"
            until(lambda: "--follow" in "".join(readers(loaded)))
        until(lambda: not readers(loaded))


def test_daemon_that_is_killed_leaves_no_program(loaded: Daemon) -> None:
    """Nor is anything lost: the monitor writes on, and the next daemon reads it."""
    script = "echo 1; while ! [ -e /go ]; do sleep 0.1; done; echo 2"
    loaded.ross("run", "-d", "--name", "survivor", "--log-driver", "journald", BUSYBOX, "sh", "-c", script)
    with loaded.popen("logs", "-f", "survivor") as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"1\n"
        until(lambda: "--follow" in "".join(readers(loaded)))
        loaded.kill()
    assert client.returncode != 0
    until(lambda: not readers(loaded))
    loaded.start()
    loaded.ok("exec", "survivor", "touch", "/go")
    assert loaded.ross("logs", "-f", "survivor").stdout == "1\n2\n"


def throw_away() -> None:
    """Have the journal forget what it has."""
    for words in (["--rotate"], ["--vacuum-time=1us"]):
        subprocess.run(["journalctl", *words], capture_output=True, check=True)


async def test_what_the_journal_has_thrown_away_is_said_to_be_missing(loaded: Daemon) -> None:
    async with ended(loaded, "echo 1; sleep 0.1; echo 2") as container:
        first, _second = await read(container)
        throw_away()
        assert await read(container) == []
        assert await read(container, tail=3) == []
        await container.start()
        await container.wait()
        rest = await read(container, after=first.position)
        assert [(entry.data, entry.gap) for entry in rest] == [(b"1\n", True), (b"2\n", False)]
