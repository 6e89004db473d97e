"""Where control groups are, and what is no place for one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ross.errors import FailedPrecondition, InvalidArgument
from ross.shim.groups import Groups, make_groups, usual_paths

SYSTEMD = Groups(manager="systemd")


@pytest.mark.parametrize(
    ("groups", "parent", "path", "told"),
    [
        (Groups(), "", "/ross/x", "/ross/x"),
        (Groups(), "/web/front/", "/web/front/x", "/web/front/x"),
        (Groups(), "web", "/web/x", "/web/x"),
        (SYSTEMD, "", "/ross.slice/ross-x.scope", "ross.slice:ross:x"),
        (SYSTEMD, "web.slice", "/web.slice/ross-x.scope", "web.slice:ross:x"),
        (SYSTEMD, "a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice/ross-x.scope", "a-b-c.slice:ross:x"),
    ],
)
def test_where_a_group_is(groups: Groups, parent: str, path: str, told: str) -> None:
    groups.check_parent(parent)
    assert groups.path("x", parent) == path
    assert groups.for_runtime("x", parent) == told


@pytest.mark.parametrize(
    "parent",
    ["..", "/..", "/web/../..", "web/..", "./web", "/web/./x", "//web", "/web//x", "/", "a\nb", "a\0b", "x" * 300],
)
def test_no_path_leads_out_of_the_hierarchy(parent: str) -> None:
    with pytest.raises(InvalidArgument, match="is no path of one"):
        Groups().check_parent(parent)


@pytest.mark.parametrize(
    "parent",
    [
        "/web",
        "web",
        "web.slice/x",
        "../web.slice",
        "-.slice",
        "-a.slice",
        "a-.slice",
        "a--b.slice",
        "a:b.slice",
        "a\n.slice",
    ],
)
def test_no_slice_is_no_parent(parent: str) -> None:
    with pytest.raises(InvalidArgument, match="is no slice"):
        SYSTEMD.check_parent(parent)


def test_what_is_left_is_looked_for_at_both_places() -> None:
    assert usual_paths("x") == ("/ross/x", "/ross.slice/ross-x.scope")


def test_systemd_must_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert make_groups("cgroupfs") == Groups()
    monkeypatch.setattr("ross.shim.groups._BOOTED", tmp_path / "nothing")
    with pytest.raises(FailedPrecondition, match="does not run here"):
        make_groups("systemd")
    monkeypatch.setattr("ross.shim.groups._BOOTED", tmp_path)
    assert make_groups("systemd") == SYSTEMD
