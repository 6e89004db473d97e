"""What the kernel tells of AppArmor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ross.linux.apparmor import has_apparmor, loaded_profiles

if TYPE_CHECKING:
    from pathlib import Path


def test_loaded_profiles(tmp_path: Path) -> None:
    enabled, profiles = tmp_path / "enabled", tmp_path / "profiles"
    assert not has_apparmor(enabled=enabled)
    enabled.write_text("Y\n")
    assert has_apparmor(enabled=enabled)
    assert loaded_profiles(enabled=enabled, profiles=profiles) == frozenset()
    profiles.write_text("ross-default (enforce)\nnvidia_modprobe//kmod (complain)\n/usr/bin/a (b) c (unconfined)\n\n")
    names = {"ross-default", "nvidia_modprobe//kmod", "/usr/bin/a (b) c"}
    assert loaded_profiles(enabled=enabled, profiles=profiles) == names
    enabled.write_text("N\n")
    assert loaded_profiles(enabled=enabled, profiles=profiles) == frozenset()
