"""Containers on disk: one record each, written in one step at every turn of its life."""

from __future__ import annotations

import logging
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

from attrs import frozen

from ross.errors import InvalidArgument, RossError
from ross.linux.files import make_directory, write_atomic
from ross.linux.pidfd import ProcessIdentity
from ross.model.checkpoints import RestoreOptions
from ross.model.containers import ContainerSpec, Outcome
from ross.model.health import HealthState
from ross.oci.codec import read_record, write_record
from ross.oci.digest import Digest
from ross.services.space import NO_SPACE, DiskSpace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ross.layout import StateLayout

logger = logging.getLogger(__name__)

_NEW_RECORD_BYTES: Final = 2 << 20
"""A record may grow to what is read of a document, twice this; in a message it takes no more than five times as much as here. The kernel
executes nothing with arguments and variables of more than 2 MiB, or a single one of more than 128 KiB."""
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """What tells this boot of the kernel from every other."""
    return _BOOT_ID.read_text().strip()


@frozen(kw_only=True)
class Run:
    """A run of a container: who to look for."""

    boot: str
    process: ProcessIdentity
    monitor: ProcessIdentity
    group: str = ""
    """Its control group, as it was made: the settings may be others by now."""


@frozen(kw_only=True)
class MountedImage:
    """An image that a container has mounted: what its name denoted when the container was created."""

    at: str
    """Where, in the container."""
    target: Digest
    manifest: Digest
    chain_id: Digest


@frozen(kw_only=True)
class HandedMount:
    """A directory or file that whoever created a container has handed over, by what tells it from all others at its path."""

    at: str
    """Where, in the container."""
    boot: str
    device: int
    """Its number in that boot."""
    inode: int


@frozen(kw_only=True)
class ContainerRecord:
    """What is kept of a container."""

    id: str
    name: str
    image: str
    """As the user typed it."""
    image_id: Digest
    target: Digest
    manifest: Digest
    chain_id: Digest | None
    mounted_images: tuple[MountedImage, ...] = ()
    handed_mounts: tuple[HandedMount, ...] = ()
    spec: ContainerSpec
    command: tuple[str, ...]
    created_at: int
    started_at: int = 0
    run: Run | None = None
    """The run that was begun and whose end is not recorded yet."""
    outcome: Outcome | None = None
    """Of the last run that ended."""
    error: str = ""
    error_code: int = 0
    """Of the last start, if that failed: as ``ContainerInfo`` has it."""
    removing: bool = False
    paused: bool = False
    """It was to be paused when this was written; whether it is, its runtime knows."""
    restarting: bool = False
    """Its restart policy is to start it again."""
    restart_count: int = 0
    stopped_by_hand: bool = False
    key: str = ""
    """By which whoever created it finds it again."""
    health: HealthState | None = None
    """As its checks last had it; None before its first start, and without checks."""
    asked_name: str = ""
    """The name it was created with; empty for one that the engine made up."""
    restoring: RestoreOptions | None = None
    """It was to go on from its checkpoint when this was written, and what becomes of that is not done yet."""
    restored_at: int = 0
    """When its last run went on from a checkpoint; 0 if it began at the beginning."""


def check_new(record: ContainerRecord) -> None:
    """Refuse what is too much for a record, before anything is made.

    Raises:
        InvalidArgument: its spec, or the command of its image, is too long.
    """
    size = len(write_record(record))
    if size > _NEW_RECORD_BYTES:
        raise InvalidArgument(
            f"what there is to say of the container takes {size} bytes, more than {_NEW_RECORD_BYTES}",
            hint="hand large arguments, variables and the like over in files",
        )


class Records:
    """The records. All methods are brief and block, and may be called in threads."""

    def __init__(self, layout: StateLayout) -> None:
        self.withheld: set[str] = set()
        """The ids of containers whose record is there, and was not given by the disk: nobody knows them, and all of theirs stays."""
        self._layout = layout
        self._putting = Lock()

    def save(self, record: ContainerRecord, *, durable: bool, outdated: Callable[[], bool] = lambda: False) -> None:
        """Write a record.

        Args:
            record: The record.
            durable: Wait for the disk. What a power failure ends anyway, such as a run, need not wait.
            outdated: Whether there is a newer one by now, which another thread may have written: then nothing is changed.
        """
        path = self._layout.container(record.id).record
        make_directory(path.parent)

        def put(fresh: Path, path: Path) -> None:
            with self._putting:
                fresh.unlink() if outdated() else fresh.rename(path)

        try:
            write_atomic(path, write_record(record), sync=durable, put=put)
        except OSError as error:
            if not record.removing or error.errno not in NO_SPACE:
                raise
            DiskSpace(self._layout).give_up_reserve()  # to be rid of it must be possible on a full disk too
            write_atomic(path, write_record(record), sync=durable, put=put)

    def load(self) -> Iterator[ContainerRecord | Path]:
        """All records but those that are withheld; for a directory without one that is whole, the directory."""
        make_directory(self._layout.containers)
        for directory in sorted(self._layout.containers.iterdir()):
            try:
                data = (directory / "metadata.json").read_bytes()
            except (FileNotFoundError, NotADirectoryError) as error:
                logger.warning("the container record in %s cannot be read: %s", directory, error)
                yield directory
                continue
            except OSError as error:
                logger.error(
                    "the container record in %s cannot be read, and is left for another start: %s", directory, error
                )
                self.withheld.add(directory.name)
                continue
            try:
                record = read_record(data, ContainerRecord, what="container record")
            except RossError as error:
                logger.warning("the container record in %s cannot be read: %s", directory, error)
                yield directory
                continue
            yield record if record.id == directory.name else directory
