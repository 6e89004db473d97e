"""What ``run`` makes of environments, entrypoints and ulimits: Docker's behaviour, a case a row.

Every row was tried against Docker 20.10 with the client of 28.2, too.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.images import ImageBuilder, busybox_layer, push
from tests.support.typed import REFUSED, furnished, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

FILES: Final = {"ONE": "A=one\nB=one\n", "TWO": "# two\n\nA=two\n", "NAMES": "A\nGONE\nOURS\n", "BAD": "export A=1\n"}


@pytest.fixture(scope="module")
def box(registry: str) -> str:
    return push(registry, "docker/box:1", furnished(Env=["PATH=/bin", "A=image", "EMPTY="]))


# -- environment ------------------------------------------------------------------------------------------------------


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's own environment."""
    monkeypatch.setenv("OURS", "ours")
    for name in ("A", "GONE", "EMPTY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("flags", "words", "expected"),
    [
        ("", "$A", "image"),
        ("", "${EMPTY-unset}", ""),
        ("", "$HOME $PATH", "/root /bin"),
        ("-e A=flag", "$A", "flag"),
        ("-e A=", "${A-unset}", ""),
        ("-e A=1 -e A=2", "$A", "2"),
        ("-e A=x=y=", "$A", "x=y="),
        ("-e 'A= x  y '", '"<$A>"', "< x  y >"),
        ("-e 'A=$HOME'", "$A", "$HOME"),
        ("-e 'A=\"x\"'", "$A", '"x"'),
        ("-e 'A=one\ntwo'", '"$A"', "one\ntwo"),
        ("-e A=\N{SNOWMAN}", "$A", "\N{SNOWMAN}"),
        ("-e OURS", "$OURS", "ours"),
        ("-e GONE", "${GONE-unset}", "unset"),
        ("-e A", "${A-unset}", "unset"),
        ("-e A=flag -e A", "${A-unset}", "unset"),
        ("-u alice", "$HOME", "/home/alice"),
        ("-u 4000", "$HOME", "/"),
        ("--hostname here", "$HOSTNAME", "here"),
        ("--hostname here -e HOSTNAME=there", "$HOSTNAME", "there"),
        ("-t", "$TERM", "xterm"),
    ],
)
def test_environment(one_daemon: Daemon, box: str, ours: None, flags: str, words: str, expected: str) -> None:
    assert run(one_daemon, box, flags, "sh", "-c", f"echo {words}") == (0, f"{expected}\n")


@pytest.mark.parametrize("flags", ["-e =x", "-e ''", "--env="])
def test_variables_without_names_are_refused(one_daemon: Daemon, box: str, flags: str) -> None:
    assert run(one_daemon, box, flags, "true") == (REFUSED, "")


def test_name_of_a_variable_may_be_anything_on_the_command_line(one_daemon: Daemon, box: str) -> None:
    assert "\na b.c-d=x\n" in run(one_daemon, box, "-e 'a b.c-d=x'", "env")[1]


def test_executed_programs_have_the_containers_environment_and_their_own(
    one_daemon: Daemon, box: str, ours: None
) -> None:
    one_daemon.ross("run", "-d", "--name", "env", "-e", "B=run", "-e", "C=run", box, "sh", "-c", "exec sleep 1000")
    flags = ["-e", "C=exec", "-e", "A", "-e", "OURS"]
    done = one_daemon.ross("exec", *flags, "env", "sh", "-c", "echo ${A-unset} $B $C $OURS")
    assert done.stdout == "unset run exec ours\n"
    one_daemon.ross("rm", "-f", "env")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--env-file ONE", "one one"),
        ("--env-file ONE --env-file TWO", "two one"),
        ("--env-file NAMES", "image ours"),
        ("--env-file ONE -e A=flag", "flag one"),
        ("-e A=flag --env-file ONE", "flag one"),
        ("--env-file BAD", None),
        ("--env-file /no/such", None),
    ],
)
def test_files_of_variables_and_flags(
    one_daemon: Daemon, box: str, ours: None, tmp_path: Path, flags: str, expected: str | None
) -> None:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
        flags = flags.replace(name, str(tmp_path / name))
    answer = (0, f"{expected}\n") if expected is not None else (REFUSED, "")
    assert run(one_daemon, box, flags, "sh", "-c", "echo ${A-unset} ${B-$OURS}") == answer


# -- entrypoint and command -------------------------------------------------------------------------------------------

ENTRYPOINTS: Final = {"none": None, "exec": ["echo", "entry"], "shell": ["/bin/sh", "-c", "echo entry"]}
COMMANDS: Final = {"none": None, "exec": ["echo", "cmd"], "shell": ["/bin/sh", "-c", "echo cmd"]}


@pytest.mark.parametrize(
    ("entrypoint", "command", "flags", "words", "expected"),
    [
        ("none", "none", "", "", None),
        ("none", "none", "", "echo words", "words"),
        ("none", "exec", "", "", "cmd"),
        ("none", "exec", "", "echo words", "words"),
        ("none", "shell", "", "", "cmd"),
        ("exec", "none", "", "", "entry"),
        ("exec", "none", "", "words", "entry words"),
        ("exec", "exec", "", "", "entry echo cmd"),
        ("exec", "exec", "", "words", "entry words"),
        ("exec", "shell", "", "", "entry /bin/sh -c echo cmd"),
        ("shell", "none", "", "", "entry"),
        ("shell", "exec", "", "", "entry"),
        ("shell", "shell", "", "", "entry"),
        ("none", "none", "--entrypoint echo", "", ""),
        ("none", "exec", "--entrypoint echo", "", ""),
        ("exec", "exec", "--entrypoint echo", "", ""),
        ("exec", "exec", "--entrypoint echo", "words", "words"),
        ("exec", "exec", "--entrypoint=echo", "-n words", "words"),
        ("shell", "shell", "--entrypoint echo", "", ""),
        ("none", "none", "--entrypoint ''", "", None),
        ("none", "none", "--entrypoint ''", "echo words", "words"),
        ("none", "exec", "--entrypoint ''", "", None),
        ("exec", "exec", "--entrypoint ''", "", None),
        ("exec", "exec", "--entrypoint ''", "echo words", "words"),
        ("exec", "exec", "--entrypoint 'echo words'", "", 127),
        ("exec", "exec", "", "--rm -e x --", "entry --rm -e x --"),
    ],
)
def test_entrypoint_and_command(
    one_daemon: Daemon, entries: str, entrypoint: str, command: str, flags: str, words: str, expected: str | int | None
) -> None:
    code, output = run(one_daemon, f"{entries}:{entrypoint}-{command}", flags, *shlex.split(words))
    if expected is None or isinstance(expected, int):
        assert (code, output) == (expected or REFUSED, "")
    else:
        assert (code, output.removesuffix("\n")) == (0, expected)


@pytest.fixture(scope="module")
def entries(registry: str) -> str:
    """The name of images with every pair of entrypoint and command; the tag says which."""
    for first, entrypoint in ENTRYPOINTS.items():
        for second, command in COMMANDS.items():
            builder = ImageBuilder(config={"Entrypoint": entrypoint, "Cmd": command}).layer(busybox_layer())
            push(registry, f"docker/entries:{first}-{second}", builder.build())
    return f"{registry}/docker/entries"


# -- ulimits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--ulimit nofile=100", "100 100"),
        ("--ulimit nofile=100:200", "100 200"),
        ("--ulimit core=-1", "unlimited unlimited"),
        ("--ulimit core=5:-1", "5 unlimited"),
        ("--ulimit cpu=7:8", "7 8"),
        ("--ulimit nproc=300", "300 300"),
        ("--ulimit fsize=1000000", "1000000 1000000"),
        ("--ulimit stack=1048576:2097152", "1048576 2097152"),
        ("--ulimit nofile=100 --ulimit nofile=150", "150 150"),
        ("--ulimit nofile=200:100", None),
        ("--ulimit nofile=-1:100", None),
        ("--ulimit nosuch=1", None),
        ("--ulimit NOFILE=100", None),
    ],
)
def test_ulimits(one_daemon: Daemon, box: str, flags: str, expected: str | None) -> None:
    names = {
        "nofile": "open files", "core": "core file size", "cpu": "cpu time", "nproc": "processes", "fsize": "file size",
        "stack": "stack size", "memlock": "locked memory",
    }  # fmt: skip
    name = names.get(shlex.split(flags)[-1].split("=")[-2 if "=" in flags else 0], "nothing")
    code, output = run(one_daemon, box, flags, "cat", "/proc/self/limits")
    if expected is None:
        assert (code, output) == (REFUSED, "")
        return
    (line,) = [line for line in output.splitlines() if line.startswith(f"Max {name} ")]
    assert line.removeprefix(f"Max {name} ").split()[:2] == expected.split()
