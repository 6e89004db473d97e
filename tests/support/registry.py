"""A real registry: Debian's docker-registry on a free loopback port, with storage of its own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

_CONFIG = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {storage}}}, delete: {{enabled: true}}}}
http: {{addr: "{address}"}}
{auth}
"""
_AUTH = "auth: {{htpasswd: {{realm: test, path: {path}}}}}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_registry(directory: Path, *, htpasswd: Path | None = None) -> Iterator[str]:
    """Yield ``127.0.0.1:port`` of a registry that answers; it is ended with the block."""
    program = shutil.which("docker-registry")
    if program is None:
        raise RuntimeError("docker-registry is not installed: apt install docker-registry")
    directory.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    config = directory / "config.yml"
    auth = _AUTH.format(path=htpasswd) if htpasswd else ""
    config.write_text(_CONFIG.format(storage=directory / "storage", address=address, auth=auth))
    log = (directory / "log").open("wb")
    with log, subprocess.Popen([program, "serve", str(config)], stdout=log, stderr=log) as process:
        try:
            _wait_until_up(process, address, directory / "log")
            yield address
        finally:
            process.terminate()
            process.wait(10)


def _wait_until_up(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"docker-registry ended with {process.returncode}: {log.read_text()}")
        try:
            if httpx.get(f"http://{address}/v2/", trust_env=False).status_code in {200, 401}:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise RuntimeError(f"docker-registry does not answer: {log.read_text()}")
