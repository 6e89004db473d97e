"""Events: what a container's and an image's life tells, in Docker's words; filters; going on where one stopped, also across daemons."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

import ross
from ross.cli.events import fields, parse_event_filter
from ross.errors import InvalidArgument, Unavailable
from ross.model.events import Event, EventFilter, EventGap
from tests.support.daemon import Daemon, command
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration
SECRET = "correct-horse-battery"


def position(daemon: Daemon) -> int:
    """Behind the last event."""

    async def body() -> int:
        async with ross.connect(daemon.socket) as engine, engine.events() as events:
            return events.position

    return trio.run(body)


def since(daemon: Daemon, after: int, *terms: str) -> list[dict[str, Any]]:
    """What has happened behind an event until now, as the command prints it."""
    wanted = parse_event_filter(terms)

    async def body() -> list[dict[str, Any]]:
        async with (
            ross.connect(daemon.socket) as engine,
            engine.events(after=after, until=time.time_ns(), wanted=wanted) as events,
        ):
            return [fields(one) async for one in events]

    return trio.run(body)


def told(daemon: Daemon, after: int, *terms: str) -> list[str]:
    return [event["Action"] for event in since(daemon, after, *terms)]


# -- what a life tells --------------------------------------------------------------------------------------------------


def test_life_of_a_container(shared: Daemon, busybox: str, tmp_path: Path) -> None:
    """In Docker's order: what asks for an end comes before the end, what is done comes behind it."""
    begin = position(shared)
    shared.ok("create", "--name", "life", "-l", "tier=front", "-e", f"TOKEN={SECRET}", busybox, "sleep", "600")
    for words in (
        ("start", "life"),
        ("pause", "life"),
        ("unpause", "life"),
        ("update", "--pids-limit", "77", "life"),
        ("rename", "life", "lived"),
        ("restart", "-t", "0", "lived"),
        ("exec", "-e", f"TOKEN={SECRET}", "lived", "sh", "-c", f"exit 0 # {SECRET}"),
        ("cp", "lived:/bin/busybox", str(tmp_path / "copied")),
        ("cp", str(tmp_path / "copied"), "lived:/copied"),
        ("export", "-o", str(tmp_path / "out.tar"), "lived"),
        ("commit", "lived", "made:1"),
        ("kill", "-s", "USR1", "lived"),
        ("stop", "-t", "0", "lived"),
        ("rm", "lived"),
    ):
        shared.ok(*words)
    events = since(shared, begin, "type=container")
    assert " ".join(event["Action"] for event in events) == (
        "create start pause unpause update rename kill kill die stop start restart "
        "exec_create exec_start exec_die copy copy export commit kill kill kill die stop destroy"
    ), events
    assert len({event["id"] for event in events}) == 1
    assert all(event["Actor"]["Attributes"]["tier"] == "front" for event in events)
    assert all(event["Actor"]["Attributes"]["image"] == event["from"] == busybox for event in events)
    assert [event["sequence"] for event in events] == sorted({event["sequence"] for event in events})
    by_action = {event["Action"]: event["Actor"]["Attributes"] for event in events}
    assert (by_action["rename"]["oldName"], by_action["rename"]["name"]) == ("life", "lived")
    assert by_action["die"]["exitCode"] == "137"
    assert by_action["kill"]["signal"] == "9"
    assert by_action["exec_create"]["execID"] == by_action["exec_die"]["execID"]
    assert by_action["exec_die"]["exitCode"] == "0"
    assert re.fullmatch("sha256:[0-9a-f]{64}", by_action["commit"]["imageID"])
    assert SECRET not in json.dumps(events)
    shared.ok("rmi", "made:1")


def test_run_tells_of_who_is_attached(shared: Daemon, busybox: str) -> None:
    begin = position(shared)
    shared.ok("run", "--rm", busybox, "sh", "-c", "exit 0")
    assert [action for action in told(shared, begin) if action != "kill"] == "create attach start die destroy".split()


def test_letting_go_is_told(shared: Daemon, busybox: str) -> None:
    begin = position(shared)
    shared.ok("run", "-d", "--name", "held", busybox, "sleep", "600")

    async def body() -> None:
        async with ross.connect(shared.socket) as engine:
            held = await engine.containers.get("held")
            process = await held.attach(stdout=_nothing)
            async with engine.events(wanted=EventFilter(actions=("detach", "exec_detach"))) as events:
                del process
                assert isinstance(one := await anext(events), Event)
                assert one.action == "detach"
                executed = await held.open_exec(["sleep", "600"], stdout=_nothing, terminal=True)
                await executed.resize(rows=11, columns=22)
                del executed
                assert isinstance(one := await anext(events), Event)
                assert one.action == "exec_detach"

    async def within() -> None:
        with trio.fail_after(60):
            await body()

    trio.run(within)
    resized = [event for event in since(shared, begin) if event["Action"] == "resize"]
    assert [(one["Actor"]["Attributes"]["height"], one["Actor"]["Attributes"]["width"]) for one in resized] == [
        ("11", "22")
    ]
    shared.ok("rm", "-f", "held")


async def _nothing(_data: bytes) -> None:
    return


def test_failed_exec_has_an_end_too(shared: Daemon, busybox: str) -> None:
    shared.ok("run", "-d", "--name", "plain", busybox, "sleep", "600")
    begin = position(shared)
    assert shared.ross("exec", "plain", "/none").returncode == 127
    assert told(shared, begin, "container=plain") == ["exec_create", "exec_die"]
    shared.ok("rm", "-f", "plain")


def test_life_of_images(shared: Daemon, busybox: str, registry: str, tmp_path: Path) -> None:
    archive = tmp_path / "saved.tar"
    begin = position(shared)
    for words in (
        ("pull", "-q", busybox),
        ("tag", busybox, f"{registry}/test/told:1"),
        ("push", "-q", f"{registry}/test/told:1"),
        ("save", "-o", str(archive), f"{registry}/test/told:1"),
        ("untag", busybox, f"{registry}/test/told:1"),
        ("load", "-i", str(archive)),
        ("rmi", f"{registry}/test/told:1"),
    ):
        shared.ok(*words)
    events = since(shared, begin, "type=image")
    actions = [event["Action"] for event in events]
    assert actions == ["pull", "tag", "push", "save", "untag", "load", "untag"]
    assert {event["Actor"]["Attributes"]["name"] for event in events[1:]} == {f"{registry}/test/told:1"}
    shared.ok("create", "--name", "source", busybox, "true")
    shared.ok("export", "-o", str(archive), "source")
    begin = position(shared)
    shared.ok("import", str(archive), "imported:1")
    shared.ok("rmi", "imported:1")
    assert told(shared, begin, "type=image") == ["import", "untag", "delete"]
    begin = position(shared)
    shared.ok("container", "prune", "-f")
    assert told(shared, begin) == ["destroy", "prune"]
    begin = position(shared)
    shared.ok("image", "prune", "-f")
    (pruned,) = since(shared, begin)
    assert (pruned["Type"], pruned["Action"]) == ("image", "prune")
    assert pruned["Actor"]["Attributes"]["reclaimed"].isdigit()


@pytest.fixture(scope="module")
def life(shared: Daemon, busybox: str) -> str:
    """Behind this event is a life, from create to destroy, of one with the name filtered and the label app=shop."""
    begin = position(shared)
    shared.ok("create", "--name", "filtered", "-l", "app=shop", busybox, "true")
    for words in (("start", "filtered"), ("wait", "filtered"), ("rm", "filtered")):
        shared.ok(*words)
    return str(begin)


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ("event=start event=die container=filtered", "start die"),
        ("type=image container=filtered", ""),
        ("container=filter", "create start die destroy"),
        ("container=other", ""),
        ("label=app", "create start die destroy"),
        ("label=app=none", ""),
        ("image={busybox} container=filtered", "create start die destroy"),
        ("image=test/busybox", ""),
    ],
)
def test_filters_are_the_daemons(shared: Daemon, busybox: str, life: str, terms: str, expected: str) -> None:
    words = [word for term in terms.format(busybox=busybox).split() for word in ("-f", term)]
    flags = ("--after", life, "--until", "0s", "--format", "{{.Action}}")
    assert " ".join(shared.ok("events", *flags, *words).split()) == expected


# -- the command --------------------------------------------------------------------------------------------------------


@contextmanager
def listening(daemon: Daemon, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """``ross events`` from now on."""
    argv = command("events", "--after", str(position(daemon)), *flags)
    with subprocess.Popen(
        argv, env=daemon.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def test_text_is_dockers(shared: Daemon, busybox: str) -> None:
    with listening(shared, "-f", "event=create") as process:
        identity = shared.ok("create", "--name", "shown", "-l", "a=b", busybox, "true").strip()
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr is not None
        assert process.stderr.read() == ""
    when, rest = line.split(" ", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d)", when)
    assert rest == f"container create {identity} (a=b, image={busybox}, name=shown)\n"
    shared.ok("rm", "shown")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{.Type}} {{.Action}} {{.Status}} {{.Actor.Attributes.name}}", "container create create filtered"),
        ("{{.From}} {{.Scope}} {{.Actor.Attributes.none}}", "{busybox} local <no value>"),
        ("{{.ID}}={{.Actor.ID}}", "{id}={id}"),
        ("{{json .Actor.Attributes}}", '{{"app":"shop","image":"{busybox}","name":"filtered"}}'),
    ],
)
def test_templates(shared: Daemon, busybox: str, life: str, template: str, expected: str) -> None:
    (created,) = since(shared, int(life), "container=filtered", "event=create")
    flags = ("--after", life, "--until", "0s", "-f", "event=create", "-f", "container=filtered", "--format", template)
    assert shared.ok("events", *flags).strip() == expected.format(busybox=busybox, id=created["id"])


def test_whole_event_as_json_has_dockers_names(shared: Daemon, busybox: str, life: str) -> None:
    flags = ("--after", life, "--until", "0s", "-f", "event=create", "-f", "container=filtered")
    lines = {shared.ok("events", *flags, "--format", form) for form in ("json", "jsonl", "{{json .}}")}
    (line,) = lines
    event = json.loads(line)
    assert event.pop("timeNano") // 10**9 == event.pop("time")
    assert event.pop("sequence") > int(life)
    identity = event.pop("id")
    assert event == {
        "status": "create",
        "from": busybox,
        "Type": "container",
        "Action": "create",
        "Actor": {"ID": identity, "Attributes": {"app": "shop", "image": busybox, "name": "filtered"}},
        "scope": "local",
    }


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("-f", "colour=red"), "is not a filter of events"),
        (("-f", "type"), "is not a filter of events"),
        (("--format", "table"), "there is no format 'table'"),
        (("--format", "table {{.Action}}"), "not as a table"),
        (("--since", "someday"), "is not a time"),
        (("--after", "-1"), "--after takes the sequence number"),
        (("--after", str(1 << 63)), "no event has the sequence number"),
        (("--format", "{{.Nothing}}", "--since", "1h", "--until", "0s"), "no field 'Nothing'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_wrong_is_said(shared: Daemon, busybox: str, flags: tuple[str, ...], message: str) -> None:
    done = shared.ross("events", *flags)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_since_tells_what_has_been_and_until_ends(shared: Daemon, busybox: str) -> None:
    shared.ok("create", "--name", "been", busybox, "true")
    shared.ok("rm", "been")
    shown = shared.ok("events", "--since", "5m", "--until", "0s", "-f", "container=been", "--format", "{{.Action}}")
    assert shown == "create\ndestroy\n"


# -- going on -----------------------------------------------------------------------------------------------------------


async def test_reading_goes_on_exactly_where_it_stopped(shared: Daemon, busybox: str) -> None:
    """Whether the reader leaves or is cancelled, wherever it stands."""
    wanted = EventFilter(actions=("create", "destroy"))
    async with ross.connect(shared.socket) as engine:
        image = await engine.images.get(busybox)
        async with engine.events(wanted=wanted) as events:
            begin = place = events.position
        for _number in range(6):
            await (await image.create(["true"])).remove()
        async with engine.events(after=begin, wanted=wanted) as events:
            whole = [await anext(events) for _number in range(12)]
        pieces = list[Event | EventGap]()
        for count in (0, 1, 4, 0, 5, 2):
            async with engine.events(after=place, wanted=wanted) as events:
                pieces += [await anext(events) for _number in range(count)]
                with trio.move_on_after(0):
                    pieces.append(await anext(events))
                place = events.position
        assert pieces == whole
        with trio.move_on_after(0.05) as scope:
            async with engine.events(after=place, wanted=wanted) as events:
                await anext(events)
        assert scope.cancelled_caught


async def test_cancelled_wait_misses_nothing(shared: Daemon, busybox: str) -> None:
    async with (
        ross.connect(shared.socket) as engine,
        engine.events(wanted=EventFilter(actions=("create",))) as events,
    ):
        for _number in range(5):
            with trio.move_on_after(0.01):
                await anext(events)
        image = await engine.images.get(busybox)
        made = [await image.create(["true"]) for _number in range(5)]
        seen = list[Event | EventGap]()
        patience = 0.002
        with trio.fail_after(60):
            while len(seen) < 5:
                with trio.move_on_after(patience):
                    seen.append(await anext(events))
                patience *= 1.02  # until an answer can come in it, on whatever host
        assert [one.subject for one in seen if isinstance(one, Event)] == [(await one.info()).id for one in made]
        for one in made:
            await one.remove()


async def test_readers_cost_nothing_when_they_are_gone(shared: Daemon) -> None:
    async with ross.connect(shared.socket) as engine:
        before = len(await engine.tasks())
        for _number in range(300):
            async with engine.events() as events:
                with trio.move_on_after(0):
                    await anext(events)
        with trio.fail_after(60):
            while len(await engine.tasks()) > before:  # noqa: ASYNC110 -- the daemon ends the last calls by itself
                await trio.sleep(0.01)


def test_slow_reader_is_told_what_it_has_missed(filesystem: Path, busybox: str) -> None:
    """It stands still while more happens than is kept; nobody waits for it."""
    directory = filesystem / "few"
    directory.mkdir()
    daemon = Daemon(directory)
    daemon.start(settings={"ROSS_KEPT_EVENTS": "10"})
    try:
        daemon.ok("pull", "-q", busybox)
        begin = position(daemon)
        with listening(daemon, "--format", "json") as slow:
            os.kill(slow.pid, signal.SIGSTOP)
            for number in range(15):
                daemon.ok("tag", busybox, f"told:{number}")
            os.kill(slow.pid, signal.SIGCONT)
            assert slow.stdout is not None
            seen = [json.loads(slow.stdout.readline()) for _number in range(3)]
        gap, *events = since(daemon, begin)
        assert gap == {"Type": "gap", "lost": 5}
        assert [one["Actor"]["Attributes"]["name"] for one in events] == [
            f"docker.io/library/told:{number}" for number in range(5, 15)
        ]
        # It may have asked before it was stopped: then the answer to that is what it sees first.
        assert sum(one.get("lost", 1) for one in seen) >= 3
        warned = daemon.ross("events", "--after", str(begin), "--until", "0s")
        assert warned.stderr == "warning: 5 events are missing here\n"
        assert len(warned.stdout.splitlines()) == 10
    finally:
        daemon.terminate()
    assert daemon.complaints() == []


# -- across daemons -----------------------------------------------------------------------------------------------------


def test_going_on_across_a_daemon_that_ended_in_order(daemon: Daemon, box: str) -> None:
    daemon.ok("tag", box, "one:1")
    begin = position(daemon)
    daemon.ok("tag", box, "two:2")
    assert daemon.terminate() == 0
    daemon.start()
    daemon.ok("tag", box, "three:3")
    gap, event = since(daemon, begin)
    assert gap == {"Type": "gap", "lost": 1}
    assert event["Actor"]["Attributes"]["name"] == "docker.io/library/three:3"
    last = event["sequence"]
    assert daemon.terminate() == 0
    daemon.start()
    daemon.ok("tag", box, "four:4")
    (event,) = since(daemon, last)  # nothing is missing, and nothing is told twice
    assert event["Actor"]["Attributes"]["name"] == "docker.io/library/four:4"
    assert event["sequence"] > last


def test_going_on_across_a_daemon_that_was_killed(daemon: Daemon, box: str, tmp_path: Path) -> None:
    """Containers that ended meanwhile are told of by the next daemon, which says that it does not know what else there was."""
    script = "until [ -e /told/end ]; do sleep 0.05; done; exit 7"
    daemon.ok("run", "-d", "--name", "ending", "-v", f"{tmp_path}:/told:ro", box, "sh", "-c", script)
    begin = position(daemon)
    (monitor,) = daemon.monitors()
    daemon.kill()
    (tmp_path / "end").touch()
    until(lambda: not Path(f"/proc/{monitor}").exists())
    daemon.start()
    daemon.ok("wait", "ending")
    gap, *events = since(daemon, begin)
    assert gap == {"Type": "gap", "lost": 0}
    assert [(one["Action"], one["Actor"]["Attributes"]["exitCode"]) for one in events] == [("die", "7")]
    assert all(one["sequence"] > begin for one in events)
    shown = daemon.ross("events", "--since", "10m", "--until", "0s")
    assert shown.stderr == "warning: some events are missing here\n"
    assert len(shown.stdout.splitlines()) == 1


async def test_reader_ends_with_its_daemon_and_goes_on_with_the_next(daemon: Daemon, box: str) -> None:
    with pytest.raises(Unavailable):
        async with ross.connect(daemon.socket) as engine, engine.events() as events:
            await (await engine.images.get(box)).tag("one:1")
            await anext(events)
            place = events.position
            daemon.kill()
            await anext(events)
    daemon.start()
    async with ross.connect(daemon.socket) as engine, engine.events(after=place) as events:
        await (await engine.images.get(box)).tag("two:2")
        gap, event = await anext(events), await anext(events)
        assert isinstance(gap, EventGap)
        assert isinstance(event, Event)
        assert event.sequence > place
        with pytest.raises(InvalidArgument):
            async with engine.events(after=event.sequence + 100):
                pass
