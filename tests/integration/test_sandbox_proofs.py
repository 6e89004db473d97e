"""What has let containers out of other engines, tried in containers of this one. All in one daemon."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ross.linux.host import has_x32
from tests.support.images import ImageBuilder, Layer, busybox_layer, push
from tests.support.syscalls import answers, program

if TYPE_CHECKING:
    from tests.support.daemon import Daemon


pytestmark = pytest.mark.integration


DENIED = {
    "AF_ALG": (41, 38, 5),
    "AF_VSOCK": (41, 40, 1),
    "io_uring_setup": (425, 8),
    "io_uring_enter": (426,),
    "io_uring_register": (427,),
    "keyctl": (250,),
    "add_key": (248,),
    "request_key": (249,),
    "userfaultfd": (323,),
    "bpf": (321,),
    "unshare": (272, 0x10000000),
    "clone in a new user namespace": (56, 0x10000000 | 17),
    "setns": (308,),
    "mount": (165,),
    "fsopen": (430,),
    "open_by_handle_at": (304,),
    "perf_event_open": (298,),
    "kexec_load": (246,),
    "init_module": (175,),
    "pivot_root": (155,),
    "move_pages": (279,),
}
X32 = 0x40000000
OTHERS = {"AF_INET": (41, 2, 1), "AF_UNIX": (41, 1, 1), "getpid": (39,), "clone3": (435,)}


def test_calls_that_led_to_the_kernel_are_denied(shared: Daemon, registry: str) -> None:
    """CVE-2026-31431: AF_ALG reached a page cache that containers share; AF_VSOCK, io_uring, keyrings and others likewise."""
    layer = Layer().add("try", program([*DENIED.values(), *OTHERS.values()]), mode=0o755)
    layer.add("keyctl", program([DENIED["keyctl"]]), mode=0o755)
    layer.add("x32", program([(X32 | DENIED["keyctl"][0],)]), mode=0o755)
    image = push(registry, "test/calls:1", ImageBuilder().layer(layer).build())
    found = dict(zip([*DENIED, *OTHERS], answers(output_of(shared, "run", "--rm", image, "/try")), strict=True))
    assert [found.pop(name) for name in OTHERS] == ["allowed", "allowed", "allowed", "ENOSYS"]
    assert {name: answer for name, answer in found.items() if answer != "EPERM"} == {}
    short = shared.ross("run", "--rm", image, "/x32")
    # Where the kernel has no such calls, their architecture is not among those of the filter.
    assert short.returncode == (0 if has_x32() else 128 + signal.SIGSYS)
    assert not has_x32() or answers(short.stdout.encode()) == ["EPERM"]
    wide = output_of(shared, "run", "--rm", "--security-opt", "seccomp=unconfined", image, "/keyctl")
    assert answers(wide) != ["EPERM"], "it was the profile that denied it"


def output_of(daemon: Daemon, *words: str) -> bytes:
    client = daemon.popen(*words)
    output, complaint = client.communicate(timeout=60)
    assert client.returncode == 0, complaint
    return bytes(output)


def test_number_is_never_taken_for_a_name(shared: Daemon, registry: str) -> None:
    """CVE-2016-3697: an image called a user 1000, and gave it uid 0. CVE-2024-40635: a number too large became 0."""
    layer = busybox_layer().add(
        "etc/passwd", b"root:x:0:0::/:/bin/sh\n1000:x:0:0::/:/bin/sh\n4294967296:x:0:0::/:/bin/sh\n"
    )
    image = push(registry, "test/numbers:1", ImageBuilder().layer(layer).build())
    assert shared.ross("run", "--rm", "-u", "1000", image, "id", "-u").stdout == "1000\n"
    for text in ("4294967296", "-1", "0x0", "\u0660"):
        done = shared.ross("run", "--rm", f"--user={text}", image, "id", "-u")
        assert done.returncode == 125, (text, done.stdout)
        assert done.stdout == ""


def test_groups_and_capabilities_of_users(shared: Daemon, busybox: str) -> None:
    """CVE-2022-36109, 2023-25173, 2022-2989: the primary group is among the others, so a file that excludes it stays shut."""
    script = "id -G; grep -E '^(Groups|CapInh|CapAmb)' /proc/self/status"
    found = shared.ross("run", "--rm", "-u", "nobody:50", "--group-add", "77", busybox, "sh", "-c", script).stdout
    assert set(found.splitlines()[0].split()) == {"50", "77"}
    fields = dict(line.split(":", 1) for line in found.splitlines()[1:])
    assert set(fields["Groups"].split()) == {"50", "77"}
    assert int(fields["CapInh"], 16) == int(fields["CapAmb"], 16) == 0


def test_values_that_would_be_lines_of_files(shared: Daemon, busybox: str) -> None:
    """CVE-2022-4318 and CVE-2026-15809: HOME with a newline in it became a line of /etc/passwd. Nothing of a value is in these files."""
    evil = "x\nevil:x:0:0::/:/bin/sh\\nevil2:x:0:0\u2028y"
    flags = [
        "-e",
        f"HOME={evil}",
        "-e",
        f"A={evil}",
        "-l",
        f"a={evil}",
        "--annotation",
        f"a={evil}",
        "-w",
        "/a\nevil:x:0",
    ]
    script = "cat /etc/passwd /etc/group /etc/hosts /etc/hostname /etc/resolv.conf /etc/mtab 2>/dev/null | grep -c evil"
    done = shared.ross("run", "--rm", *flags, busybox, "sh", "-c", script)
    assert done.stdout == "0\n", done.stderr
    for flag in ("--hostname", "--add-host", "--user"):
        done = shared.ross("run", "--rm", f"{flag}={evil}", busybox, "true")
        assert done.returncode == 125, flag
        assert "Traceback" not in done.stderr


def test_image_has_no_say_in_what_the_engine_reads(shared: Daemon, registry: str) -> None:
    """CVE-2026-53488, CVE-2024-3154: labels, annotations and environment of an image are its own affair."""
    keys = [
        "org.systemd.property.ExecStart",
        "run.oci.handler",
        "ross.privileged",
        "io.containerd.x",
        "privileged",
        "seccomp",
    ]
    config = {"Labels": dict.fromkeys(keys, "'unconfined'"), "Env": ["_OCI_SYNCPIPE=1", "ROSS_ROOT=/x", "LISTEN_FDS=9"]}
    image = push(registry, "test/labels:1", ImageBuilder(config=config).layer(busybox_layer()).build())
    assert shared.ross("create", "--name", "labels", image, "sleep", "600").returncode == 0, image
    shared.ross("start", "labels")
    (info,) = json.loads(shared.ross("inspect", "labels").stdout)
    config_path = next((shared.root / "containers" / info["Id"]).rglob("config.json"))
    written = json.loads(config_path.read_text())
    assert written["annotations"] == {"org.criu.config": ""}  # the engine's own: no settings of CRIU from elsewhere
    assert written["process"]["noNewPrivileges"] is False
    assert written["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert info["Config"]["Labels"] == config["Labels"]  # which are words, and nobody's orders
    shared.ross("rm", "-f", "labels")


def test_environment_of_one_container_is_in_no_other(shared: Daemon, registry: str) -> None:
    """CVE-2021-21334, CVE-2020-14370: side by side, and across a daemon that is killed."""
    images = []
    for name in ("one", "two"):
        builder = ImageBuilder(config={"Env": [f"OF_{name.upper()}=secret-{name}", f"WHO={name}"]})
        images.append(push(registry, f"test/env:{name}", builder.layer(busybox_layer()).build()))

    def run(number: int) -> str:
        name = ("one", "two")[number % 2]
        done = shared.ross("run", "--rm", "-e", f"N={number}", images[number % 2], "env")
        assert done.returncode == 0, done.stderr
        assert f"WHO={name}\n" in done.stdout
        assert f"N={number}\n" in done.stdout
        return done.stdout.replace(f"secret-{name}", "")

    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(run, range(4)))
    assert not [text for text in outputs if "secret" in text]
    shared.ross("create", "--name", "kept", images[0], "env")
    shared.kill()
    shared.start()
    done = shared.ross("start", "-a", "kept")
    assert "secret-one" in done.stdout
    assert "secret-two" not in done.stdout
    assert "ROSS_" not in done.stdout
    shared.ross("rm", "kept")


def test_nothing_is_open_in_a_container_but_its_own(shared: Daemon, busybox: str, registry: str) -> None:
    """CVE-2024-21626: a directory of the host was open in the first process, and the working directory led through it."""
    script = "ls -l /proc/self/fd | awk '{print $9, $11}'; ls /proc/1/fd"
    found = shared.ross("run", "--rm", busybox, "sh", "-c", script).stdout
    assert {line.split()[0] for line in found.splitlines() if line.split()} <= {"0", "1", "2", "3"}
    assert str(shared.root) not in found
    for number in (3, 8):
        done = shared.ross("run", "--rm", "-w", f"/proc/self/fd/{number}", busybox, "pwd")
        assert done.returncode == 125
        assert "is refused" in done.stderr
    flags = [f"/proc/{shared.pid}/fdinfo/{entry.name}" for entry in Path(f"/proc/{shared.pid}/fd").iterdir()]
    inherited = [path for path in flags if not _is_closed_on_exec(path)]
    assert {Path(path).name for path in inherited} <= {"0", "1", "2"}


def _is_closed_on_exec(path: str) -> bool:
    try:
        line = next(line for line in Path(path).read_text().splitlines() if line.startswith("flags:"))
    except FileNotFoundError:  # closed meanwhile
        return True
    return bool(int(line.split()[1], 8) & os.O_CLOEXEC)


def test_runtime_and_daemon_are_not_overwritten_through_their_own_programs(shared: Daemon, busybox: str) -> None:
    """CVE-2019-5736: an entrypoint of /proc/self/exe ran the runtime itself, which then could be opened for writing."""
    programs = [path for name in ("runc", "conmon") if (path := _which(name))]
    before = [(path.stat().st_mtime_ns, path.read_bytes()) for path in programs]
    for words in (["/proc/self/exe"], ["/proc/1/exe"], ["sh", "-c", "echo x > /proc/1/exe; echo x >> /proc/self/exe"]):
        shared.ross("run", "--rm", busybox, *words)
    assert [(path.stat().st_mtime_ns, path.read_bytes()) for path in programs] == before


def _which(name: str) -> Path | None:
    done = subprocess.run(
        ["sh", "-c", f"PATH=$PATH:/usr/sbin command -v {name}"], capture_output=True, text=True, check=False
    )
    return Path(done.stdout.strip()) if done.returncode == 0 else None


@pytest.mark.parametrize("target", ["proc", "sys", "dev", "run", "etc"])
def test_image_whose_places_are_links_to_the_host(shared: Daemon, registry: str, tmp_path: Path, target: str) -> None:
    """CVE-2026-41579, CVE-2024-5154, CVE-2019-19921: with links in the places where engine and runtime mount, nothing leaves the root,
    whatever is asked for on top: a filesystem in memory, a device, a mask, a bind, an init."""
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "file").write_text("untouched")
    up = "/".join([".."] * 30)
    layer = busybox_layer().symlink(target, f"{up}{canary}").symlink("data", f"{up}{canary}")
    image = push(registry, f"test/links:{target}", ImageBuilder().layer(layer).build())
    flags = [
        "--tmpfs",
        "/data/in/memory",
        "-v",
        "/etc/hostname:/data/bound",
        "--device",
        "/dev/null:/dev/mine",
        "--init",
    ]
    flags += ["--security-opt", "mask=/data/file", "-w", "/data/work", "--tmpfs", "/run/x"]
    shared.ross("run", "--rm", *flags, image, "true")
    assert sorted(path.name for path in canary.iterdir()) == ["file"]
    assert (canary / "file").read_text() == "untouched"


def test_sockets_of_the_engine_are_out_of_reach(shared: Daemon, busybox: str) -> None:
    """CVE-2020-15257: a container in the host's network reached the shim by an abstract socket."""
    script = "cat /proc/net/unix | awk '{print $8}' | grep '^@' | grep -iE 'ross|runc|conmon' | wc -l"
    assert shared.ross("run", "--rm", "--network", "host", busybox, "sh", "-c", script).stdout == "0\n"
    for path in shared.run.iterdir():
        if path.name != "ross.sock" and path.is_dir():
            assert path.stat().st_mode & 0o077 == 0, path


def test_monitor_is_not_in_the_containers_control_group(shared: Daemon, busybox: str) -> None:
    """CVE-2019-14891: the monitor shared the memory of what it watched, and died with it."""
    for _time in range(2):
        done = shared.ross("run", "--name", "hog", "-m", "16m", busybox, "sh", "-c", "tail /dev/zero")
        assert done.returncode == 137
        (info,) = json.loads(shared.ross("inspect", "hog").stdout)
        assert info["State"]["OOMKilled"] is True
        assert info["State"]["Error"] == ""
        shared.ross("rm", "hog")
    shared.ross("run", "-d", "--name", "watched", busybox, "sleep", "600")
    (info,) = json.loads(shared.ross("inspect", "watched").stdout)
    members = {
        int(pid)
        for path in [*Path("/sys/fs/cgroup").glob(f"*/ross/{info['Id']}"), Path(f"/sys/fs/cgroup/ross/{info['Id']}")]
        if path.is_dir()
        for pid in (path / "cgroup.procs").read_text().split()
    }
    assert members == {info["State"]["Pid"]}
    shared.ross("rm", "-f", "watched")
