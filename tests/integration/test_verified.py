"""What is run is what was verified, wherever names go meanwhile; and what is secret stays with the daemon and its registry."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

import ross
from tests.support.daemon import Daemon, running_daemon
from tests.support.faulty_registry import USER, Auth, FaultyRegistry, Request, faulty_registry
from tests.support.images import BuiltImage, ImageBuilder, Layer, busybox_layer
from tests.support.waiting import until

if TYPE_CHECKING:
    from ross.model.events import Event, EventGap
    from tests.support.faulty_registry import Fault

pytestmark = pytest.mark.integration


@pytest.fixture
def source() -> Iterator[FaultyRegistry]:
    with faulty_registry() as registry:
        yield registry


def two_images() -> dict[str, BuiltImage]:
    """Which one it is, is in a file, in the config and in a label."""
    base = busybox_layer().tar()
    return {
        which: ImageBuilder(
            config={"Cmd": ["sh", "-c", "cat /which; echo -n :$WHICH"], "Env": [f"WHICH={which}", "PATH=/bin"]}
        )
        .layer(base)
        .layer(Layer().add("which", which.encode()))
        .build()
        for which in ("one", "two")
    }


class Moving:
    """A tag that denotes another image after each request of any kind that is about a manifest."""

    def __init__(self, source: FaultyRegistry, images: dict[str, BuiltImage]) -> None:
        self._source = source
        self._images = list(images.values())
        self.requests: list[tuple[str, str]] = []
        self.reference = source.serve("moving", "1", self._images[0])
        source.serve("moving", "other", self._images[1])

    def __call__(self, request: Request) -> tuple[str, Fault] | None:
        if request.manifest:
            self.requests.append((request.method, request.path.rpartition("/")[2]))
            self._images.reverse()
            self._source.serve("moving", "1", self._images[0])
        return None


@pytest.mark.timeout(240)
def test_tag_that_moves_at_every_request_gives_whole_images(daemon: Daemon, source: FaultyRegistry) -> None:
    """Between HEAD and GET, between manifest and config, between two pulls: what comes is one image or the other, by its own digest."""
    images = two_images()
    source.plan = moving = Moving(source, images)
    digests = {image.digest: which for which, image in images.items()}
    for number in range(2):
        pulled = daemon.ross("pull", "-q", moving.reference)
        assert pulled.returncode == 0, pulled.stderr
        name = f"box{number}"
        created = daemon.ross("create", "--name", name, moving.reference)
        assert created.returncode == 0, created.stderr
        daemon.ok("pull", "-q", moving.reference)
        (box,) = json.loads(daemon.ross("inspect", name).stdout)
        which = digests[box["Manifest"]]
        assert daemon.ross("start", "-a", name).stdout == f"{which}:{which}", "layers and config are of one image"
        daemon.ok("rm", "-f", name)
    assert moving.requests, "the tag was asked for"
    assert not [name for _method, name in moving.requests if name not in {"1", *digests}]


async def test_image_that_is_held_stays_the_one_that_was_verified(daemon: Daemon, source: FaultyRegistry) -> None:
    """The name moves between pull and create, is taken away and given to another image, and everything else is collected."""
    images = two_images()
    reference = source.serve("held", "1", images["one"])
    async with ross.connect(daemon.socket) as engine:
        image = await engine.images.pull(reference)
        source.serve("held", "1", images["two"])
        await engine.images.pull(reference)
        assert (await (await engine.images.get(reference)).info()).id != (await image.info()).id
        await engine.images.remove(reference)
        await engine.collect()
        box = await image.create()
        assert str((await box.info()).manifest) == images["one"].digest
        ran = await image.run()
        assert ran.stdout == b"one:one"
        await box.remove()


@pytest.fixture
def logged_in(source: FaultyRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The credentials that the daemon has, as they are written and sent."""
    basic = base64.b64encode(":".join(USER).encode()).decode()
    (tmp_path / "docker").mkdir(mode=0o700)
    (tmp_path / "docker/config.json").write_text(json.dumps({"auths": {source.host: {"auth": basic}}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return basic


@pytest.mark.timeout(240)
async def test_secrets_are_in_no_log_error_event_or_file(
    filesystem: Path, source: FaultyRegistry, logged_in: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passwords and tokens, through log in, pulls that work and that fail, and a push, all logged at the lowest level; and repository B
    never sees a token of A."""
    monkeypatch.setenv("ROSS_LOG_LEVEL", "debug")
    source.auth = Auth(scheme="bearer")
    images = two_images()
    first, second = source.serve("a/one", "1", images["one"]), source.serve("b/two", "1", images["two"])
    directory = filesystem / "secrets"
    directory.mkdir()
    said, told = "", list[str]()

    async def keep(events: AsyncIterator[Event | EventGap]) -> None:
        async for event in events:
            told.append(repr(event))

    with running_daemon(directory) as daemon:
        async with ross.connect(daemon.socket) as engine, engine.events() as events, trio.open_nursery() as nursery:
            nursery.start_soon(keep, events)
            for words in (
                ("pull", first),
                ("pull", second),
                ("pull", f"{source.host}/a/none:1"),
                ("push", first),
                ("run", "--rm", first),
                ("info",),
            ):
                done = await trio.to_thread.run_sync(partial(daemon.ross, *words))
                said += done.stdout + done.stderr
            source.auth.token = lambda: (403, b'{"errors":[{"code":"DENIED","message":"no"}]}')
            done = await trio.to_thread.run_sync(partial(daemon.ross, "pull", f"{source.host}/c/three:1"))
            said += done.stderr
            nursery.cancel_scope.cancel()
        said += "".join(told)
        assert "pull" in "".join(told)
        said += daemon.log
        until(lambda: not any((daemon.root / "pending").iterdir()))  # nothing goes away any more
        kept = b"".join(
            path.read_bytes() for path in daemon.root.rglob("*") if path.is_file() and not path.is_symlink()
        )
    sent = {request.headers.get("authorization", ""): set[str]() for request in source.requests}
    for request in source.requests:
        if match := re.match(r"/v2/(.+)/(?:blobs|manifests)/", request.path):
            sent[request.headers.get("authorization", "")].add(match[1])
    tokens = [name.removeprefix("Bearer ") for name in sent if name.startswith("Bearer ")]
    assert len(tokens) >= 2
    assert all(len(repositories) == 1 for name, repositories in sent.items() if name.startswith("Bearer "))
    for secret in (USER[1], logged_in, *tokens):
        assert secret not in said
        assert secret.encode() not in kept
