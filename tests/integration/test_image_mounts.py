"""Images mounted in containers: what is seen of them, that nobody can write to them, and how long they stay."""

from __future__ import annotations

import json
import os
import shlex
import signal
import tarfile
from typing import TYPE_CHECKING

import pytest

from ross.linux.mount import mounts_below
from tests.support.daemon import Daemon, let_others_pass, running_daemon
from tests.support.images import ImageBuilder, Layer, push
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration


@pytest.fixture
def nothing_left(shared: Daemon) -> Iterator[None]:
    yield
    shared.clean_up()
    until(lambda: not mounts_below(shared.run) and not mounts_below(shared.root))


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of the host's, with a file that no container is to see."""
    directory = tmp_path_factory.mktemp("canary")
    (directory / "file").write_text("the host's")
    return directory


@pytest.fixture(scope="module")
def data(registry: str, canary: Path) -> str:
    """An image without a program, of two layers, with links to everywhere."""
    up = "/".join([".."] * 30)
    lower = (
        Layer().directory("etc").add("etc/passwd", b"the image's").directory("dir/deep").add("dir/deep/file", b"deep")
    )
    lower.add("gone", b"gone").add("suid", b"", mode=0o4755, uid=1000, gid=1000)
    upper = Layer().whiteout("gone").add("dir/top", b"top").add("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
    upper.add("fifo", type=tarfile.FIFOTYPE).symlink("circle", "circle").symlink("dangling", "/nowhere")
    upper.symlink("etc-of-all", "/etc").symlink("dir/out", f"{up}{canary}").symlink("file-of-all", f"{up}{canary}/file")
    upper.symlink("self", "/proc/self/root").symlink("near", "dir/deep")
    return push(registry, "mounts/data:1", ImageBuilder().layer(lower).layer(upper).build())


def mounting(image: str, *more: str, at: str = "/data") -> tuple[str, str]:
    return "--mount", ",".join((f"type=image,source={image},target={at}", *more))


def seen(daemon: Daemon, box: str, flags: tuple[str, ...], script: str) -> str:
    return daemon.ok("run", "--rm", *flags, box, "sh", "-c", script)


# -- what is seen -----------------------------------------------------------------------------------------------------


def test_files_are_those_of_the_image_which_is_pulled(
    shared: Daemon, busybox: str, data: str, nothing_left: None
) -> None:
    assert data not in shared.ross("images").stdout
    script = "cd /data; ls; cat dir/deep/file dir/top etc/passwd; echo; grep ' /data ' /proc/self/mountinfo"
    lines = seen(shared, busybox, mounting(data), script).splitlines()
    assert "gone" not in lines
    assert "deeptopthe image's" in lines[-2]
    options = {*lines[-1].split()[5].split(","), *lines[-1].split()[-1].split(",")}
    assert {"ro", "nosuid", "nodev"} <= options
    script = "cat /data/null"
    assert shared.ross("run", "--rm", *mounting(data), busybox, "sh", "-c", script).returncode == 1, (
        "it is no device there"
    )


@pytest.mark.parametrize("flags", ["", "--privileged", "--userns auto"])
def test_nobody_writes_to_it(shared: Daemon, busybox: str, data: str, nothing_left: None, flags: str) -> None:
    script = (
        "for what in 'touch /data/new' 'rm /data/dir/top' 'chmod 777 /data/dir' 'sh -c \"echo x > /data/dir/top\"'; "
        "do eval $what 2>/dev/null && echo $what; done; "
        "mount -o remount,rw,bind /data 2>/dev/null; mount -o remount,rw /data 2>/dev/null; "
        "touch /data/new 2>/dev/null && echo new; stat -c %u:%g /data/dir /data/suid; cat /data/dir/top"
    )
    found = seen(shared, busybox, (*flags.split(), *mounting(data)), script)
    assert found.split() == ["0:0", "1000:1000", "top"]


@pytest.mark.parametrize(
    ("subpath", "script", "expected"),
    [
        ("dir", "ls /data; cat /data/deep/file", "deep out top deep"),
        ("dir/deep/file", "cat /data", "deep"),
        ("near", "cat /data/file", "deep"),
        ("./dir//deep/", "cat /data/file", "deep"),
        ("etc-of-all", "cat /data/passwd", "the image's"),
    ],
)
def test_part_of_an_image(
    shared: Daemon, busybox: str, data: str, nothing_left: None, subpath: str, script: str, expected: str
) -> None:
    for name in ("image-subpath", "subpath"):
        assert seen(shared, busybox, mounting(data, f"{name}={subpath}"), script).split() == expected.split()


@pytest.mark.parametrize(
    ("subpath", "why"),
    [
        ("dir/out", "No such file"),
        ("file-of-all", "No such file"),
        ("circle", "symbolic links"),
        ("dangling", "No such file"),
        ("self", "No such file"),
        ("dir/top/x", "Not a directory"),
        ("null", "neither a directory nor a regular file"),
        ("fifo", "neither a directory nor a regular file"),
        ("../dir", "not a relative path"),
        ("/dir", "not a relative path"),
        ("dir/../../etc", "not a relative path"),
    ],
)
def test_no_part_leads_out_of_the_image(
    shared: Daemon, busybox: str, data: str, nothing_left: None, subpath: str, why: str
) -> None:
    """As with CVE-2017-1002101 and CVE-2021-25741: a part of what is mounted was looked for along links of somebody else's."""
    done = shared.ross("run", "--rm", *mounting(data, f"subpath={subpath}"), busybox, "cat", "/data", "/data/file")
    assert done.returncode == 125
    assert why in done.stderr
    assert "the host's" not in done.stdout


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("type=image,target=/data", "does not say what to mount"),
        ("type=image,source=IMAGE", "does not say where to mount"),
        ("type=image,source=IMAGE,target=/data,suid", "mounted nosuid and nodev"),
        ("type=image,source=IMAGE,target=/data,bind-propagation=rshared", "nothing is mounted below an image"),
        ("type=image,source=IMAGE,target=/data,tmpfs-size=1m", "as it is"),
        ("type=image,source=IMAGE,target=/proc", "nothing can be mounted on /proc"),
        ("type=image,source=localhost/nosuch:1,target=/data", "no image 'localhost/nosuch:1'"),
        ("type=image,source=Upper,target=/data", "Upper"),
        ("type=bind,source=/etc,target=/data,image-subpath=x", "only of an image"),
    ],
)
def test_what_is_refused(shared: Daemon, busybox: str, data: str, nothing_left: None, words: str, why: str) -> None:
    shared.ok("pull", "-q", data)
    kept = shared.ok("create", "--name", "kept", busybox, "true")
    flags = ("--replace", "--name", "kept", "--pull", "never", "--mount", words.replace("IMAGE", data))
    done = shared.ross("create", *flags, busybox, "true")
    assert done.returncode == 125
    assert why in done.stderr
    assert shared.ok("ps", "-aq", "--no-trunc") == kept, "nothing was replaced"


def test_several_at_once_and_what_is_told_of_them(shared: Daemon, busybox: str, data: str, nothing_left: None) -> None:
    flags = (
        *mounting(data),
        *mounting(data, "image-subpath=dir,noexec", at="/data/dir/deep"),
        *mounting(busybox, at="/box"),
    )
    name = shared.ok(
        "create", *flags, "--tmpfs", "/box/tmp", busybox, "/box/bin/busybox", "ls", "/data/dir/deep"
    ).strip()
    (info,) = json.loads(shared.ok("inspect", name))
    found = [(one["Type"], one["Source"], one["Destination"], one["RW"]) for one in info["Mounts"]][:2]
    assert found == [("image", data, "/data", False), ("image", data, "/data/dir/deep", False)]
    assert info["Mounts"][1]["Mode"] == "ro,noexec,image-subpath=dir"
    assert info["HostConfig"]["Binds"] == []
    assert shared.ok("ps", "-a", "--filter", f"volume={data}", "-q", "--no-trunc").strip() == name
    assert shared.ok("start", "-a", name).split() == ["deep", "out", "top"]
    failed = shared.ross("run", *flags, "--tmpfs", "/box/not-there", busybox, "true")
    assert (failed.returncode, "/box/not-there" in failed.stderr) == (125, True)


# -- how long it stays ------------------------------------------------------------------------------------------------


def layers(daemon: Daemon) -> set[str]:
    return {path.name for path in (daemon.root / "snapshots").glob("sha256-*")}


def test_image_stays_as_long_as_a_container_has_it(daemon: Daemon, box: str, data: str) -> None:
    before = layers(daemon)
    script = "while [ -e /stay ]; do sleep 0.05; done; cat /data/dir/top"
    daemon.ok("create", "--name", "user", *mounting(data), box, "sh", "-c", script)
    daemon.ok("cp", "/etc/hostname", "user:/stay")
    refused = daemon.ross("rmi", data)
    assert (refused.returncode, "in use by the container user" in refused.stderr) == (1, True)
    daemon.ok("image", "prune", "-fa")
    daemon.ok("start", "user")
    daemon.ok("rmi", "-f", data)
    daemon.ok("system", "prune", "-fa")
    assert len(layers(daemon) - before) == 2
    daemon.kill()
    daemon.start()
    daemon.ok("system", "prune", "-fa")
    assert len(layers(daemon) - before) == 2
    assert daemon.ok("exec", "user", "cat", "/data/dir/deep/file") == "deep"
    daemon.ok("exec", "user", "rm", "/stay")
    assert daemon.ross("wait", "user").stdout == "0\n"
    assert daemon.ok("start", "-a", "user") == "top"
    daemon.ok("system", "check")
    daemon.ok("rm", "user")
    daemon.ok("image", "prune", "-f")
    assert layers(daemon) == before


def test_name_that_moves_on_changes_nothing_for_a_container(daemon: Daemon, box: str, data: str, registry: str) -> None:
    newer = push(registry, "mounts/newer:1", ImageBuilder().layer(Layer().add("dir/top", b"new")).build())
    for image in (data, newer):
        daemon.ok("pull", "-q", image)
    daemon.ok("tag", data, "moving:1")
    daemon.ok("create", "--name", "old", *mounting("moving:1"), box, "cat", "/data/dir/top")
    daemon.ok("tag", newer, "moving:1")
    for _time in range(2):
        assert daemon.ok("start", "-a", "old") == "top"
        daemon.kill()
        daemon.start()
    assert daemon.ok("run", "--rm", *mounting("moving:1"), box, "cat", "/data/dir/top") == "new"


HANGING_RUNTIME = """#!/bin/sh
case " $* " in
*" create "*) [ -e {trouble} ] && {{ echo $$ > {pid}.new; mv {pid}.new {pid}; exec sleep 600; }} ;;
esac
exec runc "$@"
"""


@pytest.mark.parametrize("flags", ["", "--userns auto"])
def test_daemon_killed_over_a_start_leaves_nothing_mounted(
    filesystem: Path, busybox: str, data: str, tmp_path: Path, flags: str
) -> None:
    trouble, pid, runtime = (tmp_path / name for name in ("trouble", "pid", "runtime"))
    runtime.write_text(HANGING_RUNTIME.format(trouble=shlex.quote(str(trouble)), pid=shlex.quote(str(pid))))
    runtime.chmod(0o755)
    directory = filesystem / f"killed{flags[2:6]}"
    directory.mkdir()
    let_others_pass(directory)
    with running_daemon(directory, settings={"ROSS_RUNTIME": str(runtime)}) as daemon:
        mounts = (*mounting(data), *mounting(data, "subpath=dir", at="/part"))
        daemon.ok("create", "--name", "made", *flags.split(), *mounts, busybox, "cat", "/data/dir/top", "/part/top")
        trouble.touch()
        starting = daemon.popen("start", "made")
        until(pid.exists)  # the runtime was called
        assert len([path for path in mounts_below(daemon.run) if "binds" in path.parts]) == 3
        daemon.kill()
        os.kill(int(pid.read_text()), signal.SIGKILL)
        starting.communicate()
        trouble.unlink()
        daemon.start(settings={"ROSS_RUNTIME": str(runtime)})
        assert not mounts_below(daemon.run)
        assert not list(daemon.run.glob("binds/*/*"))
        assert daemon.ok("start", "-a", "made") == "toptop"
        until(lambda: not mounts_below(daemon.run))
        daemon.ok("rm", "made")
