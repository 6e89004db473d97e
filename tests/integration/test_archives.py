"""Archives there and back: with Podman and Skopeo, byte for byte with ourselves, and through every way of breaking off."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio
import pytest

import ross
from ross.errors import InvalidArgument, NotFound
from tests.support.archives import docker_archive, entry_of, oci_layout
from tests.support.daemon import command
from tests.support.images import (
    ARCHITECTURE,
    ImageBuilder,
    Layer,
    busybox_image,
    busybox_layer,
    digest_of,
    push,
    push_index,
)
from tests.support.waiting import baseline, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

T = TypeVar("T")


class Podman:
    """Podman with storage of its own."""

    def __init__(self, root: Path, run: Path) -> None:
        program = shutil.which("podman")
        if program is None:
            raise RuntimeError("podman is not installed: apt install podman")
        self._argv = [
            program, "--root", str(root), "--runroot", str(run), "--storage-driver", "overlay",
        ]  # fmt: skip

    def run(self, *words: str, input: bytes | None = None) -> bytes:  # noqa: A002 -- as subprocess has it
        done = subprocess.run([*self._argv, *words], input=input, capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def images(self) -> dict[str, str]:
        """Ids by name."""
        found = json.loads(self.run("images", "--format", "json"))
        return {name: f"sha256:{one['Id']}" for one in found for name in one.get("Names") or ()}


@pytest.fixture
def podman(filesystem: Path) -> Iterator[Podman]:
    with tempfile.TemporaryDirectory(prefix="podman-") as run:  # of a short name: it takes no other
        yield Podman(filesystem / f"p{len(list(filesystem.iterdir()))}", Path(run))


def skopeo(*words: str) -> str:
    program = shutil.which("skopeo")
    if program is None:
        raise RuntimeError("skopeo is not installed: apt install skopeo")
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pipe(daemon: Daemon, *words: str, input: bytes = b"", fails: bool = False) -> bytes:  # noqa: A002
    """Run a command with bytes on its pipes."""
    done = subprocess.run(command(*words), env=daemon.environment(), input=input, capture_output=True, timeout=120)
    assert done.returncode == (1 if fails else 0), done.stderr
    return done.stderr if fails else done.stdout


def ask(daemon: Daemon, question: Callable[[ross.Engine], Awaitable[T]]) -> T:
    """Ask without a command line, which takes longer to begin than most of what is asked."""

    async def body() -> T:
        async with ross.connect(daemon.socket) as engine:
            return await question(engine)

    return anyio.run(body, backend="trio")


def images(daemon: Daemon) -> dict[str, tuple[str, str, str]]:
    """Id, manifest and target by name."""

    async def look(engine: ross.Engine) -> dict[str, tuple[str, str, str]]:
        return {
            name: (str(one.id), str(one.manifest), str(one.target))
            for one in await engine.images.list()
            for name in one.names
        }

    return ask(daemon, look)


def ids(daemon: Daemon) -> dict[str, str]:
    return {name: one[0] for name, one in images(daemon).items()}


@pytest.fixture(scope="module")
def several(registry: str) -> list[str]:
    """A plain image, one of several layers in several compressions, and one that is an index."""
    plain = ImageBuilder(config={"Labels": {"a": "b"}}).layer(busybox_layer(), compression="+zstd").build()
    layered = ImageBuilder().layer(busybox_layer()).layer(Layer().add("two", b"2" * 5000))
    layered.layer(Layer().add("three", b"3").whiteout("two"), compression="")
    foreign = ImageBuilder(overrides={"architecture": "s390x"}).layer(Layer().add("x", b"y")).build()
    index = [
        ({"os": "linux", "architecture": ARCHITECTURE}, busybox_image(Labels={"of": "index"})),
        ({"os": "linux", "architecture": "s390x"}, foreign),
    ]
    return [
        push(registry, "archived/plain:1", plain),
        push(registry, "archived/layered:1", layered.build()),
        push_index(registry, "archived/index:1", index),
    ]


@pytest.fixture
def pulled(daemon: Daemon, several: list[str]) -> list[str]:
    async def pull(engine: ross.Engine) -> None:
        for name in several:
            await engine.images.pull(name)

    ask(daemon, pull)
    return several


def forget_all(daemon: Daemon) -> None:
    async def forget(engine: ross.Engine) -> None:
        for info in await engine.images.list():
            await engine.images.remove(str(info.id), force=True)
        assert await engine.images.list() == ()

    ask(daemon, forget)


# -- others -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["", "docker-archive"])
def test_podman_loads_what_we_save(daemon: Daemon, pulled: list[str], podman: Podman, form: str) -> None:
    flags = ["--format", form] if form else []
    podman.run("load", "-q", input=pipe(daemon, "save", *flags, *pulled))
    assert podman.images() == ids(daemon)


def test_podman_loads_a_layout_of_an_index(daemon: Daemon, pulled: list[str], podman: Podman) -> None:
    podman.run("load", "-q", input=pipe(daemon, "image", "save", "--format", "oci-archive", pulled[2]))
    assert podman.images() == {pulled[2]: ids(daemon)[pulled[2]]}


def test_we_load_what_podman_saves(daemon: Daemon, pulled: list[str], podman: Podman) -> None:
    before = ids(daemon)
    podman.run("load", "-q", input=pipe(daemon, "save", *pulled))
    forget_all(daemon)
    loaded = pipe(daemon, "load", "-q", input=podman.run("save", "-q", "-m", *pulled)).decode()
    assert sorted(loaded.splitlines()) == sorted(f"Loaded image: {name}" for name in pulled)
    assert ids(daemon) == before
    assert daemon.ross("run", "--rm", pulled[1], "sh", "-c", "cat /three; ls /two").stdout == "3"


def test_we_load_the_layout_that_podman_saves(daemon: Daemon, pulled: list[str], podman: Podman) -> None:
    before = ids(daemon)
    podman.run("load", "-q", input=pipe(daemon, "save", "--format", "oci-archive", pulled[1]))
    forget_all(daemon)
    pipe(daemon, "load", "-q", input=podman.run("save", "-q", "--format", "oci-archive", pulled[1]))
    assert ids(daemon) == {pulled[1]: before[pulled[1]]}


def test_skopeo_copies_between_our_forms(daemon: Daemon, pulled: list[str], tmp_path: Path) -> None:
    before = images(daemon)[pulled[1]]
    layout, docker = tmp_path / "layout.tar", tmp_path / "docker.tar"
    daemon.ok("save", "--format", "oci-archive", "-o", str(layout), pulled[1])
    raw = skopeo("inspect", "--raw", f"oci-archive:{layout}").encode()
    assert digest_of(raw) == before[1]
    skopeo("copy", "-q", f"oci-archive:{layout}", f"docker-archive:{docker}:localhost/copied:2")
    forget_all(daemon)
    assert daemon.ross("load", "-q", "-i", str(docker)).stdout == "Loaded image: localhost/copied:2\n"
    assert ids(daemon) == {"localhost/copied:2": before[0]}
    again = tmp_path / "again.tar"
    daemon.ok("save", "--format", "docker-archive", "-o", str(again), "localhost/copied:2")
    skopeo("copy", "-q", f"docker-archive:{again}", f"oci-archive:{tmp_path / 'last.tar'}:tag")
    last = daemon.ross("load", "-q", "-i", str(tmp_path / "last.tar")).stdout
    assert last.startswith("Loaded image ID: sha256:")
    assert daemon.ross("run", "--rm", last.split()[-1], "cat", "/three").stdout == "3"


# -- ourselves ----------------------------------------------------------------------------------------------------------


def test_round_trip_is_byte_identical_and_keeps_every_digest(daemon: Daemon, pulled: list[str], tmp_path: Path) -> None:
    before = images(daemon)
    archives = {form: tmp_path / f"{form}.tar" for form in ("both", "oci-archive", "docker-archive")}
    for form, path in archives.items():
        flags = [] if form == "both" else ["--format", form]
        daemon.ok("save", *flags, "-o", str(path), *pulled)
        assert path.stat().st_mode & 0o777 == 0o600
    for form, path in archives.items():
        forget_all(daemon)
        daemon.ok("load", "-i", str(path))
        assert ids(daemon) == {name: one[0] for name, one in before.items()}
        if form != "docker-archive":
            assert images(daemon) == before
        flags = [] if form == "both" else ["--format", form]
        assert pipe(daemon, "save", *flags, *reversed(pulled)) == path.read_bytes()
    packed = subprocess.run(["gzip", "-1"], input=archives["both"].read_bytes(), capture_output=True, check=True).stdout
    forget_all(daemon)
    pipe(daemon, "image", "load", "-q", input=packed)
    assert images(daemon) == before
    assert daemon.ross("run", "--rm", pulled[2], "echo", "hello").stdout == "hello\n"
    assert list((daemon.root / "ingest").iterdir()) == []


def test_import_makes_an_image_that_runs(daemon: Daemon, tmp_path: Path) -> None:
    archive = tmp_path / "root.tar"
    archive.write_bytes(busybox_layer().tar())
    flags = ["-c", 'CMD ["sh", "-c", "echo $GREETING from $(pwd)"]', "--change", "ENV GREETING=hello PATH=/bin"]
    done = daemon.ross("import", *flags, "-c", "WORKDIR /var", "-m", "by hand", str(archive), "local/base")
    identity = ids(daemon)["docker.io/local/base:latest"]
    assert done.stdout == f"{identity}\n"
    assert daemon.ross("run", "--rm", "local/base").stdout == "hello from /var\n"
    assert "by hand" in daemon.ross("history", "local/base").stdout
    packed = subprocess.run(["gzip"], input=archive.read_bytes(), capture_output=True, check=True).stdout
    unnamed = pipe(daemon, "image", "import", "-", input=packed).decode().strip()
    assert daemon.ross("run", "--rm", unnamed, "/bin/echo", "hi").stdout == "hi\n"


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_the_client_library_saves_loads_and_imports(daemon: Daemon, box: str, backend: str) -> None:
    async def pieces(data: bytes) -> AsyncIterator[bytes]:
        for at in range(0, len(data), 100_000):
            yield data[at : at + 100_000]

    async def breaking() -> AsyncIterator[bytes]:
        yield bytes(100)
        raise KeyError("mine")

    async def body() -> None:
        async with ross.connect(daemon.socket) as engine:
            async with engine.images.save(box) as chunks:
                archive = b"".join([chunk async for chunk in chunks])
            await engine.images.remove(box)
            (loaded,) = await engine.images.load(pieces(archive))
            assert loaded.names == (box,)
            image = await engine.images.import_filesystem(
                pieces(busybox_layer().tar()), "lib", changes=["CMD /bin/true"]
            )
            assert image.image.command == ("/bin/sh", "-c", "/bin/true")
            with pytest.raises(NotFound):
                async with engine.images.save("nosuch") as chunks:
                    assert [chunk async for chunk in chunks] == []
            with pytest.raises(InvalidArgument, match="no archive of images"):
                await engine.images.load(pieces(bytes(1_000_000)))
            with pytest.raises(KeyError, match="mine"):
                await engine.images.load(breaking())
            async with engine.images.save(box) as chunks:
                async for _chunk in chunks:
                    break
            with anyio.move_on_after(0.05):
                await engine.images.load(_endless())

    anyio.run(body, backend=backend)


async def _endless() -> AsyncIterator[bytes]:
    head = oci_layout([], []).add("zeros", b"").tar()
    yield head[: len(head.rstrip(b"\0")) // 512 * 512]
    await anyio.sleep_forever()


# -- hostile archives, and what goes wrong ------------------------------------------------------------------------------


def test_hostile_archives_are_refused_in_a_line_and_leave_nothing(daemon: Daemon, tmp_path: Path) -> None:
    """CVE-2014-9358, 2014-5282, 2014-6407, 2014-9356: what the unit tests try one by one, through the whole of the engine."""
    canary = tmp_path / "canary"
    canary.write_text("untouched")
    image = busybox_image(Labels={"is": "hostile"})
    up = "../" * 20 + str(canary).lstrip("/")
    evil = ImageBuilder().layer(Layer().symlink("out", str(tmp_path)).add("out/canary", b"evil")).build()
    outside = ImageBuilder().layer(Layer().add("../../../../canary", b"evil")).build()
    archives = {
        "leads out of it": oci_layout([image], [entry_of(image, "a:1")]).add(up, b"evil"),
        "out of the archive": oci_layout([image], [entry_of(image, "a:1")]).symlink("x", up),
        "not a name": docker_archive(ImageBuilder().layer(busybox_layer()), [f"{up}:1"]),
        "lacks": docker_archive(ImageBuilder().layer(busybox_layer()), ["a:1"], Layers=["no/layer.tar"]),
        "another digest": oci_layout([image], [entry_of(image, f"a@{evil.digest}")]),
        "": oci_layout([image, outside], [entry_of(image, "a:1"), entry_of(outside, "b:1")]),
    }
    for message, archive in archives.items():
        said = pipe(daemon, "load", "-q", input=archive.tar(), fails=True).decode()
        assert message in said
        assert said.startswith("error: ")
        assert "Traceback" not in said
        assert images(daemon) == {}
        assert list((daemon.root / "ingest").iterdir()) == []
    pipe(daemon, "load", "-q", input=oci_layout([evil], [entry_of(evil, "evil:1")]).tar())
    assert canary.read_text() == "untouched"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["canary"]


def test_saving_fails_without_leaving_half_a_file(daemon: Daemon, pulled: list[str], tmp_path: Path) -> None:
    target = tmp_path / "x.tar"
    target.write_text("as it was")
    (info,) = json.loads(daemon.ross("inspect", pulled[0]).stdout)
    blob = daemon.root / "blobs" / info["Blobs"][0].replace(":", "/")
    whole = blob.read_bytes()
    blob.write_bytes(whole[:-1] + b"!")
    done = daemon.ross("save", "-o", str(target), pulled[0])
    blob.write_bytes(whole)
    assert done.returncode == 1
    assert "is damaged" in done.stderr
    assert target.read_text() == "as it was"
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]
    full = daemon.ross("save", "-o", "/dev/full", pulled[0])
    assert (full.returncode, "No space left" in full.stderr) == (1, True)


def big_archive(megabytes: int) -> bytes:
    """An image with a layer that no compression would make small."""
    rng = random.Random(7)
    builder = ImageBuilder().layer(busybox_layer())
    builder.layer(Layer().add("big", rng.randbytes(megabytes << 20)), compression="")
    image = builder.build()
    return oci_layout([image], [entry_of(image, "localhost/big:1")]).tar()


def spooled(daemon: Daemon) -> int:
    """How many bytes of archives are on their way."""
    found = 0
    for path in (daemon.root / "ingest").glob("spool-*/*"):
        with suppress(FileNotFoundError):  # it has come to its end meanwhile
            found += path.stat().st_size
    return found


def until_spooling(daemon: Daemon, loading: subprocess.Popen[bytes]) -> None:
    """Wait until a load is under way; one that has been too quick to be seen is as well."""
    until(lambda: spooled(daemon) > 0 or loading.poll() is not None)


def test_killed_client_leaves_nothing_in_the_daemon(daemon: Daemon) -> None:
    archive = big_archive(8)
    before = baseline(daemon)
    loading = daemon.popen("load", "-q")
    assert loading.stdin is not None
    loading.stdin.write(archive[: len(archive) // 2])
    loading.stdin.flush()
    until(lambda: spooled(daemon) > 1 << 20)
    loading.kill()
    loading.communicate()
    until(lambda: not list((daemon.root / "ingest").iterdir()))
    until(lambda: baseline(daemon) == before)
    pipe(daemon, "load", "-q", input=archive)
    saving = daemon.popen("save", "localhost/big:1")
    assert saving.stdout is not None
    assert len(saving.stdout.read(1 << 20)) == 1 << 20
    assert daemon.open_fds() > before[0]
    saving.kill()
    saving.communicate()
    until(lambda: baseline(daemon) == before)
    daemon.ok("rmi", "localhost/big:1")


def test_killed_daemon_starts_clean_and_the_same_load_works(daemon: Daemon, tmp_path: Path) -> None:
    path = tmp_path / "big.tar"
    path.write_bytes(big_archive(8))
    began = time.monotonic()
    daemon.ok("load", "-q", "-i", str(path))
    whole = time.monotonic() - began
    rng = random.Random(11)
    for round_ in range(4):
        daemon.ok("rmi", "-f", "localhost/big:1")
        loading = daemon.popen("load", "-q", "-i", str(path))
        if round_ % 2:
            until_spooling(daemon, loading)
            time.sleep(rng.uniform(0, whole / 4))
        else:
            time.sleep(rng.uniform(0, whole))
        daemon.kill()
        loading.communicate()
        daemon.start()
        assert list((daemon.root / "ingest").glob("spool-*")) == []
        assert [one for one in (daemon.root / "snapshots").iterdir() if one.name.startswith("unpack-")] == []
        assert daemon.ross("load", "-q", "-i", str(path)).stdout == "Loaded image: localhost/big:1\n"
    assert daemon.ross("run", "--rm", "localhost/big:1", "wc", "-c", "/big").stdout.split()[0] == str(8 << 20)
    assert list((daemon.root / "ingest").iterdir()) == []


def test_memory_is_bounded_whatever_the_size(daemon: Daemon) -> None:
    """CVE-2017-14992: an archive through a pipe, of 96 MB, and back, both within a few megabytes."""
    pipe(daemon, "load", "-q", input=big_archive(2))
    before = daemon.rss_bytes()
    archive = big_archive(96)
    peak = before
    loading = daemon.popen("load", "-q")
    assert loading.stdin is not None
    view = memoryview(archive)
    for at in range(0, len(view), 8 << 20):
        loading.stdin.write(view[at : at + (8 << 20)])
        peak = max(peak, daemon.rss_bytes())
    loading.communicate()
    assert loading.returncode == 0
    argv = command("save", "localhost/big:1")
    with subprocess.Popen(argv, env=daemon.environment(), stdout=subprocess.PIPE) as saving:
        assert saving.stdout is not None
        while saving.stdout.read(8 << 20):
            peak = max(peak, daemon.rss_bytes())
    assert saving.returncode == 0
    assert peak - before < 40 << 20
