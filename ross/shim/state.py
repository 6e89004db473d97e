"""The states of a container, and which may follow which. Drawn in ``schema/ross.capnp``."""

from __future__ import annotations

from typing import Final

from ross.errors import FailedPrecondition, NotFound
from ross.model.containers import ContainerState

_S = ContainerState

TRANSITIONS: Final = {
    _S.CREATED: frozenset({_S.STARTING, _S.REMOVING}),
    _S.STARTING: frozenset({_S.RUNNING, _S.CREATED, _S.STOPPED}),
    _S.RUNNING: frozenset({_S.PAUSED, _S.STOPPING, _S.STOPPED, _S.RESTARTING}),
    _S.PAUSED: frozenset({_S.RUNNING, _S.STOPPING, _S.STOPPED, _S.RESTARTING}),
    _S.RESTARTING: frozenset({_S.STARTING, _S.STOPPED}),
    _S.STOPPING: frozenset({_S.STOPPED}),
    _S.STOPPED: frozenset({_S.STARTING, _S.REMOVING}),
    _S.REMOVING: frozenset({_S.REMOVED, _S.REMOVING}),  # again, where something of it could not be removed
    _S.REMOVED: frozenset[ContainerState](),
}

ACTIVE: Final = frozenset({_S.STARTING, _S.RUNNING, _S.PAUSED, _S.RESTARTING, _S.STOPPING})
"""Neither at rest nor on its way out: what ``ps`` shows."""
ALIVE: Final = frozenset({_S.RUNNING, _S.PAUSED, _S.STOPPING})
"""It has a process."""

_HINTS: Final = {
    (_S.PAUSED, _S.STARTING): "let it go on with: ross unpause",
    (_S.RESTARTING, _S.STARTING): "it is started again soon; stop it first to start it now",
    (_S.PAUSED, _S.PAUSED): "it is paused already",
    (_S.PAUSED, _S.REMOVING): "stop it first, or remove it with --force",
    (_S.RESTARTING, _S.REMOVING): "stop it first, or remove it with --force",
    (_S.RUNNING, _S.STARTING): "it runs already",
    (_S.RUNNING, _S.REMOVING): "stop it first, or remove it with --force",
    (_S.STOPPING, _S.REMOVING): "wait until it has stopped, or remove it with --force",
}


def check_transition(name: str, current: ContainerState, following: ContainerState) -> None:
    """See that a container may go from one state to another.

    Raises:
        NotFound: it is removed.
        FailedPrecondition: it may not.
    """
    if current is ContainerState.REMOVED:
        raise NotFound(f"the container {name} has been removed")
    if following not in TRANSITIONS[current]:
        verb = {_S.STARTING: "started", _S.REMOVING: "removed", _S.STOPPING: "stopped", _S.RUNNING: "unpaused"}.get(
            following, following.value
        )
        raise FailedPrecondition(
            f"the container {name} is {current.value} and cannot be {verb}", hint=_HINTS.get((current, following))
        )


def check_alive(name: str, current: ContainerState) -> None:
    """See that a container is neither removed nor on its way there.

    Raises:
        NotFound: it is.
    """
    if current in {_S.REMOVING, _S.REMOVED}:
        raise NotFound(f"the container {name} has been removed")
