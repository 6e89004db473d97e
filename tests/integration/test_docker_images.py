"""Removing images and images without a name, case by case as Docker has it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.archives import docker_archive
from tests.support.images import ImageBuilder, busybox_layer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration
ALL, ONE, NONE = "all names", "one name", "no name"


def load(daemon: Daemon, place: Path, case: str, names: Sequence[str]) -> str:
    """An image of its own for a case, with busybox in it. Returns its id."""
    archive = place / "image.tar"
    builder = ImageBuilder(config={"Labels": {"case": case}}).layer(busybox_layer())
    archive.write_bytes(docker_archive(builder, names).tar())
    daemon.ok("load", "-i", str(archive))
    (image,) = [one for one in listed(daemon) if one["labels"].get("case") == case]
    return str(image["id"])


def listed(daemon: Daemon, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(daemon.ok("images", "--format", "json", *words))
    return found


@pytest.mark.parametrize(
    ("used", "by", "names", "force", "takes", "said"),
    [
        ("", "id", 1, False, ALL, "Deleted: "),
        ("", "id", 1, True, ALL, "Deleted: "),
        ("", "id", 2, False, NONE, "has several names"),
        ("", "id", 2, True, ALL, "Deleted: "),
        ("", "name", 1, False, ALL, "Deleted: "),
        ("", "name", 1, True, ALL, "Deleted: "),
        ("", "name", 2, False, ONE, "Untagged: "),
        ("", "name", 2, True, ONE, "Untagged: "),
        ("stopped", "id", 1, False, NONE, "in use by the container user\n"),
        ("stopped", "id", 1, True, ALL, "stays without a name"),
        ("stopped", "id", 2, False, NONE, "has several names"),
        ("stopped", "id", 2, True, ALL, "stays without a name"),
        ("stopped", "name", 1, False, NONE, "in use by the container user\n"),
        ("stopped", "name", 1, True, ALL, "stays without a name"),
        ("stopped", "name", 2, False, ONE, "Untagged: "),
        ("stopped", "name", 2, True, ONE, "Untagged: "),
        ("running", "id", 1, False, NONE, "cannot be forced"),
        ("running", "id", 1, True, NONE, "cannot be forced"),
        ("running", "id", 2, False, NONE, "cannot be forced"),
        ("running", "id", 2, True, NONE, "cannot be forced"),
        ("running", "name", 1, False, NONE, "in use by the container user\n"),
        ("running", "name", 1, True, ALL, "stays without a name"),
        ("running", "name", 2, False, ONE, "Untagged: "),
        ("running", "name", 2, True, ONE, "Untagged: "),
    ],
)
def test_rmi(
    one_daemon: Daemon, tmp_path: Path, used: str, by: str, names: int, force: bool, takes: str, said: str
) -> None:
    """Which names an image loses, whether it goes with the last one, and what is said."""
    every = [f"localhost/case:{number}" for number in range(1, names + 1)]
    identity = load(one_daemon, tmp_path, f"{used}-{by}-{names}-{force}", every)
    if used:
        one_daemon.ok("create", "--name", "user", every[0], "sleep", "600")
    if used == "running":
        one_daemon.ok("start", "user")

    done = one_daemon.ross("rmi", *(["-f"] if force else []), identity if by == "id" else every[0])

    assert done.returncode == (1 if takes == NONE else 0), done.stderr
    assert said in done.stdout + done.stderr
    gone = {NONE: [], ONE: every[:1], ALL: every}[takes]
    assert [line for line in done.stdout.splitlines() if line.startswith("Untagged")] == [
        f"Untagged: {one}" for one in gone
    ]
    assert ("Deleted: " in done.stdout) == (takes == ALL and not used)
    left = [one["names"] for one in listed(one_daemon) if one["id"] == identity]
    assert left == ([] if takes == ALL and not used else [[one for one in every if one not in gone]])
    if used:
        one_daemon.ok("rm", "-f", "user")
        one_daemon.ok("rmi", load(one_daemon, tmp_path, "other", ["localhost/other:1"]))  # which collects
        after = [one["names"] for one in listed(one_daemon) if one["id"] == identity]
        assert after == ([] if takes == ALL and used == "stopped" else left), "what a container ran of is dangling"
    one_daemon.ross("rmi", "-f", identity)
    assert identity not in [one["id"] for one in listed(one_daemon)]


def test_what_is_made_without_a_name_is_dangling(daemon: Daemon, box: str, tmp_path: Path) -> None:
    """It is listed, survives the daemon, can be named, and is pruned like any other that has no name."""
    daemon.ok("run", "--name", "one", box, "sh", "-c", "echo x > /new")
    committed = daemon.ok("commit", "one").strip()
    (tmp_path / "root.tar").write_bytes(busybox_layer().tar())
    imported = daemon.ok("import", str(tmp_path / "root.tar")).strip()
    loaded = load(daemon, tmp_path, "loaded", [])
    unnamed = {committed, imported, loaded}

    daemon.kill()
    daemon.start()

    assert {one["id"] for one in listed(daemon, "-f", "dangling=true")} == unnamed
    assert {one["id"] for one in listed(daemon, "-f", "dangling=false")} == {
        one["id"] for one in listed(daemon)
    } - unnamed
    rows = daemon.ok("images", "--no-trunc", "--format", "{{.Repository}} {{.Tag}} {{.Digest}} {{.ID}}").splitlines()
    assert {row.split()[3] for row in rows if row.startswith("<none> <none> <none> ")} == unnamed
    assert daemon.ok("run", "--rm", committed, "cat", "/new") == "x\n"
    daemon.ok("tag", imported, "mine:1")
    daemon.ok("create", "--name", "user", loaded, "true")
    assert {one["id"] for one in listed(daemon, "-f", "dangling=true")} == {committed, loaded}

    pruned = daemon.ok("image", "prune", "-f")

    assert ("deleted: " in pruned, "untagged: " in pruned) == (True, False)
    assert {one["id"] for one in listed(daemon)} >= {imported, loaded}
    assert committed not in {one["id"] for one in listed(daemon)}
    assert daemon.ross("rmi", loaded).returncode == 1
    daemon.ok("rm", "user")
    assert "Untagged" not in daemon.ok("rmi", loaded)
    assert daemon.ok("rmi", "mine:1").startswith("Untagged: docker.io/library/mine:1\nDeleted: ")
    assert [one["names"] for one in listed(daemon)] == [[box]]


def test_what_a_name_has_left_is_dangling(daemon: Daemon, box: str, tmp_path: Path) -> None:
    old = load(daemon, tmp_path, "old", ["localhost/moving:1"])
    new = load(daemon, tmp_path, "new", ["localhost/moving:1", "localhost/other:1"])
    assert [one["id"] for one in listed(daemon, "-f", "dangling=true")] == [old]
    daemon.ok("tag", box, "localhost/moving:1")
    assert [one["id"] for one in listed(daemon, "-f", "dangling=true")] == [old], "the other has a name yet"
    daemon.ok("tag", box, "localhost/other:1")
    assert {one["id"] for one in listed(daemon, "-f", "dangling=true")} == {old, new}

    daemon.kill()
    daemon.start()

    assert {one["id"] for one in listed(daemon, "-f", "dangling=true")} == {old, new}
    daemon.ok("tag", old, "localhost/back:1")
    assert [one["id"] for one in listed(daemon, "-f", "dangling=true")] == [new]
    assert daemon.ok("image", "prune", "-f", "--filter", "label=case=old").startswith("Total reclaimed space: 0B")
    assert "deleted: " in daemon.ok("image", "prune", "-f", "--filter", "label=case=new")
    assert listed(daemon, "-f", "dangling=true") == []
    assert "localhost/back:1" in daemon.ok("rmi", "-f", old)
    assert old not in {one["id"] for one in listed(daemon)}
