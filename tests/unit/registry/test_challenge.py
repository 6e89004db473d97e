"""Reading WWW-Authenticate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ross.registry.challenge import Challenge, parse_challenges


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Basic", [Challenge("basic", {})]),
        ('Bearer realm="https://a/t",service=s', [Challenge("bearer", {"realm": "https://a/t", "service": "s"})]),
        ('Bearer scope="a,b \\"c\\""', [Challenge("bearer", {"scope": 'a,b "c"'})]),
        ('Negotiate YII==, Basic realm="r"', [Challenge("negotiate", {}), Challenge("basic", {"realm": "r"})]),
        ("Bearer realm=a, realm=b", [Challenge("bearer", {"realm": "a"})]),
        ('Basic realm="open', [Challenge("basic", {})]),
        ("realm=x", []),
        ("", []),
    ],
)
def test_challenges_are_read(value: str, expected: list[Challenge]) -> None:
    assert list(parse_challenges([value])) == expected


@given(st.lists(st.text(max_size=200), max_size=3))
def test_nothing_a_server_sends_breaks_the_reader(values: list[str]) -> None:
    assert all(challenge.scheme == challenge.scheme.lower() for challenge in parse_challenges(values))
