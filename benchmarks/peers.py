"""Other engines, each with a cold store on a filesystem of its own, driven by the commands that their users type; and the bare tools.

Their daemons run in mount and network namespaces of their own: nothing of the host's is touched, and nothing stays.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.daemon import Daemon, command

if TYPE_CHECKING:
    from collections.abc import Iterator

_INSIDE = "ROSS_BENCH_INSIDE"
_START_SECONDS = 30
_PODMAN_HOST = ("--network", "none", "--cgroups=enabled", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")
"""Its own limits are more than every host lets it set."""


def enter_namespaces(module: str) -> None:
    """Run this program again in mount and network namespaces of its own, with only a loopback; returns when it is that."""
    if os.environ.get(_INSIDE):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        for directory in ("/run", "/opt"):
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", directory], check=True)
        return
    argv = ["unshare", "--mount", "--net", "--propagation", "private", sys.executable, "-m", module, *sys.argv[1:]]
    sys.exit(subprocess.run(argv, env={**os.environ, _INSIDE: "1"}, check=False).returncode)


def command_lines() -> Iterator[bytes]:
    """Of all processes but this one."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.parent.name != str(os.getpid()):
                yield path.read_bytes()


class Peer:
    """An engine, on a directory."""

    name = ""
    programs: tuple[str, ...] = ()

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start its daemon, if it has one."""

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(_START_SECONDS)

    def pull(self, reference: str) -> list[str]:
        """The command that pulls."""
        raise NotImplementedError(self.name)

    def run(self, reference: str, *words: str) -> list[str]:
        """The command that runs a container to its end, without a network, and removes it."""
        raise NotImplementedError(self.name)

    def run_detached(self, reference: str, name: str, *words: str) -> list[str]:
        """The command that leaves a container running."""
        raise NotImplementedError(self.name)

    def wait(self, name: str) -> list[str]:
        """The command that waits until a container has stopped."""
        raise NotImplementedError(self.name)

    def logs(self, name: str) -> list[str]:
        """The command that prints a container's log."""
        raise NotImplementedError(self.name)

    def remove(self, names: list[str]) -> None:
        """Remove running containers."""
        raise NotImplementedError(self.name)

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def spawn(self, argv: list[str], ready: list[str]) -> None:
        log = (self.directory / "log").open("wb")
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_SECONDS
        while subprocess.run(ready, capture_output=True, check=False).returncode != 0:
            if time.monotonic() > deadline:
                sys.exit(f"error: {self.name} did not start: {(self.directory / 'log').read_text()[-500:]}")
            time.sleep(0.1)


class Ross(Peer):
    name = "ross"
    run_flags: tuple[str, ...] = ()
    """More flags of ``run``."""

    def start(self) -> None:
        self.daemon = Daemon(self.directory)
        self.daemon.start()

    def stop(self) -> None:
        self.daemon.terminate()

    def pull(self, reference: str) -> list[str]:
        return command("pull", "-q", reference)

    def run(self, reference: str, *words: str) -> list[str]:
        return command("run", "--rm", *self.run_flags, reference, *words)

    def run_detached(self, reference: str, name: str, *words: str) -> list[str]:
        return command(
            "run", "-d", "--log-opt", "max-size=-1", "--name", name, reference, *words
        )  # as the others keep it

    def wait(self, name: str) -> list[str]:
        return command("wait", name)

    def logs(self, name: str) -> list[str]:
        return command("logs", name)

    def remove(self, names: list[str]) -> None:
        subprocess.run(command("rm", "-f", *names), env=self.environment(), check=True, stdout=subprocess.DEVNULL)

    def environment(self) -> dict[str, str]:
        return self.daemon.environment()


class Podman(Peer):
    name = "podman"
    programs = ("podman",)

    def stop(self) -> None:
        """Wait for what it leaves to itself: each monitor starts a process that cleans up, and nobody waits for that."""
        deadline = time.monotonic() + _START_SECONDS
        while any(str(self.directory).encode() in line for line in command_lines()) and time.monotonic() < deadline:
            time.sleep(0.1)

    def pull(self, reference: str) -> list[str]:
        return self._argv("pull", "-q", "--tls-verify=false", reference)

    def run(self, reference: str, *words: str) -> list[str]:
        return self._argv("run", "--rm", *_PODMAN_HOST, reference, *words)

    def run_detached(self, reference: str, name: str, *words: str) -> list[str]:
        return self._argv("run", "-d", "--log-driver", "k8s-file", "--name", name, *_PODMAN_HOST, reference, *words)

    def wait(self, name: str) -> list[str]:
        return self._argv("wait", name)

    def logs(self, name: str) -> list[str]:
        return self._argv("logs", name)

    def remove(self, names: list[str]) -> None:
        subprocess.run(self._argv("rm", "-f", "-t", "0", *names), check=True, stdout=subprocess.DEVNULL)

    def _argv(self, *words: str) -> list[str]:
        at = self.directory
        # Podman refuses a runroot whose name is longer than 50 characters; /run is our own here.
        places = ["--root", f"{at}/root", "--runroot", "/run/podman-bench", "--tmpdir", f"{at}/tmp"]
        return ["podman", *places, "--storage-driver", "overlay", "--cgroup-manager", "cgroupfs", *words]


class Docker(Peer):
    name = "docker"
    programs = ("dockerd", "docker")

    def start(self) -> None:
        at = self.directory
        self._client = ["docker", "-H", f"unix://{at}/docker.sock"]
        self.spawn(
            [
                "dockerd",
                "--data-root",
                f"{at}/root",
                "--exec-root",
                f"{at}/exec",
                "-H",
                f"unix://{at}/docker.sock",
                "--pidfile",
                f"{at}/pid",
                "--storage-driver",
                "overlay2",
                "--bridge",
                "none",
                "--iptables=false",
            ],
            [*self._client, "info"],
        )

    def pull(self, reference: str) -> list[str]:
        return [*self._client, "pull", "-q", reference]

    def run(self, reference: str, *words: str) -> list[str]:
        return [*self._client, "run", "--rm", "--network", "none", reference, *words]

    def run_detached(self, reference: str, name: str, *words: str) -> list[str]:
        return [*self._client, "run", "-d", "--network", "none", "--name", name, reference, *words]

    def wait(self, name: str) -> list[str]:
        return [*self._client, "wait", name]

    def logs(self, name: str) -> list[str]:
        return [*self._client, "logs", name]

    def remove(self, names: list[str]) -> None:
        subprocess.run([*self._client, "rm", "-f", *names], check=True, stdout=subprocess.DEVNULL)


class Containerd(Peer):
    name = "containerd"
    programs = ("containerd", "ctr")
    flags: tuple[str, ...] = ()
    """More flags of ``ctr run``."""

    def start(self) -> None:
        at = self.directory
        (at / "config.toml").write_text(
            f'version = 2\nroot = "{at}/root"\nstate = "{at}/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\n  address = "{at}/containerd.sock"\n[ttrpc]\n  address = "{at}/containerd.sock.ttrpc"\n'
            f'[plugins."io.containerd.internal.v1.opt"]\n  path = "{at}/opt"\n'
        )
        self._client = ["ctr", "-a", f"{at}/containerd.sock", "-n", "bench"]
        self.spawn(["containerd", "-c", f"{at}/config.toml", "-l", "error"], [*self._client, "version"])

    def pull(self, reference: str) -> list[str]:
        return [*self._client, "images", "pull", "--plain-http", reference]

    def run(self, reference: str, *words: str) -> list[str]:
        return [*self._client, "run", "--rm", *self.flags, reference, f"bench{time.monotonic_ns()}", *words]

    def run_detached(self, reference: str, name: str, *words: str) -> list[str]:
        return [*self._client, "run", "-d", *self.flags, reference, name, *words]

    def remove(self, names: list[str]) -> None:
        for name in names:
            subprocess.run([*self._client, "tasks", "kill", "-s", "KILL", name], check=True)
            subprocess.run([*self._client, "tasks", "rm", "-f", name], check=False, capture_output=True)
            subprocess.run([*self._client, "containers", "rm", name], check=True)


class FilteringContainerd(Containerd):
    """With its filter of system calls, which ``ctr`` has only if it is told; all others have one."""

    name = "containerd+seccomp"
    flags = ("--seccomp",)


class Runc(Peer):
    """The runtime alone, on a root filesystem that holds busybox."""

    name = "runc"
    programs = ("runc", "busybox")

    def pull(self, reference: str) -> list[str]:  # noqa: ARG002 -- it knows no images
        root = self.directory / "bundle/rootfs"
        busybox = shutil.which("busybox")
        assert busybox is not None
        (root / "bin").mkdir(parents=True)
        shutil.copy(busybox, root / "bin/busybox")
        script = f"cd {self.directory}/bundle && runc spec && chroot rootfs /bin/busybox --install -s /bin"
        return ["sh", "-c", script]

    def run(self, reference: str, *words: str) -> list[str]:  # noqa: ARG002
        bundle = self.directory / "bundle"
        config = json.loads((bundle / "config.json").read_text())
        config["process"].update({"terminal": False, "args": list(words)})
        (bundle / "config.json").write_text(json.dumps(config))
        return ["runc", "--root", f"{self.directory}/state", "run", "--bundle", str(bundle), f"b{time.monotonic_ns()}"]


class Floor(Peer):
    """No engine: ``curl | sha256sum`` and ``igzip`` or ``zstd`` and ``tar`` in one pipe for each layer, all layers at once."""

    name = "floor"
    programs = ("curl", "igzip", "zstd", "tar", "sha256sum")

    def pull(self, reference: str) -> list[str]:
        host, rest = reference.split("/", 1)
        name, tag = rest.rsplit(":", 1)
        accept = "application/vnd.oci.image.manifest.v1+json"
        request = urllib.request.Request(f"http://{host}/v2/{name}/manifests/{tag}", headers={"Accept": accept})
        with urllib.request.urlopen(request) as answer:
            layers = json.load(answer)["layers"]
        lines = []
        for number, layer in enumerate(layers):
            target = self.directory / str(number)
            unpack = "zstd -dcq" if layer["mediaType"].endswith("zstd") else "igzip -dc"
            url = f"http://{host}/v2/{name}/blobs/{layer['digest']}"
            pipe = f"curl -s {url} | tee >(sha256sum >{target}.sum) | {unpack} | tar -x --numeric-owner -C {target}"
            lines.append(f"mkdir {target}; {pipe} &")
        return ["bash", "-c", "\n".join([*lines, "wait"])]


PEERS: dict[str, type[Peer]] = {
    one.name: one for one in (Ross, Containerd, FilteringContainerd, Docker, Podman, Runc, Floor)
}


def missing(names: list[str]) -> list[str]:
    """Programs that these peers need and that are not installed."""
    return [program for name in names for program in PEERS[name].programs if shutil.which(program) is None]


@contextmanager
def running(name: str, directory: Path) -> Iterator[Peer]:
    """A peer with nothing in its store, ended with the block."""
    at = directory / name
    at.mkdir()
    peer = PEERS[name](at)
    peer.start()
    try:
        yield peer
    finally:
        peer.stop()
