"""A certificate authority of a test's own, by the openssl program: for servers on loopback and for clients."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

from attrs import frozen

NAMES = "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:registry.test"


@frozen
class Authority:
    """Signs what it is asked to; everything lies in one directory."""

    directory: Path

    @property
    def certificate(self) -> Path:
        return self.directory / "ca.crt"

    def issue(self, name: str) -> tuple[Path, Path]:
        """A certificate and its key, good for loopback."""
        certificate, key = self.directory / f"{name}.cert", self.directory / f"{name}.key"
        _openssl(
            "req", "-x509", *_KEY, "-keyout", str(key), "-out", str(certificate), "-subj", f"/CN={name}", "-addext", NAMES,
            "-addext", "basicConstraints=critical,CA:FALSE", "-CA", str(self.certificate), "-CAkey",
            str(self.directory / "ca.key"),
        )  # fmt: skip
        return certificate, key

    def server(self, *, wants_client: bool = False) -> ssl.SSLContext:
        """For a server in this process."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue("server"))
        if wants_client:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.certificate)
        return context


_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")


def make_authority(directory: Path) -> Authority:
    """A new authority that nobody trusts yet."""
    directory.mkdir(parents=True)
    authority = Authority(directory)
    subject = ("-subj", f"/CN=authority of {directory.name}")
    _openssl(
        "req", "-x509", *_KEY, "-keyout", str(directory / "ca.key"), "-out", str(authority.certificate), *subject,
        "-addext", "basicConstraints=critical,CA:TRUE",
    )  # fmt: skip
    return authority


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True, timeout=30)
