"""The number of a daemon among all that its root has had: what tells its events from those of every other.

The number is counted up, durably, before the first event. At an orderly end it is noted how many events there have been, so that whoever
has seen the last one knows that nothing is missing; a daemon that is killed notes nothing.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from attrs import frozen

from ross.errors import Corrupt, FailedPrecondition
from ross.linux.files import no_space, write_atomic
from ross.oci.codec import read_record, write_record
from ross.services.space import DiskSpace

if TYPE_CHECKING:
    from ross.layout import StateLayout

logger = logging.getLogger(__name__)

_UNKNOWN: Final = -1


@frozen(kw_only=True)
class EpochRecord:
    """What is on the disk."""

    number: int
    last: int = _UNKNOWN
    """How many events that daemon has had in the end."""


@frozen(kw_only=True)
class Epoch:
    """The number of this daemon, and what is known of the one before."""

    number: int
    before: EpochRecord | None = None

    def lost_behind(self, number: int, event: int) -> int | None:
        """How many events the daemon with this number had behind that event; None if nobody knows."""
        known = self.before is not None and self.before.number == number == self.number - 1
        if self.before is None or not known or self.before.last < event:
            return None
        return self.before.last - event


def begin_epoch(layout: StateLayout) -> Epoch:
    """Count one more daemon. For the one that holds the root.

    Raises:
        FailedPrecondition: the number cannot be written.
    """
    for left in layout.root.glob(f".{layout.epoch.name}.*.new"):  # of a daemon that was killed while it wrote
        left.unlink(missing_ok=True)
    before = _read(layout)
    record = EpochRecord(number=before.number + 1 if before is not None else 1)
    try:
        try:
            _write(layout, record)
        except OSError as error:
            if not no_space(error):
                raise
            DiskSpace(layout).give_up_reserve()  # without a daemon nothing could be removed
            _write(layout, record)
    except OSError as error:
        raise FailedPrecondition(f"{layout.epoch} cannot be written: {error.strerror}") from None
    return Epoch(number=record.number, before=before)


def end_epoch(layout: StateLayout, epoch: Epoch, *, last: int) -> None:
    """Note how many events there have been."""
    try:
        _write(layout, EpochRecord(number=epoch.number, last=last))
    except OSError as error:
        logger.info("the last event is not noted: %s", error)


def _read(layout: StateLayout) -> EpochRecord | None:
    """None: there was no daemon yet."""
    try:
        return read_record(layout.epoch.read_bytes(), EpochRecord, what="the number of the last daemon")
    except FileNotFoundError:
        return None
    except (Corrupt, OSError) as error:
        # Higher than any that was counted to: hours since 1970, and no daemon is started once an hour for all that time.
        number = time.time_ns() // 3_600_000_000_000
        logger.warning("%s cannot be read, so this daemon gets the number %d: %s", layout.epoch, number + 1, error)
        return EpochRecord(number=number)


def _write(layout: StateLayout, record: EpochRecord) -> None:
    write_atomic(layout.epoch, write_record(record))
