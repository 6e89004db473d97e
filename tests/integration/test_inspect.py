"""``inspect``: Docker's names, compared with another engine that has them; templates; what is missing."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

FLAGS = (
    "--name", "compared", "-h", "host1", "-u", "65534:65534", "-w", "/tmp", "-t", "-i", "-l", "tier=front", "-l", "empty",
    "-e", "A=from the flag", "-m", "64m", "--memory-reservation", "32m", "--memory-swap", "128m", "--cpu-shares", "300",
    "--cpuset-cpus", "0",
    "--pids-limit", "77", "--restart", "on-failure:3", "--read-only", "--shm-size", "1m", "--oom-score-adj", "100",
    "--cap-drop", "NET_RAW", "--network", "none", "--stop-timeout", "7", "--stop-signal", "SIGUSR1", "-v", "/etc:/mnt:ro",
    "--add-host", "other:10.0.0.1", "--sysctl", "kernel.shm_rmid_forced=1", "--group-add", "1234",
)  # fmt: skip
SAME = (
    "Path", "Args", "Name", "RestartCount",
    "State.Status", "State.Running", "State.Paused", "State.Restarting", "State.OOMKilled", "State.Dead", "State.Pid", "State.ExitCode",
    "State.Error", "State.StartedAt", "State.FinishedAt",
    "Config.Hostname", "Config.User", "Config.Tty", "Config.OpenStdin", "Config.WorkingDir", "Config.Labels", "Config.Cmd", "Config.Image",
    "Config.StopTimeout", "HostConfig.NetworkMode", "HostConfig.RestartPolicy", "HostConfig.AutoRemove", "HostConfig.DnsSearch",
    "HostConfig.ExtraHosts", "HostConfig.GroupAdd", "HostConfig.OomScoreAdj", "HostConfig.Privileged", "HostConfig.ReadonlyRootfs",
    "HostConfig.ShmSize", "HostConfig.CpuShares", "HostConfig.Memory", "HostConfig.MemoryReservation", "HostConfig.MemorySwap",
    "HostConfig.CpuPeriod", "HostConfig.CpuQuota", "HostConfig.CpusetCpus", "HostConfig.PidsLimit", "HostConfig.OomKillDisable",
    "HostConfig.BlkioWeight", "HostConfig.CpusetMems",
)  # fmt: skip
SCRIPT = "head -c 100000 /dev/zero > /new; touch /made; sleep 100000"
DOCKERS = {
    "": "Id Created Path Args State Image ResolvConfPath HostnamePath HostsPath LogPath Name RestartCount Driver Platform AppArmorProfile "
    "ProcessLabel GraphDriver HostConfig Mounts Config NetworkSettings",
    "State": "Status Running Paused Restarting OOMKilled Dead Pid ExitCode Error StartedAt FinishedAt",
    "HostConfig": "Binds LogConfig NetworkMode PortBindings RestartPolicy AutoRemove CapAdd CapDrop CgroupnsMode Dns DnsOptions DnsSearch "
    "ExtraHosts GroupAdd IpcMode OomScoreAdj PidMode Privileged ReadonlyRootfs SecurityOpt Tmpfs UTSMode ShmSize Sysctls CpuShares Memory "
    "NanoCpus BlkioWeight BlkioDeviceReadBps BlkioDeviceWriteBps BlkioDeviceReadIOps BlkioDeviceWriteIOps CpuPeriod CpuQuota CpusetCpus "
    "CpusetMems Devices MemoryReservation MemorySwap MemorySwappiness OomKillDisable PidsLimit Ulimits Init Annotations MaskedPaths "
    "ReadonlyPaths",
    "Config": "Hostname User ExposedPorts Tty OpenStdin StdinOnce Env Cmd Image Volumes WorkingDir Entrypoint OnBuild Labels "
    "StopSignal StopTimeout",
    "NetworkSettings": "Ports Networks IPAddress IPPrefixLen Gateway GlobalIPv6Address GlobalIPv6PrefixLen IPv6Gateway MacAddress",
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(one_daemon: Daemon, busybox: str) -> Daemon:
    """A daemon with the image and two containers: up runs, compared was created with many flags."""
    for words in (
        ("pull", "-q", busybox),
        ("run", "-d", "--name", "up", "-l", "z=1", "-l", "a.b=c", busybox, "sh", "-c", SCRIPT),
        ("create", *FLAGS, busybox, "sh", "-c", "exit 3"),
    ):  # fmt: skip
        one_daemon.ok(*words)
    until(lambda: one_daemon.ross("cp", "up:/made", "-").returncode == 0)
    return one_daemon


def inspect(daemon: Daemon, *words: str) -> Any:
    return json.loads(daemon.ok("inspect", *words))


def at(document: dict[str, Any], path: str) -> Any:
    value: Any = document
    for key in path.split(".") if path else ():
        value = value[key]
    return value


def test_everything_is_as_podman_says_it(shared: Daemon, busybox: str) -> None:
    """The same flags give the same values under the same keys."""
    with tempfile.TemporaryDirectory(prefix="p") as short:  # Podman wants a short path
        podman = ["podman", "--root", f"{short}/root", "--runroot", f"{short}/run", "--storage-driver", "vfs"]
        for words in (("pull", "-q", "--tls-verify=false", busybox), ("create", *FLAGS, busybox, "sh", "-c", "exit 3")):
            subprocess.run([*podman, *words], check=True, capture_output=True)
        said = subprocess.run([*podman, "inspect", "compared"], check=True, capture_output=True)
        subprocess.run([*podman, "rm", "compared"], check=True, capture_output=True)
    (theirs,) = json.loads(said.stdout)
    (ours,) = inspect(shared, "compared")
    assert {path: at(ours, path) for path in SAME} == {path: at(theirs, path) for path in SAME}
    assert ours["Image"].removeprefix("sha256:") == theirs["Image"]
    assert "A=from the flag" in ours["Config"]["Env"]
    (mine,), (other,) = ours["Mounts"], theirs["Mounts"]
    same = ("Type", "Source", "Destination", "RW", "Propagation")
    assert [mine[key] for key in same] == [other[key] for key in same]
    assert ours["HostConfig"]["Binds"] == ["/etc:/mnt:ro"]
    assert ours["Config"]["StopSignal"] == "SIGUSR1"


def test_all_of_dockers_keys_are_there(shared: Daemon) -> None:
    (up,) = inspect(shared, "up")
    for path, keys in DOCKERS.items():
        assert not set(keys.split()) - set(at(up, path)), path
    assert up["State"]["Status"] == "running"
    assert up["State"]["Running"] is True
    assert up["State"]["Pid"] > 1
    for text in (up["Created"], up["State"]["StartedAt"]):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", text)
    assert up["State"]["FinishedAt"] == "0001-01-01T00:00:00Z"
    # All of the usual ones, and those of each processor; a container with other ones has those.
    assert {"/proc/kcore", "/sys/firmware"} < set(up["HostConfig"]["MaskedPaths"])
    assert list(up["Config"]["Labels"]) == ["a.b", "z"]
    for path in ("ResolvConfPath", "HostnamePath", "HostsPath", "LogPath"):
        assert up[path].startswith(f"{shared.root}/containers/{up['Id']}/")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("--pids-limit -1", "-1 /proc/bus"),
        ("--privileged", "4096 [] []"),
        ("--security-opt unmask=ALL --security-opt mask=/etc/x", "4096 [/etc/x] []"),
        ("--security-opt unmask=/proc/bus", "4096 /proc/fs"),
    ],
)
def test_bounds_are_told_as_they_are_in_force(shared: Daemon, busybox: str, flags: str, expected: str) -> None:
    assert shared.ross("create", "--name", "bound", *flags.split(), busybox, "true").returncode == 0
    host = "{{with .HostConfig}}{{.PidsLimit}} {{if lt (len .MaskedPaths) 2}}{{.MaskedPaths}} {{end}}"
    told = shared.ross("inspect", "-f", host + "{{range .ReadonlyPaths}}{{.}} {{else}}[]{{end}}{{end}}", "bound").stdout
    shared.ross("rm", "bound")
    assert told.startswith(expected)


def test_what_has_ended_says_how(shared: Daemon, busybox: str) -> None:
    assert shared.ross("run", "--name", "ended", busybox, "sh", "-c", "exit 3").returncode == 3
    (state,) = (one["State"] for one in inspect(shared, "ended"))
    assert (state["Status"], state["Running"], state["ExitCode"], state["Pid"]) == ("exited", False, 3, 0)
    assert state["FinishedAt"] >= state["StartedAt"] > "2020"
    shared.ross("rm", "ended")


def test_sizes_are_measured_where_they_are_asked_for(shared: Daemon) -> None:
    (plain,), (measured,) = inspect(shared, "up"), inspect(shared, "-s", "up")
    assert "SizeRw" not in plain
    assert 100_000 <= measured["SizeRw"] < 1_000_000
    assert measured["SizeRootFs"] > measured["SizeRw"]


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{.State.Status}}", "running"),
        ("{{.Name}} {{.State.Running}} {{.State.ExitCode}}", "up true 0"),
        ("{{json .Config.Cmd}}", f'["sh","-c","{SCRIPT}"]'),
        ('{{index .Config.Labels "a.b"}}', "c"),
        ('{{index .Config.Labels "none"}}', ""),
        ("{{.Config.Labels.none}}", "<no value>"),
        ("{{range $name, $network := .NetworkSettings.Networks}}{{$name}}{{end}}", "none"),
        ("{{range .Mounts}}{{.Source}}{{else}}none{{end}}", "none"),
        ("{{if .State.Health}}{{.State.Health.Status}}{{else}}no check{{end}}", "no check"),
        ("{{with .HostConfig}}{{.RestartPolicy.Name}} {{.NetworkMode}}{{end}}", "no none"),
        ("{{slice .Id 0 2 | len}}", "2"),
        ("{{len .ID}}", "64"),
        ("{{.HostConfig.PidsLimit}}", "4096"),
        ("{{.HostConfig.ReadonlyPaths}}", "[/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger]"),
        ("{{slice .HostConfig.MaskedPaths 0 2}}", "[/proc/asound /proc/acpi]"),
        ("{{.NetworkSettings.IPAddress}}{{.NetworkSettings.Gateway}}{{.NetworkSettings.MacAddress}}", ""),
        ("{{.NetworkSettings.Ports}} {{json .NetworkSettings.Ports}}", "map[] {}"),
        ("{{.NetworkSettings.Networks.none.IPAddress}}", ""),
        ("{{range $port, $hosts := .NetworkSettings.Ports}}{{$port}}{{end}}", ""),
        ("{{.Config.Entrypoint}} {{json .Config.Entrypoint}} {{.Config.OnBuild}}", "[] null []"),
        ("{{.Config.Labels}}", "map[a.b:c z:1]"),
        ("{{json .Config.Labels}}", '{"a.b":"c","z":"1"}'),
    ],
)
def test_templates(shared: Daemon, template: str, expected: str) -> None:
    for flag in ("--format", "-f"):
        assert shared.ross("inspect", flag, template, "up").stdout == f"{expected}\n"


def test_images_have_dockers_names_too(shared: Daemon, busybox: str) -> None:
    (image,) = inspect(shared, busybox)
    assert image["RepoTags"] == [busybox]
    assert image["RepoDigests"] == [f"{busybox.rpartition(':')[0]}@{image['Target']}"]
    assert image["Os"] == "linux"
    assert image["RootFS"] == {"Type": "layers", "Layers": image["ImageConfig"]["rootfs"]["diff_ids"]}
    assert image["Size"] > 0
    shown = shared.ross(
        "image", "inspect", "-f", "{{.Id}} {{index .RepoTags 0}} {{.Config.Healthcheck}}", busybox
    ).stdout
    assert shown == f"{image['Id']} {busybox} <no value>\n"
    absent = "{{.Config.Entrypoint}} {{.Config.Labels}} {{.Config.Volumes}} [{{.Config.User}}]"
    assert shared.ross("inspect", "-f", absent, busybox).stdout == "[] map[] map[] []\n"


def test_what_is_missing_is_told_and_the_rest_shown(shared: Daemon, busybox: str) -> None:
    done = shared.ross("inspect", "none", "up", "nothing")
    assert done.returncode == 1
    assert [one["Name"] for one in json.loads(done.stdout)] == ["up"]
    assert "error: no such object: none\n" in done.stderr
    assert "error: no such object: nothing\n" in done.stderr
    for words, message in (
        (("inspect", "none"), "no such object: none"),
        (("inspect", "--type", "container", busybox), f"no such container: {busybox}"),
        (("inspect", "--type", "image", "up"), "no such image: up"),
        (("container", "inspect", busybox), f"no such container: {busybox}"),
        (("image", "inspect", "up"), "no such image: up"),
    ):
        done = shared.ross(*words)
        assert (done.returncode, done.stdout) == (1, "[]\n"), words
        assert f"error: {message}\n" in done.stderr
    done = shared.ross("inspect", "-f", "{{.State.Nothing}}", "up")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no field 'Nothing'" in done.stderr
    assert shared.ross("inspect", "--type", "volume", "up").returncode == 2
    assert shared.ross("inspect").returncode == 1
