"""A pull does not wait for the disk: what the power takes is found, what the daemon's death leaves is finished."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from ross.services.records import boot_id
from tests.support.images import ImageBuilder, Layer, busybox_layer, push
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration


def write_pending(daemon: Daemon, *, boot: str, names: dict[str, object]) -> Path:
    """What a daemon has on disk between the end of a pull and that of its syncfs, for everything that is there."""
    blobs = [f"sha256:{path.name}" for path in (daemon.root / "blobs/sha256").iterdir()]
    snapshots = [path.name for path in (daemon.root / "snapshots").iterdir() if path.name.startswith("sha256-")]
    path = daemon.root / "pending" / "0123456789abcdef.json"
    path.write_text(json.dumps({"boot": boot, "blobs": blobs, "snapshots": snapshots, "names": names}))
    return path


def until_settled(daemon: Daemon) -> None:
    until(lambda: not any((daemon.root / "pending").iterdir()))


def tag_file(daemon: Daemon, name: str) -> Path:
    host, path = name.split("/", 1)
    return daemon.root / "tags" / host / path.replace(":", "/:")


def test_what_a_power_failure_has_torn_is_fetched_again(daemon: Daemon, registry: str) -> None:
    builder = ImageBuilder().layer(busybox_layer()).layer(Layer().add("whole", b"w" * 100_000))
    image = push(registry, "test/torn:1", builder.layer(Layer().add("torn", b"t" * 100_000)).build())
    daemon.ok("pull", "-q", image)
    until_settled(daemon)
    (info,) = json.loads(daemon.ross("image", "inspect", image).stdout)
    daemon.terminate()
    pending = write_pending(daemon, boot="another boot", names={})
    whole, torn = (daemon.root / "blobs/sha256" / info["Blobs"][index].removeprefix("sha256:") for index in (1, 2))
    torn.write_bytes(bytes(torn.stat().st_size))
    inode = whole.stat().st_ino

    daemon.expect_log("loses the manifest")
    daemon.start()
    assert not pending.exists()
    assert not torn.exists()
    assert daemon.ross("images", "-q").stdout == ""
    done = daemon.ross("run", "--rm", image, "sh", "-c", "cat torn whole | wc -c")
    assert done.stdout.strip() == "200000", done.stderr
    assert whole.stat().st_ino == inode, "what was right is not fetched again"


def test_load_says_what_is_to_come_and_a_torn_one_is_loaded_again(daemon: Daemon, box: str, tmp_path: Path) -> None:
    archive = tmp_path / "box.tar"
    daemon.ok("save", "-o", str(archive), box)
    daemon.ok("rmi", box)
    until_settled(daemon)
    records: dict[str, dict[str, list[str]]] = {}
    loading = daemon.popen("load", "-q", "-i", str(archive))
    while loading.poll() is None:
        for path in (daemon.root / "pending").glob("*.json"):
            with suppress(FileNotFoundError, ValueError):  # gone meanwhile
                records[path.name] = json.loads(path.read_text())
    assert loading.communicate()[0] == f"Loaded image: {box}\n".encode()
    until_settled(daemon)
    (info,) = json.loads(daemon.ross("image", "inspect", box).stdout)
    (record,) = records.values()
    assert set(record["blobs"]) == {info["Id"], *info["Blobs"]}
    assert len(record["snapshots"]) == len(info["Blobs"])
    assert json.loads(tag_file(daemon, box).read_text())["manifest"] == info["Manifest"]

    daemon.terminate()
    write_pending(daemon, boot="another boot", names={})
    for digest in record["blobs"]:
        torn = daemon.root / "blobs/sha256" / digest.removeprefix("sha256:")
        torn.write_bytes(bytes(torn.stat().st_size))
    daemon.expect_log("loses the manifest")
    daemon.start()
    assert list((daemon.root / "blobs/sha256").iterdir()) == []
    daemon.ok("load", "-q", "-i", str(archive))
    assert daemon.ross("run", "--rm", "--pull", "never", box, "echo", "here").stdout == "here\n"


def test_what_the_daemons_death_has_interrupted_is_finished(daemon: Daemon, box: str) -> None:
    until_settled(daemon)
    daemon.kill()
    tag = tag_file(daemon, box)
    record = json.loads(tag.read_text())
    tag.unlink()
    write_pending(daemon, boot=boot_id(), names={box: record})
    daemon.start()
    assert daemon.ross("run", "--rm", "--pull", "never", box, "echo", "here").stdout == "here\n"
    until_settled(daemon)
    assert json.loads(tag.read_text()) == record


def test_name_that_was_taken_away_meanwhile_stays_away(daemon: Daemon, box: str) -> None:
    daemon.ross("rmi", box)
    daemon.kill()
    daemon.start()
    until_settled(daemon)
    assert daemon.ross("images", "-q").stdout == ""
    assert not tag_file(daemon, box).exists()


def test_record_that_cannot_be_read_is_removed(daemon: Daemon) -> None:
    daemon.terminate()
    path = daemon.root / "pending" / "half.json"
    path.write_text('{"boot": ')
    daemon.start()
    assert not path.exists()
    daemon.ok("health")
