"""What can be refused about users of its own before a container is made (user_namespaces(7))."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from ross.errors import FailedPrecondition, InvalidArgument
from ross.linux.userns import MOST_RANGES
from ross.model.namespaces import NamespaceMode, UserMode, outside

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ross.model.containers import ContainerSpec
    from ross.model.namespaces import IdRange, UserNamespace

_ALL: Final = 1 << 32
_NO_ID: Final = _ALL - 1


def check_users(spec: ContainerSpec) -> None:
    """Check what a spec says of its users, and that it asks for nothing that takes the host's.

    Raises:
        InvalidArgument: something is not allowed.
    """
    users = spec.namespaces.users
    if users.mode is UserMode.UNKNOWN:
        raise InvalidArgument("this engine does not know that kind of users", hint="there are host, auto and map")
    if users.mode is UserMode.HOST:
        if users.uids or users.gids or users.size:
            raise InvalidArgument("who has the host's users has no ids of its own", hint="leave out --userns host")
        if any(mount.idmap for mount in spec.mounts):
            raise InvalidArgument(
                "ids are mapped for a container with users of its own", hint="leave out idmap, or say --userns auto"
            )
        return
    if users.mode is UserMode.MAP:
        if users.size:
            raise InvalidArgument("a number of ids goes with --userns auto only")
        for what, ranges in (("user", users.uids), ("group", users.gids)):
            _check_ranges(ranges, what)
    elif not 0 <= users.size < _ALL:
        raise InvalidArgument(f"{users.size} is not a number of ids")
    _check_rest(spec)


def _check_rest(spec: ContainerSpec) -> None:
    if spec.privileged:
        raise InvalidArgument(
            "a container cannot have all privileges and users of its own", hint="leave out --privileged, or --userns"
        )
    own = spec.namespaces
    shared = {"pid": own.pid, "ipc": own.ipc, "uts": own.uts, "cgroupns": own.cgroup}
    for flag, mode in shared.items():
        if mode is not NamespaceMode.PRIVATE:
            raise InvalidArgument(
                f"a container with users of its own cannot share that namespace: --{flag} {mode.value}",
                hint=f"leave out --{flag}, or --userns",
            )


def _check_ranges(ranges: Sequence[IdRange], what: str) -> None:
    if not 0 < len(ranges) <= MOST_RANGES:
        raise InvalidArgument(
            f"{len(ranges)} ranges of {what} ids are not from 1 to {MOST_RANGES}", hint="say --uidmap 0:100000:65536"
        )
    for one in ranges:
        if one.size < 1 or max(one.inside, one.outside) + one.size > _NO_ID:
            raise InvalidArgument(f"{one.inside}:{one.outside}:{one.size} is no range of {what} ids")
    for side in ("inside", "outside"):
        ordered = sorted((getattr(one, side), one.size) for one in ranges)
        for (first, size), (following, _size) in pairwise(ordered):
            if first + size > following:
                raise InvalidArgument(f"two ranges of {what} ids have {following} in common")
    if not _has(ranges, 0):
        raise InvalidArgument(f"the container's root has no {what} id of the host", hint="map 0 too: 0:100000:65536")


def check_has(users: UserNamespace, uid: int, gids: Iterable[int]) -> None:
    """Check that a process can be this user, in these groups.

    Raises:
        FailedPrecondition: the container has no such ids.
    """
    if users.mode is UserMode.HOST:
        return
    for what, ranges, numbers in (("user", users.uids, (uid,)), ("group", users.gids, gids)):
        for number in numbers:
            if not _has(ranges, number):
                raise FailedPrecondition(
                    f"the container has no {what} {number} among its own",
                    hint="ask for more with --userns auto:size=N or --uidmap and --gidmap",
                )


def _has(ranges: Sequence[IdRange], number: int) -> bool:
    try:
        outside(ranges, number)
    except LookupError:
        return False
    return True
