"""Keyword options to limits of a container."""

from __future__ import annotations

from typing import TypedDict

from ross.client.keywords import check_options
from ross.model.limits import Limits


class LimitOptions(TypedDict, total=False):
    """What ``create`` and ``update`` take; each as the flag of ``ross run`` with the same name. In an update -1 takes a limit away."""

    memory: int
    """Bytes."""
    memory_swap: int
    """Bytes of memory and swap together; -1 for no limit of swap."""
    memory_reservation: int
    cpus: float
    cpu_shares: int
    cpu_quota: int
    """Microseconds."""
    cpu_period: int
    cpuset_cpus: str
    cpuset_mems: str
    pids_limit: int
    blkio_weight: int


def changed_limits(options: LimitOptions) -> Limits:
    """The limits that an update is to change.

    Raises:
        InvalidArgument: an option is not one.
    """
    check_options(options, LimitOptions)
    return make_limits(options)


def make_limits(options: LimitOptions) -> Limits:
    """The limits that these options mean."""
    cpus = options.get("cpus", 0.0)
    return Limits(
        memory_bytes=options.get("memory", 0),
        memory_swap_bytes=options.get("memory_swap", 0),
        memory_reservation_bytes=options.get("memory_reservation", 0),
        nano_cpus=-1 if cpus == -1 else round(cpus * 1e9),
        cpu_shares=options.get("cpu_shares", 0),
        cpu_quota_us=options.get("cpu_quota", 0),
        cpu_period_us=options.get("cpu_period", 0),
        cpuset_cpus=options.get("cpuset_cpus", ""),
        cpuset_mems=options.get("cpuset_mems", ""),
        pids_limit=options.get("pids_limit", 0),
        blkio_weight=options.get("blkio_weight", 0),
    )
