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
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.support.daemon import Daemon, command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_INSIDE = "ROSS_BENCH_INSIDE"
_START_SECONDS = 30


def enter_namespaces(module: str) -> None:
    """Run this program again in mount and network namespaces of its own, with only a loopback; returns when it is that."""
    if os.environ.get(_INSIDE):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        for directory in ("/run", "/opt"):
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", directory], check=True)
        return
    argv = ["unshare", "--mount", "--net", "--propagation", "private", sys.executable, "-m", module, *sys.argv[1:]]
    sys.exit(subprocess.run(argv, env={**os.environ, _INSIDE: "1"}, check=False).returncode)


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

    def start(self) -> None:
        self.daemon = Daemon(self.directory)
        self.daemon.start()

    def stop(self) -> None:
        self.daemon.terminate()

    def pull(self, reference: str) -> list[str]:
        return command("pull", "-q", reference)

    def environment(self) -> dict[str, str]:
        return self.daemon.environment()


class Podman(Peer):
    name = "podman"
    programs = ("podman",)

    def pull(self, reference: str) -> list[str]:
        at = self.directory
        # Podman refuses a runroot whose name is longer than 50 characters; /run is our own here.
        places = ["--root", f"{at}/root", "--runroot", "/run/podman-bench", "--tmpdir", f"{at}/tmp"]
        return ["podman", *places, "--storage-driver", "overlay", "pull", "-q", "--tls-verify=false", reference]


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


class Containerd(Peer):
    name = "containerd"
    programs = ("containerd", "ctr")

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


PEERS: dict[str, type[Peer]] = {one.name: one for one in (Ross, Containerd, Docker, Podman, Floor)}


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
