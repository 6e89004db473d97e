"""Which ids of the host belong to the containers that have users of their own (subuid(5), user_namespaces(7)).

Where the host's administrator has set ids aside for ``ross`` or ``containers`` in ``/etc/subuid`` and ``/etc/subgid``, as for Podman,
it is those. Else it is the upper half of all there are, which neither people nor systemd's own containers get.

No two containers of a daemon ever have an id in common: what one of them writes to somebody else's files, or signals if it gets out,
is none of another's.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import evolve

from ross.errors import ResourceExhausted
from ross.model.namespaces import IdRange, UserMode, UserNamespace

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ross.model.containers import ContainerSpec

DEFAULT_SIZE: Final = 65536
_OWNERS: Final = ("ross", "containers")
_UPPER_HALF: Final = ((1 << 31, (1 << 31) - DEFAULT_SIZE),)
"""But for the last: -1 is no id, and nobody's is taken to be near it."""
_FILES: Final = (Path("/etc/subuid"), Path("/etc/subgid"))

Pool = tuple[tuple[int, int], ...]
"""First id and number of ids."""


def pools(files: tuple[Path, Path] = _FILES) -> tuple[Pool, Pool]:
    """The users and the groups that containers can have."""
    users, groups = (_set_aside(path) for path in files)
    return users or _UPPER_HALF, groups or _UPPER_HALF


def _set_aside(path: Path) -> Pool:
    try:
        lines = [line.split(":") for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError):
        return ()
    numbered = [
        line for line in lines if len(line) == 3 and all(part.isascii() and part.isdigit() for part in line[1:])
    ]
    for owner in _OWNERS:
        found = [(int(first), int(count)) for name, first, count in numbered if name == owner and int(count)]
        if found:
            return tuple(found)
    return ()


def allotted(wanted: UserNamespace, others: Iterable[UserNamespace], where: tuple[Pool, Pool]) -> UserNamespace:
    """The same, with ids that none of the others has.

    Raises:
        ResourceExhausted: there are not so many left in a row.
    """
    size, those = wanted.size or DEFAULT_SIZE, tuple(others)
    uids = _free(where[0], size, [one for other in those for one in other.uids], "users")
    gids = _free(where[1], size, [one for other in those for one in other.gids], "groups")
    return evolve(wanted, uids=(uids,), gids=(gids,))


def with_asked_users(spec: ContainerSpec) -> ContainerSpec:
    """The spec without what the engine finds, whoever has filled it in."""
    users = spec.namespaces.users
    if users.mode is not UserMode.AUTO:
        return spec
    return evolve(spec, namespaces=evolve(spec.namespaces, users=evolve(users, uids=(), gids=())))


def _free(pool: Pool, size: int, taken: Sequence[IdRange], what: str) -> IdRange:
    """The first ids in a row that nobody has."""
    busy = sorted((one.outside, one.outside + one.size) for one in taken)
    for first, count in pool:
        at = first
        for begin, end in busy:
            if begin >= at + size:
                break
            at = max(at, end)
        if at + size <= first + count:
            return IdRange(inside=0, outside=at, size=size)
    raise ResourceExhausted(
        f"no {size} {what} in a row are left for a container",
        hint="remove containers that have users of their own, ask for fewer with --userns auto:size=N, or set more aside in /etc/subuid "
        "and /etc/subgid for the name ross",
    )
