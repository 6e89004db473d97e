"""What users of Docker and Podman type without thinking: it does what they mean, or says what is missing, and nothing else."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.archives import docker_archive
from tests.support.daemon import command
from tests.support.images import ImageBuilder, busybox_layer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _nothing_left(shared: Daemon) -> Iterator[None]:
    yield
    if names := shared.ross("ps", "-aq").stdout.split():
        shared.ross("rm", "-f", *names)


def said(daemon: Daemon, *words: str, input: str | None = None) -> tuple[int, str]:  # noqa: A002 -- as subprocess calls it
    done = daemon.ross(*words, input=input)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("word", ["-15", "-9", "-1"])
def test_a_number_with_a_dash_is_no_name_and_ends_nothing(shared: Daemon, busybox: str, word: str) -> None:
    script = "trap 'exit 3' TERM; while :; do sleep 0.1; done"
    shared.ross("run", "-d", "--name", "k", busybox, "sh", "-c", script)
    for verb in ("kill", "stop", "rm", "start", "wait"):
        code, text = said(shared, verb, word, "k")
        assert code == 2
        assert f"unknown option: {word}" in text
    assert f"ross kill -s {word[1:]}" in said(shared, "kill", word, "k")[1]
    assert shared.ross("inspect", "-f", "{{.State.Running}}", "k").stdout == "true\n"
    assert said(shared, "stop", "-t", "-1", "k")[0] == 0


def test_labels_of_the_image_are_the_containers(shared: Daemon, tmp_path: Path) -> None:
    archive = tmp_path / "labelled.tar"
    image = ImageBuilder(config={"Labels": {"vendor": "acme", "tier": "one"}}).layer(busybox_layer())
    archive.write_bytes(docker_archive(image, ["localhost/labelled:1"]).tar())
    assert said(shared, "load", "-q", "-i", str(archive))[0] == 0
    file = tmp_path / "labels"
    file.write_text("# ours\n\ntier=file\n  from=file  \nbare\n")
    shared.ross("create", "--name", "l", "--label-file", str(file), "-l", "from=flag", "localhost/labelled:1", "true")
    (info,) = json.loads(shared.ross("inspect", "l").stdout)
    assert info["Config"]["Labels"] == {"vendor": "acme", "tier": "file", "from": "flag", "bare": ""}
    assert shared.ross("ps", "-aq", "-f", "label=vendor=acme").stdout != ""
    missing = said(shared, "create", "--label-file", str(tmp_path / "none"), "localhost/labelled:1")
    assert missing[0] == 125
    assert "cannot be read" in missing[1]


def test_names_are_filtered_by_patterns(shared: Daemon, busybox: str) -> None:
    for name in ("x2", "x1", "ax2b"):
        shared.ross("create", "--name", name, busybox)

    def named(*terms: str) -> set[str]:
        flags = [flag for term in terms for flag in ("-f", f"name={term}")]
        return set(shared.ross("ps", "-a", "--format", "{{.Names}}", *flags).stdout.split())

    assert named("^x2$") == {"x2"}
    assert named("^/?x[12]$") == {"x1", "x2"}
    assert named("/x") == {"x1", "x2"}
    assert named("x2") == {"x2", "ax2b"}
    assert named("^a", "1") == {"ax2b", "x1"}
    assert shared.ross("ps", "-n", "1", "--format", "{{.Names}}", "-f", "name=^x").stdout == "x1\n"
    code, text = said(shared, "ps", "-f", "name=[")
    assert (code, "is no pattern" in text) == (1, True)


def test_what_does_not_run_is_not_waited_for(shared: Daemon, busybox: str) -> None:
    shared.ross("create", "--name", "c", busybox)
    assert said(shared, "wait", "c") == (0, "0\n")
    shared.ross("run", "--name", "f", busybox, "/no/such/program")
    assert said(shared, "wait", "f") == (0, "127\n")
    assert shared.ross("ps", "-a", "-f", "name=f", "--format", "{{.Status}}").stdout == "Created\n"
    assert "has no program" in shared.ross("inspect", "-f", "{{.State.Error}}", "f").stdout


@pytest.mark.parametrize("how", ["run", "terminal", "attach"])
def test_whose_output_nobody_reads_any_more_ends(shared: Daemon, busybox: str, how: str) -> None:
    if how == "attach":
        shared.ross("run", "-d", "--name", "y", busybox, "yes")
    words = {
        "run": ("run", "--name", "y", busybox, "yes"),
        "terminal": ("run", "-t", "--name", "y", busybox, "yes"),
        "attach": ("attach", "y"),
    }[how]
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", '"$@" | head -1', "bash", *command(*words)],
        env=shared.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (141, "y"), done.stderr
    assert shared.ross("inspect", "-f", "{{.State.Running}}", "y").stdout == "true\n"


def test_one_that_runs_is_started_already(shared: Daemon, busybox: str) -> None:
    shared.ross("run", "-d", "--name", "r", busybox, "sleep", "600")
    assert said(shared, "start", "r") == (0, "r\n")
    shared.ross("pause", "r")
    assert said(shared, "start", "r")[0] == 1
    shared.ross("unpause", "r")


def test_which_streams_are_connected(shared: Daemon, busybox: str) -> None:
    reading, silent = "cat; echo out; echo err >&2", "echo out; echo err >&2"
    for flags, script, expected in (
        (("-a", "stdout"), silent, ("out\n", "")),
        (("-a", "STDERR"), silent, ("", "err\n")),
        (("-a", "stdin", "-a", "stdout"), reading, ("in\nout\n", "")),
        (("--attach=stdin", "--attach=stderr"), reading, ("", "err\n")),
    ):
        done = shared.ross("run", "--rm", "-i", *flags, busybox, "sh", "-c", script, input="in\n")
        assert (done.stdout, done.stderr) == expected, flags
    for wrong, message in (
        (("-a", "stdwhat"), "is no stream"),
        (("-d", "-a", "stdout"), "contradict"),
        (("--log-driver", "passthrough", "-a", "stdout"), "all streams"),
    ):
        code, text = said(shared, "run", *wrong, busybox, "true")
        assert (code, message in text) == (125, True), text


def test_prune_takes_an_answer_from_a_pipe(shared: Daemon, busybox: str) -> None:
    shared.ross("create", "--name", "p", busybox)
    assert said(shared, "container", "prune", input="n\n")[0] == 1
    code, text = said(shared, "container", "prune", input="")
    assert (code, "nobody has answered" in text) == (1, True)
    assert said(shared, "container", "exists", "p") == (0, "")
    assert said(shared, "container", "prune", input="y\n")[0] == 0
    assert said(shared, "container", "exists", "p") == (1, "")


def test_other_spellings(shared: Daemon, busybox: str, tmp_path: Path) -> None:
    here = f"{tmp_path}:/x:ro,cached"
    assert said(shared, "run", "--rm", "--net=none", "-v", here, busybox, "echo", "hi") == (0, "hi\n")
    for words in (("container", "list"), ("container", "ps"), ("image", "list"), ("image", "exists", busybox)):
        assert said(shared, *words)[0] == 0, words
    assert said(shared, "image", "exists", "no/such") == (1, "")
    code, text = said(shared, "rmi", "-f", "no/such")
    assert (code, "no/such" in text) == (0, True)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("run", "-p", "8080:80", "busybox"), 125, "no networks yet"),
        (("run", "--ip", "10.0.0.1", "busybox"), 125, "no networks yet"),
        (("run", "--gpus", "all", "busybox"), 125, "--device"),
        (("volume", "ls"), 2, "no volumes yet"),
        (("network", "ls"), 2, "no networks yet"),
        (("build", "."), 2, "built by others"),
        (("pss",), 2, "did you mean 'ross ps'?"),
        (("container", "stopx"), 2, "did you mean 'ross container stop'?"),
        (("ps", "x2"), 2, "nothing that 'x2' could be for"),
        (("qqqqq",), 2, "see: ross --help"),
    ],
)
def test_what_there_is_not_is_told(shared: Daemon, words: tuple[str, ...], code: int, message: str) -> None:
    found, text = said(shared, *words)
    assert (found, message in text) == (code, True), text
    assert "Did you mean --" not in text


def test_same_name_again(shared: Daemon, busybox: str) -> None:
    shared.ross("create", "--name", "n", busybox)
    code, text = said(shared, "rename", "n", "n")
    assert (code, "has that name already" in text) == (1, True), text
    assert said(shared, "container", "exists", "n")[0] == 0
