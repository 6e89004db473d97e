"""``ps`` and ``images`` as people filter and format them; one daemon for all."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.daemon import command

if TYPE_CHECKING:
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration
HOST = os.uname()


@pytest.fixture(scope="module")
def several(one_daemon: Daemon, busybox: str) -> Daemon:
    """A daemon with containers in different states: web runs, job has failed, idle was only created."""
    for words in (
        ("pull", "-q", busybox),
        ("tag", busybox, "other:2"),
        (*"run -d --name web -l tier=front -l app=shop -v /usr/share:/mnt/share".split(), busybox, "sleep", "100000"),
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


@pytest.mark.parametrize(
    ("words", "template", "expected"),
    [
        ("ps", "{{.Names}} [{{.Ports}}] {{.LocalVolumes}} {{.Networks}} {{.State}}", r"web \[\] 0 none running"),
        ("ps", '{{.Label "tier"}} [{{.Label "none"}}] {{.Labels}}', r"front \[\] app=shop,tier=front"),
        ("ps", "{{.Mounts}} {{.Command}} {{.Status}}", r'/usr/share "sleep 100000" Up .*'),
        ("ps", "{{.ID}} {{.Image}} {{.RunningFor}}", r"[0-9a-f]{12} \S+/test/busybox:1 .+ ago"),
        ("ps --no-trunc", "{{.ID}}", r"[0-9a-f]{64}"),
        ("ps", "{{.CreatedAt}}", r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} \w+"),
        ("ps", "{{.Size}}", r"0B \(virtual [\d.]+MB\)"),
        ("ps -a -f name=job", "{{.Size}}", r"2B \(virtual [\d.]+MB\)"),
        ("images other", "{{.Repository}}:{{.Tag}} {{.Size}} {{.VirtualSize}}", r"other:2 ([\d.]+MB) \1"),
        ("images other", "{{.CreatedAt}}", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4} \w+"),
        ("images other", "{{.ID}} {{.Digest}} {{.Containers}} {{.SharedSize}} {{.UniqueSize}}", r"\w{12} sha256:\w{64} N/A N/A N/A"),
        ("images other", "{{.CreatedSince}}", "N/A|.* ago"),
        ("history other:2", "{{.ID}} {{.Size}} [{{.Comment}}]", r"\w{12} [\d.]+MB \[.*\]"),
        ("history --human=false other:2", "{{.CreatedAt}} {{.CreatedSince}} {{.Size}}", r"(\S+) \1 \d+"),
        ("info", "{{.Driver}} {{.OSType}} {{.CgroupVersion}} {{.CgroupDriver}} {{.Containers}}", r"overlay linux [12] cgroupfs 3"),
        ("info", "{{.ContainersRunning}} {{.Images}} {{gt .NCPU 0}} {{gt .MemTotal 0}}", "1 1 true true"),
        ("system info", "{{.Name}} {{.KernelVersion}} {{.OperatingSystem}} {{.Architecture}}", f"{HOST.nodename} {HOST.release} .*"),
        ("version", "{{.Client.Os}} {{.Server.Os}}/{{.Server.Arch}} {{.Server.KernelVersion}}", f"linux linux/\\w+ {HOST.release}"),
        ("version", "{{eq .Client.Version .Server.Version}} {{json .Server.Features}}", r"true \[.*\]"),
        ("system df", "{{if eq .Type `Containers`}}{{.TotalCount}} {{.Active}} {{.Reclaimable}}{{end}}", r"\s*3 1 [\d.]+kB \(\d+%\)\s*"),
    ],
)  # fmt: skip
def test_templates(several: Daemon, words: str, template: str, expected: str) -> None:
    """The names are Docker's."""
    done = several.ross(*words.split(), "--format", template)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(expected, done.stdout.removesuffix("\n")), done.stdout


@pytest.mark.parametrize(
    ("words", "template", "headings"),
    [
        ("ps", r"{{.ID}}\t{{.Names}}\t{{.RunningFor}}\t{{.CreatedAt}}", "CONTAINER ID   NAMES   CREATED   CREATED AT"),
        ("ps", r"{{.Ports}}\t{{.LocalVolumes}}\t{{.Status}}\t{{.Size}}", "PORTS   LOCAL VOLUMES   STATUS   SIZE"),
        ("ps", r'{{.Label "the.tier"}}\t{{.Mounts}}\t{{upper .Image}}', "tier   MOUNTS   IMAGE"),
        ("images", r"{{.ID}}\t{{.Tag}}\t{{.CreatedSince}}\t{{.CreatedAt}}", "IMAGE ID   TAG   CREATED   CREATED AT"),
        ("images", r"{{.Repository}}\t{{.SharedSize}}\t{{.UniqueSize}}", "REPOSITORY   SHARED SIZE   UNIQUE SIZE"),
        ("history other:2", r"{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Comment}}", "IMAGE   CREATED   CREATED BY   COMMENT"),
        ("system df", r"{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Reclaimable}}", "TYPE   TOTAL   ACTIVE   RECLAIMABLE"),
        ("stats --no-stream", r"{{.Container}}\t{{.ID}}\t{{.CPUPerc}}\t{{.NetIO}}", "CONTAINER   CONTAINER ID   CPU %   NET I/O"),
    ],
)  # fmt: skip
def test_headings_of_templates(several: Daemon, words: str, template: str, headings: str) -> None:
    done = several.ross(*words.split(), "--format", f"table {template}")
    assert done.returncode == 0, done.stderr
    assert re.split(" {3,}", done.stdout.splitlines()[0]) == headings.split("   ")


def test_what_can_be_told_without_a_daemon_is_told(several: Daemon) -> None:
    """And why there is nothing of the daemon, whatever was asked for."""
    for template, said in (("{{.Client.Os}}", "linux\n"), ("{{.Server.Version}}", ""), ("{{json .Server}}", "null\n")):
        environment = {**several.environment(), "ROSS_SOCKET": str(several.root / "none")}
        done = subprocess.run(
            command("version", "-f", template), env=environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (1, said)
        assert "no daemon answers" in done.stderr
    for name in ("version", "info"):
        done = several.ross(name, "-f", "{{.Nothing}}")
        assert (done.returncode, "no field 'Nothing'" in done.stderr) == (1, True)
        assert several.ross(name, "-f", "yaml").returncode == 1


def test_templates_and_sizes(several: Daemon) -> None:
    table = several.ross("ps", "-a", "-s", "--format", "table {{.Names}}\\t{{.State}}\\t{{.Size}}").stdout.splitlines()
    assert table[0].split() == ["NAMES", "STATE", "SIZE"]
    assert table[2].split()[:2] == ["job", "exited"]
    assert table[2].split()[2] != table[1].split()[2], "the job has written a file"
    (row,) = [json.loads(line) for line in several.ross("ps", "--format", "{{json .}}").stdout.splitlines()]
    assert (row["Names"], row["Labels"]) == ("web", "app=shop,tier=front")
    sized = several.ross("ps", "-as").stdout.splitlines()
    assert sized[0].endswith("SIZE")
    assert [line.split("   ")[-1].split()[0] for line in sized[1:]] == ["0B", "2B", "0B"], "as much as is in the files"
    assert several.ross("ps", "-aqs").stdout == several.ross("ps", "-aq", "--format", "{{.Size}}").stdout
    images = several.ross("images", "--format", "{{.Repository}}:{{.Tag}} {{len .Digest}}").stdout.splitlines()
    assert "other:2 71" in images
