"""A container's checkpoint on the disk: begun under another name, in its place in one step when it is whole, gone in one step.

Knows nothing of CRIU but the names of its files. All of it blocks.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from ross.errors import RossError
from ross.linux.files import make_directory, remove_tree, sync_directory, write_atomic
from ross.oci.codec import read_record, write_record
from ross.shim.criu import DUMP_LOG, RESTORE_LOG, STATISTICS

if TYPE_CHECKING:
    from pathlib import Path

    from ross.layout import ContainerLayout

logger = logging.getLogger(__name__)

_IMAGES: Final = "images"
_RECORD: Final = "metadata.json"
_OF_A_RESTORE: Final = (RESTORE_LOG, STATISTICS[1])


@frozen(kw_only=True)
class CheckpointRecord:
    """What is kept of a checkpoint beside its images."""

    started_at: int
    """When the run began that it is of."""
    leave_running: bool
    keep: bool
    """Also what CRIU has logged and counted."""
    made_at: int = 0
    """0 while it is being made."""
    size_bytes: int = 0


class CheckpointFiles:
    """The files of one container's checkpoint."""

    def __init__(self, layout: ContainerLayout, trash: Path) -> None:
        self.part = layout.checkpoint_part
        self.path = layout.checkpoint
        self._bundle = layout.bundle
        self._trash = trash

    @property
    def images(self) -> Path:
        """Where those of the whole one are."""
        return self.path / _IMAGES

    @property
    def new_images(self) -> Path:
        """Where those of one go that is being made."""
        return self.part / _IMAGES

    @property
    def dump_log(self) -> Path:
        """What CRIU says while it makes one."""
        return self.part / DUMP_LOG

    def read(self) -> CheckpointRecord | None:
        """The record of the whole one, if there is one; what has its place and is none is removed."""
        found = _read(self.path)
        if found is None and self.path.exists():
            logger.warning("removing the checkpoint in %s, which has no record", self.path)
            self.remove()
        return found

    def read_part(self) -> CheckpointRecord | None:
        """The record of one that is being made, or was."""
        return _read(self.part)

    def begin(self, record: CheckpointRecord) -> None:
        """Make place for one."""
        remove_tree(self.part)
        make_directory(self.new_images)
        write_atomic(self.part / _RECORD, write_record(record), sync=False)

    def drop(self) -> None:
        """Nothing comes of one that was begun."""
        remove_tree(self.part)

    def finish(self, record: CheckpointRecord) -> CheckpointRecord:
        """One is whole: have it on the disk for certain, and in its place. Returns its record, which was begun as this."""
        if not record.keep:
            for name in (DUMP_LOG, *STATISTICS):
                (self.part / name).unlink(missing_ok=True)
        size = sum(path.lstat().st_size for path in self.new_images.iterdir())
        record = evolve(record, made_at=time.time_ns(), size_bytes=size)
        try:
            _sync(self.new_images)
            write_atomic(self.part / _RECORD, write_record(record))
        except OSError as error:  # by now there is nothing to go back to
            logger.error("the checkpoint in %s is not on the disk for certain: %s", self.path, error)
        self.set_in_place()
        return record

    def set_in_place(self) -> None:
        """Give one that is whole the place of the one before."""
        self.remove()
        self.part.rename(self.path)
        sync_directory(self.path.parent)

    def remove(self) -> None:
        """Be without one. In one step, so that never a part of one has its place."""
        away = self._trash / f"checkpoint-{secrets.token_hex(8)}"
        make_directory(self._trash)
        try:
            self.path.rename(away)
        except FileNotFoundError:
            return
        remove_tree(away)

    def keep_logs(self) -> None:
        """Keep what CRIU has logged and counted while it restored, which is where the monitor has it work."""
        for name in _OF_A_RESTORE:
            log = self._bundle / name
            if log.exists() and self.path.exists():
                log.rename(self.path / name)

    def forget_logs(self) -> None:
        """Remove what CRIU has logged and counted while it restored."""
        for name in _OF_A_RESTORE:
            (self._bundle / name).unlink(missing_ok=True)


def _read(directory: Path) -> CheckpointRecord | None:
    try:
        return read_record((directory / _RECORD).read_bytes(), CheckpointRecord, what="record of a checkpoint")
    except (OSError, RossError):
        return None


def _sync(images: Path) -> None:
    """Have files on the disk for certain, for nobody but root to read."""
    for path in images.iterdir():
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            os.fchmod(fd, 0o600)
            os.fsync(fd)
        finally:
            os.close(fd)
    sync_directory(images)
