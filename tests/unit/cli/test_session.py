"""What a command fails with when several of its tasks fail at once."""

from __future__ import annotations

import pytest

from ross.cli.errors import Exit
from ross.cli.session import _only
from ross.errors import NotFound, Unavailable


def group(*errors: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("several", errors)


@pytest.mark.parametrize("asked_for", [KeyboardInterrupt(), Exit(3)], ids=["interrupt", "exit"])
def test_what_was_asked_for_counts_before_what_it_has_broken_off(asked_for: BaseException) -> None:
    assert _only(group(Unavailable("gone"), group(group(asked_for), NotFound("away")))) is asked_for


def test_an_exit_counts_before_an_interrupt() -> None:
    leaving = Exit(4)
    assert _only(group(KeyboardInterrupt(), group(leaving))) is leaving


def test_else_the_first_counts() -> None:
    first = NotFound("first")
    assert _only(group(group(first), Unavailable("second"))) is first
