"""Credentials in a file and in helpers, kept and forgotten as Docker does it."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
import trio

from ross.errors import FailedPrecondition
from ross.registry.credentials import Credentials, CredentialStore, Saved
from tests.support.credential_helper import CredentialHelper

if TYPE_CHECKING:
    from pathlib import Path

ME = Credentials(username="me", password="pass:word")
TOKEN = Credentials(username="me", identity_token="refresh")


def encoded(pair: str) -> str:
    return base64.b64encode(pair.encode()).decode()


def text(file: Path) -> str:
    return file.read_text()


def read(file: Path) -> Any:
    return json.loads(text(file))


def mode(file: Path) -> int:
    return file.stat().st_mode & 0o777


def write(file: Path, content: object) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "docker" / "config.json"


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CredentialHelper:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return CredentialHelper(tmp_path / "bin", "fake")


async def test_what_is_kept_is_found_and_only_ours_to_read(file: Path) -> None:
    store = CredentialStore(file)
    saved = await store.save("reg.example:5000", ME)

    assert saved == Saved(host="reg.example:5000", username="me", store=str(file), encrypted=False, token=False)
    assert await store.find("reg.example:5000") == ME
    assert await store.find("reg.example") is None
    assert read(file) == {"auths": {"reg.example:5000": {"auth": encoded("me:pass:word")}}}
    assert (mode(file), mode(file.parent)) == (0o600, 0o700)


async def test_docker_hub_has_the_name_that_docker_gives_it(file: Path) -> None:
    store = CredentialStore(file)
    await store.save("docker.io", TOKEN)

    entry = {"auth": encoded("me:"), "identitytoken": "refresh"}
    assert read(file) == {"auths": {"https://index.docker.io/v1/": entry}}
    assert await store.find("docker.io") == TOKEN
    (listed,) = await store.list()
    assert (listed.host, listed.username, listed.token) == ("docker.io", "me", True)


async def test_everything_else_in_the_file_stays(file: Path) -> None:
    file.parent.mkdir()
    other = {"HttpHeaders": {"X": "ä"}, "auths": {"other.example": {"auth": encoded("a:b")}}, "detachKeys": "ctrl-z"}
    write(file, other)
    store = CredentialStore(file)

    await store.save("reg.example", ME)
    await store.erase("reg.example")

    assert read(file) == other
    assert list(read(file)) == list(other), "in its order"


async def test_a_link_is_followed_and_the_owner_stays(file: Path, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles" / "config.json"
    write(real, {})
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").symlink_to(real)
    if os.geteuid() == 0:
        os.chown(real, 65534, 65534)
    owner = (tmp_path / "dotfiles" / "config.json").stat().st_uid

    await CredentialStore(file).save("reg.example", ME)

    assert (tmp_path / "docker" / "config.json").is_symlink()
    assert "reg.example" in text(real)
    assert ((tmp_path / "dotfiles" / "config.json").stat().st_uid, mode(real)) == (owner, 0o600)


@pytest.mark.parametrize(
    "name", ["reg.example", "https://reg.example", "http://reg.example/v2/", "https://reg.example/v1/"]
)
async def test_every_way_to_write_a_host_is_found_replaced_and_forgotten(name: str, file: Path) -> None:
    write(file, {"auths": {name: {"auth": encoded("a:b")}}})
    store = CredentialStore(file)

    assert await store.find("reg.example") == Credentials(username="a", password="b")
    assert [one.host for one in await store.list()] == ["reg.example"]
    await store.save("reg.example", ME)
    assert list(read(file)["auths"]) == ["reg.example"]
    assert await store.erase("reg.example")
    assert not await store.erase("reg.example")
    assert read(file) == {"auths": {}}


@pytest.mark.parametrize("default", [True, False])
async def test_a_helper_keeps_the_secret_and_the_file_does_not(
    default: bool, file: Path, helper: CredentialHelper
) -> None:
    write(file, {"credsStore": "fake"} if default else {"credHelpers": {"reg.example": "fake"}})
    store = CredentialStore(file)

    saved = await store.save("reg.example", ME)
    assert (saved.store, saved.encrypted) == ("docker-credential-fake", True)
    assert helper.known == {"reg.example": ["me", "pass:word"]}
    assert read(file)["auths"] == {"reg.example": {}}
    assert await store.find("reg.example") == ME
    assert [(one.host, one.username, one.encrypted) for one in await store.list()] == [("reg.example", "me", True)]

    await store.save("reg.example", TOKEN)
    assert helper.known == {"reg.example": ["<token>", "refresh"]}
    assert await store.find("reg.example") == Credentials(identity_token="refresh")

    assert await store.erase("reg.example")
    assert helper.known == {}
    assert not await store.erase("reg.example")
    assert set(helper.arguments) <= {"get", "store", "erase", "list"}, "no secret is ever an argument"


async def test_a_helper_that_is_not_there_or_fails_is_told(
    file: Path, helper: CredentialHelper, tmp_path: Path
) -> None:
    write(file, {"credsStore": "absent"})
    with pytest.raises(FailedPrecondition, match=r"'absent' named in .* is not installed"):
        await CredentialStore(file).save("reg.example", ME)

    write(file, {"credsStore": "../../bin/sh"})
    with pytest.raises(FailedPrecondition, match="is not installed"):
        await CredentialStore(file).find("reg.example")

    write(file, {"credsStore": "fake"})
    (tmp_path / "bin/docker-credential-fake").write_text("#!/bin/sh\ncat\nexit 3\n")
    with pytest.raises(FailedPrecondition, match="ended with exit code 3 when asked to store") as caught:
        await CredentialStore(file).save("reg.example", ME)
    assert "pass:word" not in str(caught.value) + str(caught.value.hint)
    (tmp_path / "bin/docker-credential-fake").write_text("#!/bin/sh\necho '{\"Username\": 5}'\n")
    with pytest.raises(FailedPrecondition, match="gave an answer that is none"):
        await CredentialStore(file).find("reg.example")


async def test_a_cancelled_call_ends_the_helper_and_changes_nothing(
    file: Path, helper: CredentialHelper, tmp_path: Path
) -> None:
    write(file, {"credsStore": "fake"})
    fifo, program = tmp_path / "pid", tmp_path / "bin/docker-credential-fake"
    os.mkfifo(fifo)
    write(program, f"#!/bin/sh\necho $$ > {fifo}\nexec sleep 1000\n")
    store = CredentialStore(file)
    for operation, argument in ((store.save, ("reg.example", ME)), (store.erase, ("reg.example",)), (store.list, ())):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(operation, *argument)
            with trio.fail_after(60):
                pid = int(await trio.to_thread.run_sync(text, fifo, abandon_on_cancel=True))
            nursery.cancel_scope.cancel()
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert not store._changing.locked()
    assert read(file) == {"credsStore": "fake"}


async def test_a_file_that_cannot_be_read_is_never_overwritten(file: Path) -> None:
    write(file, "{")
    for operation in (CredentialStore(file).save("reg.example", ME), CredentialStore(file).erase("reg.example")):
        with pytest.raises(FailedPrecondition, match="are not JSON"):
            await operation
    assert text(file) == "{"


async def test_a_place_that_cannot_be_written_is_told(file: Path) -> None:
    write(file.parent, "a file, not a directory")
    with pytest.raises(FailedPrecondition, match="cannot be"):
        await CredentialStore(file).save("reg.example", ME)


def test_credentials_do_not_show_themselves() -> None:
    assert "pass:word" not in repr(ME)
    assert "refresh" not in repr(TOKEN)
