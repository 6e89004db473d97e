"""Logging in: proved before it is kept, exchanged for a token where the registry does that, and no secret anywhere else."""

from __future__ import annotations

import base64
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
import trio
from attrs import frozen

from ross.errors import InvalidArgument, NotFound, RossError, Unauthenticated, Unavailable
from ross.model.events import EventOptions
from ross.nursery.introspect import task_tree
from ross.oci.reference import Reference
from ross.registry.client import RegistryClient
from ross.registry.credentials import Credentials, CredentialStore
from ross.registry.retry import RetryPolicy
from ross.registry.session import RegistrySession
from ross.services.events import Events
from ross.services.registries import Registries
from tests.support.scripted_registry import (
    Handler,
    Request,
    ScriptedRegistry,
    make_image,
    reply,
    scripted_registry,
    serve_image,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

IMAGE = make_image(b"a layer", architecture="amd64")
SECRET = "correct-horse-battery"
RIGHT = f"Basic {base64.b64encode(f'me:{SECRET}'.encode()).decode()}"


@frozen
class Setting:
    server: ScriptedRegistry
    registries: Registries
    client: RegistryClient
    store: CredentialStore
    events: Events

    async def pull(self) -> None:
        await self.client.open(Reference.parse(f"{self.server.host}/some/app:1")).resolve()


@asynccontextmanager
async def setting(handler: Handler, tmp_path: Path) -> AsyncIterator[Setting]:
    store, events = CredentialStore(tmp_path / "config.json"), Events()
    async with scripted_registry(handler) as server:
        async with RegistrySession(store, user_agent="test", certs_dir=[tmp_path / "certs.d"]) as session:
            registries = Registries(session=session, credentials=store, events=events)
            yield Setting(server, registries, RegistryClient(session, policy=RetryPolicy(attempts=1)), store, events)


async def basic(request: Request, stream: trio.SocketStream) -> None:
    if request.headers.get("authorization") != RIGHT:
        await reply(stream, 401, WWW_Authenticate='Basic realm="r"')
    elif request.path == "/v2/":
        await reply(stream, 200, b"{}")
    else:
        await serve_image(IMAGE, request, stream)


def with_tokens(*, refresh: str = "") -> Handler:
    """A token service: for a password or a refresh token it gives tokens, and new refresh tokens as it likes."""

    async def handle(request: Request, stream: trio.SocketStream) -> None:
        host = request.headers["host"]
        form = parse_qs(request.body.decode())
        if request.path == "/token":
            known = request.headers.get("authorization") == RIGHT or form.get("refresh_token") == ["refresh-1"]
            answer = {"token": "t0ken"} | ({"refresh_token": refresh} if refresh else {})
            await reply(stream, 200 if known else 401, json.dumps(answer).encode() if known else b"")
        elif request.headers.get("authorization") != "Bearer t0ken":
            await reply(stream, 401, WWW_Authenticate=f'Bearer realm="http://{host}/token",service="s"')
        elif request.path == "/v2/":
            await reply(stream, 200)
        else:
            await serve_image(IMAGE, request, stream)

    return handle


@pytest.mark.parametrize("handler", [basic, with_tokens()], ids=["basic", "bearer"])
async def test_credentials_are_proved_and_then_kept(handler: Handler, tmp_path: Path) -> None:
    async with setting(handler, tmp_path) as here:
        reader = here.events.open(EventOptions())
        login, proved = await here.registries.login(here.server.host, "me", SECRET)
        (event,) = reader.ready().events
        assert proved
        assert (login.registry, login.username, login.encrypted, login.token) == (here.server.host, "me", False, False)
        assert await here.store.find(here.server.host) == Credentials(username="me", password=SECRET)
        assert await here.registries.list() == (login,)
        await here.pull()

    assert (event.kind, event.action, event.subject) == ("registry", "login", here.server.host)
    assert SECRET not in repr(event)


@pytest.mark.parametrize("handler", [basic, with_tokens()], ids=["basic", "bearer"])
async def test_what_the_registry_refuses_is_not_kept_and_the_old_stays(handler: Handler, tmp_path: Path) -> None:
    async with setting(handler, tmp_path) as here:
        await here.registries.login(here.server.host, "me", SECRET)
        with pytest.raises(Unauthenticated, match="does not accept this user name and password") as caught:
            await here.registries.login(here.server.host, "me", "wrong-word")
        assert await here.store.find(here.server.host) == Credentials(username="me", password=SECRET)

    assert "wrong-word" not in str(caught.value) + str(caught.value.hint)


async def test_without_a_user_name_those_that_are_kept_are_proved(tmp_path: Path) -> None:
    async with setting(basic, tmp_path) as here:
        with pytest.raises(NotFound, match="no credentials for"):
            await here.registries.login(here.server.host, "", "")
        await here.store.save(here.server.host, Credentials(username="me", password=SECRET))
        login, proved = await here.registries.login(here.server.host, "", "")

    assert (login.username, proved) == ("me", True)


async def test_logging_out_takes_effect_at_once_and_logging_in_too(tmp_path: Path) -> None:
    async with setting(with_tokens(), tmp_path) as here:
        await here.registries.login(f"https://{here.server.host}/v2/", "me", SECRET)
        await here.pull()
        assert await here.registries.logout(here.server.host)
        with pytest.raises(Unauthenticated, match="wants credentials") as caught:
            await here.pull()
        assert f"ross login {here.server.host}" in (caught.value.hint or "")
        assert not await here.registries.logout(here.server.host)
        await here.registries.login(here.server.host, "me", SECRET)
        await here.pull()


async def test_a_password_is_exchanged_for_an_identity_token_which_is_renewed(tmp_path: Path) -> None:
    async with setting(with_tokens(refresh="refresh-1"), tmp_path) as here:
        login, _proved = await here.registries.login(here.server.host, "me", SECRET)
        assert login.token
        assert await here.store.find(here.server.host) == Credentials(username="me", identity_token="refresh-1")
        assert SECRET not in (tmp_path / "config.json").read_text()
        (asked,) = here.server.sent("/token")
        query = parse_qs(urlsplit(asked.target).query)
        assert query == {"service": ["s"], "account": ["me"], "client_id": ["ross"], "offline_token": ["true"]}
        assert "scope" not in query

    async with setting(with_tokens(refresh="refresh-2"), tmp_path) as here:
        await here.store.save(here.server.host, Credentials(username="me", identity_token="refresh-1"))
        await here.pull()
        (asked,) = here.server.sent("/token")
        assert asked.method == "POST"
        assert parse_qs(asked.body.decode())["grant_type"] == ["refresh_token"]
        assert await here.store.find(here.server.host) == Credentials(username="me", identity_token="refresh-2")


async def test_a_refresh_token_does_not_displace_a_password_that_a_user_has_kept(tmp_path: Path) -> None:
    async with setting(with_tokens(refresh="refresh-1"), tmp_path) as here:
        kept = Credentials(username="me", password=SECRET)
        await here.store.save(here.server.host, kept)
        await here.pull()
        assert await here.store.find(here.server.host) == kept


async def test_a_password_of_several_lines_is_one(tmp_path: Path) -> None:
    """As that of a service account of Google's registries, which is a JSON document."""
    password = '{\n  "private_key": "-----BEGIN"\n}'
    wanted = f"Basic {base64.b64encode(f'_json_key:{password}'.encode()).decode()}"

    async def handle(request: Request, stream: trio.SocketStream) -> None:
        known = request.headers.get("authorization") == wanted
        await reply(stream, 200 if known else 401, **({} if known else {"WWW_Authenticate": "Basic"}))

    async with setting(handle, tmp_path) as here:
        await here.registries.login(here.server.host, "_json_key", password)
        assert await here.store.find(here.server.host) == Credentials(username="_json_key", password=password)


async def test_a_registry_that_asks_nobody_is_told_from_one_that_accepts(tmp_path: Path) -> None:
    async def open_to_all(request: Request, stream: trio.SocketStream) -> None:
        wrong = request.headers.get("authorization", RIGHT) != RIGHT
        await reply(stream, 401 if wrong else 200, **({"WWW_Authenticate": "Basic"} if wrong else {}))

    async with setting(open_to_all, tmp_path) as here:
        _login, proved = await here.registries.login(here.server.host, "me", SECRET)
        assert not proved
        with pytest.raises(Unauthenticated, match="does not accept"):
            await here.registries.login(here.server.host, "me", "wrong-word")


def answering(status: int, **headers: str) -> Handler:
    async def handle(request: Request, stream: trio.SocketStream) -> None:
        await reply(stream, status, **headers)

    return handle


@pytest.mark.parametrize(
    ("handler", "error", "words"),
    [
        pytest.param(answering(404), Unavailable, "answers as no registry does", id="no-registry"),
        pytest.param(answering(503), Unavailable, "status 503", id="down"),
        pytest.param(
            answering(401, WWW_Authenticate="Negotiate abc"), Unauthenticated, "does not know: negotiate", id="other"
        ),
        pytest.param(answering(401), Unauthenticated, "does not accept", id="no-challenge"),
        pytest.param(answering(403), Unauthenticated, "refuses", id="forbidden"),
        pytest.param(
            answering(401, WWW_Authenticate='Bearer realm="http://169.254.169.254/"'),
            RossError,
            "token realm",
            id="ssrf",
        ),
        pytest.param(
            answering(401, WWW_Authenticate='Bearer realm="http://auth.example/"'),
            RossError,
            "refused",
            id="http-realm",
        ),
    ],
)
async def test_where_nobody_can_log_in_nothing_is_kept(
    handler: Handler, error: type[Exception], words: str, tmp_path: Path
) -> None:
    async with setting(handler, tmp_path) as here:
        with pytest.raises(error, match=words):
            await here.registries.login(here.server.host, "me", SECRET)

    assert not (tmp_path / "config.json").exists()


@pytest.mark.parametrize(
    ("registry", "username", "password", "words"),
    [
        ("not a host", "me", "p", "not the name of a registry"),
        ("https://user@reg.example", "me", "p", "not the name of a registry"),
        ("../../etc", "me", "p", "not the name of a registry"),
        ("reg.example", "me", "", "the password is empty"),
        ("reg.example", "", "p", "the user name is empty"),
        ("reg.example", "a:b", "p", "has a colon"),
        ("reg.example", "me\r\nX", "p", "control characters"),
        ("reg.example", "me", "p\0", "control characters"),
        ("reg.example", "me", "p" * 20_000, "longer than"),
    ],
)
async def test_what_cannot_be_is_refused_before_anybody_is_asked(
    registry: str, username: str, password: str, words: str, tmp_path: Path
) -> None:
    async with setting(basic, tmp_path) as here:
        with pytest.raises(InvalidArgument, match=words):
            await here.registries.login(registry, username, password)

    assert here.server.requests == []


async def test_a_login_goes_to_the_very_host_and_never_to_who_serves_it(tmp_path: Path) -> None:
    """Proof for features 5.2, "token/scope confusion": a password for a registry is not shown to its mirrors, nor to its replacement."""
    async with scripted_registry(basic) as other, setting(basic, tmp_path) as here:
        directory = tmp_path / "certs.d" / here.server.host
        directory.mkdir(parents=True)
        (directory / "hosts.toml").write_text(f'server = "{other.url}"\n[host."{other.url}/mirror"]\n')
        await here.registries.login(here.server.host, "me", SECRET)

    assert len(here.server.requests) == 2
    assert other.requests == []


async def test_nothing_secret_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Proof for features 5.2, "secrets in logs": neither password nor tokens are in any log, at any level, nor in an error."""
    caplog.set_level("DEBUG")
    async with setting(with_tokens(refresh="refresh-1"), tmp_path) as here:
        await here.registries.login(here.server.host, "me", SECRET)
        await here.pull()
        with pytest.raises(Unauthenticated) as caught:
            await here.registries.login(here.server.host, "me", "wrong-word")

    text = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("ross"))
    assert f"logged in to {here.server.host} as me" in text
    text += repr(caught.value) + str(caught.value.facts) + str(caught.value.hint)
    for secret in (SECRET, "wrong-word", "refresh-1", "t0ken", RIGHT.partition(" ")[2]):
        assert secret not in text


async def test_a_login_that_is_cancelled_keeps_nothing(tmp_path: Path) -> None:
    asked, gone = trio.Event(), trio.Event()

    async def silent(request: Request, stream: trio.SocketStream) -> None:
        asked.set()
        assert await stream.receive_some() == b""
        gone.set()

    async with setting(silent, tmp_path) as here, trio.open_nursery() as nursery:
        nursery.start_soon(here.registries.login, here.server.host, "me", SECRET)
        await asked.wait()
        shown = [f"{node.name} {node.waiting_at}" for node in task_tree("ross")]
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True), trio.fail_after(60):
            await gone.wait()

    assert not (tmp_path / "config.json").exists()
    assert any("login" in line for line in shown)
    assert SECRET not in "".join(shown), "what tasks are called shows in debug tasks"
