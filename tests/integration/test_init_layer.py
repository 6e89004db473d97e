"""The init layer: whatever an image has where the engine mounts its own, it is neither followed nor opened, and the container runs."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from ross.errors import RossError
from ross.layout import StateLayout
from ross.linux.mount import mount_overlay, unmount
from ross.model.snapshots import SnapshotKind
from ross.services.init_layer import see_init_layer
from ross.services.snapshot_mounts import mount_snapshot
from ross.services.snapshotter import Snapshotter
from tests.support.images import ImageBuilder, Layer, busybox_layer, push

if TYPE_CHECKING:
    import subprocess

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

CANARY: Final = Path("/tmp/ross-init-canary")
PLACES: Final = ("dev", "proc", "sys", "run", "etc/hosts", "etc/resolv.conf", "etc/hostname")
SCRIPT: Final = """
stat -c '%n %F' /dev /proc /sys /etc /etc/hosts /etc/hostname /etc/resolv.conf /dev/null /dev/pts /dev/shm
grep -cE ' /(dev|proc|sys) ' /proc/self/mounts && wc -l < /etc/hosts
echo x > /dev/shm/x && echo y > /dev/null
"""
SHOWN: Final = """\
/dev directory
/proc directory
/sys directory
/etc directory
/etc/hosts regular file
/etc/hostname regular file
/etc/resolv.conf regular file
/dev/null character special file
/dev/pts directory
/dev/shm directory
3
7
"""

Plant = Callable[[Layer, str], Layer]


def up(place: str) -> str:
    return "../" * (place.count("/") + 12)


PLANTS: Final[dict[str, Plant]] = {
    "absolute-link": lambda layer, place: layer.symlink(place, str(CANARY / place)),
    "relative-link": lambda layer, place: layer.symlink(place, f"{up(place)}{CANARY / place}"),
    "link-to-root": lambda layer, place: layer.symlink(place, "/"),
    "dangling-link": lambda layer, place: layer.symlink(place, "/no/such/place"),
    "link-loop": lambda layer, place: layer.symlink(place, place.rpartition("/")[2]),
    "file": lambda layer, place: layer.add(place, b"not yours"),
    "fifo": lambda layer, place: layer.add(place, type=tarfile.FIFOTYPE),
    "device": lambda layer, place: layer.add(place, type=tarfile.CHRTYPE, devmajor=1, devminor=5),
    "directory": lambda layer, place: layer.directory(place).add(f"{place}/inside", b"x"),
}


def tree(top: Path) -> dict[str, tuple[object, ...]]:
    """Everything about a tree that somebody could have changed."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted([top, *top.rglob("*")]):
        entry = path.lstat()
        data = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (entry.st_mode, entry.st_uid, entry.st_gid, entry.st_ino, entry.st_mtime_ns, data)
    return found


@pytest.fixture(autouse=True)
def _cleared(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "one_daemon" in request.fixturenames:
        request.getfixturevalue("one_daemon").ross("rm", "-f", "it")


def run(daemon: Daemon, *words: str, image: str, command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    daemon.ok("pull", "-q", image)
    return daemon.ross("run", "--name", "it", *words, image, *command)


@pytest.fixture
def canary() -> Iterator[dict[str, tuple[object, ...]]]:
    """A tree of the host where the links lead; it must be found as it was."""
    shutil.rmtree(CANARY, ignore_errors=True)
    for name in ("dev/pts", "dev/shm", "dev/mqueue", "proc", "sys", "run", "etc"):
        (CANARY / name).mkdir(parents=True)
    for name in ("dev/console", "etc/hosts", "etc/hostname", "etc/resolv.conf"):
        (CANARY / name).write_text("the host's\n")
    before = tree(CANARY)
    yield before
    after = tree(CANARY)
    shutil.rmtree(CANARY)
    assert after == before


@pytest.mark.parametrize("what", PLANTS)
@pytest.mark.parametrize("places", [PLACES, ("dev", "proc", "sys", "run", "etc")], ids=["inside-etc", "etc-itself"])
def test_what_an_image_has_there_is_not_followed(
    one_daemon: Daemon, registry: str, canary: object, what: str, places: tuple[str, ...]
) -> None:
    layer = Layer()
    for place in places:
        PLANTS[what](layer, place)
    name = f"test/{what}-{len(places)}:1"
    image = push(registry, name, ImageBuilder().layer(busybox_layer()).layer(layer).build())

    done = run(one_daemon, image=image, command=("sh", "-c", SCRIPT))

    assert done.stderr == ""
    assert (done.returncode, done.stdout) == (0, SHOWN)
    (top,) = (path for path in (one_daemon.root / "snapshots").iterdir() if len(path.name) == 64)
    left = {str(path.relative_to(top / "fs")) for path in (top / "fs").rglob("*")}
    assert left <= {"etc"}, "nothing was written into the container's own layer"
    assert not list((one_daemon.root / "init/fs/dev/shm").iterdir())


def test_terminal_is_on_the_console_of_an_image_with_links_there(
    one_daemon: Daemon, registry: str, canary: object
) -> None:
    layer = busybox_layer().symlink("dev/console", str(CANARY / "dev/console")).symlink("dev/pts", "/proc/self/fd")
    image = push(registry, "test/console:1", ImageBuilder().layer(layer).build())
    done = run(one_daemon, "-t", image=image, command=("sh", "-c", "tty; stat -c %F /dev/console /dev/pts"))
    assert done.stdout.splitlines() == ["/dev/pts/0", "character special file", "directory"]


def test_etc_keeps_the_attributes_of_the_images(one_daemon: Daemon, registry: str) -> None:
    layer = busybox_layer().directory("etc", mode=0o2711, uid=5, gid=6, mtime=1_234_567_890)
    image = push(registry, "test/etc-attributes:1", ImageBuilder().layer(layer).build())
    script = "stat -c '%a %u %g %Y' /etc; cat /etc/group | wc -l; ls /etc"
    done = run(one_daemon, image=image, command=("sh", "-c", script))
    assert done.stdout.split() == [
        *("2711", "5", "6", "1234567890", "3"),
        *("group", "hostname", "hosts", "passwd", "resolv.conf"),
    ]


def test_image_that_takes_its_etc_away_gets_an_empty_one(one_daemon: Daemon, registry: str) -> None:
    image = push(
        registry, "test/no-etc:1", ImageBuilder().layer(busybox_layer()).layer(Layer().whiteout("etc")).build()
    )
    done = run(one_daemon, image=image, command=("ls", "/etc"))
    assert done.stdout.split() == ["hostname", "hosts", "resolv.conf"]


def test_mount_inside_dev_is_made_by_the_runtime(one_daemon: Daemon, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host\n")
    done = run(one_daemon, "-v", f"{tmp_path}/file:/dev/one/file", image=busybox, command=("cat", "/dev/one/file"))
    assert (done.stdout, done.stderr) == ("from the host\n", "")
    (top,) = (path for path in (one_daemon.root / "snapshots").iterdir() if len(path.name) == 64)
    assert not (top / "fs/dev").exists()


def test_container_that_has_replaced_a_mount_point_is_not_started_again(
    one_daemon: Daemon, busybox: str, canary: object
) -> None:
    script = f"umount /etc/hosts && rm /etc/hosts && ln -s {CANARY}/etc/hosts /etc/hosts"
    done = run(one_daemon, "--privileged", image=busybox, command=("sh", "-c", script))
    assert (done.returncode, done.stderr) == (0, "")
    again = one_daemon.ross("start", "it")
    assert again.returncode == 1
    assert "the container has replaced its /etc/hosts" in again.stderr


def damage_link(files: Path) -> None:
    (files / "etc/hosts").unlink()
    (files / "etc/hosts").symlink_to(CANARY)


def damage_directory(files: Path) -> None:
    shutil.rmtree(files.parent)
    files.parent.write_text("")


DAMAGES: Final[dict[str, Callable[[Path], object]]] = {
    "link": damage_link,
    "missing": lambda files: (files / "dev/pts").rmdir(),
    "more": lambda files: (files / "etc/passwd").touch(),
    "content": lambda files: (files / "etc/hosts").write_text("1.2.3.4 x"),
    "mode": lambda files: (files / "etc").chmod(0o777),
    "owner": lambda files: os.chown(files / "dev", 1, 1),
    "not opaque": lambda files: os.removexattr(files / "dev", "trusted.overlay.opaque"),
    "opaque": lambda files: os.setxattr(files / "etc", "trusted.overlay.opaque", b"y"),
    "half made": shutil.rmtree,
    "no record": lambda files: (files.parent / "metadata.json").unlink(),
    "older": lambda files: (files.parent / "metadata.json").write_text('{"version":0,"created_at":1}'),
    "a file": damage_directory,
}


def test_it_is_made_again_if_it_is_anything_else_and_only_then(filesystem: Path) -> None:
    layout = StateLayout(root=filesystem / "damaged")
    layout.root.mkdir()
    files = see_init_layer(layout)
    whole = {path: (path.lstat().st_mode, path.lstat().st_size) for path in files.rglob("*")}
    for name, damage in DAMAGES.items():
        made = (layout.init_layer / "metadata.json").read_text()
        assert see_init_layer(layout) == files
        assert (layout.init_layer / "metadata.json").read_text() == made, "what is right stays"
        damage(files)
        assert see_init_layer(layout) == files
        assert {path: (path.lstat().st_mode, path.lstat().st_size) for path in files.rglob("*")} == whole, name
        assert (layout.init_layer / "metadata.json").read_text() != made, name
        assert not list(layout.trash.iterdir())


async def test_only_containers_have_it(filesystem: Path) -> None:
    layout = StateLayout(root=filesystem / "mounted")
    layout.root.mkdir()
    snapshotter = Snapshotter(layout)
    await snapshotter.recover()
    await snapshotter.prepare("box", parent=None)
    assert [info.kind for info in snapshotter.list()] == [SnapshotKind.ACTIVE], "it is no snapshot itself"
    target = filesystem / "target"
    await mount_snapshot(snapshotter, "box", target)
    try:
        assert stat.S_ISREG((target / "etc/hosts").lstat().st_mode)
        (target / "etc/hosts").write_text("written to")
    finally:
        unmount(target)
    assert (layout.init_layer / "fs/etc/hosts").read_bytes() == b""
    staged = await snapshotter.stage()
    await snapshotter.commit(staged.name, "layer", parent=None, size_bytes=0)
    await mount_snapshot(snapshotter, "layer", target)
    try:
        assert list(target.iterdir()) == []
    finally:
        unmount(target)
    await snapshotter.remove("box")


def test_more_layers_than_the_kernel_takes_are_told(filesystem: Path) -> None:
    target, layers = filesystem / "many-target", [filesystem / f"many/{number}" for number in range(501)]
    for path in (target, *layers):
        path.mkdir(parents=True)
    (layers[499] / "deepest").touch()
    mount_overlay(target, lower=layers[:500], upper=None, work=None)
    try:
        assert (target / "deepest").exists()
    finally:
        unmount(target)
    with pytest.raises((OSError, RossError), match="too many layers"):
        mount_overlay(target, lower=layers, upper=None, work=None)
