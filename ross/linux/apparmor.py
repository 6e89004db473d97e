"""AppArmor, as the kernel tells of it (apparmor(7))."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_ENABLED: Final = Path("/sys/module/apparmor/parameters/enabled")
_PROFILES: Final = Path("/sys/kernel/security/apparmor/profiles")


def has_apparmor(*, enabled: Path = _ENABLED) -> bool:
    """Whether the kernel confines programs by it."""
    try:
        return enabled.read_text().strip() == "Y"
    except OSError:
        return False


def loaded_profiles(*, enabled: Path = _ENABLED, profiles: Path = _PROFILES) -> frozenset[str]:
    """The names of the profiles that are loaded now; none where there is no AppArmor, or it may not be looked at."""
    if not has_apparmor(enabled=enabled):
        return frozenset()
    try:
        lines = profiles.read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(name for line in lines if (name := line.rpartition(" (")[0]))
