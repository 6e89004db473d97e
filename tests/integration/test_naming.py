"""What images are called: tags that are given and taken, filters, history, several platforms under one name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import ross
from tests.support.images import ARCHITECTURE, ImageBuilder, Layer, busybox_layer, push, push_index

if TYPE_CHECKING:
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

OTHER = "arm64" if ARCHITECTURE != "arm64" else "amd64"
HISTORY: list[dict[str, Any]] = [
    {"created": "2020-01-01T00:00:00Z", "created_by": "ADD rootfs.tar /  # " + "x" * 60, "comment": "from scratch"},
    {"created": "2021-01-01T00:00:00Z", "created_by": "ENV a=b", "empty_layer": True},
    {"created": "2022-01-01T00:00:00Z", "created_by": "COPY\tapp  /app", "author": "somebody"},
]


@pytest.fixture(scope="module")
def app(registry: str) -> str:
    """Two layers, three steps of history, a label."""
    made = ImageBuilder(config={"Labels": {"stage": "test"}}, overrides={"history": HISTORY})
    made.layer(busybox_layer()).layer(Layer().add("app", b"x" * 1000))
    return push(registry, "naming/app:1", made.build())


@pytest.fixture(scope="module")
def both(registry: str) -> str:
    """An index of two platforms."""
    images = [
        (
            {"os": "linux", "architecture": architecture},
            ImageBuilder(overrides={"architecture": architecture})
            .layer(Layer().add("which", architecture.encode()))
            .build(),
        )
        for architecture in (OTHER, ARCHITECTURE)
    ]
    return push_index(registry, "naming/both:1", images)


def listed(daemon: Daemon, *words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(daemon.ok("images", "--format", "json", *words))
    return found


def names(daemon: Daemon, *words: str) -> list[str]:
    return sorted(name for info in listed(daemon, *words) for name in info["names"])


def test_names_are_given_moved_and_taken(daemon: Daemon, app: str, busybox: str) -> None:
    for image in (app, busybox):
        daemon.ross("pull", "-q", image)
    identity = daemon.ross("images", "-q", app).stdout.strip()
    daemon.ok("tag", app, "mine:2")
    daemon.ok("image", "tag", identity, "localhost/other")
    assert names(daemon, "mine") == ["docker.io/library/mine:2"]
    assert daemon.ross("tag", busybox, "mine:2").returncode == 0, "a name is moved"
    assert daemon.ross("images", "-q", "mine:2").stdout == daemon.ross("images", "-q", busybox).stdout
    assert daemon.ross("run", "--rm", "--pull", "never", "mine:2", "echo", "moved").stdout == "moved\n"

    for target, message in ((f"x@sha256:{'0' * 64}", "has a digest in it"), ("x:-y", "is not allowed")):
        done = daemon.ross("tag", app, target)
        assert (done.returncode, message in done.stderr) == (1, True), done.stderr
    assert "no image 'nosuch'" in daemon.ross("tag", "nosuch", "x").stderr

    done = daemon.ross("untag", app, "localhost/other", "mine:2")
    assert (done.returncode, "mine:2 is not a name" in done.stderr) == (1, True)
    assert "localhost/other:latest" in names(daemon), "all or nothing"
    assert daemon.ross("untag", app, "localhost/other").stdout == "Untagged: localhost/other:latest\n"
    assert daemon.ross("image", "untag", app).stdout == f"Untagged: {app}\n"
    assert names(daemon) == sorted(["docker.io/library/mine:2", busybox])
    daemon.kill()
    daemon.start()
    assert names(daemon) == sorted(["docker.io/library/mine:2", busybox])


def test_no_tag_hides_an_id(daemon: Daemon, app: str, busybox: str) -> None:
    """As in Docker: neither a whole id nor what begins as a digest can be a name; the beginning of an id can, and comes first."""
    for image in (app, busybox):
        daemon.ok("pull", "-q", image)
    (victim,) = listed(daemon, app)
    encoded = victim["id"].partition(":")[2]
    for target in (
        encoded,
        f"{encoded}:1",
        victim["id"],
        victim["target"],
        f"sha256:{encoded[:12]}",
        "sha256",
        "sha512:x",
    ):
        done = daemon.ross("tag", busybox, target)
        assert (done.returncode, "looks like" in done.stderr) == (1, True), done.stderr
    daemon.ok("tag", busybox, f"docker.io/library/{victim['id'][:19]}")
    for typed in (encoded, victim["id"], victim["target"], f"sha256:{encoded[:12]}", encoded[:12]):
        assert json.loads(daemon.ross("image", "inspect", typed).stdout)[0]["Id"] == victim["id"], typed
    daemon.ok("tag", busybox, encoded[:12])
    assert json.loads(daemon.ross("image", "inspect", encoded[:12]).stdout)[0]["Id"] != victim["id"]


def test_filters(daemon: Daemon, app: str, busybox: str) -> None:
    """What each filter does is tested elsewhere; here, that each gets to the daemon."""
    for image in (app, busybox):
        daemon.ross("pull", "-q", image)
    daemon.ross("tag", app, "team/tool:1.0")

    assert names(daemon, "-f", "dangling=false") == sorted([app, busybox, "docker.io/team/tool:1.0"])
    assert names(daemon, "*/tool:1.*", "-f", "reference=*/test/*") == sorted([busybox, "docker.io/team/tool:1.0"])
    assert names(daemon, "-f", "label=stage=test", "-f", f"since={busybox}") == []
    daemon.ross("create", "--name", "user", busybox, "true")
    daemon.ross("rmi", "-f", busybox)
    assert [info["names"] for info in listed(daemon, "--filter", "dangling=true")] == [[]]

    table = daemon.ross("images", "--digests").stdout.splitlines()
    assert table[0].split() == ["REPOSITORY", "TAG", "DIGEST", "IMAGE", "ID", "CREATED", "SIZE"]
    assert sum(line.startswith("<none>") for line in table) == 1
    assert [line.split()[1] for line in table if line.startswith("team/tool ")] == ["1.0"]
    for words in (("--filter", "nosuch=1"), ("-f", "since=nosuch")):
        done = daemon.ross("images", *words)
        assert (done.returncode, done.stdout, done.stderr.startswith("error: ")) == (1, "", True)


def test_history_and_documents(daemon: Daemon, app: str) -> None:
    daemon.ross("pull", "-q", app)
    (info,) = listed(daemon)
    steps = json.loads(daemon.ross("history", "--format", "json", app).stdout)
    assert [step["created_by"] for step in steps] == [item["created_by"] for item in reversed(HISTORY)]
    assert [step["layer"] for step in steps] == [info["layers"][1], None, info["layers"][0]]
    assert [step["empty"] for step in steps] == [False, True, False]
    assert [step["size_bytes"] > 0 for step in steps] == [True, False, True]
    assert steps[0]["size_bytes"] == 1000
    assert steps[0]["names"] == [app]

    table = daemon.ross("history", app).stdout.splitlines()
    assert table[0].split("   ")[0] == "IMAGE"
    assert [line.split()[0] for line in table[1:]] == [info["id"].partition(":")[2][:12], "<missing>", "<missing>"]
    assert "COPY app /app" in table[1]
    assert "\N{HORIZONTAL ELLIPSIS}" in table[3]
    plain = daemon.ross("image", "history", "--no-trunc", "--human=false", app).stdout.splitlines()
    assert info["id"] in plain[1]
    assert "2022-01-01T00:00:00Z" in plain[1]
    assert "1000" in plain[1]
    assert "x" * 60 in plain[3]
    assert daemon.ross("history", "-q", "--no-trunc", app).stdout.splitlines() == [info["id"], "<missing>", "<missing>"]

    for words in (("image", "inspect", app), ("inspect", app)):
        (whole,) = json.loads(daemon.ross(*words).stdout)
        assert (whole["Id"], whole["Names"], whole["Target"]) == (info["id"], info["names"], info["target"])
        assert (whole["Size"], whole["CompressedSize"]) == (info["unpacked_bytes"], info["size_bytes"])
        assert whole["Config"] == whole["ImageConfig"]["config"]
        assert whole["ImageConfig"]["history"] == HISTORY
        assert [layer["digest"] for layer in whole["ImageManifest"]["layers"]] == info["layers"] == whole["Blobs"]


def test_platforms_of_one_name_live_side_by_side(daemon: Daemon, both: str) -> None:
    daemon.ok("pull", "-q", "--platform", f"linux/{OTHER}", both)
    (other,) = listed(daemon)
    assert other["platform"]["architecture"] == OTHER
    daemon.ok("pull", "-q", both)
    (ours,) = listed(daemon)
    assert ours["platform"]["architecture"] == ARCHITECTURE, "a name denotes what this machine runs, if that is here"
    assert {info["id"] for info in listed(daemon, "-a")} == {ours["id"], other["id"]}
    assert daemon.ross("pull", "-q", "--platform", f"linux/{OTHER}", both).stdout == other["id"] + "\n"
    assert listed(daemon) == [ours]
    daemon.kill()
    daemon.start()
    assert {info["id"] for info in listed(daemon, "-a")} == {ours["id"], other["id"]}
    create = ("create", "--pull", "never", "--platform")
    daemon.ok(*create, f"linux/{OTHER}", "--name", "foreign", both, "x")
    assert json.loads(daemon.ross("inspect", "foreign").stdout)[0]["Image"] == other["id"]
    assert "is not in the store for linux/s390x" in daemon.ross(*create, "linux/s390x", both, "x").stderr

    daemon.ok("tag", both, "copy:1")
    assert names(daemon, "-a", "copy") == ["docker.io/library/copy:1"] * 2
    daemon.ok("rmi", "copy:1")
    assert "in use by the container foreign" in daemon.ross("rmi", other["id"]).stderr
    daemon.ross("rm", "foreign")
    removed = daemon.ross("rmi", other["id"]).stdout
    assert f"Deleted: {other['manifest']}" in removed
    assert f"Deleted: {other['layers'][0]}" in removed
    assert "Untagged" not in removed, "the name still denotes the other platform"
    assert listed(daemon, "-a") == [ours]
    daemon.ok("rmi", both)
    assert listed(daemon, "-a") == []
    assert not [path for path in (daemon.root / "blobs").rglob("*") if path.is_file()]
    assert not [path for path in (daemon.root / "manifests").rglob("*") if path.is_file()]


async def test_naming_through_the_client_library(daemon: Daemon, app: str) -> None:
    async with ross.connect(daemon.socket) as engine:
        image = await engine.images.pull(app)
        await image.tag("lib:1")
        assert json.loads(await image.config())["history"] == HISTORY
        assert json.loads(await image.manifest())["schemaVersion"] == 2
        assert [step.created_by for step in await image.history()] == [item["created_by"] for item in HISTORY[::-1]]
        assert sorted(await engine.images.untag("lib:1")) == sorted(["docker.io/library/lib:1", app])
        assert await engine.images.list() == ()
        await image.tag("lib:2")
        assert (await engine.images.get("lib:2").now.info()).names == ("docker.io/library/lib:2",)


def test_referrers_are_shown_with_the_image(daemon: Daemon, registry: str, app: str) -> None:
    """Debian's registry has no API for this: the tag schema is what there is."""
    daemon.ross("pull", "-q", app)
    (info,) = listed(daemon)
    assert json.loads(daemon.ross("image", "inspect", "--referrers", app).stdout)[0]["Referrers"] == []
    empty = ImageBuilder().build()
    push(registry, "naming/app:signature", empty)
    push_index(registry, f"naming/app:{info['target'].replace(':', '-')}", [({"os": "x", "architecture": "y"}, empty)])
    (whole,) = json.loads(daemon.ross("image", "inspect", "--referrers", info["id"]).stdout)
    (referrer,) = whole["Referrers"]
    assert (referrer["Subject"], referrer["Digest"]) == (info["target"], empty.digest)
    assert referrer["Size"] == len(empty.manifest)
    assert "Referrers" not in json.loads(daemon.ross("image", "inspect", app).stdout)[0]
