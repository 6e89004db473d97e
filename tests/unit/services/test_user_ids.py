"""Which ids of the host a container with users of its own gets."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest

from ross.client.users import make_users, parse_range
from ross.errors import InvalidArgument, ResourceExhausted
from ross.model.namespaces import IdRange, UserMode, UserNamespace, inside, outside
from ross.services.user_ids import allotted, pools

AUTO = UserNamespace(mode=UserMode.AUTO, size=10)
WHERE = (((100, 25), (500, 10)), ((1000, 100),))


def test_the_first_that_nobody_has_in_whatever_part() -> None:
    found: list[UserNamespace] = []
    for _ in range(3):
        found.append(allotted(AUTO, found, WHERE))
    assert [one.uids[0].outside for one in found] == [100, 110, 500]
    assert [one.gids[0].outside for one in found] == [1000, 1010, 1020]
    with pytest.raises(ResourceExhausted, match="10 users in a row"):
        allotted(AUTO, found, WHERE)
    assert allotted(AUTO, [found[0], found[2]], WHERE).uids[0].outside == 110


def test_maps_that_people_have_made_count_too() -> None:
    theirs = make_users("", ["0:103:2", "2:900:5"], ["0:1015:1"])
    found = allotted(AUTO, [theirs], WHERE)
    assert (found.uids[0].outside, found.gids[0].outside) == (105, 1000)


def test_none_in_common_whatever_comes_and_goes() -> None:
    rng = random.Random(3)
    there: list[UserNamespace] = []
    for _ in range(500):
        if there and rng.random() < 0.45:
            there.remove(rng.choice(there))
            continue
        wanted = UserNamespace(mode=UserMode.AUTO, size=rng.randrange(1, 300))
        try:
            there.append(allotted(wanted, there, (((1000, 4000),), ((9000, 3000),))))
        except ResourceExhausted:
            continue
        for kind, first, end in (("uids", 1000, 5000), ("gids", 9000, 12000)):
            ranges = sorted((getattr(one, kind)[0].outside, getattr(one, kind)[0].size) for one in there)
            assert all(begin >= first and begin + size <= end for begin, size in ranges)
            assert all(one[0] + one[1] <= other[0] for one, other in pairwise(ranges))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ((1 << 31, (1 << 31) - 65536),)),
        ("somebody:1:2\n", ((1 << 31, (1 << 31) - 65536),)),
        ("containers:5:6\nross:1:2\nross:10:20\n", ((1, 2), (10, 20))),
        ("containers:5:6\nross:1:x\nross:1\nross:-1:5\nross:3:0\n", ((5, 6),)),
    ],
)
def test_what_is_set_aside(tmp_path: Path, text: str, expected: tuple[tuple[int, int], ...]) -> None:
    (tmp_path / "subuid").write_text(text)
    users, groups = pools((tmp_path / "subuid", tmp_path / "missing"))
    assert users == expected
    assert groups == ((1 << 31, (1 << 31) - 65536),)


def test_ids_there_and_back() -> None:
    ranges = (IdRange(inside=0, outside=500, size=10), IdRange(inside=100, outside=0, size=1))
    assert [outside(ranges, number) for number in (0, 9, 100)] == [500, 509, 0]
    assert [inside(ranges, number) for number in (500, 509, 0)] == [0, 9, 100]
    for number in (10, 99, 101):
        with pytest.raises(LookupError):
            outside(ranges, number)
    for number in (499, 510, 1):
        with pytest.raises(LookupError):
            inside(ranges, number)


@pytest.mark.parametrize(
    "text", ["", "0", "0:1:2:3", "a:1:2", "0:1:", "-1:5:5", "0:4294967296:1", "0: 1:2", "\u0660:1:2"]
)
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_range(text)


def test_one_id() -> None:
    assert parse_range("0:1000") == IdRange(inside=0, outside=1000, size=1)
