"""A real registry: Debian's docker-registry on a free loopback port, with storage of its own."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.certificates import Authority

_CONFIG = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {storage}}}, delete: {{enabled: true}}}}
http: {{addr: "{address}"{tls}}}
{auth}
"""
_TLS = ", tls: {{certificate: {certificate}, key: {key}{clients}}}"
_CLIENTS = ", clientcas: [{authority}]"
_AUTH = "auth: {{htpasswd: {{realm: test, path: {path}}}}}"


_PORTS = range(20_000, 32_000)
"""Below those that the kernel gives to clients, one of which would have it before the registry does."""


def free_port() -> int:
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def running_registry(
    directory: Path, *, htpasswd: Path | None = None, tls: Authority | None = None, wants_client: bool = False
) -> Iterator[str]:
    """Yield ``127.0.0.1:port`` of a registry that answers; it is ended with the block.

    Args:
        directory: For its storage and its log.
        htpasswd: Who may use it; everybody if absent.
        tls: Who signs its certificate; plain http if absent.
        wants_client: It lets in only who shows a certificate of the same authority.
    """
    program = shutil.which("docker-registry")
    if program is None:
        raise RuntimeError("docker-registry is not installed: apt install docker-registry")
    directory.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{free_port()}"
    config = directory / "config.yml"
    auth = _AUTH.format(path=htpasswd) if htpasswd else ""
    secured = _tls(tls, wants_client=wants_client) if tls else ""
    config.write_text(_CONFIG.format(storage=directory / "storage", address=address, auth=auth, tls=secured))
    log = (directory / "log").open("wb")
    with log, subprocess.Popen([program, "serve", str(config)], stdout=log, stderr=log) as process:
        try:
            _wait_until_up(process, address, directory / "log")
            yield address
        finally:
            process.terminate()
            process.wait(60)


def _tls(authority: Authority, *, wants_client: bool) -> str:
    certificate, key = authority.issue("registry")
    clients = _CLIENTS.format(authority=authority.certificate) if wants_client else ""
    return _TLS.format(certificate=certificate, key=key, clients=clients)


def _wait_until_up(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"docker-registry ended with {process.returncode}: {log.read_text()}")
        try:
            # One with TLS says 400 to this, which is life enough.
            if httpx.get(f"http://{address}/v2/", trust_env=False).status_code in {200, 400, 401}:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise RuntimeError(f"docker-registry does not answer: {log.read_text()}")
