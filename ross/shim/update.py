"""Changing what a container may use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import evolve

from ross.shim.spec import resources_of

if TYPE_CHECKING:
    from ross.model.containers import ContainerSpec, ContainerUpdate
    from ross.shim.spec import HostFacts


def updated_spec(spec: ContainerSpec, update: ContainerUpdate) -> ContainerSpec:
    """The spec with what an update changes; -1 takes a limit away."""
    changes: dict[str, Any] = {}
    for name in ("memory_bytes", "nano_cpus"):
        if value := getattr(update, name):
            changes[name] = max(0, value)
    if update.pids_limit:
        changes["pids_limit"] = update.pids_limit
    if update.restart is not None:
        changes["restart"] = update.restart
    return evolve(spec, **changes)


def changed_resources(spec: ContainerSpec, update: ContainerUpdate, host: HostFacts) -> dict[str, Any]:
    """What to tell the runtime of a live container (runtime-spec, config-linux.md, "Control groups"); empty if nothing.

    Args:
        spec: As it is to be.
        update: What was asked for.
        host: The host's facts.
    """
    wanted = resources_of(spec, host)
    changed: dict[str, Any] = {}
    if update.memory_bytes:
        changed["memory"] = wanted.get("memory", {"limit": -1, **({"swap": -1} if host.swap_accounting else {})})
    if update.nano_cpus:
        changed["cpu"] = wanted.get("cpu", {"quota": -1})
    if update.pids_limit:
        changed["pids"] = wanted.get("pids", {"limit": -1})
    return changed
