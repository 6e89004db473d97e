"""What comes of a container: exit codes by every way to learn them, signals, init. Docker's behaviour, a case a row.

Every row was tried against Docker 20.10 with runc 1.1 and the client of 28.2, too, unless it says otherwise.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.daemon import command as command_line
from tests.support.images import ImageBuilder, Layer, busybox_image, busybox_layer, push

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

NEVER = "0001-01-01T00:00:00Z"


@pytest.fixture(scope="module")
def box(registry: str) -> str:
    """Busybox, and programs that cannot be executed."""
    layer = Layer().add("bin/lost", b"#!/bin/nosuch\n", mode=0o755).add("bin/flat", b"#!/bin/sh\n", mode=0o644)
    layer.symlink("bin/dangling", "/nowhere").symlink("bin/circle", "circle")
    return push(registry, "docker/behaviour:1", ImageBuilder().layer(busybox_layer()).layer(layer).build())


def state(daemon: Daemon, name: str) -> dict[str, Any]:
    (info,) = json.loads(daemon.ross("inspect", name).stdout)
    return {**info["State"], "RestartCount": info["RestartCount"]}


# -- exit codes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("true", 0),
        ("false", 1),
        ("sh -c 'exit 7'", 7),
        ("sh -c 'exit 255'", 255),
        ("sh -c 'exit 256'", 0),
        ("sh -c 'nosuch'", 127),
        ("sh -c 'kill -9 $$'", 0),  # the first process of a namespace is not killed from inside
        ("--init sh -c 'kill -9 $$'", 137),
        ("--init sh -c 'kill -TERM $$'", 143),
        ("bin/true", 0),
        ("-w /bin ./true", 0),
        ("nosuch", 127),
        ("/bin/nosuch", 127),
        ("./true", 127),
        ("''", 127),
        ("/bin/lost", 127),  # with this runc: 1
        ("lost", 127),  # the same
        ("/bin/dangling", 127),
        ("/etc", 126),
        ("/", 126),
        ("/dev/null", 126),
        ("/dev/shm", 126),
        ("/proc/cpuinfo", 126),
        ("/etc/../dev/zero", 126),
        ("--entrypoint /dev/null", 126),
        ("-v /bin/busybox:/dev/true /dev/true", 0),
        ("/etc/passwd", 126),
        ("/bin/flat", 126),
        ("-u 4000 /bin/flat", 126),
        ("--init nosuch", 127),
        ("--init /etc/passwd", 126),
        ("--entrypoint nosuch", 127),
        ("--entrypoint /etc", 126),
    ],
)
def test_exit_codes_of_run(one_daemon: Daemon, box: str, command: str, code: int) -> None:
    words = shlex.split(command)
    flags = 0
    while flags < len(words) and words[flags].startswith("-"):
        flags += 1 if words[flags] == "--init" else 2
    done = one_daemon.ross("run", "--rm", *words[:flags], box, *words[flags:])
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "run --nosuch BOX true",
        "run --memory lots BOX true",
        "run --name",
        "run --pull never localhost/nosuch:1 true",
        "run Upper:1 true",
        "run -- true:x:y",
        "run -u nosuch BOX true",
        "run --name a/b BOX true",
    ],
)
def test_what_the_engine_refuses_is_125(one_daemon: Daemon, box: str, line: str) -> None:
    done = one_daemon.ross(*[box if word == "BOX" else word for word in shlex.split(line)])
    assert done.returncode == 125, done
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("true", 0),
        ("sh -c 'exit 3'", 3),
        ("sh -c 'kill -9 $$; exit 4'", 4),
        ("sh -c 'sh -c \"kill -9 \\$\\$\"; exit $?'", 137),
    ],
)
def test_every_way_tells_the_same_code(one_daemon: Daemon, name: str, box: str, command: str, code: int) -> None:
    """``run``, ``start -a``, ``wait`` while it runs and behind it, ``inspect``, ``attach``."""
    words = shlex.split(command)
    assert one_daemon.ross("run", "--name", name, box, *words).returncode == code
    assert one_daemon.ross("wait", name).stdout == f"{code}\n"
    assert one_daemon.ross("start", "-a", name).returncode == code
    assert state(one_daemon, name)["ExitCode"] == code
    name += "-attached"
    one_daemon.ross("run", "-d", "-i", "--name", name, box, "sh", "-c", f"read line; {command}")
    waiting = one_daemon.popen("wait", name)
    attached = one_daemon.popen("attach", name)
    assert attached.stdin is not None
    attached.stdin.write(b"go\n")
    attached.stdin.flush()
    assert attached.wait(60) == code
    assert waiting.communicate(timeout=60)[0] == b"%d\n" % code
    attached.communicate()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("true", 0),
        ("sh -c 'exit 3'", 3),
        ("sh -c 'kill -9 $$'", 137),
        ("sh -c 'kill -TERM $$'", 143),
        ("/etc", 126),
        ("/dev/null", 126),
        ("/bin/flat", 126),
        ("nosuch", 127),  # of 20.10: 126
        ("/bin/lost", 127),  # of 20.10: 1
    ],
)
def test_exit_codes_of_exec(one_daemon: Daemon, sleeper: str, command: str, code: int) -> None:
    assert one_daemon.ross("exec", sleeper, *shlex.split(command)).returncode == code


@pytest.fixture(scope="module")
def sleeper(one_daemon: Daemon, box: str) -> Iterator[str]:
    one_daemon.ok("run", "-d", "--name", "sleeper", box, "sh", "-c", "exec sleep 100000")
    yield "sleeper"
    one_daemon.ross("rm", "-f", "sleeper")


@pytest.mark.parametrize(
    ("program", "code", "told"),
    [
        ("nosuch", 127, "has no program 'nosuch'"),
        ("/etc", 126, "is a directory"),
        ("/dev/null", 126, "the kernel's own filesystems"),
        ("/etc/passwd", 126, "is not executable"),
    ],
)
def test_container_that_cannot_start_is_as_it_was_created(
    one_daemon: Daemon, name: str, box: str, program: str, code: int, told: str
) -> None:
    assert one_daemon.ross("run", "--name", name, box, program).returncode == code
    for _time in range(2):
        found = state(one_daemon, name)
        assert (found["Status"], found["ExitCode"], found["StartedAt"]) == ("created", code, NEVER)
        assert told in found["Error"]
        assert one_daemon.ross("start", name).returncode == 1


def test_start_that_fails_for_another_reason_is_128_until_one_succeeds(
    one_daemon: Daemon, name: str, box: str, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    words = ("--mount", f"type=bind,src={source},dst=/mnt", box, "sh", "-c", "exit 3")
    assert one_daemon.ross("run", "--name", name, *words).returncode == 3
    source.rmdir()
    assert one_daemon.ross("start", "-a", name).returncode == 1
    found = state(one_daemon, name)
    assert (found["Status"], found["ExitCode"]) == ("exited", 128)
    assert str(source) in found["Error"]
    source.mkdir()
    assert one_daemon.ross("start", "-a", name).returncode == 3
    found = state(one_daemon, name)
    assert (found["Status"], found["ExitCode"], found["Error"]) == ("exited", 3, "")


# -- signals ----------------------------------------------------------------------------------------------------------

NAMES = ("HUP", "INT", "QUIT", "USR1", "USR2", "ALRM", "TERM", "WINCH")
LISTENS = "; ".join(f"trap 'echo {name}' {name}" for name in NAMES)
TICKS = "; while :; do echo tick; sleep 0.05; done"


@pytest.fixture(scope="module")
def listener(one_daemon: Daemon, box: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A container that says which signals it gets, and the client that is attached to it."""
    script = f"{LISTENS}; trap 'echo RTMIN+3' 37; echo ready; while :; do sleep 0.05; done"
    client = one_daemon.popen("run", "--name", "listener", box, "sh", "-c", script)
    assert client.stdout is not None
    assert client.stdout.readline() == b"ready\n"
    yield "listener", client
    one_daemon.ross("rm", "-f", "listener")
    client.communicate()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("HUP", "HUP"),
        ("sighup", "HUP"),
        ("hup", "HUP"),
        ("1", "HUP"),
        ("USR1", "USR1"),
        ("10", "USR1"),
        ("TERM", "TERM"),
        ("WINCH", "WINCH"),
        ("RTMIN+3", "RTMIN+3"),
        ("SIGRTMIN+3", "RTMIN+3"),
    ],
)
def test_signals_of_kill(
    one_daemon: Daemon, listener: tuple[str, subprocess.Popen[bytes]], given: str, expected: str
) -> None:
    name, client = listener
    one_daemon.ok("kill", "-s", given, name)
    assert client.stdout is not None
    assert client.stdout.readline() == f"{expected}\n".encode()


@pytest.mark.parametrize("given", ["0", "65", "NOSUCH", "\N{FULLWIDTH DIGIT NINE}"])
def test_what_is_no_signal(one_daemon: Daemon, sleeper: str, given: str) -> None:
    assert one_daemon.ross("kill", f"--signal={given}", sleeper).returncode == 1
    assert state(one_daemon, sleeper)["Status"] == "running"


# -- output that cannot be written ------------------------------------------------------------------------------------


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("line", "code"),
    [("ps", 1), ("ps -aq", 1), ("inspect BOX", 1), ("images --format json", 1), ("logs BOX", 1), ("export BOX", 1),
     ("cp BOX:/bin/sh -", 1), ("start BOX", 1), ("--help", 1), ("ps --help", 1), ("--version", 1), ("run --help", 125),
     ("create IMAGE true", 125), ("run -d IMAGE true", 125),
     ("run --rm IMAGE echo hello", 125), ("run --rm -t IMAGE echo hello", 125),  # with Docker: 1
     ("run --rm --log-driver passthrough IMAGE sh -c 'echo hello; exit 3'", 125), ("start -a BOX", 1),
     ("exec SLEEPER echo hello", 125), ("exec -t SLEEPER echo hello", 125),  # the same
     ("ps --nosuch", 2)],
)  # fmt: skip
def test_output_that_cannot_be_written_is_told(
    one_daemon: Daemon, box: str, talker: str, sleeper: str, line: str, code: int, unbuffered: str
) -> None:
    """With Docker ``--help`` and ``start`` say nothing of it."""
    words = shlex.split(line.replace("BOX", talker).replace("IMAGE", box).replace("SLEEPER", sleeper))
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command_line(*words),
            env={**one_daemon.environment(), "PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    told = "error: the output cannot be written: No space left on device\n"
    assert done.returncode == code
    assert done.stderr == told if code != 2 else "nosuch" in done.stderr


@pytest.fixture(scope="module")
def talker(one_daemon: Daemon, box: str) -> str:
    one_daemon.ok("run", "--name", "talker", box, "echo", "hello")
    return "talker"


@pytest.mark.parametrize(
    ("redirection", "code", "told"),
    [
        (">&-", 1, "error: the output cannot be written: Bad file descriptor\n"),
        (">/dev/full 2>&1", 1, ""),
        ("", 141, ""),
    ],
)
def test_output_that_nobody_takes(one_daemon: Daemon, redirection: str, code: int, told: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    line = f"exec {shlex.join(command_line('ps'))} {redirection}"
    done = subprocess.run(
        ["sh", "-c", line], env=one_daemon.environment(), stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (code, told)


def begin(daemon: Daemon, name: str, image: str, flags: str, script: str) -> subprocess.Popen[bytes]:
    """The attached client of a container whose script has said that it is ready."""
    client = daemon.popen("run", "--name", name, *shlex.split(flags), image, "sh", "-c", script)
    assert client.stdout is not None
    assert client.stdout.readline() == b"ready\n"
    return client


TRAPS = "trap 'exit 10' TERM; trap 'exit 11' USR1; trap 'exit 12' USR2; trap 'exit 13' HUP; echo ready; "


@pytest.mark.parametrize(
    ("image_signal", "flags", "line", "code"),
    [
        ("", "", "stop BOX", 10),
        ("", "--stop-signal USR1", "stop BOX", 11),
        ("", "--stop-signal 10", "stop BOX", 11),
        ("SIGUSR2", "", "stop BOX", 12),
        ("12", "", "stop BOX", 12),
        ("SIGUSR2", "--stop-signal HUP", "stop BOX", 13),
        ("SIGUSR2", "", "stop -s USR1 BOX", 11),  # since 23.0
        ("KILL", "", "stop BOX", 137),
        ("SIGNOPE", "", "stop BOX", 10),  # these as Docker's source has it
        ("SIGNOPE", "--stop-signal HUP", "stop BOX", 13),
        ("SIGNOPE", "", "stop -s USR1 BOX", 11),
        ("SIGNOPE", "", "kill BOX", 137),
        ("SIGNOPE", "", "kill -s TERM BOX", 10),
        ("", "", "kill BOX", 137),
        ("", "", "kill -s 9 BOX", 137),
        ("", "", "kill -s TERM BOX", 10),
        ("", "", "rm -f BOX", 137),
        ("", "--stop-signal USR1 --init", "stop BOX", 11),
    ],
)
def test_what_stops_a_container(
    one_daemon: Daemon, name: str, stoppable: str, image_signal: str, flags: str, line: str, code: int
) -> None:
    client = begin(one_daemon, name, f"{stoppable}:s{image_signal}", flags, f"{TRAPS} while :; do sleep 0.05; done")
    one_daemon.ok(*line.replace("BOX", name).split())
    assert client.wait(60) == code
    client.communicate()


def test_signal_of_an_image_that_is_none(one_daemon: Daemon, name: str, stoppable: str) -> None:
    """Docker too keeps it, and stops with SIGTERM; Podman makes no container of such an image."""
    one_daemon.ok("run", "-d", "--name", name, f"{stoppable}:sSIGNOPE", "sh", "-c", f"{TRAPS} sleep 60")
    assert json.loads(one_daemon.ross("inspect", name).stdout)[0]["Config"]["StopSignal"] == "SIGNOPE"
    one_daemon.ok("restart", "-t", "0", name)
    one_daemon.ok("rm", "-f", name)


@pytest.fixture(scope="module")
def stoppable(registry: str) -> str:
    """The name of images whose tags tell the signal that stops them."""
    for name in ("", "SIGUSR2", "12", "KILL", "SIGNOPE"):
        push(registry, f"docker/stop:s{name}", busybox_image(**({"StopSignal": name} if name else {})))
    return f"{registry}/docker/stop"


@pytest.mark.parametrize(
    ("flags", "on_term", "line", "code"),
    [
        ("--stop-timeout 1", "", "stop BOX", 137),
        ("--stop-timeout 1000", "", "stop --time 1 BOX", 137),
        ("--stop-timeout 1000", "", "restart -t 0 BOX", 137),
        ("--stop-timeout 0", "", "stop BOX", 137),
        ("--stop-timeout 1", "sleep 1.5; exit 10", "stop -t 1000 BOX", 10),
        ("--stop-timeout 1", "sleep 1.5; exit 10", "stop -t -1 BOX", 10),
        ("--stop-timeout -1", "exit 10", "stop BOX", 10),
    ],
)
def test_how_long_stopping_waits(
    one_daemon: Daemon, name: str, box: str, flags: str, on_term: str, line: str, code: int
) -> None:
    client = begin(one_daemon, name, box, flags, f"trap '{on_term}' TERM; echo ready; while :; do sleep 0.05; done")
    one_daemon.ok(*line.replace("BOX", name).split())
    assert client.wait(60) == code
    client.communicate()


@pytest.mark.parametrize(
    ("line", "code"),
    [("stop GONE", 0), ("kill GONE", 1), ("wait GONE", 0), ("attach GONE", 1), ("pause GONE", 1),
     ("kill nosuch", 1), ("stop nosuch", 1), ("wait nosuch", 1), ("rm nosuch", 1), ("rm -f nosuch", 0), ("start nosuch", 1),
     ("start -a nosuch", 1), ("restart nosuch", 1), ("inspect nosuch", 1), ("logs nosuch", 1)],
)  # fmt: skip
def test_what_has_ended_or_never_was(one_daemon: Daemon, gone: str, line: str, code: int) -> None:
    done = one_daemon.ross(*line.replace("GONE", gone).split())
    assert done.returncode == code, done


@pytest.fixture(scope="module")
def gone(one_daemon: Daemon, box: str) -> str:
    one_daemon.ok("run", "--name", "gone", box, "true")
    return "gone"


@pytest.mark.parametrize("way", ["run", "run -i", "run --init", "start -a", "attach"])
def test_signals_of_the_client_reach_the_container(one_daemon: Daemon, name: str, box: str, way: str) -> None:
    script = f"{LISTENS}; trap 'echo TERM; exit 7' TERM{TICKS}"
    if way.startswith("run"):
        client = one_daemon.popen(*way.split(), "--name", name, box, "sh", "-c", script)
    else:
        one_daemon.ross("create", "--name", name, box, "sh", "-c", script)
        if way == "attach":
            one_daemon.ross("start", name)
        client = one_daemon.popen(*way.split(), name)
    assert client.stdout is not None
    assert [client.stdout.readline() for _number in range(2)] == [b"tick\n"] * 2
    for name in ("HUP", "USR1", "USR2", "QUIT", "ALRM", "INT", "TERM"):
        client.send_signal(getattr(signal, f"SIG{name}"))
        while (line := client.stdout.readline()) == b"tick\n":
            pass
        assert line == f"{name}\n".encode()
    client.communicate()
    assert client.returncode == 7


# -- init -------------------------------------------------------------------------------------------------------------

ORPHAN = "(sh -c 'sleep 0.1 &'); sleep 0.4; cat /proc/[0-9]*/stat | grep -c ' Z '"


@pytest.mark.parametrize(
    ("flags", "script", "code", "output"),
    [
        ("", "exec sleep 0; echo", 0, ""),
        ("--init", "exit 9", 9, ""),
        ("--init", "echo $$ | grep -v '^1$' >/dev/null && echo child", 0, "child"),
        ("", "echo $$", 0, "1"),
        ("--init", ORPHAN, 1, "0"),
        ("--init", "kill -TERM 1; sleep 5", 143, ""),
        ("--init", "trap 'echo got; exit 5' USR1; kill -USR1 1; while :; do sleep 0.05; done", 5, "got"),
        ("--init", "kill -9 1; echo alive", 0, "alive"),
        ("--init --read-only", "echo fine", 0, "fine"),
        ("--init -u 4000", "id -u", 0, "4000"),
        ("--init --pid host", "echo fine", 0, "fine"),
    ],
)
def test_init(one_daemon: Daemon, box: str, flags: str, script: str, code: int, output: str) -> None:
    done = one_daemon.ross("run", "--rm", *shlex.split(flags), box, "sh", "-c", script)
    assert (done.returncode, done.stdout.strip()) == (code, output), done.stderr


def test_without_an_init_nobody_reaps(one_daemon: Daemon, box: str, name: str) -> None:
    """So the row of the orphan above can fail."""
    script = "(sh -c 'sleep 0.1 &'); exec sleep 100000"
    one_daemon.ok("run", "-d", "--name", name, box, "sh", "-c", script)
    zombies = "until cat /proc/[0-9]*/stat | grep ' Z '; do sleep 0.05; done"
    one_daemon.ok("exec", name, "sh", "-c", zombies)
