"""Which profile of AppArmor a container has: the one that is asked for, or the host's usual one for containers, if it has one.

That is decided when it is made, and kept: if the profile is gone when it is to start, it does not start without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import evolve

from ross.errors import FailedPrecondition
from ross.linux.apparmor import has_apparmor, loaded_profiles
from ross.shim.security import UNCONFINED

if TYPE_CHECKING:
    from collections.abc import Set

    from ross.model.containers import ContainerSpec

_OURS: Final = "ross-default"
_DOCKERS: Final = "docker-default"
_PODMANS: Final = "containers-default"
"""With a version behind it."""


def with_profile(spec: ContainerSpec) -> ContainerSpec:
    """The spec with the profile that it gets, if it asks for none."""
    if spec.security.apparmor or spec.privileged:
        return spec
    return evolve(spec, security=evolve(spec.security, apparmor=usual_profile(loaded_profiles())))


def with_asked_profile(spec: ContainerSpec) -> ContainerSpec:
    """The spec without a usual profile, whoever has filled it in."""
    usual = usual_profile({spec.security.apparmor})
    return evolve(spec, security=evolve(spec.security, apparmor="")) if usual else spec


def usual_profile(loaded: Set[str]) -> str:
    """The profile for containers among some; empty if there is none."""
    known = [name for name in (_OURS, _DOCKERS) if name in loaded]
    known += sorted(name for name in loaded if name == _PODMANS or name.startswith(f"{_PODMANS}-"))
    return known[0] if known else ""


def check_profile(profile: str) -> None:
    """Check that a profile can be had here.

    Raises:
        FailedPrecondition: it is not loaded, or there is no AppArmor.
    """
    if profile in {"", UNCONFINED} or profile in loaded_profiles():
        return
    if not has_apparmor():
        raise FailedPrecondition(
            f"this host has no profile {profile!r} of AppArmor loaded: its kernel does not confine programs by AppArmor",
            hint="leave out --security-opt apparmor",
        )
    raise FailedPrecondition(
        f"this host has no profile {profile!r} of AppArmor loaded", hint="load it with apparmor_parser; see: aa-status"
    )
