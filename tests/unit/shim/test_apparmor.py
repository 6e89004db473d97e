"""Which profile of AppArmor is the usual one."""

from __future__ import annotations

import pytest

from ross.model.containers import ContainerSpec
from ross.model.security import Security
from ross.shim.apparmor import usual_profile, with_asked_profile, with_profile


@pytest.mark.parametrize(
    ("loaded", "usual"),
    [
        (set(), ""),
        ({"man_groff", "docker-default-x", "my-containers-default"}, ""),
        ({"containers-default-0.50.1", "man_groff"}, "containers-default-0.50.1"),
        ({"containers-default-0.50.1", "docker-default"}, "docker-default"),
        ({"containers-default", "docker-default", "ross-default"}, "ross-default"),
    ],
)
def test_usual_profile(loaded: set[str], usual: str) -> None:
    assert usual_profile(loaded) == usual


def test_who_gets_none() -> None:
    for spec in (ContainerSpec(privileged=True), ContainerSpec(security=Security(apparmor="unconfined"))):
        assert with_profile(spec) == spec


def test_what_was_asked_for() -> None:
    filled_in = ContainerSpec(security=Security(apparmor="ross-default"))
    assert with_asked_profile(filled_in) == ContainerSpec()
    for name in ("", "mine", "unconfined"):
        asked = ContainerSpec(security=Security(apparmor=name))
        assert with_asked_profile(asked) == asked
