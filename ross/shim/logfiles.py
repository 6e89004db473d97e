"""The files of one container's log, and beginning the next one.

The monitor writes to ``log``. When that has grown large it is renamed to ``log.<number>``, which the monitor does not notice; then the
monitor is told to open ``log`` again, which makes a new one (conmon, ``reopen_k8s_file``). It closes the old file before, so a
numbered file is complete once there is a ``log`` beside it, and not a byte is lost. The numbers only rise: the file that is being
written has the one behind the last.

The monitor must be told once. Told twice, it would replace a log that it has begun to write. So a daemon that finds a change of files
half done sends its message only if none is on its way.
"""

from __future__ import annotations

import errno
import logging
import os
from typing import TYPE_CHECKING, Final

import trio

from ross.linux.terminal import readable_bytes
from ross.model.logs import LogDriver

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from ross.layout import ContainerLayout
    from ross.linux.inotify import Watches
    from ross.model.logs import LogConfig

logger = logging.getLogger(__name__)

_REOPEN: Final = b"2 0 0\n"
_ON_ITS_WAY_SECONDS: Final = 1.0
"""A monitor that has read its message needs far less to do what it says."""
_TROUBLE_PAUSE: Final = 30.0
_LEAST_PAUSE: Final = 0.01
_MOST_PAUSE: Final = 0.2


class LogFiles:
    """The log of one container. Reading it needs no monitor; changing files is done by one task, while there is one."""

    def __init__(self, layout: ContainerLayout, config: LogConfig, watches: Watches) -> None:
        self.watches = watches
        self.next_begun = trio.Event()
        """Set when the next file has been begun; another one then."""
        self._layout = layout
        self._config = config

    # -- which there are ----------------------------------------------------------------------------------------------

    def _numbered(self) -> list[int]:
        prefix = f"{self._layout.log.name}."
        try:
            names = [path.name for path in self._layout.directory.iterdir()]
        except FileNotFoundError:
            return []
        return sorted(int(name.removeprefix(prefix)) for name in names if name.removeprefix(prefix).isdigit())

    def numbers(self) -> list[int]:
        """The files there are, the one being written last."""
        numbered = self._numbered()
        if self._layout.log.exists():
            numbered.append(numbered[-1] + 1 if numbered else 1)
        return numbered

    def following(self, number: int) -> int | None:
        """The first file behind this one. If there is one, this one is complete."""
        return next((one for one in self.numbers() if one > number), None)

    def open(self, number: int) -> int | None:
        """A descriptor to read a file, which stays readable when its name is gone; None if there is none of that number."""
        while True:
            numbered = self._numbered()
            live = not numbered or number == numbered[-1] + 1
            fd = _opened(self._layout.log if live else self._path(number))
            if not live or self._numbered() == numbered:
                return fd
            if fd is not None:  # of the next file, where we are in a thread, and this one was just put away
                os.close(fd)

    def _path(self, number: int) -> Path:
        return self._layout.log.with_name(f"{self._layout.log.name}.{number}")

    # -- the next one -------------------------------------------------------------------------------------------------

    async def tended(self, monitor_ended: Callable[[], Awaitable[None]]) -> None:
        """Begin the next file whenever one is full, until the monitor has ended. What goes wrong is logged, and tried again."""
        if self._config.driver is not LogDriver.FILE or not self._config.max_bytes:
            await monitor_ended()
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tend)
            await monitor_ended()
            nursery.cancel_scope.cancel()
        try:
            self._end()
        except OSError as error:
            logger.error("the log %s cannot be put away: %s", self._layout.log, error)

    async def _tend(self) -> None:
        while True:
            try:
                await self._keep_bounded()
            except OSError as error:
                logger.error("the log %s grows without bound for now: %s", self._layout.log, error)
                await trio.sleep(_TROUBLE_PAUSE)

    async def _keep_bounded(self) -> None:
        size, pause = 0, _LEAST_PAUSE
        while True:
            fd = await self._writing()
            try:
                with self.watches.armed(fd) as watch:
                    seen, size = size, os.fstat(fd).st_size
                    if size >= self._config.max_bytes:
                        size = 0
                        await self._begin_next()
                        continue
                    if size == seen:
                        await watch.changed()
            finally:
                os.close(fd)
            # One that grows is looked at again when it may be half way to its end: often only if it is fast.
            await trio.sleep(pause)
            grown = max(self._size() - size, 1)
            pause = min(max(pause * (self._config.max_bytes - size) / grown / 2, _LEAST_PAUSE), _MOST_PAUSE)

    def _end(self) -> None:
        """The monitor has ended: what it left behind is a file like the others, if it is full."""
        there, full = self._layout.log.exists(), 0 < self._config.max_bytes <= self._size()
        if full:
            self._put_away()
        if full or (not there and self._numbered()):
            os.close(os.open(self._layout.log, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            self._was_begun()

    def _size(self) -> int:
        try:
            return self._layout.log.stat().st_size
        except FileNotFoundError:
            return 0

    async def _writing(self) -> int:
        """A descriptor of what the monitor writes, after finishing a change that an earlier daemon began."""
        while not self._layout.log.exists():
            with trio.move_on_after(_ON_ITS_WAY_SECONDS):
                await self._appears()
            if not self._layout.log.exists() and not self._message_waits():
                await self._tell()
                await self._appears()
        return os.open(self._layout.log, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    async def _begin_next(self) -> None:
        self._put_away()
        await self._tell()
        await self._appears()
        self._was_begun()

    async def _appears(self) -> None:
        """Wait until the monitor has opened its log, which it does at once unless it has been stopped."""
        pause = 0.0002
        while not self._layout.log.exists():
            await trio.sleep(pause)
            pause = min(pause * 1.5, _MOST_PAUSE)

    def _put_away(self) -> None:
        numbered = self._numbered()
        self._layout.log.rename(self._path(numbered[-1] + 1 if numbered else 1))

    def _was_begun(self) -> None:
        self.next_begun.set()
        self.next_begun = trio.Event()
        numbered = self._numbered()
        keep = max(self._config.max_files - 1, 1)
        for number in numbered[:-keep]:
            self._path(number).unlink(missing_ok=True)
        if self._config.max_files == 1 and numbered:
            os.truncate(self._path(numbered[-1]), 0)  # its name keeps the count

    def _control(self) -> int | None:
        try:
            return os.open(self._layout.bundle / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in {errno.ENXIO, errno.ENOENT}:  # it has ended
                return None
            raise

    async def _tell(self) -> None:
        """It mixes up what it reads of several messages at once; so each waits until the one before it was read."""
        fd = self._control()
        if fd is not None:
            try:
                while readable_bytes(fd):  # noqa: ASYNC110 -- there is nothing to wait on until a pipe is empty
                    await trio.sleep(_LEAST_PAUSE)
                os.write(fd, _REOPEN)
            finally:
                os.close(fd)

    def _message_waits(self) -> bool:
        fd = self._control()
        if fd is None:
            return False
        try:
            return readable_bytes(fd) > 0
        finally:
            os.close(fd)


def _opened(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
