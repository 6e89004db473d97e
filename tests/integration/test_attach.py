"""Being connected to a container: several at once, slow ones, late ones; letting go; signals."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest
import trio

from ross.errors import FailedPrecondition
from ross.model.mounts import Mount
from tests.support.terminal import Terminal
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from ross.client import Container, Image
    from ross.client.processes import PaceName
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

COUNT = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i; done"


class Kept:
    """What has come, and what is missing."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.lost = 0

    async def __call__(self, data: bytes) -> None:
        self.data += data

    async def gap(self, lost_bytes: int) -> None:
        self.data += b"<gap>"
        self.lost += lost_bytes


def numbers(count: int, first: int = 1) -> bytes:
    return b"".join(b"%d\n" % number for number in range(first, count + 1))


def stuck_until(event: trio.Event, take: Callable[[bytes], Awaitable[None]]) -> Callable[[bytes], Awaitable[None]]:
    """A reader that takes nothing for a while."""

    async def write(data: bytes) -> None:
        await event.wait()
        await take(data)

    return write


async def ended(container: Container) -> None:
    """Wait until it has ended; to wait for it would be to wait for its readers too."""
    with trio.fail_after(60):
        while (await container.info()).outcome is None:  # noqa: ASYNC110
            await trio.sleep(0.02)


async def test_several_at_once_see_everything(plain: Image) -> None:
    container = await plain.create(["sh", "-c", COUNT])
    paces: tuple[PaceName, ...] = ("log", "drop", "block")
    kept = {pace: Kept() for pace in paces}
    attached = [await container.attach(stdout=one, pace=pace, on_gap=one.gap) for pace, one in kept.items()]
    await container.start()
    for process in attached:
        assert (await process.wait()).exit_code == 0
    assert kept["log"].data == kept["block"].data == numbers(20000)
    assert len(kept["drop"].data.replace(b"<gap>", b"")) + kept["drop"].lost == len(numbers(20000))
    await container.remove()


@pytest.mark.parametrize("pace", ["log", "drop"])
async def test_slow_reader_never_blocks_the_container(plain: Image, pace: PaceName) -> None:
    script = "yes $(head -c 999 /dev/zero | tr '\\0' y) | head -c 4000000; echo end"
    container = await plain.create(["sh", "-c", script])
    kept, go = Kept(), trio.Event()
    process = await container.attach(stdout=stuck_until(go, kept), pace=pace, on_gap=kept.gap)
    await container.start()
    await ended(container)
    go.set()
    await process.wait()
    if pace == "log":
        assert kept.data == (b"y" * 999 + b"\n") * 4000 + b"end\n"
    else:
        assert kept.data.endswith(b"y\nend\n")
        assert kept.lost > 1000000
        assert len(kept.data.replace(b"<gap>", b"")) + kept.lost == 4000004
    await container.remove()


async def test_reader_that_blocks_loses_nothing(plain: Image) -> None:
    container = await plain.create(["sh", "-c", "yes | head -c 8000000"])
    kept, go = Kept(), trio.Event()
    process = await container.attach(stdout=stuck_until(go, kept), pace="block")
    await container.start()
    with trio.move_on_after(1):
        await container.wait()
    assert (await container.info()).outcome is None, "the container waits"
    go.set()
    assert (await process.wait()).exit_code == 0
    assert kept.data == b"y\n" * 4000000
    await container.remove()


async def test_late_reader_begins_where_it_likes_without_gap_or_double(plain: Image) -> None:
    container = await plain.create(["sh", "-c", f"{COUNT}; read line; echo $line"], stdin=True)
    await container.start()
    async with container.logs(follow=True) as entries:
        async for entry in entries:
            if entry.data == b"20000\n":
                break
    all_of_it, some, none = Kept(), Kept(), Kept()
    attached = [
        await container.attach(stdout=all_of_it, tail=-1),
        await container.attach(stdout=some, tail=5),
        await container.attach(stdout=none),
        await container.attach(stdin=True, stdout=Kept()),
    ]
    await attached[-1].write(b"done\n")
    for process in attached:
        await process.wait()
    assert all_of_it.data == numbers(20000) + b"done\n"
    assert some.data == numbers(20000, 19996) + b"done\n"
    assert none.data == b"done\n"
    await container.remove()


async def test_who_comes_after_another_sees_what_comes_after_them(plain: Image) -> None:
    """The connection to the monitor is the one that the first has left, and nothing comes by it that was written in between."""
    container = await plain.create(["sh", "-c", "while read line; do echo $line; done"], terminal=True)
    await container.start()
    for number in range(30):
        kept = Kept()
        process = await container.attach(stdin=True, stdout=kept, pace="block")
        await process.write(b"%d\n" % number)
        with trio.fail_after(60):
            while kept.data.count(b"%d\r\n" % number) < 2:  # noqa: ASYNC110 -- its echo, and its answer
                await trio.sleep(0.005)
        assert kept.data == b"%d\r\n%d\r\n" % (number, number)
        del process
        if number % 3 == 0:
            other = await container.attach(stdin=True)
            await other.write(b"unseen\n")
            del other
            with trio.fail_after(60):
                while await logged(container) < number // 3 + 1:  # noqa: ASYNC110
                    await trio.sleep(0.005)
    await container.kill()
    assert (await container.wait()).signal == 9
    await container.remove()


async def logged(container: Container) -> int:
    """How often ``unseen`` has been answered."""
    async with container.logs() as entries:
        return b"".join([entry.data async for entry in entries]).count(b"unseen\r\nunseen\r\n")


async def test_who_looks_on_does_not_end_the_input(plain: Image) -> None:
    """The monitor closes the input when anybody hangs up."""
    container = await plain.create(["sh", "-c", "read line; echo got $line"], stdin=True)
    kept = Kept()
    process = await container.attach(stdin=True, stdout=kept, pace="block")
    await container.start()
    for pace in ("log", "drop", "block"):
        looking_on = await container.attach(stdout=Kept(), pace=pace)
        del looking_on
    await container.info()
    await trio.sleep(0.2)
    await process.write(b"something\n")
    assert (await process.wait()).exit_code == 0
    assert kept.data == b"got something\n"
    await container.remove()


def files_put_away(directory: Path) -> int:
    """How many files of a log there have been, but for the one that is being written."""
    return max((int(path.suffix[1:]) for path in directory.glob("log.*")), default=0)


async def test_reader_is_told_when_the_log_has_made_place(plain: Image, shared: Daemon, tmp_path: Path) -> None:
    """A log of bounded size does not wait for readers either."""
    step = (
        f"{COUNT.removeprefix('i=0; ').replace('20000', '$((turn*8000))')}; until [ -e /go/$turn ]; do sleep 0.01; done"
    )
    script = f"i=0; for turn in 1 2 3 4 5 6 7 8; do {step}; done"
    everything = numbers(64000)
    options = {"max-size": "64k", "max-file": "2"}
    container = await plain.create(
        ["sh", "-c", script], mounts=[Mount(source=str(tmp_path), target="/go")], log_options=options
    )
    kept, deaf, go = Kept(), Kept(), trio.Event()
    attached = [
        await container.attach(stdout=stuck_until(go, kept), on_gap=kept.gap),
        await container.attach(stdout=stuck_until(go, deaf)),
    ]
    await container.start()
    directory = shared.root / "containers" / (await container.info()).id
    for turn in range(
        1, 9
    ):  # however late the daemon is, each turn's output is put away, and what was before makes place
        await trio.to_thread.run_sync(until, lambda turn=turn: files_put_away(directory) >= turn)
        (tmp_path / str(turn)).touch()
    await ended(container)
    go.set()
    assert (await attached[0].wait()).exit_code == 0
    before, *_between, after = bytes(kept.data).split(b"<gap>")
    assert everything.startswith(before)
    assert everything.endswith(after)
    with pytest.raises(FailedPrecondition, match="made place in its log"):
        await attached[1].wait()
    assert everything.startswith(deaf.data)
    await container.remove()


async def test_slow_reader_of_one_run_is_not_given_the_next_one(plain: Image) -> None:
    """Which does not wait for it for long, and writes to the same log."""
    script = "echo >> /runs; echo $(wc -l < /runs); sleep 0.1"
    container = await plain.create(["sh", "-c", script], restart="always")
    kept, go = Kept(), trio.Event()
    process = await container.attach(stdout=stuck_until(go, kept))
    await container.start()
    with trio.fail_after(60):
        while (await container.info()).restart_count < 2:  # noqa: ASYNC110
            await trio.sleep(0.02)
    go.set()
    assert (await process.wait()).exit_code == 0
    assert kept.data == b"1\n"
    await container.remove(force=True)


async def test_without_a_log_the_process_waits_for_its_readers(plain: Image) -> None:
    container = await plain.create(["sh", "-c", COUNT], log_driver="none")
    kept = Kept()
    process = await container.attach(stdout=kept, tail=-1)
    await container.start()
    assert (await process.wait()).exit_code == 0
    assert kept.data == numbers(20000)
    await container.remove()
    container = await plain.create(["cat"], log_driver="none", stdin=True)
    with pytest.raises(FailedPrecondition, match="keeps no log to look on by, and its input ends"):
        await container.attach(stdout=Kept())
    kept = Kept()
    process = await container.attach(stdin=True, stdout=kept)
    await container.start()
    await process.write(b"x\n")
    await process.close_stdin()
    assert (await process.wait()).exit_code == 0
    assert kept.data == b"x\n"
    await container.remove()


async def test_input_that_is_kept_open_outlives_its_writers(plain: Image) -> None:
    container = await plain.create(["sh", "-c", "read a; read b; echo $a $b"], stdin=True, stdin_kept=True)
    await container.start()
    for word in (b"one\n", b"two\n"):
        process = await container.attach(stdin=True)
        await process.write(word)
        await process.close_stdin()
        del process
    assert (await container.wait()).exit_code == 0
    async with container.logs() as entries:
        assert [entry.data async for entry in entries] == [b"one two\n"]
    await container.remove()


# -- the command line -------------------------------------------------------------------------------------------------


def test_attach_detach_and_exit_code(shared: Daemon, busybox: str) -> None:
    script = "stty -echo; while read line; do echo got $line; [ $line = end ] && exit 5; done"
    shared.ok("run", "-dit", "--name", "shell", busybox, "sh", "-c", script)
    first = Terminal(shared, "attach", "--detach-keys", "ctrl-x", "shell")
    first.send(b"one\n")
    first.read_until(b"got one")
    second = Terminal(shared, "attach", "--tail", "-1", "shell")
    second.read_until(b"got one")
    first.send(b"\x18")
    assert first.wait() == 0
    second.send(b"\x10\x11")
    assert second.wait() == 0
    third = Terminal(shared, "attach", "--detach-keys", "", "shell")
    third.send(b"end\n")
    third.read_until(b"got end")
    assert third.wait() == 5
    done = shared.ross("attach", "shell")
    assert done.returncode == 1
    assert "is stopped: there is nothing to be connected to" in done.stderr
    shared.ok("rm", "shell")


def test_signals_are_handed_on_unless_told_otherwise(shared: Daemon, busybox: str) -> None:
    script = "trap 'echo term; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
    for flags, code in (([], 3), (["--no-sig-proxy"], -signal.SIGTERM), (["--sig-proxy=false"], -signal.SIGTERM)):
        name = f"signals{len(flags)}{code}"
        client = shared.popen("run", "--name", name, *flags, busybox, "sh", "-c", script)
        assert client.stdout is not None
        assert client.stdout.readline() == b"ready\n"
        client.terminate()
        client.communicate(timeout=60)
        assert client.returncode == code
        state = json.loads(shared.ross("inspect", name).stdout)[0]["State"]["Status"]
        assert state == ("exited" if code == 3 else "running")
        shared.ok("rm", "-f", name)


def test_start_attached_with_other_keys(shared: Daemon, busybox: str) -> None:
    shared.ok("create", "-it", "--name", "later", busybox, "sh")
    terminal = Terminal(shared, "start", "-ai", "--detach-keys", "ctrl-a,d", "later")
    terminal.read_until(b"# ")
    terminal.send(b"\x01d")
    assert terminal.wait() == 0
    until(lambda: json.loads(shared.ok("inspect", "later"))[0]["State"]["Status"] == "running")
    shared.ok("rm", "-f", "later")
