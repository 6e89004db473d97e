"""When a container that has ended is started again, and how long to pause before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ross.model.containers import Outcome, RestartMode
from ross.nursery.restart import RestartPolicy as Pauses

if TYPE_CHECKING:
    from ross.services.records import ContainerRecord

_PAUSES: Final = Pauses()


class Restarts:
    """The pauses of one container since somebody started it."""

    def __init__(self) -> None:
        self._pause: float | None = None

    def wanted(self, record: ContainerRecord, result: Outcome) -> bool:
        """Whether its policy wants it to be started again, after a run that ended so."""
        if record.stopped_by_hand or record.removing or result.checkpointed:
            return False
        policy = record.spec.restart
        if policy.mode is RestartMode.ON_FAILURE:
            return _failed(result) and not _tried_enough(record)
        return policy.mode in {RestartMode.ALWAYS, RestartMode.UNLESS_STOPPED}

    def given_up(self, record: ContainerRecord, result: Outcome) -> bool:
        """Whether it is only for the number of restarts that its policy does not want another one."""
        by_itself = not (record.stopped_by_hand or record.removing or result.checkpointed)
        return (
            by_itself
            and record.spec.restart.mode is RestartMode.ON_FAILURE
            and _failed(result)
            and _tried_enough(record)
        )

    def pause(self, record: ContainerRecord, *, now: int, start_failed: bool = False) -> float:
        """Seconds before the next start; they grow as long as it keeps ending soon, or cannot be started.

        Args:
            record: Of the container.
            now: Nanoseconds since the epoch.
            start_failed: Whether the last start has: then there was no run since, and how long the one before lasted says nothing.
        """
        ended = record.outcome.finished_at if record.outcome is not None else now
        lasted = max(0, ended - record.started_at) / 1e9 if record.started_at and not start_failed else 0.0
        self._pause = _PAUSES.next_pause(self._pause, lasted=lasted)
        return self._pause


def _failed(result: Outcome) -> bool:
    return result.exit_code != 0 or result.error != ""


def _tried_enough(record: ContainerRecord) -> bool:
    most = record.spec.restart.max_retries
    return most != 0 and record.restart_count >= most


def wanted_at_begin(record: ContainerRecord) -> bool:
    """Whether a container that does not run is started when the daemon begins."""
    if record.restarting:
        return True
    if record.outcome is None or record.removing or record.outcome.checkpointed:
        return False
    mode = record.spec.restart.mode
    return mode is RestartMode.ALWAYS or (mode is RestartMode.UNLESS_STOPPED and not record.stopped_by_hand)
