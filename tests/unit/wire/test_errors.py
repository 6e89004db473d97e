"""Errors as one line of text, and back; what a peer may send instead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ross.errors import BY_CODE, Cancelled, Internal, NotFound, ResourceExhausted, RossError
from ross.wire.errors import from_exception, to_exception
from ross.wire.owner import TooManyCallsError

MESSAGES = st.text(min_size=1, max_size=100).filter(lambda text: text.strip() == text and text.isprintable())
FACTS = st.dictionaries(
    st.from_regex(r"[a-z][a-z_]{0,9}", fullmatch=True).filter(
        lambda name: name not in {"hint", "message", "self"} and name.isidentifier()
    ),
    st.text(max_size=20) | st.integers() | st.booleans(),
    max_size=3,
)


def carried(error: BaseException) -> RossError:
    """As pycapnp carries it: the class's name and the text, wrapped in words of its own."""
    made = to_exception(error)
    return from_exception(Exception(f"remote exception: {type(made).__name__}: {made}\n"))


@given(st.sampled_from(list(BY_CODE.values())), MESSAGES, st.none() | st.text(max_size=50), FACTS)
def test_error_survives_the_wire(
    kind: type[RossError], message: str, hint: str | None, facts: dict[str, str | int | bool]
) -> None:
    error = carried(kind(message, hint=hint or None, **facts))
    assert type(error) is kind
    assert (error.message, error.hint, error.facts) == (message, hint or None, facts)


def test_text_is_one_line_whatever_is_in_it() -> None:
    made = to_exception(NotFound("a\nb\tc\x1b[31md", hint="x\ny"))
    assert "\n" not in str(made)
    assert "\x1b" not in str(made)
    assert str(made).count("\t") == 1


def test_groups_of_one_and_too_many_calls_are_understood() -> None:
    assert carried(ExceptionGroup("", [ExceptionGroup("", [Cancelled("x")])])).message == "x"
    assert isinstance(carried(TooManyCallsError("too many")), ResourceExhausted)


def test_fault_of_ours_is_logged_and_not_told(caplog: pytest.LogCaptureFixture) -> None:
    error = carried(ZeroDivisionError("secret"))
    assert isinstance(error, Internal)
    assert "secret" not in error.message
    assert str(error.facts["id"]) in caplog.text
    caplog.clear()


@given(st.text(max_size=300))
def test_whatever_a_peer_sends_becomes_an_error(text: str) -> None:
    error = from_exception(Exception(text))
    assert isinstance(error, RossError)
    assert not any(ord(character) < 32 for character in error.message)


@pytest.mark.parametrize(
    "details",
    [
        "not json",
        "[1]",
        '{"facts": 5}',
        '{"facts": {"self": 1, "hint": 2, "message": 3, "a-b": 4}}',
        '{"hint": 7}',
        "[" * 100_000,
    ],
)
def test_malformed_details_are_left_out(details: str) -> None:
    error = from_exception(Exception(f"notFound: gone\t{details}"))
    assert (error.message, error.hint, error.facts) == ("gone", None, {})
