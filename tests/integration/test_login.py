"""Logging in to real registries, by password and by certificate, through mirrors and helpers; and what a user reads and types."""

from __future__ import annotations

import json
import os
import ssl
from typing import TYPE_CHECKING

import anyio
import pytest

import ross
from ross.errors import Unauthenticated
from tests.integration.test_registry import HTPASSWD
from tests.support.certificates import Authority, make_authority
from tests.support.credential_helper import CredentialHelper
from tests.support.daemon import Daemon, running_daemon
from tests.support.images import busybox_image, push
from tests.support.registry import running_registry
from tests.support.terminal import Terminal

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

USER, SECRET = "user", "secret-word"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("pki") / "authority")


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[str]:
    """The reference of an image in a registry with TLS, a password, and a certificate of ours to show."""
    directory = tmp_path_factory.mktemp("private")
    (directory / "htpasswd").write_text(HTPASSWD)
    trusting = ssl.create_default_context(cafile=authority.certificate)
    trusting.load_cert_chain(*authority.issue("pusher"))
    with running_registry(directory, htpasswd=directory / "htpasswd", tls=authority, wants_client=True) as address:
        yield push(address, "private/busybox:1", busybox_image(), auth=(USER, SECRET), tls=trusting)


@pytest.fixture
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the daemon keeps credentials; nothing is there yet."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    return tmp_path / "docker/config.json"


@pytest.fixture
def certs_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the daemon looks for how to connect."""
    monkeypatch.setenv("ROSS_CERTS_DIR", str(tmp_path / "certs.d"))
    return tmp_path / "certs.d"


@pytest.fixture
def engine(docker_config: Path, certs_dir: Path, filesystem: Path) -> Iterator[Daemon]:
    """A daemon that has seen those settings."""
    directory = filesystem / f"d{len(list(filesystem.iterdir()))}"
    directory.mkdir()
    with running_daemon(directory) as running:
        yield running
        assert SECRET not in running.log, "no secret is ever logged"


def trust(certs_dir: Path, host: str, authority: Authority) -> None:
    """Set a registry up as Docker's users do: what to trust, what to show."""
    (certs_dir / host).mkdir(parents=True)
    certificate, key = authority.issue("daemon")
    for source, name in ((authority.certificate, "ca.crt"), (certificate, "daemon.cert"), (key, "daemon.key")):
        (certs_dir / host / name).write_bytes(source.read_bytes())


def login(engine: Daemon, host: str, *words: str, input: str = SECRET) -> subprocess.CompletedProcess[str]:  # noqa: A002
    return engine.ross("login", "-u", USER, "--password-stdin", *words, host, input=input)


def test_certificates_and_passwords(
    engine: Daemon, private: str, certs_dir: Path, docker_config: Path, authority: Authority
) -> None:
    host = private.partition("/")[0]
    plain = login(engine, host)
    assert plain.returncode == 1, "it is not spoken to without TLS"
    trust(certs_dir, host, authority)
    refused = login(engine, host, input="wrong-word\n")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "does not accept this user name and password" in refused.stderr
    assert not docker_config.exists()
    assert "wants credentials" in engine.ross("pull", private).stderr

    done = login(engine, host, input=f"{SECRET}\n")
    assert (done.returncode, done.stdout) == (0, "Login Succeeded\n")
    assert f"unencrypted in {docker_config}" in done.stderr
    assert docker_config.stat().st_mode & 0o777 == 0o600
    assert engine.ross("run", "--rm", private, "echo", "in").stdout == "in\n"
    again = engine.ross("login", host)
    assert (again.returncode, again.stdout) == (0, "Login Succeeded\n"), again.stderr
    (listed,) = json.loads(engine.ross("registry", "ls", "--format", "json").stdout)
    assert listed == {
        "registry": host,
        "username": USER,
        "store": str(docker_config),
        "encrypted": False,
        "token": False,
    }
    assert engine.ross("registry", "ls").stdout.splitlines()[1].split() == [host, USER, str(docker_config)]

    assert engine.ross("logout", host).stdout == f"Removed the login credentials for {host}\n"
    assert engine.ross("logout", host).stdout == f"Not logged in to {host}\n"
    assert f"hint: is the name right? else log in: ross login {host}" in engine.ross("pull", private).stderr
    (certs_dir / host / "ca.crt").unlink()
    assert "is not trusted" in login(engine, host).stderr
    (certs_dir / host / "hosts.toml").write_text("skip_verify = true\n")
    assert login(engine, host).returncode == 1, "without the certificate that it wants to see"
    (certs_dir / host / "hosts.toml").write_text('skip_verify = true\nclient = [["daemon.cert", "daemon.key"]]\n')
    assert login(engine, host).returncode == 0


def test_a_person_is_asked_and_the_password_is_not_shown(
    engine: Daemon, private: str, certs_dir: Path, authority: Authority
) -> None:
    host = private.partition("/")[0]
    trust(certs_dir, host, authority)
    terminal = Terminal(engine, "login", host)
    terminal.read_until(f"Username for {host}: ".encode())
    terminal.send(f"{USER}\n".encode())
    seen = terminal.read_until(b"Password: ")
    terminal.send(f"{SECRET}\n".encode())
    seen += terminal.read_until(b"Login Succeeded")
    assert terminal.wait() == 0
    assert SECRET.encode() not in seen


def test_a_helper_keeps_it(
    private: str,
    docker_config: Path,
    certs_dir: Path,
    authority: Authority,
    filesystem: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    helper = CredentialHelper(tmp_path / "bin", "fake")
    docker_config.parent.mkdir()
    docker_config.write_text('{"credsStore": "fake"}')
    host = private.partition("/")[0]
    trust(certs_dir, host, authority)
    (filesystem / "helped").mkdir()
    with running_daemon(filesystem / "helped") as engine:
        done = login(engine, host)
        assert (done.stdout, done.stderr) == ("Login Succeeded\n", "")
        engine.ok("pull", "-q", private)
        assert helper.known == {host: [USER, SECRET]}
        assert SECRET not in docker_config.read_text()
        for backend in ("trio", "asyncio"):
            anyio.run(_by_program, engine, host, backend=backend)
    assert helper.known == {}


async def _by_program(engine: Daemon, host: str) -> None:
    async with ross.connect(engine.socket) as connected:
        registries = connected.registries
        done = await registries.login(host, username=USER, password=SECRET)
        assert done.proved
        assert await registries.list() == (done.login,)
        with pytest.raises(Unauthenticated, match="does not accept"):
            await registries.login(host, username=USER, password="wrong-word")
        assert await registries.logout(host)
        assert not await registries.logout(host)
        assert await registries.list() == ()


def test_what_cannot_be_is_told(engine: Daemon) -> None:
    for words, message in (
        (("-u", "me", "-p", "x", "--password-stdin"), "exclude each other"),
        (("--password-stdin",), "--password-stdin needs a user name"),
        (("-u", "me"), "there is no terminal to ask for it"),
        (("-u", "me", "--password-stdin", "127.0.0.1:1"), "there is no password on standard input"),
        (("-u", "me", "-p", "x", "a b"), "'a b' is not the name of a registry"),
        (("-u", "me", "-p", "x", "127.0.0.1:1"), "no connection to 127.0.0.1:1"),
    ):
        done = engine.ross("login", *words, input="")
        assert (done.returncode, done.stdout) == (1, "")
        assert message in done.stderr
        assert ("WARNING! Others can see" in done.stderr) == ("-p" in words and "--password-stdin" not in words)


def test_a_mirror_is_asked_first_and_the_registry_when_it_fails(
    engine: Daemon, registry: str, busybox: str, private: str, certs_dir: Path, authority: Authority, tmp_path: Path
) -> None:
    """The names of a registry that does not exist, served by mirrors that do."""
    mirror = private.partition("/")[0]
    (certs_dir / "reg.example").mkdir(parents=True)
    certificate, key = authority.issue("mirrored")
    (certs_dir / "reg.example/hosts.toml").write_text(
        f'''server = "http://{registry}"
        [host."https://{mirror}"]
        ca = "{authority.certificate}"
        client = [["{certificate}", "{key}"]]
        '''
    )
    trust(certs_dir, mirror, authority)
    assert engine.ross("pull", "-q", "reg.example/test/busybox:1").returncode == 0, "the mirror wants a password"
    assert engine.ross("pull", "reg.example/private/busybox:1").returncode == 1
    assert login(engine, mirror).returncode == 0
    engine.ok("pull", "-q", "reg.example/private/busybox:1")
    names = {name for info in json.loads(engine.ross("images", "--format", "json").stdout) for name in info["names"]}
    assert names == {"reg.example/test/busybox:1", "reg.example/private/busybox:1"}
    (certs_dir / "reg.example/hosts.toml").write_text("sever = 'x'")
    done = engine.ross("pull", "reg.example/test/busybox:1")
    assert done.returncode == 1
    assert "reg.example/hosts.toml: sever is not known" in done.stderr
