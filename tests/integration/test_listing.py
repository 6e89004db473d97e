"""``ps`` and ``images`` as people filter and format them; one daemon for all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def several(one_daemon: Daemon, busybox: str) -> Daemon:
    """A daemon with containers in different states: web runs, job has failed, idle was only created."""
    for words in (
        ("pull", "-q", busybox),
        ("tag", busybox, "other:2"),
        (*"run -d --name web -l tier=front -l app=shop -v /usr/share:/mnt/share".split(), busybox, "sleep", "600"),
        (
            "run",
            "-d",
            "--name",
            "job",
            "-l",
            "tier=back",
            "-l",
            "app=shop",
            busybox,
            "sh",
            "-c",
            "echo x > /made; exit 3",
        ),
        ("wait", "job"),
        ("create", "--name", "idle", "other:2", "sleep", "1"),
    ):
        one_daemon.ok(*words)
    return one_daemon


def names(daemon: Daemon, *flags: str) -> list[str]:
    return daemon.ok("ps", "--format", "{{.Names}}", *flags).split()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", "web"),
        ("-a", "idle job web"),
        ("-n 2", "idle job"),
        ("-l", "idle"),
        ("-f status=exited", "job"),
        ("-f status=created -f status=running", "idle web"),
        ("-f exited=3", "job"),
        ("-f exited=0", ""),
        ("-a -f name=w", "web"),
        ("-a -f name=web -f name=job", "job web"),
        ("-a -f label=app", "job web"),
        ("-a -f label=app -f label=tier=back", "job"),
        ("-a -f ancestor=other:2", "idle job web"),
        ("-a -f ancestor=none", ""),
        ("-a -f before=job", "web"),
        ("-a -f since=web", "idle job"),
        ("-a -f since=web -f before=idle", "job"),
        ("-a -f volume=/mnt/share", "web"),
        ("-a -f volume=/usr/share", "web"),
        ("-a -f volume=/mnt", ""),
        ("-a -f volume=/nowhere -f volume=/mnt/share", "web"),
        ("-f health=none", "web"),
        ("-a -f health=none", "idle job web"),
        ("-a -f health=healthy -f health=starting -f health=unhealthy", ""),
        ("-f is-task=false", "web"),
    ],
)
def test_filters(several: Daemon, flags: str, expected: str) -> None:
    assert names(several, *flags.split()) == expected.split()


def test_filter_by_id_and_image_id(several: Daemon) -> None:
    (web,) = json.loads(several.ross("inspect", "web").stdout)
    assert names(several, "-a", "-f", f"id={web['Id'][:6]}") == ["web"]
    assert names(several, "-a", "-f", f"ancestor={web['Image']}") == ["idle", "job", "web"]


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (("-f", "colour=red"), "is not a filter of containers"),
        (("-f", "status=dancing"), "is not a status"),
        (("-f", "exited=300"), "is not an exit code"),
        (("-f", "health=fine"), "says nothing of health"),
        (("-f", "health=unknown"), "says nothing of health"),
        (("-f", "is-task=true"), "no container is a task"),
        (("-f", "before=nobody"), "no container 'nobody'"),
        (("-f", "before=web", "-f", "before=job"), "given twice"),
        (("-n", "-3"), "number of containers"),
        (("--format", "yaml"), "there is no format 'yaml'"),
        (("--format", "{{.Nmaes}}"), "no field 'Nmaes'"),
        (("--format", "{{.Names"), "without its"),
    ],
)
def test_what_is_wrong_is_told(several: Daemon, flags: tuple[str, ...], why: str) -> None:
    done = several.ross("ps", *flags)
    assert done.returncode != 0
    assert why in done.stderr
    assert "Traceback" not in done.stderr


def test_templates_and_sizes(several: Daemon) -> None:
    table = several.ross("ps", "-a", "-s", "--format", "table {{.Names}}\\t{{.State}}\\t{{.Size}}").stdout.splitlines()
    assert table[0].split() == ["NAMES", "STATE", "SIZE"]
    assert table[2].split()[:2] == ["job", "exited"]
    assert table[2].split()[2] != table[1].split()[2], "the job has written a file"
    (row,) = [json.loads(line) for line in several.ross("ps", "--format", "{{json .}}").stdout.splitlines()]
    assert (row["Names"], row["Labels"]) == ("web", "tier=front,app=shop")
    sized = several.ross("ps", "-as").stdout.splitlines()
    assert sized[0].endswith("SIZE")
    images = several.ross("images", "--format", "{{.Repository}}:{{.Tag}} {{len .Digest}}").stdout.splitlines()
    assert "other:2 71" in images
