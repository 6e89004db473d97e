"""Users, generated files, labels, environments: what has led out of other engines on the way from an image and a spec to a runtime's
config, tried in this one. Beside ``test_sandbox_proofs.py``; all in one daemon.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from tarfile import CHRTYPE, FIFOTYPE
from typing import TYPE_CHECKING, Any, Final

import pytest
import trio
from attrs import fields

from ross.errors import FailedPrecondition, InvalidArgument
from ross.linux.syscalls import exchange
from ross.settings import Settings
from ross.shim.rootfs import open_rootfs
from ross.shim.valid_security import _RESERVED
from tests.support.images import ImageBuilder, Layer, busybox_layer, push

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ross.client import Engine, Image
    from tests.support.daemon import Daemon

pytestmark = pytest.mark.integration

MiB: Final = 1 << 20
CANARY: Final = Path("/tmp/ross-spec-canary")


async def pulled(engine: Engine, registry: str, name: str, image: ImageBuilder) -> Image:
    return await engine.images.pull(push(registry, name, image.build()))


# -- users ------------------------------------------------------------------------------------------------------------

PLANTS: Final[dict[str, Callable[[Layer, str], Layer]]] = {
    "fifo": lambda layer, path: layer.add(path, type=FIFOTYPE),
    "node of /dev/zero": lambda layer, path: layer.add(path, type=CHRTYPE, devmajor=1, devminor=5),
    "link to /dev/zero": lambda layer, path: layer.symlink(path, "/dev/zero"),
    "link to /proc/kmsg": lambda layer, path: layer.symlink(path, "/proc/kmsg"),
    "link through a link": lambda layer, path: layer.symlink("up", "../..").symlink(path, "/up/proc/kmsg"),
}


@pytest.mark.parametrize("path", ["etc/passwd", "etc/group"])
async def test_files_of_users_that_do_not_end(shared: Daemon, engine: Engine, registry: str, path: str) -> None:
    """CVE-2026-47262, CVE-2025-4437, CVE-2024-9676: the engine read without end, or the runtime did, of the host's memory."""
    before = shared.rss_bytes()
    for number, plant in enumerate(PLANTS.values()):
        layer = plant(busybox_layer(), path)
        image = await pulled(engine, registry, f"test/endless-{path[4:]}:{number}", ImageBuilder().layer(layer))
        with trio.fail_after(60), pytest.raises(FailedPrecondition, match="which is refused"):
            await image.run(["id"], memory=64 * MiB)
    assert shared.rss_bytes() < before + 32 * MiB


async def test_files_of_users_that_are_huge(shared: Daemon, plain: Image) -> None:
    """CVE-2026-47262: a gigabyte of groups, that a container has made of its own; neither a start nor an exec reads it."""
    container = await plain.create(["sleep", "1000"], memory=64 * MiB)
    await container.start()
    before = shared.rss_bytes()
    assert (await container.exec(["truncate", "-s", "1G", "/etc/group"])).outcome.exit_code == 0
    with trio.fail_after(60), pytest.raises(FailedPrecondition, match="is larger than"):
        await container.exec(["id"], user="nobody")
    await container.kill()
    await container.wait()
    with trio.fail_after(60), pytest.raises(FailedPrecondition, match="is larger than"):
        await container.start()
    assert shared.rss_bytes() < before + 32 * MiB
    await container.remove(force=True)


async def test_files_of_users_that_are_links_to_the_hosts(engine: Engine, registry: str) -> None:
    """CVE-2024-9676: links in the image are followed in the image."""
    CANARY.write_text("evil:x:7:7::/:/bin/sh\n")
    layer = busybox_layer().symlink("etc/passwd", f"{'../' * 20}{CANARY}").symlink("etc/group", "../../etc/shadow")
    layer.add("etc/shadow", b"inside:x:77:\n")
    image = await pulled(engine, registry, "test/astray:1", ImageBuilder().layer(layer))
    with pytest.raises(FailedPrecondition, match="no user 'evil'"):
        await image.run(["id"], user="evil")
    assert (await image.run(["id", "-g"], user="5:inside")).stdout == b"77\n"
    CANARY.unlink()


@pytest.mark.parametrize("user", ["4294967296", "4294967295", "2147483648", "-1", "0x0", "\u0660", "1\n0", "0 ", "+0"])
async def test_users_of_images_that_are_no_numbers(engine: Engine, registry: str, user: str) -> None:
    """CVE-2024-40635: a number too large became root's."""
    builder = ImageBuilder(config={"User": user}).layer(busybox_layer())
    image = await pulled(engine, registry, "test/user:1", builder)
    with pytest.raises(FailedPrecondition):
        await image.run(["id", "-u"])


async def test_file_that_excludes_a_group_stays_shut(engine: Engine, registry: str) -> None:
    """CVE-2022-36109, 2023-25173, 2022-2989, 2022-2990, 2022-2995: without its primary group among the others a process drops the
    group by setgroups(2), and with it what the file's mode denies."""
    layer = busybox_layer().add("shut", b"secret", mode=0o604, gid=50)
    layer.add("etc/passwd", b"root:x:0:0::/:/bin/sh\nmember:x:1000:50::/:/bin/sh\nother:x:1001:60::/:/bin/sh\n")
    image = await pulled(engine, registry, "test/excluded:1", ImageBuilder().layer(layer))
    container = await image.create(["sleep", "1000"], user="member")
    await container.start()
    for user, group_add in (("member", ()), ("1000", ()), ("7:50", ()), ("7:staff", ()), ("other", ("staff",))):
        done = await image.run(["sh", "-c", "id -G; cat /shut"], user=user, group_add=group_add)
        assert "50" in done.stdout.decode().split(), user
        assert b"secret" not in done.stdout, user
        if not group_add:
            assert b"secret" not in (await container.exec(["cat", "/shut"], user=user)).stdout
    assert b"secret" in (await image.run(["cat", "/shut"], user="other")).stdout, "it is the group that shuts it"
    await container.remove(force=True)


# -- generated files --------------------------------------------------------------------------------------------------

SEPARATORS: Final = {"newline": "\n", "return": "\r", "zero": "\0", "colon": ":", "line": "\u2028", "escape": "\\n"}
SHOW: Final = "for file in passwd group hosts hostname resolv.conf; do echo [$file]; cat /etc/$file; done; ls /etc"
HOSTS: Final = [
    *("127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback", "fe00::0\tip6-localnet"),
    *("ff00::0\tip6-mcastprefix", "ff02::1\tip6-allnodes", "ff02::2\tip6-allrouters", "127.0.1.1\tthere"),
]
SHOWN: Final = [
    *("[passwd]", "root:x:0:0:root:/root:/bin/sh", "nobody:x:65534:65534:nobody:/:/bin/false"),
    *("[group]", "root:x:0:", "nogroup:x:65534:", "staff:x:50:nobody", "[hosts]", *HOSTS, "[hostname]", "there"),
    *("[resolv.conf]", "# This container has no network.", "group", "hostname", "hosts", "passwd", "resolv.conf"),
]


def ways(evil: str) -> Iterator[dict[str, Any]]:
    """Every option whose text could get into a file."""
    yield {"env": [f"HOME={evil}", f"X={evil}", f"HOSTNAME={evil}"]}
    yield {"env": [f"{evil}=x"]}
    yield {"workdir": f"/{evil}"}
    yield {"labels": {evil: evil}}
    yield {"annotations": {evil: evil}}
    yield {"user": evil}
    yield {"user": f"0:{evil}"}
    yield {"group_add": [evil]}
    yield {"hostname": evil}
    yield {"hosts": [f"{evil}:1.2.3.4"]}
    yield {"hosts": [f"name:1.2.3.4{evil}"]}
    yield {"dns": [f"1.2.3.4{evil}"]}
    yield {"dns_search": [evil]}
    yield {"dns_options": [evil]}


@pytest.mark.parametrize("name", SEPARATORS)
async def test_no_value_becomes_a_line_of_a_file(engine: Engine, plain: Image, registry: str, name: str) -> None:
    """CVE-2022-4318, CVE-2026-15809: HOME with a newline in it became a user. Each text is refused, or is in none of the files."""
    evil = f"x{SEPARATORS[name]}evil::0:0::/:/bin/sh"
    accepted: dict[str, Any] = {"hostname": "there", "env": []}
    refused = 0
    for way in ways(evil):
        try:
            await (await plain.create(["true"], **way)).remove()
        except InvalidArgument:
            refused += 1
            continue
        if "user" in way:  # it is looked up in the image
            with pytest.raises(FailedPrecondition):
                await plain.run(["true"], **way)
            refused += 1
            continue
        accepted["env"] += way.pop("env", [])
        accepted |= way
    assert refused >= 9
    assert (await plain.run(["sh", "-c", SHOW], **accepted)).stdout.decode().splitlines() == SHOWN
    config = {"Env": [f"HOME={evil}", f"{evil}=x"], "WorkingDir": f"/{evil}", "Labels": {evil: evil}, "Hostname": evil}
    image = await pulled(engine, registry, f"test/lines:{name}", ImageBuilder(config=config).layer(busybox_layer()))
    if name == "zero":
        with pytest.raises(FailedPrecondition, match="zero byte"):
            await image.run(["true"])
    else:
        done = await image.run(["/bin/sh", "-c", f"PATH=/bin; {SHOW}"], hostname="there")
        assert done.stdout.decode().splitlines() == SHOWN


# -- places -----------------------------------------------------------------------------------------------------------


def tree(top: Path) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for path in (top, *top.rglob("*")):
        entry = path.lstat()
        found[str(path)] = (entry.st_mode, entry.st_uid, entry.st_gid, entry.st_ino, entry.st_mtime_ns)
    return found


@pytest.mark.parametrize(
    "workdir",
    ["/up/made", "/absolute/made", "/chain/made", "/loop/made", "/dangling", "/up/../absolute/made/../made2", "/a/b/c"],
)
async def test_working_directory_through_links(engine: Engine, registry: str, tmp_path: Path, workdir: str) -> None:
    """CVE-2024-5154, GHSA-q6r4-3wmg-fwcq: where parts of it are links, it is made in the image or not at all."""
    canary = tmp_path / "canary"
    (canary / "inside").mkdir(parents=True)
    layer = busybox_layer().symlink("up", f"{'../' * 20}{canary}").symlink("absolute", str(canary))
    layer.symlink("loop", "loop").symlink("chain", "absolute/inside").symlink("dangling", f"{canary}/no/such")
    layer.directory("a", uid=5, gid=6, mode=0o700).symlink("a/b", "/up")
    image = await pulled(
        engine, registry, "test/places:1", ImageBuilder(config={"WorkingDir": workdir, "User": "0:0"}).layer(layer)
    )
    before = tree(canary)
    if workdir == "/loop/made":
        with pytest.raises(FailedPrecondition, match="cannot be used"):
            await image.run(["true"])
    else:
        assert (await image.run(["sh", "-c", "pwd; echo x > here"])).outcome.exit_code == 0
    assert tree(canary) == before


def test_working_directory_that_is_swapped_meanwhile(tmp_path: Path) -> None:
    """CVE-2024-5154: a part of it is a directory when it is looked at, and a link to the host when it is used."""
    root, canary = tmp_path / "root", tmp_path / "canary"
    for path in (root / "a", canary):
        path.mkdir(parents=True)
    (root / "link").symlink_to(f"{'../' * 20}{canary}")
    before, ended = tree(canary), threading.Event()

    def swap() -> None:
        while not ended.is_set():
            exchange(root / "a", root / "link")

    swapping = threading.Thread(target=swap)
    swapping.start()
    made = 0
    with open_rootfs(root, root=(7, 7)) as rootfs:
        for number in range(2000):
            try:
                rootfs.make_directory(f"/a/b{number}/c")
                rootfs.make_file(f"/a/f{number}")
                made += 1
            except OSError:
                continue
    ended.set()
    swapping.join()
    assert made
    assert tree(canary) == before


# -- what an image says -----------------------------------------------------------------------------------------------

ORDERS: Final = (
    *_RESERVED,
    *("org.systemd.property.ExecStart", "run.oci.handler", "run.oci.hooks.stdout", "org.criu.config", "ross.gc.root"),
    *(
        "ross.privileged",
        "io.containerd.image.name",
        "org.opencontainers.image.ref.name",
        "containerd.io/restart.logpath",
    ),
    *("io.kubernetes.cri-o.Devices", "io.podman.annotations.privileged", "nerdctl/mounts", "com.docker.desktop"),
    *("org.opencontainers.runtime.rootfs-propagation", "devices", "hooks", "mounts", "annotations", "privileged"),
)
VARIABLES: Final = (
    *(f"ROSS_{one.name.upper()}" for one in fields(Settings)),
    *(
        "ROSS_CONFIG",
        "ROSS_SOCKET",
        "ROSS_DEBUG",
        "_OCI_SYNCPIPE",
        "_OCI_STARTPIPE",
        "_OCI_ATTACHPIPE",
        "NOTIFY_SOCKET",
    ),
    *("LISTEN_FDS", "LISTEN_PID", "DOCKER_CONFIG", "SSL_CERT_FILE", "HTTPS_PROXY", "PYTHONPATH", "LD_PRELOAD"),
    *("XDG_RUNTIME_DIR", "_LIBCONTAINER_INITPIPE", "_LIBCONTAINER_LOGPIPE", "_LIBCONTAINER_FIFOFD", "GODEBUG"),
)


async def test_what_an_image_says_of_itself_is_no_order(
    shared: Daemon, engine: Engine, plain: Image, registry: str
) -> None:
    """CVE-2026-53488, CVE-2024-3154: a label, an annotation or a variable of an image was read as an order of the engine's user. With
    every key that Ross or a runtime reads, the runtime's config differs in the environment alone."""
    orders = dict.fromkeys(ORDERS, "/etc/shadow")
    config = {
        "Labels": orders,
        "Env": ["PATH=/bin", *(f"{name}=9" for name in VARIABLES)],
        "Volumes": {"/../../etc": {}, "/etc": {}},
        "ExposedPorts": {"80/tcp": {}},
        "Privileged": True,
        "HostConfig": {"Privileged": True, "Binds": ["/:/host"]},
        "Annotations": orders,
        "Shell": ["/x"],
        "OnBuild": ["RUN x"],
    }
    built = ImageBuilder(config=config, overrides={"annotations": orders, "hooks": {"prestart": [{"path": "/x"}]}})
    image = await pulled(engine, registry, "test/orders:1", built.layer(busybox_layer()))
    configs = []
    for one in (plain, image):
        container = await one.create(["sleep", "1000"], env=["PATH=/bin"], hostname="there")
        await container.start()
        info = await container.info()
        (path,) = (shared.root / "containers" / info.id).rglob("config.json")
        configs.append(json.loads(path.read_text().replace(info.id, "ID")))
        assert info.spec.labels == ({} if one is plain else orders)  # which are words, and nobody's orders
        assert info.spec.annotations == {}
        await container.remove(force=True)
    usual, ordered = configs
    env = ordered["process"].pop("env")
    assert set(env) == {*usual["process"].pop("env"), *(f"{name}=9" for name in VARIABLES)}
    assert ordered == usual
    with pytest.raises(InvalidArgument, match="order to the runtime"):
        await image.create(["true"], annotations={"run.oci.handler": "x"})


async def test_a_hundred_environments_at_once_stay_apart(
    shared: Daemon, engine: Engine, plain: Image, registry: str
) -> None:
    """CVE-2021-21334, CVE-2020-14370: containers of one image, begun together, each with a secret; then with the next daemon."""
    builder = ImageBuilder(config={"Env": ["PATH=/bin", "SHARED=image"]}).layer(busybox_layer())
    image = await pulled(engine, registry, "test/apart:1", builder)
    outputs: dict[int, set[str]] = {}
    limit = trio.CapacityLimiter(10)

    async def run(number: int) -> None:
        async with limit:
            done = await image.run(["env"], env=[f"SECRET_{number}=of {number}"], hostname="there", user="0")
            outputs[number] = set(done.stdout.decode().splitlines())

    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(run, number)
    usual = {"PATH=/bin", "SHARED=image", "HOSTNAME=there", "HOME=/root"}
    assert outputs == {number: {*usual, f"SECRET_{number}=of {number}"} for number in range(100)}


@pytest.mark.parametrize(
    "text", ["0-4294967295", "4294967295", "18446744073709551616", "1-0", "\u0663", "0-", "0," * 99999]
)
async def test_sets_of_processors_are_bounded(shared: Daemon, engine: Engine, plain: Image, text: str) -> None:
    """CVE-2018-20699: a large number took the daemon's time and memory."""
    before = shared.rss_bytes()
    container = await plain.create(["true"])
    with trio.fail_after(60):
        for option in ("cpuset_cpus", "cpuset_mems"):
            with pytest.raises(InvalidArgument):
                await plain.create(["true"], **{option: text})  # type: ignore[arg-type]  # one of them
            with pytest.raises(InvalidArgument):
                await container.update(**{option: text})  # type: ignore[arg-type]  # one of them
    assert shared.rss_bytes() < before + 32 * MiB
    await container.remove()


FILES: Final = (
    *("/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/latency_stats", "/proc/sched_debug"),
)
DIRECTORIES: Final = (
    *("/proc/acpi", "/proc/asound", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"),
    *map(str, Path("/sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle")),
)
MASKED: Final = [path for path in (*FILES, *DIRECTORIES) if Path(path).exists()]


async def test_masked_paths_tell_nothing(plain: Image) -> None:
    """GHSA-6fw5-f8r9-fgfm, GHSA-jq35-85cj-fj4p: what is masked is there, and is empty; nothing writes to it or unmounts it."""
    assert {"/proc/keys", "/sys/firmware"} <= set(MASKED)
    script = f"for path in {' '.join(MASKED)}; do test -d $path && ls -A $path || head -c 100 $path; umount $path; done 2>/dev/null"
    assert (await plain.run(["sh", "-c", script])).stdout == b""
    script = f"for path in {' '.join(set(MASKED) & set(DIRECTORIES))}; do touch $path/x && echo $path; done 2>/dev/null"
    assert (await plain.run(["sh", "-c", script])).stdout == b""
