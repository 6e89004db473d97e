"""What was brought in and is not on the disk for certain yet.

A pull does not wait for the disk: what it has written is in the kernel's hands, survives the death of the daemon, and is made durable a
moment later by one syncfs for all. Only a power failure could tear it. So before its first byte a record is made durable that names what
is to come, and the boot in which it comes; it goes when all is on the disk. At start-up a record of this boot is finished; one of an
earlier boot names what is to be doubted.
"""

from __future__ import annotations

import logging
import os
import secrets
from typing import TYPE_CHECKING

import trio
from attrs import evolve, field, frozen

from ross.errors import RossError
from ross.linux.files import make_directory, sync_directory, write_atomic
from ross.linux.syscalls import syncfs
from ross.oci.codec import read_record, write_record
from ross.oci.digest import Digest
from ross.services.records import boot_id
from ross.services.tags import TagRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ross.layout import StateLayout

logger = logging.getLogger(__name__)


@frozen(kw_only=True)
class PendingRecord:
    """What one pull brings in; also its record on disk."""

    boot: str
    blobs: tuple[Digest, ...] = ()
    snapshots: tuple[str, ...] = ()
    names: dict[str, TagRecord] = field(factory=dict)
    """What was named since, by reference: written to its own place only when what it denotes is on the disk."""


class Pending:
    """One pull's. Made by :meth:`Pendings.begin`."""

    def __init__(self, path: Path, record: PendingRecord) -> None:
        self._path = path
        self.record = record

    @property
    def announced(self) -> bool:
        """Something of it may be on its way to the disk."""
        return bool(self.record.blobs or self.record.snapshots)

    async def announce(self, *, blobs: Iterable[Digest], snapshots: Iterable[str]) -> None:
        """Say, durably, what is to come. Nothing of it may be written before this returns.

        Raises:
            OSError: it could not be written.
        """
        self.record = evolve(self.record, blobs=tuple(blobs), snapshots=tuple(snapshots))

        def write() -> None:
            make_directory(self._path.parent)
            write_atomic(self._path, write_record(self.record))

        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(write)

    def set_name(self, name: str, record: TagRecord | None) -> None:
        """Note what a name denotes, or that it has been taken away. Survives the daemon, not the power.

        Raises:
            OSError: it could not be written.
        """
        names = {key: value for key, value in self.record.names.items() if key != name}
        changed = evolve(self.record, names=names if record is None else {**names, name: record})
        make_directory(self._path.parent)
        write_atomic(self._path, write_record(changed), sync=False)
        self.record = changed

    def forget(self) -> None:
        """All is on the disk, or nothing came of it."""
        if self._path.exists():
            self._path.unlink()
            sync_directory(self._path.parent)


class Pendings:
    """All that is not on the disk for certain."""

    def __init__(self, layout: StateLayout) -> None:
        self._layout = layout

    def begin(self) -> Pending:
        """Something is about to be brought in."""
        path = self._layout.pending / f"{secrets.token_hex(8)}.json"
        return Pending(path, PendingRecord(boot=boot_id()))

    def recover(self) -> tuple[Sequence[Pending], Sequence[Pending]]:
        """What earlier daemons have left: what this boot has brought in and only needs the disk, and what must be doubted."""
        fresh: list[Pending] = []
        doubtful: list[Pending] = []
        make_directory(self._layout.pending)
        for path in sorted(self._layout.pending.iterdir()):
            try:
                record = read_record(path.read_bytes(), PendingRecord, what="pending record")
            except (OSError, RossError):
                # Half-written: nothing of what it would name was begun.
                path.unlink()
                continue
            (fresh if record.boot == boot_id() else doubtful).append(Pending(path, record))
        return fresh, doubtful

    async def sync(self) -> None:
        """Make everything below the root durable."""

        def sync() -> None:
            fd = os.open(self._layout.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                syncfs(fd)
            finally:
                os.close(fd)

        await trio.to_thread.run_sync(sync)
