"""Mounts inside of mounts of the host's: what is seen of them, where mount points are made, and that nothing of them is left."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ross.linux.mount import bind, mounts_below, unmount
from tests.support.archives import BUSYBOX, docker_archive
from tests.support.daemon import Daemon, let_others_pass
from tests.support.images import ImageBuilder, busybox_layer
from tests.support.typed import refused

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A directory of the host's, into which users of containers can get."""
    let_others_pass(tmp_path)
    directory = tmp_path / "volume"
    (directory / "there").mkdir(parents=True)
    (directory / "there").chmod(0o750)
    (directory / "file").write_text("of the volume\n")
    return directory


@pytest.fixture
def other(tmp_path: Path) -> Path:
    directory = tmp_path / "other"
    directory.mkdir()
    (directory / "name").write_text("other\n")
    return directory


@pytest.fixture(autouse=True)
def _nothing_left(loaded: Daemon) -> Iterator[None]:
    yield
    loaded.clean_up()
    assert not mounts_below(loaded.run)
    assert not mounts_below(loaded.root)
    assert not [*(loaded.run / "binds").glob("*")]


@pytest.fixture(scope="module")
def linked(loaded: Daemon, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Busybox, with links that lead to where something may be mounted, and up from there."""
    layer = busybox_layer().symlink("short", "/srv/volume").symlink("deep", "srv/volume/there").directory("srv")
    layer.symlink("up", "/srv/volume/there/../../..").symlink("memory", "/dev/shm").directory("srv/above/and")
    layer.symlink("srv/above/and/below", "/srv")
    path = tmp_path_factory.mktemp("linked") / "linked.tar"
    path.write_bytes(docker_archive(ImageBuilder().layer(layer), ["localhost/linked:1"]).tar())
    loaded.ok("load", "-q", "-i", str(path))
    return "localhost/linked:1"


def seen(daemon: Daemon, image: str, flags: str, script: str) -> list[str]:
    return daemon.ok("run", "--rm", *flags.split(), image, "sh", "-ec", script).splitlines()


def options(line: str) -> set[str]:
    """Of a line of a mountinfo: of the mount, and how it is propagated."""
    fields = line.split()
    return {*fields[5].split(","), *fields[6 : fields.index("-")]}


# -- what is seen -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", ["", "--privileged", "--read-only", "--userns auto"])
def test_directory_file_and_memory_in_a_volume(loaded: Daemon, volume: Path, other: Path, flags: str) -> None:
    volume.chmod(0o777)  # whose root is not the host's makes its mount points as that
    flags += f" -v {volume}:/v -v {other}:/v/d/in -v {other}/name:/v/f:ro --tmpfs /v/m --tmpfs /v/there"
    script = "cd /v; cat file d/in/name f; touch m/made there/made; stat -c %a:%u m there; ls d/in"
    assert seen(loaded, BUSYBOX, flags, script) == ["of the volume", "other", "other", "1777:0", "750:0", "name"]
    assert sorted(str(path.relative_to(volume)) for path in volume.rglob("*")) == [
        *("d", "d/in", "f", "file", "m", "there"),
    ], "mount points are made in the volume, and what was written was not"


def test_mounts_in_mounts_in_mounts(loaded: Daemon, volume: Path, other: Path) -> None:
    flags = f"-v {volume}:/v -v {other}:/v/a --tmpfs /v/a/b:mode=700 -v {other}/name:/v/a/b/c/name -v {volume}:/v/a/b/d"
    script = "cat /v/a/name /v/a/b/c/name /v/a/b/d/file; stat -c %a /v/a/b"
    assert seen(loaded, BUSYBOX, flags, script) == ["other", "other", "of the volume", "700"]
    assert (volume / "a").is_dir()
    assert [path.name for path in (other / "b").iterdir()] == [], "what is made in memory is gone with it"


def test_mount_point_is_not_made_in_the_container_itself(loaded: Daemon, volume: Path) -> None:
    flags = ("-v", f"{volume}:/v", "--tmpfs", "/v/m")
    loaded.ok("run", "--name", "own", *flags, BUSYBOX, "true")
    assert loaded.ross("diff", "own").stdout.splitlines() == ["A /v"]
    loaded.ok("start", "-a", "own")
    loaded.ross("rm", "own")


def test_options_are_of_each_mount(loaded: Daemon, volume: Path, other: Path) -> None:
    flags = f"--mount type=bind,src={volume},dst=/v,bind-propagation=rslave -v {other}:/v/a:ro,nosuid,noexec"
    flags += f" -v {other}:/v/b:noatime --tmpfs /v/c:exec,ro,size=64k -v {other}:/v/d:slave"
    lines = seen(loaded, BUSYBOX, flags, 'for m in v v/a v/b v/c v/d; do grep " /$m " /proc/self/mountinfo; done')
    whole, a, b, c, d = map(options, lines)
    assert "rw" in whole
    assert {"ro", "nosuid", "noexec"} <= a
    assert not {"nodev"} & a
    assert {"rw", "noatime"} <= b
    assert not {"nosuid", "noexec", "ro"} & b
    assert {"ro", "nosuid", "nodev"} <= c
    assert "noexec" not in c
    assert "size=64k" in lines[3]
    assert not [option for option in (*a, *b, *c) if option.startswith("shared")]
    assert "rw" in d


def test_what_is_in_a_volume_that_cannot_be_written(loaded: Daemon, volume: Path, other: Path) -> None:
    flags = f"-v {volume}:/v:ro -v {other}:/v/there"
    script = "cat /v/there/name; touch /v/there/new; touch /v/new 2>/dev/null || echo cannot"
    assert seen(loaded, BUSYBOX, flags, script) == ["other", "cannot"]
    assert (other / "new").exists()
    told = refused(loaded, BUSYBOX, f"-v {volume}:/v:ro -v {other}:/v/new")
    assert "nothing can be mounted on '/v/new', in what is mounted on '/v': No such file or directory" in told
    assert "make the mount point first" in told
    assert not (volume / "new").exists()


def test_what_is_mounted_below_on_the_host(loaded: Daemon, volume: Path, other: Path) -> None:
    (volume / "below").mkdir()
    bind(other, volume / "below")
    try:
        flags = f"--tmpfs /v/m --mount type=bind,src={volume},dst=/v"
        assert seen(loaded, BUSYBOX, flags, "ls /v/below; touch /v/below/one") == ["name"]
        assert seen(loaded, BUSYBOX, f"{flags},bind-nonrecursive", "ls /v/below") == []
        script = "touch /v/m/x; touch /v/below/two 2>/dev/null || echo cannot"
        (volume / "m").mkdir(exist_ok=True)
        assert seen(loaded, BUSYBOX, f"{flags},readonly", script) == ["cannot"]
        assert seen(loaded, BUSYBOX, f"{flags},readonly,bind-recursive=writable", script) == []
    finally:
        unmount(volume / "below")
    assert sorted(path.name for path in other.iterdir()) == ["name", "one", "two"]


def test_volume_that_is_shared_is_left_to_the_runtime(loaded: Daemon, filesystem: Path, other: Path) -> None:
    """What is mounted in there is to be seen on the host: so it cannot be put together beforehand."""
    place = filesystem / "shared-volume"
    place.mkdir()
    bind(filesystem, place)
    subprocess.run(["mount", "--make-shared", place], check=True)
    try:
        flags = f"--privileged --mount type=bind,src={place},dst=/v,bind-propagation=rshared -v {other}:/v/in"
        lines = seen(loaded, BUSYBOX, flags, "cat /v/in/name; grep ' /v ' /proc/self/mountinfo")
        assert lines[0] == "other"
        assert any(option.startswith("shared") for option in options(lines[1]))
    finally:
        unmount(place / "in")
        unmount(place)


def test_what_is_shared_with_the_host_stays_there(loaded: Daemon, filesystem: Path, volume: Path, other: Path) -> None:
    """What was put together for a start is taken down behind it, and nothing else with it."""
    place = filesystem / "host"
    place.mkdir()
    bind(place, place)
    subprocess.run(["mount", "--make-shared", place], check=True)
    try:
        for name in ("before", "later"):
            (place / name).mkdir()
        bind(other, place / "before")
        subprocess.run(["mount", "--make-shared", place / "before"], check=True)
        flags = ("-v", f"{volume}:/v", "-v", f"{place}:/v/s:rshared", "-v", f"{place}:/v/r:rslave", "--privileged")
        loaded.ok("run", "-d", "--name", "long", *flags, BUSYBOX, "sleep", "600")
        assert (place / "before/name").exists()
        bind(other, place / "later")
        for at in ("s", "r"):
            done = loaded.ross("exec", "long", "ls", f"/v/{at}/before", f"/v/{at}/later")
            assert done.stdout.split().count("name") == 2, (at, done)
        loaded.ross("rm", "-f", "long")
        assert mounts_below(place) == (place / "later", place / "before", place)
    finally:
        for path in mounts_below(place):
            unmount(path)


# -- links and images -------------------------------------------------------------------------------------------------


def test_links_of_the_image_lead_into_a_volume(loaded: Daemon, linked: str, volume: Path, other: Path) -> None:
    flags = f"-v {volume}:/srv/volume -v {other}:/short/a --tmpfs /deep/b"
    script = "ls /srv/volume; ls /srv/volume/a; touch /srv/volume/there/b/x"
    assert seen(loaded, linked, flags, script) == ["a", "file", "there", "name"]
    assert [path.name for path in (volume / "there").iterdir()] == ["b"]
    assert list((volume / "there/b").iterdir()) == []
    told = refused(loaded, linked, f"-v {volume}:/srv/volume -v {other}:/up/a")
    assert "a link leads up from what is mounted" in told


def test_mount_that_a_link_leads_over_another(
    loaded: Daemon, linked: str, volume: Path, other: Path, tmp_path: Path
) -> None:
    """What is inside of the one below it is mounted as safely, and as hidden, as if there were no link."""
    (tmp_path / "last").mkdir()
    flags = f"-v {volume}:/srv/volume -v {other}:/srv/volume/a -v {tmp_path}/last:/srv/above/and/below/volume"
    script = "ls /srv/volume; grep -c ' /srv/volume' /proc/self/mountinfo"
    assert seen(loaded, linked, flags, script) == ["3"]
    assert [path.name for path in tmp_path.joinpath("last").iterdir()] == []
    assert (volume / "a").is_dir()


def test_links_of_a_volume_lead_nowhere_else(loaded: Daemon, volume: Path, other: Path) -> None:
    """CVE-2024-9341, CVE-2024-1753, CVE-2024-9407, CVE-2024-9675, CVE-2025-9566: as in a chroot of the volume, whatever is at the same
    place in the container or on the host."""
    (volume / "out").symlink_to("../" * 30 + str(other))
    (volume / "near").symlink_to("/there")
    (volume / "circle").symlink_to("circle")
    before = sorted(other.iterdir())
    assert seen(loaded, BUSYBOX, f"-v {volume}:/v -v {other}:/v/near/a", "ls /v/there/a") == ["name"]
    assert seen(loaded, BUSYBOX, f"-v {volume}:/v -v {other}:/v/out/a", "ls /v") == [
        *("circle", "file", "near", "out", "there", str(other).split("/")[1]),
    ]
    assert sorted(other.iterdir()) == before
    assert "Too many levels of symbolic links" in refused(loaded, BUSYBOX, f"-v {volume}:/v -v {other}:/v/circle/a")
    assert "Not a directory" in refused(loaded, BUSYBOX, f"-v {volume}:/v -v {other}:/v/file/a")
    assert "'/v/there'" in refused(loaded, BUSYBOX, f"-v {volume}:/v -v {other}/name:/v/there")


def test_image_in_a_volume_and_volume_in_an_image(loaded: Daemon, linked: str, volume: Path, other: Path) -> None:
    image = f"--mount type=image,src={linked},dst="
    flags = f"-v {volume}:/v {image}/v/i -v {other}:/v/i/srv {image}/j -v {other}:/j/srv"
    script = 'cat /v/i/srv/name /j/srv/name; for m in v/i j; do grep " /$m " /proc/self/mountinfo; done'
    first, second, *lines = seen(loaded, BUSYBOX, flags, script)
    assert first == second == "other"
    for line in lines:
        assert {"ro", "nosuid", "nodev"} <= options(line)
    assert "No such file or directory" in refused(loaded, BUSYBOX, f"{image}/j -v {other}:/j/nowhere")


def test_device_in_a_volume_is_refused(loaded: Daemon, volume: Path) -> None:
    told = refused(loaded, BUSYBOX, f"-v {volume}:/v --device /dev/null:/v/null")
    assert "'/v/null' would be made in what is mounted on '/v'" in told
    assert not (volume / "null").exists()
    assert seen(loaded, BUSYBOX, f"-v {volume}:/v --tmpfs /m:dev --device /dev/null:/m/null", "echo >/m/null") == []


def test_nothing_is_mounted_in_memory_that_is_shared(loaded: Daemon, linked: str, volume: Path) -> None:
    loaded.ok("run", "-d", "--name", "owner", BUSYBOX, "sleep", "600")
    for flags in (f"-v {volume}:/dev/shm/v", f"-v {volume}:/memory/v"):
        for ipc in ("container:owner", "host"):
            told = refused(loaded, linked, f"--ipc {ipc} {flags}")
            assert "in memory that the container shares with others" in told
        assert seen(loaded, linked, flags, "true") == []
    assert not Path("/dev/shm/v").exists()
    assert loaded.ross("exec", "owner", "ls", "-A", "/dev/shm").stdout == ""
    loaded.ross("rm", "-f", "owner")


# -- what is left -----------------------------------------------------------------------------------------------------


def test_daemon_that_is_killed_over_it_leaves_nothing(loaded: Daemon, volume: Path, other: Path) -> None:
    flags = ("-v", f"{volume}:/v", "-v", f"{other}:/v/in", "--tmpfs", "/v/m")
    for moment in range(6):
        client = loaded.popen("run", "--rm", *flags, BUSYBOX, "true")
        place = loaded.run / "binds"
        deadline = time.monotonic() + 10
        while not mounts_below(place) and time.monotonic() < deadline and client.poll() is None:
            time.sleep(0.001)
        time.sleep(moment * 0.004)
        loaded.kill()
        client.communicate()
        loaded.start()
        assert not mounts_below(place)
    assert (other / "name").read_text() == "other\n"
    assert (volume / "file").exists()
