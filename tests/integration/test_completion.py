"""Completion of command lines, in a real bash: commands, flags, values, names; quick, and silent when nothing answers."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

ASK = r"""
source <(ross completion bash)
compopt() { local IFS=' '; echo "option $*"; }
shopt -u hostcomplete
while IFS= read -r COMP_LINE; do
    COMP_POINT=${#COMP_LINE}
    read -ra COMP_WORDS <<< "$COMP_LINE"
    _ross_complete
    echo "> ${COMPREPLY[*]}"
done
"""


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the command, as it is where Ross is installed."""
    directory = tmp_path_factory.mktemp("bin")
    command = directory / "ross"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m ross "$@"\n')
    command.chmod(0o755)
    return directory


@pytest.fixture(scope="module")
def shared(one_daemon: Daemon, busybox: str) -> Daemon:
    """A daemon where up runs, and rested and resting do not."""
    for words in (
        ("pull", "-q", busybox),
        ("tag", busybox, "local:1"),
        ("run", "-d", "--name", "up", busybox, "sleep", "100000"),
        ("create", "--name", "rested", busybox, "true"),
        ("create", "--name", "resting", busybox, "true"),
    ):
        one_daemon.ok(*words)
    return one_daemon


def environment(commands: Path, socket: str) -> dict[str, str]:
    return {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "ROSS_SOCKET": socket, "TERM": "dumb"}


def completed(commands: Path, socket: str, *lines: str) -> list[str]:
    """What bash makes of each line."""
    done = subprocess.run(
        ["bash", "--norc", "-c", ASK],
        input="".join(f"{line}\n" for line in lines),
        env=environment(commands, socket),
        capture_output=True,
        text=True,
        timeout=170,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_commands_flags_values_and_names(shared: Daemon, commands: Path, busybox: str) -> None:
    host, _colon, rest = busybox.partition(":")
    cases = {
        "ross sto": "> stop",
        "ross image pu": "> pull push",
        "ross container ren": "> rename",
        "ross nothing ": "> ",
        "ross run --pul": "> --pull",
        "ross run --pull n": "> never",
        "ross run --pull=n": "> never",
        "ross run --restart un": "> unless-stopped",
        "ross inspect --type c": "> container",
        "ross completion ": "> bash fish zsh",
        "ross stop ": "> up",
        "ross stop -t 5 ": "> up",
        "ross start ": "> rested resting",
        "ross start rested ": "> resting",
        "ross rm -f re": "> rested resting",
        "ross logs ": "> rested resting up",
        "ross logs up ": "> ",
        "ross exec -it ": "> up",
        "ross exec up ": "> ",
        "ross container inspect u": "> up",
        "ross rmi lo": "> local:1",
        "ross rmi local:": "> 1",
        "ross run loc": "> local:1",
        f"ross history {host}:": f"> {rest}",
        "ross run local:1 st": "> ",
        "ross run -e st": "> ",
        "ross rm 're": "> rested resting",
        "ross rename up ": "> ",
    }
    found = completed(commands, str(shared.socket), *cases)
    assert dict(zip(cases, found, strict=True)) == cases


def test_files_are_the_shells_to_complete(shared: Daemon, commands: Path) -> None:
    lines = ("ross load -i ", "ross import ", "ross cp ./", "ross cp up:/", "ross cp u", "ross run --env-file ")
    files = ["option -o default -o filenames", "> "]
    found = completed(commands, str(shared.socket), *lines)
    assert found == [*files, *files, *files, *files, "option -o nospace", "> up:", *files]


def test_without_a_daemon_it_is_silent_and_the_rest_works(commands: Path, tmp_path: Path) -> None:
    assert completed(commands, str(tmp_path / "none"), "ross stop ", "ross sto", 'ross stop "', "ross") == [
        "> ",
        "> stop",
        "> ",
        "> ",
    ]
    done = subprocess.run(
        [commands / "ross", "__complete", "bash"], env=environment(commands, "x"), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_typing_a_tab(shared: Daemon, commands: Path) -> None:
    """In an interactive shell, with a real terminal."""
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        ["bash", "--norc", "-i"],
        env={**environment(commands, str(shared.socket)), "PS1": "$ "},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        os.write(ours, b"source <(ross completion bash); echo re''ady\n")
        read_until(ours, b"ready\r\n")
        os.write(ours, b"ross stop -t 0 u\t")
        read_until(ours, b"ross stop -t 0 up ")
        os.write(ours, b"\nexit\n")
        read_until(ours, b"\nup\r\n")
        assert shell.wait(60) == 0
        shared.ok("start", "up")
    finally:
        shell.kill()
        shell.wait()
        os.close(ours)


def read_until(fd: int, text: bytes) -> None:
    seen, deadline = b"", time.monotonic() + 60
    while text not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([fd], [], [], 0.1)[0]:
            seen += os.read(fd, 4096)


def test_scripts_of_the_other_shells(commands: Path) -> None:
    for shell, begin in (("zsh", "#compdef ross\n"), ("fish", "# fish completion of ross\n")):
        done = subprocess.run([commands / "ross", "completion", shell], capture_output=True, text=True, check=True)
        assert done.stdout.startswith(begin)
        assert f"__complete {shell}" in done.stdout
    done = subprocess.run([commands / "ross", "completion", "csh"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
