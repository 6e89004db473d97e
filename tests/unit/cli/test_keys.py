"""Keys that let go of a container: as people write them, and as they are typed."""

from __future__ import annotations

import pytest

from ross.cli.keys import DetachKeys, parse_detach_keys
from ross.errors import InvalidArgument


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("ctrl-p,ctrl-q", b"\x10\x11"),
        ("ctrl-a,b", b"\x01b"),
        ("ctrl-@", b"\x00"),
        ("ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_", b"\x1b\x1c\x1d\x1e\x1f"),
        ("CTRL-A", b"\x01"),
        ("d", b"d"),
        ("DEL", b"\x7f"),
        ("", b""),
    ],
)
def test_keys_are_parsed(text: str, keys: bytes) -> None:
    assert parse_detach_keys(text) == keys


@pytest.mark.parametrize(
    "text", ["ctrl-1", "ctrl-", "ab", "ctrl-p,", ",", "ctrl-pp", "\N{LATIN SMALL LETTER E WITH ACUTE}"]
)
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_detach_keys(text)


@pytest.mark.parametrize("keys", [b"\x10\x11", b"aab", b"x"])
def test_keys_are_found_however_they_are_cut(keys: bytes) -> None:
    typed = b"one aa \x10 two" + keys + b"never"
    for cut in range(len(typed)):
        found, passed = DetachKeys(keys), b""
        for part in (typed[:cut], typed[cut:]):
            more, leaving = found.filter(part)
            passed += more
            if leaving:
                break
        assert (passed, leaving) == (typed[: typed.index(keys)], True)


def test_no_keys_find_nothing() -> None:
    assert DetachKeys(b"").filter(b"\x10\x11") == (b"\x10\x11", False)
