"""``ross run`` and what goes with it, as a user types it."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.debian import python_image
from tests.support.images import ImageBuilder, Layer, busybox_image, busybox_layer, push, push_index
from tests.support.terminal import Terminal

if TYPE_CHECKING:
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration


def test_output_and_exit_code(daemon: Daemon, box: str) -> None:
    done = daemon.ross("run", "--rm", box, "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert daemon.ross("ps", "-aq").stdout == ""


@pytest.mark.parametrize(
    ("command_line", "code", "message"),
    [
        (["nosuch"], 127, "has no program 'nosuch'"),
        (["/bin/nosuch"], 127, "has no program '/bin/nosuch'"),
        (["/etc"], 126, "is a directory"),
        (["/etc/passwd"], 126, "lacks the x permission"),
        (["sh", "-c", "sh -c 'kill -15 $$'; exit $?"], 143, ""),
    ],
)
def test_exit_codes_are_the_shells(
    daemon: Daemon, box: str, command_line: list[str], code: int, message: str | None
) -> None:
    if message is None:
        done = daemon.ross("run", "--rm", box, "sh", "-c", "sh -c 'kill -15 $$'; exit $?")
        assert done.returncode == 128 + 15
        return
    done = daemon.ross("run", "--rm", box, *command_line)
    if command_line[-1] == "kill -9 $$":  # the first process of a pid namespace is not killed from inside
        assert done.returncode == 0
        return
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_script_without_its_interpreter_and_foreign_program_are_told(daemon: Daemon, registry: str) -> None:
    foreign = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHI", 2, 243, 1) + bytes(100)
    layer = Layer().add("bin/script", b"#!/usr/bin/perl\n", mode=0o755).add("bin/foreign", foreign, mode=0o755)
    image = push(registry, "test/broken:1", ImageBuilder().layer(layer).build())
    done = daemon.ross("run", "--rm", image, "script")
    assert done.returncode == 127
    assert "'/usr/bin/perl', is not in the image" in done.stderr
    done = daemon.ross("run", "--rm", image, "foreign")
    assert done.returncode == 126
    assert "riscv64" in done.stderr


def test_input_is_passed_and_ends(daemon: Daemon, box: str) -> None:
    text = "".join(f"line {number}\n" for number in range(20_000))
    done = daemon.ross("run", "--rm", "-i", box, "cat", input=text)
    assert done.returncode == 0
    assert done.stdout == text


def test_large_output_is_whole(daemon: Daemon, box: str) -> None:
    done = daemon.ross("run", "--rm", box, "sh", "-c", "dd if=/dev/zero bs=1024 count=8192 2>/dev/null | tr '\\0' x")
    assert len(done.stdout) == 8192 * 1024
    assert done.returncode == 0


def test_options_reach_the_process(daemon: Daemon, box: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host\n")
    tmp_path.chmod(0o755)
    script = "id -u; id -g; pwd; echo $A-$B; hostname; cat /mnt/file; touch /mnt/no; touch /no; grep Seccomp: /proc/self/status"
    done = daemon.ross(
        *("run", "--rm", "-u", "nobody:50", "-w", "/some/where", "-eA=1", "--env", "B=two", "--hostname", "here"),
        *("-v", f"{tmp_path}:/mnt:ro", "--read-only", box, "sh", "-c", script),
    )
    lines = done.stdout.split("\n")
    assert lines[:6] == ["65534", "50", "/some/where", "1-two", "here", "from the host"]
    assert lines[6] == "Seccomp:\t2"
    assert done.stderr.count("Read-only file system") == 2


def test_limits_are_set(daemon: Daemon, box: str) -> None:
    script = "cd /sys/fs/cgroup; cat memory/memory.limit_in_bytes pids/pids.max 2>/dev/null || cat memory.max pids.max"
    done = daemon.ross("run", "--rm", "-m", "64m", "--pids-limit", "50", "--cpus", "0.5", box, "sh", "-c", script)
    assert done.stdout.split() == [str(64 << 20), "50"]


def test_container_out_of_memory_says_so(daemon: Daemon, box: str) -> None:
    done = daemon.ross("run", "--name", "hog", "-m", "16m", box, "sh", "-c", "tail /dev/zero")
    assert done.returncode == 137
    (info,) = json.loads(daemon.ross("inspect", "hog").stdout)
    assert info["State"]["ExitCode"] == 137
    assert info["State"]["OOMKilled"] is True


def test_default_sandbox(daemon: Daemon, box: str) -> None:
    script = (
        "grep CapBnd /proc/self/status; unshare -m true; mount -t tmpfs x /mnt; ls -A /proc/scsi /sys/firmware; "
        "echo x > /proc/sys/kernel/hostname; ls /proc/self/fd; ip link 2>/dev/null | grep -c '^[0-9]'"
    )
    done = daemon.ross("run", "--rm", box, "sh", "-c", script)
    assert "00000000a80425fb" in done.stdout
    assert done.stderr.count("Operation not permitted") >= 1
    assert "Read-only file system" in done.stderr
    assert "0\n1\n2\n3\n" in done.stdout, "the container has the three standard descriptors, and ls its own"


def test_image_with_a_hostile_etc(daemon: Daemon, registry: str) -> None:
    layer = busybox_layer().symlink("etc/hosts", "/../../../../tmp/ross-canary")
    layer.symlink("etc/passwd", "/../../../../../../etc/passwd-").symlink("etc/group", "/run/nowhere")
    image = push(registry, "test/etc:1", ImageBuilder().layer(layer).build())
    done = daemon.ross("run", "--rm", image, "sh", "-c", "id -u; cat /etc/hosts | wc -l")
    assert done.stdout.split() == ["0", "7"]
    assert not Path("/tmp/ross-canary").exists()
    done = daemon.ross("run", "--rm", "-u", "nobody", image, "true")
    assert done.returncode == 125
    assert "the image has no user 'nobody'" in done.stderr


@pytest.mark.parametrize("name", ["etc/passwd", "etc/group"])
def test_image_that_would_make_the_runtime_hang(daemon: Daemon, registry: str, name: str) -> None:
    layer = busybox_layer().add(name, type=b"6")
    image = push(registry, f"test/{name.replace('/', '-')}:1", ImageBuilder().layer(layer).build())
    done = daemon.ross("run", "--rm", image, "true")
    assert done.returncode == 125
    assert f"the image's /{name} is not a regular file" in done.stderr


@pytest.mark.parametrize(
    "directory",
    ["/proc/self/fd/7", "/sys", "//proc/self/fd/7", "/x/../proc/self/fd/7", "/./proc/self/fd/7", "/link", "/link/7"],
)
def test_working_directory_in_the_kernels_filesystems_is_refused(daemon: Daemon, registry: str, directory: str) -> None:
    layer = busybox_layer().symlink("link", "/proc/self/fd")
    image = push(registry, "test/cwd:1", ImageBuilder(config={"WorkingDir": directory}).layer(layer).build())
    done = daemon.ross("run", "--rm", "--pull", "always", image, "true")
    assert done.returncode == 125
    assert "is refused" in done.stderr
    assert daemon.ross("ps", "-aq").stdout == ""


def test_volume_of_another_name_and_bad_flags_are_told(daemon: Daemon, box: str) -> None:
    for words, message in (
        (["-v", "data:/mnt"], "./data:/mnt"),
        (["-v", "/no/such:/mnt"], "cannot be used"),
        (["-m", "lots"], "is not a size"),
        (["--network", "bridge"], "none and host"),
        (["--name", "-x"], "is not allowed"),
        (["--pull", "sometimes"], "pull"),
        (["--nonsense"], "nonsense"),
    ):
        done = daemon.ross("run", "--rm", *words, box, "true")
        assert done.returncode == 125, words
        assert message in done.stderr
        assert done.stderr.startswith("error: ")
    assert daemon.ross("ps", "-aq").stdout == ""


def test_shell_on_a_terminal(daemon: Daemon, box: str) -> None:
    terminal = Terminal(daemon, "run", "--rm", "-it", box, "sh")
    terminal.read_until(b"# ")
    terminal.resize(41, 123)
    terminal.send(b"until [ \"$(stty size)\" = '41 123' ]; do sleep 0.05; done; echo re''sized\n")
    terminal.read_until(b"resized")
    terminal.send(b"tty; exit 9\n")
    terminal.read_until(b"/dev/pts/0")
    assert terminal.wait() == 9


def test_detaching_leaves_it_running_and_attaching_again_works(daemon: Daemon, box: str) -> None:
    terminal = Terminal(daemon, "run", "--name", "shell", "-it", box, "sh")
    terminal.read_until(b"# ")
    terminal.send(b"\x10\x11")
    assert terminal.wait() == 0
    assert "shell" in daemon.ross("ps").stdout
    daemon.ok("stop", "-t", "0", "shell")
    assert "Exited (137)" in daemon.ross("ps", "-a").stdout


def test_interrupt_reaches_the_container(daemon: Daemon, box: str) -> None:
    client = daemon.popen(
        "run", "--rm", box, "sh", "-c", "trap 'echo caught; exit 3' INT; echo ready; while true; do sleep 0.05; done"
    )
    assert client.stdout is not None
    assert client.stdout.readline() == b"ready\n"
    client.send_signal(2)
    out, _err = client.communicate(timeout=60)
    assert (out, client.returncode) == (b"caught\n", 3)


def test_life_of_a_container(daemon: Daemon, box: str) -> None:
    created = daemon.ross(
        "create", "--name", "one", "--label", "a=b", box, "sh", "-c", "echo hello; sleep 600"
    ).stdout.strip()
    assert len(created) == 64
    assert "Created" in daemon.ross("ps", "-a").stdout
    assert daemon.ross("ps", "-q").stdout == ""
    assert daemon.ross("start", "one").stdout == "one\n"
    assert daemon.ross("start", "one").stdout == "one\n"
    assert "Up" in daemon.ross("ps").stdout
    assert daemon.ross("rm", created[:7]).returncode == 1
    assert daemon.ross("create", "--name", "one", box).returncode == 125
    daemon.ok("stop", "-t", "1", created[:12])
    assert daemon.ross("wait", "one").stdout == "137\n"
    assert daemon.ross("logs", "one").stdout == "hello\n"
    (info,) = json.loads(daemon.ross("ps", "-a", "--format", "json").stdout)
    assert (info["name"], info["state"], info["spec"]["labels"]) == ("one", "stopped", {"a": "b"})
    assert daemon.ross("kill", "one").returncode == 1
    assert daemon.ross("rm", "one").stdout == "one\n"
    done = daemon.ross("rm", "one")
    assert (done.returncode, done.stderr) == (1, "error: no container 'one'\nhint: see them all with: ross ps -a\n")


def test_container_starts_again_with_its_files(daemon: Daemon, box: str) -> None:
    daemon.ross("run", "--name", "again", box, "sh", "-c", "echo run >> /count; cat /count")
    done = daemon.ross("start", "-a", "again")
    assert done.stdout == "run\nrun\n"
    assert daemon.ross("logs", "again").stdout == "run\nrun\nrun\n"


def test_logs_tail_follow_and_times(daemon: Daemon, box: str) -> None:
    daemon.ross(
        "run", "-d", "--name", "talker", box, "sh", "-c", "for i in 1 2 3 4 5; do echo $i; done; sleep 0.5; printf end"
    )
    followed = daemon.ross("logs", "-f", "talker")
    assert followed.stdout == "1\n2\n3\n4\n5\nend"
    assert daemon.ross("logs", "--tail", "2", "talker").stdout == "5\nend"
    assert daemon.ross("logs", "-n", "0", "talker").stdout == ""
    assert daemon.ross("logs", "--since", "1h", "--until", "30m", "talker").stdout == ""
    assert daemon.ross("logs", "-t", "-n1", "talker").stdout.endswith("Z end")


def test_index_of_platforms(daemon: Daemon, registry: str) -> None:
    image = push_index(registry, "test/arm:1", [({"os": "linux", "architecture": "sparc64"}, busybox_image())])
    done = daemon.ross("pull", image)
    assert done.returncode == 1
    assert "linux/sparc64" in done.stderr
    assert daemon.ross("images", "-q").stdout == ""


def test_real_image_of_several_layers(daemon: Daemon, registry: str) -> None:
    image = push(registry, "test/python:1", python_image(layers=5))
    daemon.ok("pull", "-q", image)
    (info,) = json.loads(daemon.ross("inspect", image).stdout)
    assert len(info["RootFS"]["Layers"]) == 5
    done = daemon.ross("run", "--rm", image, "python3", "-c", "print(6*7)")
    assert (done.stdout, done.returncode) == ("42\n", 0)
    assert daemon.ross("run", "--rm", image, "sh", "-c", "exit 7").returncode == 7
    assert (
        daemon.ross("run", "--rm", "-u", "daemon", image, "python3", "-c", "import os; print(os.getuid())").stdout
        == "1\n"
    )


def test_privileged_container_has_what_the_daemon_has(daemon: Daemon, box: str) -> None:
    done = daemon.ross(
        "run",
        "--rm",
        "--privileged",
        box,
        "sh",
        "-c",
        "grep -E 'CapEff|Seccomp:' /proc/self/status; mkdir -p /mnt && mount -t tmpfs x /mnt && echo mounted",
    )
    ours = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapBnd"))
    assert ours.split()[1] in done.stdout
    assert "Seccomp:\t0" in done.stdout
    assert "mounted" in done.stdout


def test_hosts_network_is_shared_and_its_name_is_not_ours_to_change(daemon: Daemon, box: str) -> None:
    script = "hostname; readlink /proc/self/ns/net; hostname other; cat /proc/self/oom_score_adj"
    done = daemon.ross("run", "--rm", "--network", "host", "--privileged", box, "sh", "-c", script)
    name, network, score = done.stdout.split()
    assert (name, network, score) == (os.uname().nodename, str(Path("/proc/self/ns/net").readlink()), "0")
    assert os.uname().nodename == name
