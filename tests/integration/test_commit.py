"""Images of containers: what is run, mounted, saved and pushed of one is what its container had."""

from __future__ import annotations

import json
import os
import random
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from ross.client import connect
from ross.linux.mount import mount_overlay, unmount
from tests.support.daemon import Daemon, command
from tests.support.tree import differences, read_tree
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.layer_model import Node
    from tests.support.layer_model import Path as Parts

pytestmark = pytest.mark.integration


def inspect(daemon: Daemon, image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(daemon.ok("image", "inspect", image))[0]
    return found


def scramble(top: Path, dice: random.Random, *, steps: int) -> None:
    """Do to a mounted root filesystem whatever a container can do to it."""
    places = [top / "var", top / "bin", top / "root"]
    for number in range(steps):
        place = dice.choice(places)
        if not place.is_dir() or place.is_symlink():
            continue
        names = [path for path in place.iterdir() if path not in places]
        some = dice.choice(names) if names else None
        fresh = place / dice.choice([f"n{number}", f"\N{SNOWMAN}{number}", f"{'long' * 50}{number}"])
        match dice.randrange(12):
            case 0 | 1:
                fresh.write_bytes(dice.randbytes(dice.choice([0, 1, 511, 512, 513, 70_000])))
                os.utime(fresh, ns=(1, dice.choice([0, -5, 10**18 + 7, 1_700_000_000 * 10**9])))
            case 2:
                fresh.mkdir(dice.choice([0o700, 0o1777, 0o2755]))
                places.append(fresh)
            case 3:
                fresh.symlink_to(dice.choice(["/etc/passwd", "x" * 200, "../.."]))
            case 4:
                os.mkfifo(fresh)
            case 5:
                os.mknod(fresh, 0o600 | 0o020000, os.makedev(1, dice.randrange(3, 9)))
            case 6 if some is not None and some.is_file() and not some.is_symlink():
                os.link(some, fresh)
            case 7 if some is not None:
                subprocess.run(["rm", "-rf", str(some)], check=True)
            case 8 if some is not None and not some.is_symlink():
                os.chown(some, dice.choice([0, 65534, 3_000_000]), dice.choice([0, 7]))
            case 9 if some is not None and some.is_file() and not some.is_symlink():
                os.setxattr(some, "user.mark", dice.randbytes(20))
            case 10 if some is not None and some.is_dir() and not some.is_symlink():
                subprocess.run(["rm", "-rf", str(some)], check=True)  # and again, opaque now
                some.mkdir()
                (some / "again").write_bytes(b"again")
            case 11 if some is not None and some.is_file() and not some.is_symlink():
                with some.open("ab") as file:
                    file.write(b"more")


def mounted(daemon: Daemon, top: str) -> Mapping[Parts, Node]:
    """What is seen of a snapshot, with all below it and without the init layer."""
    snapshots = daemon.root / "snapshots"
    lower, name = [], top
    while name:
        lower.append(snapshots / name / "fs")
        name = json.loads((snapshots / name / "metadata.json").read_text())["parent"]
    place = daemon.root.parent / "look"
    place.mkdir(exist_ok=True)
    mount_overlay(place, lower=lower, upper=None, work=None)
    try:
        return read_tree(place)
    finally:
        unmount(place)


@pytest.mark.parametrize("seed", range(3))
async def test_an_image_is_what_its_container_was(seed: int, shared: Daemon, busybox: str, tmp_path: Path) -> None:
    """Random changes; Ross's snapshot of the image, and umoci's unpacking of it, equal what was seen in the container."""
    async with connect(shared.socket) as engine:
        container = await engine.images.get(busybox).now.create(["true"])
        identity = (await container.info()).id
        before = scrambled(shared, identity, seed)

        image = await container.commit(f"made:{seed}")

        info = await image.info()
        assert differences(before, mounted(shared, str(info.chain_id).replace(":", "-"))) == []
        if seed == 0:
            with (tmp_path / "made.tar").open("wb") as file:
                async with engine.images.save(f"made:{seed}", format="oci-archive") as chunks:
                    async for chunk in chunks:
                        file.write(chunk)
            assert differences(before, by_umoci(tmp_path)) == []
        completed = await image.run(["true"])
        assert completed.outcome.exit_code == 0
        await container.remove()
        await engine.images.remove(f"made:{seed}")


def scrambled(daemon: Daemon, identity: str, seed: int) -> Mapping[Parts, Node]:
    """Change a container that does not run; what is seen in it then."""
    snapshots = daemon.root / "snapshots"
    place, own = daemon.root.parent / "scrambled", snapshots / identity
    place.mkdir(exist_ok=True)
    parent = json.loads((own / "metadata.json").read_text())["parent"]
    mount_overlay(place, lower=[snapshots / parent / "fs"], upper=own / "fs", work=own / "work")
    try:
        scramble(place, random.Random(seed), steps=60)
        os.utime(place / "bin", ns=(7, 7))
        return read_tree(place)
    finally:
        unmount(place)


def by_umoci(directory: Path) -> Mapping[Parts, Node]:
    layout, bundle = directory / "layout", directory / "bundle"
    layout.mkdir()
    subprocess.run(["tar", "-x", "-C", str(layout), "-f", str(directory / "made.tar")], check=True)
    tag = json.loads((layout / "index.json").read_text())["manifests"][0]["annotations"][
        "org.opencontainers.image.ref.name"
    ]
    subprocess.run(["umoci", "unpack", "--image", f"{layout}:{tag}", str(bundle)], check=True, capture_output=True)
    return read_tree(bundle / "rootfs")


def test_the_config_is_what_the_container_was_created_with(shared: Daemon, busybox: str) -> None:
    name = "configured"
    shared.ok("create", "--name", name, "-e", "A=1", "-w", "/tmp", "-l", "x=y", busybox, "sh", "-c", "true")

    identity = shared.ok(
        "commit",
        "-a",
        "me",
        "-m",
        "why",
        "-c",
        "ENV B=$A",
        "-c",
        'CMD ["echo", "committed"]',
        name,
        "configured:1",
    ).strip()

    found = inspect(shared, "configured:1")
    assert found["Id"] == identity
    config = found["ImageConfig"]
    assert config["author"] == "me"
    assert config["config"]["Env"][1:] == ["A=1", "B=1"]
    assert config["config"]["WorkingDir"] == "/tmp"
    assert config["config"]["Labels"] == {"x": "y"}
    assert {key: config["history"][-1][key] for key in ("author", "comment", "created_by")} == {
        "author": "me", "comment": "why", "created_by": "sh -c true"
    }  # fmt: skip
    assert shared.ok("run", "--rm", "configured:1").strip() == "committed"
    shared.ok("rm", name)


def test_a_container_is_paused_while_it_is_read(shared: Daemon, busybox: str) -> None:
    """What it writes to two files at a time is the same in both, and it goes on afterwards."""
    script = "i=0; while usleep 5000; do i=$((i+1)); echo $i > /new; mv /new /one; echo $i > /new; mv /new /two; done"
    name = shared.ok("run", "-d", busybox, "sh", "-c", script).strip()
    until(lambda: shared.ross("cp", f"{name}:/two", "-").returncode == 0)

    for number in range(3):
        shared.ok("commit", name, f"paused:{number}")
    counts = [int(shared.ok("run", "--rm", f"paused:{number}", "sh", "-c", "cat /one")) for number in range(3)]

    assert counts == sorted(set(counts)), "it went on between them"
    one, two = shared.ok("run", "--rm", "paused:2", "sh", "-c", "cat /one; cat /two || true").split()[:2]
    assert int(one) - int(two) in {0, 1}
    shared.ok("rm", "-f", name)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("-c", "FROM x", "CONTAINER"), "there is no change"),
        (("CONTAINER", "Not/A:Name:"), "not"),
        (("CONTAINER", "x@sha256:" + "0" * 64), "cannot be called"),
        (("missing",), "no container"),
    ],
)
def test_bad_commits_leave_nothing(words: tuple[str, ...], problem: str, shared: Daemon, busybox: str) -> None:
    name = shared.ok("create", busybox, "true").strip()
    before = sorted(path.name for path in (shared.root / "blobs/sha256").iterdir())

    done = shared.ross("commit", *(name if word == "CONTAINER" else word for word in words))

    assert done.returncode == 1
    assert problem in done.stderr
    assert sorted(path.name for path in (shared.root / "blobs/sha256").iterdir()) == before
    assert list((shared.root / "ingest").iterdir()) == []
    shared.ok("rm", name)


def test_a_file_with_the_name_of_a_whiteout_is_refused(shared: Daemon, busybox: str) -> None:
    name = shared.ok("run", "-d", busybox, "sh", "-c", "echo x > /tmp/.wh.x").strip()
    shared.ok("wait", name)

    done = shared.ross("commit", name)

    assert done.returncode == 1
    assert "tmp/.wh.x" in done.stderr
    shared.ok("rm", name)


def test_killed_while_committing(daemon: Daemon, box: str) -> None:
    """kill -9 at moments of a commit of a container that runs: the next daemon lets it go on, and nothing is left of the commit."""
    loop = "while usleep 50000; do cat /proc/uptime > /new; mv /new /tick; done"
    script = f"dd if=/dev/urandom of=/big bs=1M count=24 2>/dev/null; touch /ready; {loop}"
    name = daemon.ok("run", "-d", box, "sh", "-c", script).strip()
    while daemon.ross("cp", f"{name}:/ready", "-").returncode != 0:
        time.sleep(0.1)
    began = time.monotonic()
    daemon.ok("commit", name, "whole:1")
    whole = time.monotonic() - began
    daemon.ok("rmi", "whole:1")
    interrupted = 0
    for part in range(3):
        committing = subprocess.Popen(
            command("commit", name, "half:1"), env=daemon.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        until_spooling(daemon, committing)
        time.sleep(whole * 0.2 * part)
        daemon.kill()
        committing.communicate()
        interrupted += committing.returncode != 0
        daemon.start()

        # A blob that was on its way into the store has an ingest, as after a pull; the layer that was being made is gone.
        assert not list((daemon.root / "ingest").glob("spool-*"))
        assert not list((daemon.root / "snapshots").glob("unpack-*"))
        assert not (daemon.root / "containers" / name / "frozen").exists()
        before = tick(daemon, name)
        ticked = any(tick(daemon, name) != before for _attempt in range(50))
        assert ticked, "it goes on"
        if "half" in daemon.ok("images"):  # it was there, and the answer was on its way
            daemon.ok("rmi", "half:1")
        daemon.ok("system", "prune", "-f")
        assert "half" not in daemon.ok("images")
        assert len(list((daemon.root / "blobs/sha256").iterdir())) == 2, "only those of the image it was made of"
        assert len(list((daemon.root / "manifests/sha256").iterdir())) == 1
    assert interrupted


def until_spooling(daemon: Daemon, committing: subprocess.Popen[bytes]) -> None:
    """Wait until a commit is at work; one that has been too quick to be seen is as well."""
    until(lambda: any((daemon.root / "ingest").glob("spool-*")) or committing.poll() is not None)


def tick(daemon: Daemon, name: str) -> bytes:
    argv = command("cp", f"{name}:/tick", "-")
    return subprocess.run(argv, env=daemon.environment(), capture_output=True, check=True).stdout
