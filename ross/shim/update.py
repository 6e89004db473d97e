"""Changing what a container may use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import asdict, evolve

from ross.model.limits import Limits
from ross.shim.resources import changes_of, resources_of

if TYPE_CHECKING:
    from ross.model.containers import ContainerSpec, ContainerUpdate
    from ross.shim.facts import HostFacts

_MINUS_ONE_STAYS = frozenset({"pids_limit", "memory_swap_bytes"})
"""Those of which a spec says so too that there is no limit."""


def updated_spec(spec: ContainerSpec, update: ContainerUpdate) -> ContainerSpec:
    """The spec with what an update changes; -1 takes a limit away."""
    changes: dict[str, Any] = {
        name: 0 if value == -1 and name not in _MINUS_ONE_STAYS else value
        for name, value in asdict(update.limits).items()
        if value
    }
    if changes.get("nano_cpus") and not (update.limits.cpu_quota_us or update.limits.cpu_period_us):
        changes |= {"cpu_quota_us": 0, "cpu_period_us": 0}  # the one way of saying it takes the place of the other
    elif changes.get("cpu_quota_us") or changes.get("cpu_period_us"):
        changes.setdefault("nano_cpus", 0)
    if update.limits.memory_bytes == -1:
        changes.setdefault("memory_swap_bytes", 0)
    limits = evolve(spec.limits, **changes)
    restart = update.restart if update.restart is not None else spec.restart
    return evolve(spec, limits=limits, restart=restart)


def changed_resources(spec: ContainerSpec, update: ContainerUpdate, host: HostFacts) -> dict[str, Any]:
    """What to tell the runtime of a live container (runtime-spec, config-linux.md, "Control groups"); empty if nothing.

    Args:
        spec: As it is to be.
        update: What was asked for.
        host: The host's facts.
    """
    if update.limits == Limits():
        return {}
    return changes_of(resources_of(spec, host), update.limits, host)
