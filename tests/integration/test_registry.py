"""Pulling from a real registry that wants to know who asks; and what a user reads when that goes wrong."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from tests.support.images import busybox_image, push
from tests.support.registry import running_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

HTPASSWD = "user:$2y$04$ExVPyJyI.WUhSbuPgdisru8ojRyMzmnh5I5VlOa2Skmpv0/xMCSPK\n"
"""bcrypt of secret-word: all that docker-registry reads."""


@pytest.fixture
def private(tmp_path: Path) -> Iterator[str]:
    """The reference of an image in a registry with a password."""
    (tmp_path / "htpasswd").write_text(HTPASSWD)
    with running_registry(tmp_path / "private", htpasswd=tmp_path / "htpasswd") as address:
        yield push(address, "private/busybox:1", busybox_image(), auth=("user", "secret-word"))


@pytest.fixture
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the daemon looks for credentials; nothing is there yet."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    (tmp_path / "docker").mkdir()
    return tmp_path / "docker/config.json"


def entry(reference: str, pair: str) -> str:
    host = reference.partition("/")[0]
    return json.dumps({"auths": {host: {"auth": base64.b64encode(pair.encode()).decode()}}})


def test_password(credentials: Path, private: str, daemon: Daemon) -> None:
    done = daemon.ross("pull", private)
    assert (done.returncode, "wants credentials" in done.stderr, "hint: " in done.stderr) == (1, True, True)
    credentials.write_text(entry(private, "user:wrong-word"))
    assert "does not accept the stored credentials" in daemon.ross("pull", private).stderr
    credentials.write_text(entry(private, "user:secret-word"))
    daemon.ok("pull", private)
    assert daemon.ross("run", "--rm", private, "echo", "in").stdout == "in\n"
    assert "word" not in daemon.log, "no secret is ever logged"


def test_credentials_that_cannot_be_read_are_told(credentials: Path, private: str, daemon: Daemon) -> None:
    credentials.write_text("{")
    done = daemon.ross("pull", private)
    assert done.returncode == 1
    assert "are not JSON" in done.stderr


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("{registry}/test/nosuch:1", "knows no such image"),
        ("{registry}/test/busybox:nosuch", "knows no such image"),
        ("127.0.0.1:1/x", "no connection to 127.0.0.1:1"),
        ("UPPER/x", "image names are lower case"),
        ("x@sha256:abc", "is not 64 lower-case hexadecimal characters"),
        ("", "is not an image reference"),
    ],
)
def test_pulls_that_cannot_be(daemon: Daemon, registry: str, busybox: str, reference: str, message: str) -> None:
    done = daemon.ross("pull", reference.format(registry=registry), timeout=90)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stdout == ""
    assert daemon.ross("images", "-q").stdout == ""


def test_names_digests_and_prefixes_are_taken_wherever_a_user_would_type_them(daemon: Daemon, busybox: str) -> None:
    daemon.ross("pull", "-q", busybox)
    (info,) = json.loads(daemon.ross("images", "--format", "json").stdout)
    encoded = info["id"].partition(":")[2]
    by_digest = f"{busybox.rpartition(':')[0]}@{info['target']}"
    for name in (busybox, info["id"], encoded, encoded[:6], f"sha256:{encoded[:9]}", info["target"], by_digest):
        assert daemon.ross("run", "--rm", "--pull", "never", name, "true").returncode == 0, name
        assert json.loads(daemon.ross("image", "inspect", name).stdout)[0]["Id"] == info["id"]
    assert daemon.ross("pull", "-q", by_digest).stdout == info["id"] + "\n"
    assert daemon.ross("rmi", encoded[:8]).returncode == 1, "it has two names"
    daemon.ok("rmi", "-f", encoded[:8])
    assert daemon.ross("images", "-q").stdout == ""


def test_forms_of_listings(daemon: Daemon, box: str) -> None:
    daemon.ross("create", "--name", "one", box, "true")
    for words in (
        ("images",),
        ("ps", "-a"),
        ("debug", "tasks"),
        ("image", "inspect", box),
        ("inspect", "one"),
        ("doctor",),
    ):
        whole = json.loads(daemon.ross(*words, "--format", "json").stdout)
        lines = [json.loads(line) for line in daemon.ross(*words, "--format", "jsonl").stdout.splitlines()]
        assert {frozenset(item) for item in whole} == {frozenset(item) for item in lines}
        assert daemon.ross(*words, "--format", "table").stdout.count("\n") >= 2
    for words in (("info",), ("version",)):
        assert isinstance(json.loads(daemon.ross(*words, "--format", "json").stdout), dict)
    assert daemon.ross("container", "ls", "-aq").stdout == daemon.ross("ps", "-aq").stdout
    assert daemon.ross("image", "ls", "-q").stdout == daemon.ross("images", "-q").stdout
