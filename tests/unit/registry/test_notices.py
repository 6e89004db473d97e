"""What registries say beside the image: collected once, bounded, cleaned, logged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
import trio

from ross.errors import Unavailable
from ross.model.registries import Notice, NoticeKind
from ross.oci.reference import Reference
from ross.registry.client import RegistryClient
from ross.registry.credentials import CredentialStore
from ross.registry.notices import Notices
from ross.registry.retry import RetryPolicy
from ross.registry.session import RegistrySession
from tests.support.scripted_registry import Handler, Request, make_image, reply, scripted_registry, serve_image

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = make_image(b"a layer", architecture="amd64")


def heard(*headers: tuple[str, str]) -> list[tuple[NoticeKind, str]]:
    seen: list[Notice] = []
    Notices(seen.append).heard(
        "reg.example", httpx.Response(200, headers=[(name.encode(), value.encode()) for name, value in headers])
    )
    assert {one.registry for one in seen} <= {"reg.example"}
    return [(one.kind, one.text) for one in seen]


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ('299 - "This is old."', ["This is old."]),
        ('299 - "one", 299 - "two \\"quoted\\", 299 - \\"no\\""', ["one", 'two "quoted", 299 - "no"']),
        ('199 - "not for users"', []),
        ('299 proxy.example "an agent"', []),
        ("299 - unquoted", []),
        ('299 - ""', []),
        ("299 - \"\x1b[31mred\x07\"", ["\ufffd[31mred\ufffd"]),
        (f'299 - "{"x" * 5000}"', ["x" * 400]),
        (f'299 - "{"x" * 10_000}"', []),
    ],
)  # fmt: skip
def test_warnings_are_those_that_the_standard_has(value: str, texts: list[str]) -> None:
    assert heard(("Warning", value)) == [(NoticeKind.WARNING, text) for text in texts]


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        ({"limit": "100;w=21600", "remaining": "76;w=21600"}, "76 of 100 pulls are left within 6 hours"),
        ({"limit": "200", "remaining": "1"}, "1 of 200 pulls are left"),
        ({"remaining": "5;w=90"}, "5 pulls are left within 90 seconds"),
        ({"limit": "100;w=21600"}, None),
        ({"limit": "many", "remaining": "none"}, None),
        ({"limit": "1" * 5000, "remaining": "1" * 5000}, None),
        ({"limit": "\u0661\u0660\u0660", "remaining": "\u0661"}, None),
    ],
)
def test_quotas_are_told_in_words(headers: dict[str, str], text: str | None) -> None:
    pairs = [(f"RateLimit-{name}", value) for name, value in headers.items()]
    assert heard(*pairs) == ([] if text is None else [(NoticeKind.RATE_LIMIT, text)])


def test_each_thing_is_told_once_and_there_is_an_end_to_it() -> None:
    seen: list[Notice] = []
    notices = Notices(seen.append)
    for number in range(100):
        headers = [("Warning", '299 - "the same"'), ("RateLimit-Remaining", f"{100 - number}")]
        notices.heard("reg.example", httpx.Response(200, headers=headers))
    assert [one.kind for one in seen] == [NoticeKind.WARNING, NoticeKind.RATE_LIMIT]
    for number in range(100):
        notices.heard("reg.example", httpx.Response(200, headers=[("Warning", f'299 - "{number}"')]))
    assert len(seen) == 12


async def resolve_from(handler: Handler, tmp_path: Path) -> list[Notice]:
    seen: list[Notice] = []
    credentials = CredentialStore(tmp_path / "config.json")
    async with scripted_registry(handler) as server, RegistrySession(credentials, user_agent="test") as session:
        client = RegistryClient(session, policy=RetryPolicy(attempts=3, initial_seconds=0, patience_seconds=5))
        try:
            await client.open(Reference.parse(f"{server.host}/app:1"), notify=seen.append).resolve()
        except Unavailable as error:
            assert "429" in str(error)  # noqa: PT017 -- what it says is asserted on where it is expected
    return seen


async def test_a_pull_hears_them_and_the_log_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="ross")

    async def handle(request: Request, stream: trio.SocketStream) -> None:
        said = {"Warning": '299 - "End of life."', "RateLimit_Limit": "10;w=60", "RateLimit_Remaining": "9;w=60"}
        await reply(stream, 200, IMAGE.manifest, **said)

    seen = await resolve_from(handle, tmp_path)

    assert [one.text for one in seen] == ["End of life.", "9 of 10 pulls are left within 1 minute"]
    assert "says: End of life." in caplog.text
    assert [one.levelname for one in caplog.records if "says:" in one.getMessage()] == ["WARNING", "INFO"]


async def test_being_asked_to_wait_is_told_and_so_is_the_quota_that_is_used_up(tmp_path: Path) -> None:
    refusals = [1]

    async def handle(request: Request, stream: trio.SocketStream) -> None:
        if refusals:
            refusals.pop()
            await reply(stream, 429, Retry_After="1", RateLimit_Limit="100;w=3600", RateLimit_Remaining="0;w=3600")
        else:
            await serve_image(IMAGE, request, stream)

    with trio.fail_after(60):
        seen = await resolve_from(handle, tmp_path)

    assert [(one.kind, one.text) for one in seen] == [
        (NoticeKind.RATE_LIMIT, "0 of 100 pulls are left within 1 hour"),
        (NoticeKind.DELAY, "it limits how often one may ask; asking again in 1 second"),
    ]


async def test_where_a_redirect_leads_has_nothing_to_say(tmp_path: Path) -> None:
    async def storage(request: Request, stream: trio.SocketStream) -> None:
        await reply(stream, 200, IMAGE.manifest, Warning='299 - "Buy more."')

    async with scripted_registry(storage) as other:

        async def handle(request: Request, stream: trio.SocketStream) -> None:
            await reply(stream, 307, Location=f"{other.url}/manifests/1")

        assert await resolve_from(handle, tmp_path) == []
