"""What a container leaves to be in the way: one thing that cannot be removed or measured costs nobody else anything."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

DESCRIPTORS = 256
LEVELS = 600
"""More than twice as many as the daemon has descriptors."""


@contextmanager
def immovable(path: Path) -> Iterator[None]:
    """A file that nobody can remove, root included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    subprocess.run(["chattr", "+i", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", path], check=True)


def create(daemon: Daemon, box: str, name: str, *command: str) -> str:
    done = daemon.ross("create", "--name", name, "--network", "none", box, *(command or ("true",)))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def listed(daemon: Daemon, *words: str) -> dict[str, dict[str, Any]]:
    done = daemon.ross("ps", "-a", "-s", "--format", "json", *words)
    assert done.returncode == 0, done.stderr
    return {one["name"]: one for one in json.loads(done.stdout)}


def restart(daemon: Daemon, *, under: tuple[str, ...] = ()) -> None:
    daemon.terminate()
    daemon.start(under=under)


def test_tree_deeper_than_there_are_descriptors(daemon: Daemon, box: str) -> None:
    """Whoever makes one gets it measured and removed as any other; nobody else notices."""
    restart(daemon, under=("prlimit", f"--nofile={DESCRIPTORS}"))
    program = f"i=0; while [ $i -lt {LEVELS} ]; do mkdir d; cd d; i=$((i+1)); done; echo made > file"
    create(daemon, box, "deep", "sh", "-c", program)
    create(daemon, box, "other")
    daemon.ok("start", "-a", "deep")

    sizes = listed(daemon)
    assert sizes["deep"]["written_bytes"] == len("made\n")
    assert sizes["other"]["written_bytes"] == 0
    usage = daemon.ross("system", "df", "-v", "--format", "json")
    assert usage.returncode == 0, usage.stderr
    assert json.loads(usage.stdout)["unmeasured"] == []
    removed = daemon.ross("rm", "deep")
    assert removed.returncode == 0, removed.stderr
    assert set(listed(daemon)) == {"other"}


def test_tree_deeper_than_a_path_can_say(daemon: Daemon, box: str, tmp_path: Path) -> None:
    """No archive can hold it, and no list name it: each way to make one says so."""
    identity = create(daemon, box, "deep")
    fd = os.open(daemon.root / "snapshots" / identity / "fs", os.O_RDONLY)
    for _level in range(30):
        os.mkdir("d" * 200, dir_fd=fd)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)

    for words in (
        ("export", "-o", str(tmp_path / "archive.tar"), "deep"),
        ("cp", f"deep:/{'d' * 200}", str(tmp_path)),
        ("commit", "deep", "localhost/deep:1"),
        ("diff", "deep"),
    ):
        refused = daemon.ross(*words)
        assert refused.returncode == 1
        assert "are nested deeper than a path can say" in refused.stderr


def test_trash_that_cannot_be_removed_is_left(daemon: Daemon) -> None:
    daemon.expect_log("cannot be removed, and is left")
    with immovable(daemon.root / "trash" / "old" / "file"):
        restart(daemon)
        daemon.ok("ps")

    restart(daemon)
    assert not list((daemon.root / "trash").iterdir())


def test_container_that_cannot_be_removed_is_removed_later(daemon: Daemon, box: str) -> None:
    identity = create(daemon, box, "stuck")
    with immovable(daemon.root / "containers" / identity / "file"):
        for _time in range(2):
            removed = daemon.ross("rm", "stuck")
            assert removed.returncode == 1
            assert "what is left of the container stuck cannot be removed" in removed.stderr

    removed = daemon.ross("rm", "stuck")
    assert removed.returncode == 0, removed.stderr


def test_container_that_cannot_be_removed_keeps_no_daemon_from_starting(daemon: Daemon, box: str) -> None:
    daemon.expect_log("cannot be removed: ")
    daemon.expect_log("has no record that can be read|cannot be read: ")
    identity = create(daemon, box, "stuck")
    create(daemon, box, "other")
    with immovable(daemon.root / "containers" / identity / "file"):
        assert daemon.ross("rm", "stuck").returncode == 1
        restart(daemon)
        daemon.ok("rm", "other")

    restart(daemon)
    assert not list((daemon.root / "containers").iterdir())


def test_usage_names_what_it_may_not_read_and_counts_the_rest(daemon: Daemon, box: str) -> None:
    """A daemon without the right to read what others keep to themselves, as a unit may have it."""
    daemon.expect_log("cannot be measured: ")
    identity = create(daemon, box, "closed")
    kept = daemon.root / "snapshots" / identity / "fs" / "kept"
    kept.mkdir(mode=0o700)
    os.chown(kept, 65534, 65534)
    before = json.loads(daemon.ok("system", "df", "--format", "json"))
    assert before["unmeasured"] == []
    restart(daemon, under=("setpriv", "--bounding-set", "-dac_override,-dac_read_search"))

    usage = json.loads(daemon.ok("system", "df", "--format", "json"))
    assert usage["unmeasured"] == [f"snapshots/{identity}"]
    images = [next(row for row in found["rows"] if row["kind"] == "images") for found in (before, usage)]
    assert images[0] == images[1]
    line = f"not counted, since it cannot be measured: snapshots/{identity}\n"
    assert daemon.ok("system", "df").endswith(line)
    os.chown(kept, 0, 0)
    assert json.loads(daemon.ok("system", "df", "--format", "json"))["unmeasured"] == []


def test_snapshot_that_cannot_be_measured_is_unknown(daemon: Daemon, box: str) -> None:
    daemon.expect_log("cannot be measured")
    identity = create(daemon, box, "damaged")
    create(daemon, box, "other")
    place = daemon.root / "snapshots" / identity
    kept = place.rename(daemon.root.parent / "kept")
    place.symlink_to(identity)  # a circle

    sizes = listed(daemon)
    assert sizes["damaged"]["written_bytes"] == -1
    assert sizes["other"]["written_bytes"] == 0
    row = next(line for line in daemon.ross("ps", "-a", "-s").stdout.splitlines() if "damaged" in line)
    assert row.split()[-1] == "unknown"
    daemon.ok("system", "df")

    place.unlink()
    kept.rename(place)
