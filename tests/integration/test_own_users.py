"""Containers with users of their own: whose their files are inside, on the host and on the disk, and what they cannot have."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ross.linux.mount import mounts_below
from tests.support.archives import BUSYBOX
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def nothing_left(loaded: Daemon) -> Iterator[None]:
    yield
    loaded.clean_up()
    assert not list(loaded.run.glob("roots/*"))
    assert not mounts_below(loaded.run)


def ran(daemon: Daemon, *args: str) -> str:
    return daemon.ok("run", "--rm", *args)


def inspected(daemon: Daemon, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(daemon.ok("inspect", name))[0]
    return found


def first_user(daemon: Daemon, name: str) -> int:
    """The host's user that the container's root is."""
    return int(inspected(daemon, name)["HostConfig"]["IDMappings"]["UidMap"][0].split(":")[1])


def test_root_is_nobody_on_the_host(loaded: Daemon) -> None:
    loaded.ok("run", "-d", "--name", "one", "--userns", "auto", BUSYBOX, "sh", "-c", "id -u; touch /made; sleep 600")
    info = inspected(loaded, "one")
    root = first_user(loaded, "one")
    status = Path(f"/proc/{info['State']['Pid']}/status").read_text()
    assert f"Uid:\t{root}\t{root}\t{root}\t{root}" in status
    assert root >= 1 << 31
    assert info["HostConfig"]["UsernsMode"] == "auto"
    until(lambda: loaded.ross("exec", "one", "test", "-e", "/made").returncode == 0)
    assert loaded.ok("exec", "one", "stat", "-c", "%u:%g", "/made", "/bin/busybox").split() == ["0:0", "0:0"]
    layer = loaded.root / "snapshots" / info["Id"] / "fs/made"
    assert (layer.stat().st_uid, layer.stat().st_gid) == (0, 0)  # as any other container's, on the disk


def test_no_two_have_an_id_in_common(loaded: Daemon) -> None:
    for name in ("one", "two", "three"):
        loaded.ok("create", "--name", name, "--userns", "auto:size=70000", BUSYBOX, "true")
    firsts = sorted(first_user(loaded, name) for name in ("one", "two", "three"))
    assert firsts[1] - firsts[0] >= 70000
    assert firsts[2] - firsts[1] >= 70000
    loaded.ok("rm", "two")
    loaded.ok("create", "--name", "four", "--userns", "auto:size=70000", BUSYBOX, "true")
    assert first_user(loaded, "four") in firsts  # what one had is another's when it is gone


def test_one_cannot_touch_what_is_anothers(loaded: Daemon, tmp_path: Path) -> None:
    """Two containers share a directory of the host: not even root of the one is anybody to the files of the other."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    volume = f"{shared}:/shared"
    ran(
        loaded,
        "--userns",
        "auto:size=1000",
        "-v",
        volume,
        BUSYBOX,
        "sh",
        "-c",
        "echo secret > /shared/a; chmod 600 /shared/a",
    )
    loaded.ok("create", "--name", "first", "--userns", "auto:size=1000", BUSYBOX, "true")  # so that the next has others
    shown = loaded.ross(
        "run", "--rm", "--userns", "auto", "-v", volume, BUSYBOX, "sh", "-c", "stat -c %u /shared/a; cat /shared/a"
    )
    assert shown.returncode == 1
    assert shown.stdout.split() == ["65534"]
    assert "Permission denied" in shown.stderr
    assert (shared / "a").stat().st_uid >= 1 << 31


def test_users_of_the_image_are_users_of_it(loaded: Daemon) -> None:
    script = "id -u; touch /tmp/own; stat -c %u:%g /tmp/own"
    assert ran(loaded, "--userns", "auto", "-u", "12:34", BUSYBOX, "sh", "-c", script).split() == ["12", "12:34"]


@pytest.mark.parametrize("user", ["1000", "0:1000", "1:1", "nobody"])
def test_a_user_that_it_has_not(loaded: Daemon, user: str) -> None:
    done = loaded.ross("run", "--rm", "--userns", "map", "--uidmap", "0:500000", BUSYBOX, "id")
    assert done.returncode == 0
    done = loaded.ross("run", "--rm", "--uidmap", "0:500000:1", "-u", user, BUSYBOX, "id")
    assert done.returncode == 125
    assert "among its own" in done.stderr
    loaded.ok("run", "-d", "--name", "one", "--uidmap", "0:500000:1", BUSYBOX, "sleep", "600")
    done = loaded.ross("exec", "-u", user, "one", "id")
    assert done.returncode == 125
    assert "among its own" in done.stderr


def test_ids_as_they_are_said(loaded: Daemon) -> None:
    maps = ("--uidmap", "0:500000:10", "--uidmap", "100:600000:5", "--gidmap", "0:700000:200")
    shown = ran(loaded, *maps, BUSYBOX, "sh", "-c", "cat /proc/self/uid_map /proc/self/gid_map").split()
    assert shown == ["0", "500000", "10", "100", "600000", "5", "0", "700000", "200"]


def test_what_has_been_set_aside_for_it(loaded: Daemon) -> None:
    """By /etc/subuid and /etc/subgid."""
    files = [Path("/etc/subuid"), Path("/etc/subgid")]
    before = [path.read_bytes() if path.exists() else None for path in files]
    try:
        for path, first in zip(files, (3_000_000, 4_000_000), strict=True):
            path.write_text(f"somebody:100000:65536\ncontainers:1:2\nross:{first}:1000\n")
        shown = ran(
            loaded, "--userns", "auto:size=600", BUSYBOX, "cat", "/proc/self/uid_map", "/proc/self/gid_map"
        ).split()
        assert shown == ["0", "3000000", "600", "0", "4000000", "600"]
        done = loaded.ross("run", "--rm", "--userns", "auto", BUSYBOX, "true")
        assert done.returncode == 125
        assert "no 65536 users in a row are left" in done.stderr
        assert "/etc/subuid" in done.stderr
    finally:
        for path, data in zip(files, before, strict=True):
            if data is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(data)


def test_files_come_and_go_with_the_owners_that_it_sees(loaded: Daemon, tmp_path: Path) -> None:
    """While it runs and while it does not: cp, export, commit."""
    (tmp_path / "in").write_text("from the host")
    script = "[ -e /home ] || { mkdir -p /home/own; echo of 12 > /home/own/file; chown -R 12:34 /home/own; }; sleep 600"
    loaded.ok("run", "-d", "--name", "one", "--userns", "auto", BUSYBOX, "sh", "-c", script)
    loaded.ok("exec", "one", "sh", "-c", "until [ $(stat -c %u /home/own/file) = 12 ]; do sleep 0.1; done")
    for name in ("running", "stopped"):
        loaded.ok("cp", str(tmp_path / "in"), f"one:/home/own/{name}")
        loaded.ok("cp", "-a", "one:/home/own/file", str(tmp_path / name))
        found = (tmp_path / name).stat()
        assert (found.st_uid, found.st_gid) == (12, 34)
        archive = tmp_path / f"{name}.tar"
        loaded.ok("export", "-o", str(archive), "one")
        listed = subprocess.run(["tar", "-tvnf", archive], capture_output=True, text=True, check=True).stdout
        owners = {line.split()[-1]: line.split()[1] for line in listed.splitlines() if "home/own/" in line}
        assert owners["home/own/file"] == "12/34"
        assert owners[f"home/own/{name}"] == "0/0"
        loaded.ok("stop", "-t", "0", "one")
    loaded.ok("start", "one")
    assert loaded.ok("exec", "one", "stat", "-c", "%u", "/home/own/running", "/home/own/stopped").split() == [
        "0",
        "0",
    ]
    done = loaded.ross("cp", "-a", _owned(tmp_path, 70_000), "one:/home/own/")
    assert done.returncode == 1
    assert "no id 70000" in done.stderr
    loaded.ok("commit", "one", "localhost/of-own-users:1")
    assert ran(loaded, "localhost/of-own-users:1", "stat", "-c", "%u:%g", "/home/own/file").split() == ["12:34"]
    loaded.ok("rmi", "localhost/of-own-users:1")


def _owned(directory: Path, uid: int) -> str:
    path = directory / f"of-{uid}"
    path.touch()
    os.chown(path, uid, uid)
    return str(path)


def test_it_is_a_container_as_any_other(loaded: Daemon) -> None:
    """Its own limits, filesystems, terminal, name, working directory, kernel parameters; and a restart."""
    script = (
        "pwd; touch /t/x /dev/shm/x /made/here/x; cat /etc/hostname; echo more >> /etc/hosts; ulimit -n; hostname; "
        "cat /proc/sys/net/ipv4/ip_forward; cat /proc/1/comm; kill -0 1; stat -c %u /etc/hosts /made/here /dev/pts/ptmx"
    )
    flags = ("--init", "-w", "/made/here", "--tmpfs", "/t", "--ulimit", "nofile=100:200", "--hostname", "inside")
    more = ("--sysctl", "net.ipv4.ip_forward=1", "--memory", "64m", "--pids-limit", "50", "--cap-drop", "MKNOD")
    shown = ran(loaded, "--userns", "auto", *flags, *more, BUSYBOX, "sh", "-c", script).split()
    assert shown == ["/made/here", "inside", "100", "inside", "1", "init", "0", "0", "0"]
    loaded.ok(
        "run", "-d", "--name", "one", "--userns", "auto", BUSYBOX, "sh", "-c", "echo x >> /count; cat /count; sleep 600"
    )
    until(lambda: loaded.ok("logs", "one") == "x\n")
    before = first_user(loaded, "one")
    loaded.ok("restart", "-t", "0", "one")
    assert first_user(loaded, "one") == before
    until(lambda: loaded.ok("logs", "one") == "x\nx\nx\n")


def test_it_makes_no_devices_and_mounts_nothing_of_the_host(loaded: Daemon) -> None:
    script = "mknod /d c 1 3; mount -t ext4 /dev/vda /mnt; chroot /proc/1/root true; cat /proc/1/environ > /dev/null; echo; id -u"
    done = loaded.ross("run", "--rm", "--userns", "auto", "--cap-add", "ALL", BUSYBOX, "sh", "-c", script)
    assert done.stdout.split() == ["0"]
    assert "mknod: /d: Operation not permitted" in done.stderr
    assert "mount: " in done.stderr


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--userns", "auto", "--privileged"), "all privileges"),
        (("--userns", "auto", "--pid", "host"), "--pid host"),
        (("--userns", "auto", "--ipc", "host"), "--ipc host"),
        (("--userns", "auto", "--uts", "host"), "--uts host"),
        (("--userns", "auto", "--cgroupns", "host"), "--cgroupns host"),
        (("--userns", "auto", "--uidmap", "0:1:1"), "maps of ids"),
        (("--userns", "map"), "--uidmap"),
        (("--userns", "some"), "'some'"),
        (("--userns", "host:size=5"), "host:size=5"),
        (("--uidmap", "1:500000:5"), "root has no user id"),
        (("--uidmap", "0:500000:5", "--gidmap", "1:500000:5"), "root has no group id"),
        (("--uidmap", "0:500000:5", "--uidmap", "4:600000:5"), "have 4 in common"),
        (("--uidmap", "0:500000:5", "--uidmap", "5:500004:5"), "have 500004 in common"),
        (("--uidmap", "0:4294967295:1"), "no range"),
        (("--uidmap", "0:0:0"), "no range"),
        (("--uidmap", "0:-1:5"), "no range"),
        (("--uidmap", "0:4294967296"), "no range"),
    ],
)  # fmt: skip
def test_what_it_cannot_have(loaded: Daemon, flags: tuple[str, ...], said: str) -> None:
    done = loaded.ross("create", *flags, BUSYBOX, "true")
    assert done.returncode == 125
    assert said in done.stderr


@pytest.mark.parametrize("kind", ["pid", "ipc"])
def test_its_namespaces_are_for_nobody_else(loaded: Daemon, kind: str) -> None:
    loaded.ok("run", "-d", "--name", "one", "--userns", "auto", BUSYBOX, "sleep", "600")
    done = loaded.ross("run", "--rm", f"--{kind}", "container:one", BUSYBOX, "true")
    assert done.returncode == 125
    assert "users of its own" in done.stderr


def test_the_hosts_network(loaded: Daemon) -> None:
    shown = ran(loaded, "--userns", "auto", "--network", "host", BUSYBOX, "ls", "/sys/class/net").split()
    assert "lo" in shown


def test_a_directory_on_the_way_that_is_closed(loaded: Daemon) -> None:
    """What is wrong is said, and what to do."""
    directory = loaded.run.parent
    mode = directory.stat().st_mode
    directory.chmod(0o700)
    try:
        done = loaded.ross("run", "--rm", "--userns", "auto", BUSYBOX, "true")
    finally:
        directory.chmod(mode)
    assert done.returncode == 125
    assert f"{directory} is closed to them" in done.stderr
    assert f"chmod o+x {directory}" in done.stderr


def test_a_daemon_that_is_killed_takes_it_over(loaded: Daemon) -> None:
    loaded.ok("run", "-d", "--name", "one", "--userns", "auto", "--restart", "always", BUSYBOX, "sleep", "600")
    loaded.ok("create", "--name", "two", "--userns", "auto", BUSYBOX, "true")
    before = first_user(loaded, "one"), first_user(loaded, "two")
    loaded.kill()
    loaded.start()
    assert (first_user(loaded, "one"), first_user(loaded, "two")) == before
    assert loaded.ok("exec", "one", "id", "-u").strip() == "0"
    loaded.ok("kill", "one")
    loaded.ok("start", "two")
    assert loaded.ok("wait", "two").strip() == "0"
    loaded.ok("create", "--name", "three", "--userns", "auto", BUSYBOX, "true")
    assert first_user(loaded, "three") not in before


@pytest.mark.parametrize("how", ["-v", "--mount"])
def test_files_of_the_host_as_if_its_users_were_the_hosts(loaded: Daemon, tmp_path: Path, how: str) -> None:
    """With idmap: what belongs to 12 on the host belongs to 12 in there, and the other way round."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("of 12\n")
    os.chown(tree / "file", 12, 34)
    (tree / "file").chmod(0o600)
    single = tmp_path / "single"
    single.touch()
    os.chown(single, 7, 7)
    words = {
        "-v": (f"{tree}:/tree:idmap", f"{single}:/single:idmap,ro"),
        "--mount": (
            f"type=bind,source={tree},target=/tree,idmap",
            f"type=bind,source={single},target=/single,idmap=true,ro",
        ),
    }[how]
    script = "stat -c %u:%g /tree /tree/file /single; cat /tree/file; echo made > /tree/made; chown 5:6 /tree/made; echo > /single"
    mounts = [word for text in words for word in (how, text)]
    done = loaded.ross("run", "--rm", "--name", "one", "--userns", "auto", *mounts, BUSYBOX, "sh", "-c", script)
    assert done.stdout.split() == ["0:0", "12:34", "7:7", "of", "12"]
    assert "/single: Read-only file system" in done.stderr
    found = (tree / "made").stat()
    assert (found.st_uid, found.st_gid) == (5, 6)
    assert not list(loaded.run.glob("binds/*"))


def test_what_is_mounted_below_is_mapped_too_or_not_seen(loaded: Daemon, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", tree / "inner"], check=True)
    try:
        (tree / "inner/file").touch()
        mount = f"type=bind,source={tree},target=/tree,idmap"
        shown = ran(loaded, "--userns", "auto", "--mount", mount, BUSYBOX, "stat", "-c", "%u", "/tree/inner/file")
        assert shown.split() == ["0"]
        shown = ran(loaded, "--userns", "auto", "--mount", f"{mount},bind-nonrecursive", BUSYBOX, "ls", "/tree/inner")
        assert not shown
    finally:
        subprocess.run(["umount", tree / "inner"], check=True)
    done = loaded.ross("run", "--userns", "auto", "-v", "/proc/fs:/tree:idmap", BUSYBOX, "true")
    assert done.returncode == 125
    assert "the ids of /proc/fs cannot be mapped" in done.stderr


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("-v", "/etc:/x:idmap"), "--userns auto"),
        (("--userns", "auto", "-v", "/etc:/x:idmap,rshared"), "is private"),
        (("--userns", "auto", "--mount", "type=tmpfs,target=/x,idmap"), "a tmpfs belongs"),
    ],
)
def test_ids_that_cannot_be_mapped(loaded: Daemon, flags: tuple[str, ...], said: str) -> None:
    done = loaded.ross("create", *flags, BUSYBOX, "true")
    assert done.returncode == 125
    assert said in done.stderr


def test_nobody_of_the_host_gets_to_its_files(loaded: Daemon) -> None:
    """While it is created they are mounted where its root can get to them: nobody else, to whom a program there would be a way to be it."""
    loaded.ok("run", "-d", "--name", "one", "--userns", "auto", BUSYBOX, "sleep", "600")
    place = loaded.run / "roots" / inspected(loaded, "one")["Id"]
    found = place.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, first_user(loaded, "one"), 0o710)
    assert not list((place / "fs").iterdir())
    done = subprocess.run(
        ["ls", place / "fs"], user=12345, group=12345, extra_groups=[], capture_output=True, check=False
    )
    assert done.returncode == 2
    assert b"Permission denied" in done.stderr
