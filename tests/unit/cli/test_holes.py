"""Versions of the runtime that are known to let containers out."""

from __future__ import annotations

import pytest

from ross.cli.holes import first_without, known_holes


@pytest.mark.parametrize(
    ("version", "holes"),
    [
        ("1.1.5+ds1", 6),
        ("1.1.12", 5),
        ("1.1.15", 4),
        ("1.2.0", 4),
        ("1.2.7", 4),
        ("1.2.8", 1),
        ("1.3.2", 4),
        ("1.3.3", 1),
        ("1.3.6", 0),
        ("1.4.0", 1),
        ("1.4.3", 0),
        ("1.5.0", 0),
        ("2.0.0", 0),
        ("0.9.9", 6),
    ],
)
def test_versions_and_their_holes(version: str, holes: int) -> None:
    """CVE-2025-31133, 52565 and 52881 are mended in 1.2.8, 1.3.3 and 1.4.0; CVE-2026-41579 in 1.3.6 and 1.4.3."""
    assert len(known_holes(f"runc version {version}")) == holes


@pytest.mark.parametrize(
    ("version", "holes"),
    [
        ("1.8.1", 3),
        ("1.23.1", 3),
        ("1.24", 2),
        ("1.24.1", 2),
        ("1.29", 2),
        ("1.30", 0),
        ("1.31.2", 0),
        ("2.0", 0),
        ("0.1", 3),
    ],
)
def test_versions_of_crun(version: str, holes: int) -> None:
    """CVE-2026-88264 and 88265 are mended in 1.30; devices are left their owners since 1.24."""
    assert len(known_holes(f"crun version {version}")) == holes


def test_first_version_without_holes_has_none() -> None:
    for runtime in ("runc", "crun"):
        assert known_holes(f"{runtime} version {first_without(f'{runtime} version 1.0')}") == ()
    assert first_without("runc version 1.0") == "1.4.3"
    assert first_without("crun version 1.0") == "1.30"


def test_other_runtimes_have_other_holes() -> None:
    for version in ("youki version 0.1", ""):
        assert known_holes(version) == ()
        assert first_without(version) == ""
