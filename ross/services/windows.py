"""A large blob through several connections, where one alone is slow.

A blob begins as one stream. Has that shown to be slow, though this machine is not busy, and are places for downloads free, then what
comes further on is fetched beside it: *windows*, each by a connection of its own into an unnamed file of its own. Whoever fills the ingest
appends what the windows have as soon as all before it is there, so that the ingest is never anything but the beginning of the blob: what
is hashed, what is unpacked meanwhile, and what the next attempt goes on from. A daemon that is killed leaves nothing of a window.

The first window is a trial: if two connections bring hardly more than one, it is the line that is full, and one is enough. A window that
fails keeps what it has; the rest of it is for the stream.

Tasks: one for each window, in the nursery of :meth:`Windows.open`; they end with it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import trio
from attrs import define, field, frozen

from ross.errors import RossError
from ross.registry.blobs import CHUNK_BYTES
from ross.registry.retry import Transient

if TYPE_CHECKING:
    from ross.oci.image import Descriptor
    from ross.registry.client import Remote
    from ross.services.ingest import Ingest
    from ross.services.space import DiskSpace
    from ross.services.throttle import Throttle

logger = logging.getLogger(__name__)


@frozen(kw_only=True)
class Splitting:
    """When to fetch a blob through several connections, and how."""

    connections: int = 4
    """At most, for one blob, the stream's included; 0 or 1 for never."""
    smallest_bytes: int = 4 << 20
    largest_bytes: int = 16 << 20
    """Of a window. It is not begun where less than four of the smallest are to come."""
    ahead_bytes: int = 64 << 20
    """How far ahead of the ingest a window may begin: what a kill may cost at most, and the disk's room for it."""
    stretch_seconds: float = 0.5
    """How long a rate is measured before it is judged."""
    enough_bytes: int = 8 << 20
    """With less than that a stretch must be longer, to be compared with another."""
    slow_bytes: int = 64 << 20
    """A stream that brings so much in a second is fast enough."""
    busy: float = 0.5
    """The share of a processor beyond which this process is what limits."""
    gain: float = 1.25
    """What two connections must bring of what one brought."""
    failures: int = 3
    """Windows that fail before one connection is enough for good."""


@define(eq=False)
class _Window:
    begin: int
    end: int
    own: bool
    """It has the place of the stream, which waits meanwhile; else one of its own."""
    there: int = 0
    """Up to where its bytes are there."""
    begun: bool = False
    """It is served."""
    ended: bool = False
    fd: int = -1
    scope: trio.CancelScope = field(factory=trio.CancelScope)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class _Stretch:
    """What came in some time, and what was waited for it."""

    def __init__(self, splitting: Splitting) -> None:
        self._splitting = splitting
        self.begin()

    def begin(self, *, pending: bool = False) -> None:
        """Measure from now on; or, if it is pending, from when it is begun again."""
        self.pending = pending
        self.begun = trio.current_time()
        self.busy = time.process_time()
        self.size_bytes = 0
        self.waited_seconds = 0.0

    @property
    def seconds(self) -> float:
        return trio.current_time() - self.begun

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self.size_bytes / (self.seconds or 1.0)

    @property
    def tells(self) -> bool:
        """There is enough of it to be compared: pieces come at once, or each half second."""
        enough = (
            self._splitting.stretch_seconds
            if self.size_bytes >= self._splitting.enough_bytes
            else 4 * self._splitting.stretch_seconds
        )
        return not self.pending and self.seconds >= enough

    @property
    def slow(self) -> bool:
        """The other side kept us waiting. Not so where it is us who are busy, or hold back."""
        free = time.process_time() - self.busy < self._splitting.busy * self.seconds
        return free and self.size_bytes < self._splitting.slow_bytes * self.waited_seconds


class Windows:
    """Those of one blob. The methods between its stream's pieces are :meth:`waits`, :meth:`came` and :meth:`written`."""

    def __init__(
        self,
        remote: Remote,
        descriptor: Descriptor,
        *,
        splitting: Splitting,
        places: trio.CapacityLimiter,
        throttle: Throttle,
        space: DiskSpace,
    ) -> None:
        """Each connection but the stream's takes one of the ``places``."""
        self._remote = remote
        self._descriptor = descriptor
        self._splitting = splitting
        self._most = splitting.connections
        self._places = places
        self._throttle = throttle
        self._space = space
        self._windows: list[_Window] = []
        """In order, each where the one before it ends."""
        self._allowed = 1
        """Connections, for now."""
        self._tried = 0.0
        """What one connection brought, while it is tried what two bring."""
        self._failures = 0
        self._arriving = 0
        """Up to where the stream has brought the blob, while that is written; the ingest knows of it only then."""
        self._draining = False
        self._changed = trio.Event()
        self.used = False
        """Something of the blob came by a window."""

    @asynccontextmanager
    async def open(self, ingest: Ingest, tell: Callable[[], None]) -> AsyncIterator[None]:
        """While the ingest is filled. ``tell`` is called when there is more of the blob than before."""
        self._ingest, self._tell = ingest, tell
        self._stretch, self._mark = _Stretch(self._splitting), trio.current_time()
        failure: Exception | None = None
        try:
            async with trio.open_nursery() as self._nursery:
                try:
                    yield
                except Exception as error:  # noqa: BLE001 -- raised again below, where no nursery wraps it into a group
                    failure = error
                self._nursery.cancel_scope.cancel()
        finally:
            for window in self._windows:
                window.close()
            self._windows.clear()
            self._allowed = 1
        if failure is not None:
            raise failure

    @property
    def held_bytes(self) -> int:
        """What is there beyond the ingest."""
        return sum(max(0, one.there - max(one.begin, self._ingest.offset)) for one in self._windows)

    def give_up(self) -> None:
        """From now on one connection is enough."""
        self._most = 1
        self._allowed = 1

    # -- beside the stream --------------------------------------------------------------------------------------------

    def waits(self) -> None:
        """The stream is waited for."""
        self._mark = trio.current_time()

    def came(self, chunk: bytes) -> bytes:
        """The stream has brought something. Returns what of it no window has: the stream's part."""
        self._stretch.waited_seconds += trio.current_time() - self._mark
        end = self._ingest.offset + len(chunk)
        while self._windows and self._windows[0].begin < end and not self._windows[0].begun:
            self._windows.pop(0).scope.cancel()  # not served yet, and perhaps never: the stream was faster
        mine = chunk[: max(0, self._windows[0].begin - self._ingest.offset)] if self._windows else chunk
        self._arriving = self._ingest.offset + len(mine)
        return mine

    def written(self, chunk: bytes) -> None:
        """That is in the ingest."""
        self._arriving = 0
        self._count(len(chunk))

    @property
    def begin(self) -> int | None:
        """Where the first one begins; the stream need not go further."""
        return self._windows[0].begin if self._windows else None

    @property
    def reached(self) -> bool:
        """The ingest has come to where a window begins."""
        return bool(self._windows) and self._windows[0].begin <= self._ingest.offset

    @property
    def relieved(self) -> bool:
        """The stream may stop: what comes now is brought by a window, which is served already."""
        return self.reached and self._windows[0].begun

    def _count(self, size_bytes: int) -> None:
        self._stretch.size_bytes += size_bytes
        if self._tried and self._stretch.tells:
            if self._stretch.rate >= self._splitting.gain * self._tried:
                self._allowed = self._most
            else:
                logger.info("one connection to %s is enough", self._remote)
                self.give_up()
            self._tried = 0.0
        elif (
            self._allowed == 1
            and self._most > 1
            and not self._windows
            and self._stretch.seconds > self._splitting.stretch_seconds
        ):
            if self._stretch.slow:
                self._tried, self._allowed = self._stretch.rate, 2
            self._stretch.begin(pending=self._tried > 0)  # measured from when the second connection brings something
        self._grow()

    def _grow(self) -> None:
        """Begin the windows that may be begun."""
        if self._allowed == 1:
            return
        while sum(not one.ended for one in self._windows) + (not self._draining) < self._allowed:
            window = self._next()
            if window is None:
                return
            if not window.own and not self._place(window):
                return
            self._windows.append(window)
            self._nursery.start_soon(self._fetch, window, name=f"window at {window.begin}")

    def _place(self, window: _Window) -> bool:
        """Take a place for a window, if one is free that no other layer waits for."""
        try:
            self._places.acquire_on_behalf_of_nowait(window)
        except trio.WouldBlock:
            return False
        window.own = False
        return True

    def _next(self) -> _Window | None:
        size, offset = self._descriptor.size, max(self._ingest.offset, self._arriving)
        ends = self._windows[-1].end if self._windows else offset
        splitting = self._splitting
        length = min(splitting.largest_bytes, max(splitting.smallest_bytes, (size - ends) // (2 * self._most)))
        begin = ends if self._windows or self._draining else offset + length  # as much for the stream
        if (
            size - begin < (1 if self._windows else 4 * splitting.smallest_bytes)
            or begin - offset >= splitting.ahead_bytes
        ):
            return None
        end = begin + length if size - begin - length >= splitting.smallest_bytes // 2 else size
        own = self._draining and not any(one.own and not one.ended for one in self._windows)
        return _Window(begin=begin, end=end, own=own, there=begin)

    # -- one window ---------------------------------------------------------------------------------------------------

    async def _fetch(self, window: _Window) -> None:
        try:
            with window.scope:
                await self._download(window)
        except (RossError, OSError) as error:
            self._failures += 1
            logger.info("a window of %s of %s: %s", self._descriptor.digest.short, self._remote, error)
            if isinstance(error, Transient) and self._failures < self._splitting.failures:
                self._allowed, self._tried = 1, 0.0  # until the stream shows to be slow again
                self._stretch.begin()
            else:
                self.give_up()
        finally:
            window.ended = True
            if not window.own:
                self._places.release_on_behalf_of(window)
            if window.there == window.begin and window in self._windows:
                self._windows.remove(window)  # the stream need not stop for it
            if window not in self._windows:
                window.close()
            self._wake()
        self._grow()

    async def _download(self, window: _Window) -> None:
        window.fd = await trio.to_thread.run_sync(_unnamed_file, self._ingest.path.with_name(f"ahead-{window.begin}"))
        async with self._remote.window(self._descriptor, window.begin, window.end) as stream:
            window.begun = True
            if self._stretch.pending:
                self._stretch.begin()
            async for chunk in stream.chunks():
                await trio.to_thread.run_sync(self._keep, window, chunk)
                window.there += len(chunk)
                self._count(len(chunk))
                self._tell()
                self._wake()
                await self._throttle.take(len(chunk))

    def _keep(self, window: _Window, chunk: bytes) -> None:
        self._space.require(len(chunk), what=self._descriptor.digest.short)
        rest, at = memoryview(chunk), window.there - window.begin
        while rest:
            written = os.pwrite(window.fd, rest, at)
            rest, at = rest[written:], at + written

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # -- into the ingest ----------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Append what windows have brought and bring, up to where something is missing that no window brings.

        Raises:
            As :meth:`Ingest.write`.
        """
        self._draining = True
        try:
            while self.reached:
                self._grow()
                await self._drain_first(self._windows[0])
        finally:
            self._draining = False
        # The stream needs its place again.
        await self._end([
            window for window in self._windows if window.own and not (window.ended or self._place(window))
        ])

    async def _end(self, windows: Sequence[_Window]) -> None:
        """They keep what they have."""
        for window in windows:
            window.scope.cancel()
        while any(not window.ended for window in windows):
            await self._changed.wait()

    async def _drain_first(self, window: _Window) -> None:
        offset = self._ingest.offset
        if offset < window.there:
            count = min(CHUNK_BYTES, window.there - offset)
            chunk = await trio.to_thread.run_sync(os.pread, window.fd, count, offset - window.begin)
            await self._ingest.write(chunk)
            self.used = True
            self._tell()
        elif window.ended:
            self._windows.remove(window)
            window.close()
        else:
            await self._changed.wait()

    async def forget(self) -> None:
        """Throw away what windows have: the whole comes from the beginning, by one stream."""
        self.give_up()
        await self._end(self._windows.copy())
        for window in self._windows:
            window.close()
        self._windows.clear()


def _unnamed_file(path: Path) -> int:
    """A file that goes with its descriptor."""
    with suppress(FileNotFoundError):
        path.unlink()  # of a daemon that was killed just here
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        path.unlink()
    except BaseException:
        os.close(fd)
        raise
    return fd
