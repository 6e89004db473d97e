"""Room on the filesystem of the root: what pulls must leave free, and a reserve that lets things be removed when nothing is left.

The floor is for everything else that lives on that filesystem, containers' own files first. What is on its way has been promised the room
that it still needs: whatever begins beside it has to do without, so that what has begun can come to its end. The reserve is a file of its
own: it is given up when the disk is full, since taking things away may need a block or two as well, and made again when there is room.
"""

from __future__ import annotations

import errno
import logging
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from ross.errors import ResourceExhausted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ross.layout import StateLayout

logger = logging.getLogger(__name__)

RESERVE_BYTES: Final = 8 << 20
NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What a full disk answers."""
_DEFAULT_FLOOR_BYTES: Final = 256 << 20
_FLOOR_INODES: Final = 20_000
"""Kept free, or a twentieth of what the filesystem has where that is less."""
_MIB: Final = 1 << 20


class Promise:
    """Room for something on its way. Made by :meth:`DiskSpace.promise`."""

    def __init__(self, space: DiskSpace, left_bytes: int, what: str) -> None:
        self._space = space
        self._what = what
        self.left_bytes = left_bytes
        """What is still to be written; kept true by who writes, in any thread."""

    def check(self, size_bytes: int) -> None:
        """See that so much of it can be written without going below the floor: something else may have filled the disk since.

        Raises:
            ResourceExhausted: it cannot.
        """
        self._space.check(size_bytes, what=self._what)


class DiskSpace:
    """What is free below the root. All methods are brief and block."""

    def __init__(self, layout: StateLayout, *, floor_bytes: int | None = None) -> None:
        """``floor_bytes`` is what pulls leave free; by default 256 MiB, or a hundredth of the filesystem if that is less."""
        self._root = layout.root
        self._reserve = layout.reserve
        self._floor_bytes = floor_bytes
        self._promises: set[Promise] = set()

    @property
    def floor_bytes(self) -> int:
        """What pulls leave free."""
        if self._floor_bytes is None:
            found = os.statvfs(self._root)
            self._floor_bytes = min(_DEFAULT_FLOOR_BYTES, found.f_blocks * found.f_frsize // 100)
        return self._floor_bytes

    def free_bytes(self) -> int:
        """What is free for us."""
        found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize

    @property
    def promised_bytes(self) -> int:
        """What all that is on its way will still need."""
        return sum(promise.left_bytes for promise in tuple(self._promises))

    @contextmanager
    def promise(self, size_bytes: int, *, what: str) -> Iterator[Promise]:
        """Have room for something, for the length of a block, which nothing else gets meanwhile.

        Raises:
            ResourceExhausted: there is none.
        """
        self.require(size_bytes, what=what)
        promise = Promise(self, size_bytes, what)
        self._promises.add(promise)
        try:
            yield promise
        finally:
            self._promises.discard(promise)

    def require(self, needed_bytes: int, *, what: str) -> None:
        """See that so much can be written, beside all that is on its way, without going below the floor. That holds of inodes too.

        Raises:
            ResourceExhausted: it cannot.
        """
        self.check(needed_bytes, what=what, promised_bytes=self.promised_bytes)

    def check(self, needed_bytes: int, *, what: str, promised_bytes: int = 0) -> None:
        """As :meth:`require`, but that only ``promised_bytes`` are kept for others.

        Raises:
            ResourceExhausted: it cannot be written.
        """
        floor = self.floor_bytes
        free = self.free_bytes()
        if floor and free - promised_bytes - needed_bytes < floor:
            others = f"{-(-promised_bytes // _MIB)} MiB of it for what is on its way, " if promised_bytes else ""
            raise ResourceExhausted(
                f"too little space is free in {self._root} for {what}: {free // _MIB} MiB are free, {others}"
                f"{-(-needed_bytes // _MIB)} MiB are needed, and {floor // _MIB} MiB must stay free",
                hint="free some with ross system prune or ross rmi IMAGE, or let pulls leave less with the setting disk_floor",
                free_bytes=free,
                needed_bytes=needed_bytes,
                floor_bytes=floor,
            )
        found = os.statvfs(self._root)
        least = min(found.f_files // 20, _FLOOR_INODES)  # 0 where a filesystem does not count them
        if floor and found.f_favail < least:
            raise ResourceExhausted(
                f"too few files can be made in {self._root} for {what}: {found.f_favail} inodes are free, and {least} must stay free",
                hint="free some with ross system prune or ross rmi IMAGE",
            )

    def make_reserve(self) -> None:
        """Have the reserve, if there is room for it."""
        if self._reserve.exists() or self.free_bytes() < self.floor_bytes + 2 * RESERVE_BYTES:
            return
        try:
            fd = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.posix_fallocate(fd, 0, RESERVE_BYTES)
            finally:
                os.close(fd)
        except OSError as error:
            logger.debug("there is no reserve: %s", error)
            self.give_up_reserve()

    def give_up_reserve(self) -> None:
        """Let what follows have the reserve."""
        with suppress(FileNotFoundError):
            self._reserve.unlink()

    @contextmanager
    def room_to_remove(self) -> Iterator[None]:
        """While something is taken away: with the reserve given up if the disk is full, and made again behind it."""
        if self.free_bytes() < RESERVE_BYTES:
            self.give_up_reserve()
        try:
            yield
        finally:
            self.make_reserve()
