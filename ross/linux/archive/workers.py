"""The processes that apply large layers: as many as there are processors, started when they are wanted, ended with their last user.

One whose layer has not come any further for a while is not counted: it does nothing, and the next layer need not wait for its registry.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import trio
from attrs import asdict

from ross.errors import BY_CODE, ErrorCode, RossError
from ross.linux.archive.worker import unpack_applied
from ross.linux.process import start

if TYPE_CHECKING:
    from pathlib import Path

    from ross.linux.archive.applied import Applied
    from ross.linux.archive.limits import ArchiveLimits

logger = logging.getLogger(__name__)

_LINE_BYTES: Final = 1 << 16
_PROGRAM: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2])\n"
    "from ross.linux.archive.worker import main; main(int(sys.argv[1]))"
)
"""Isolated from the environment and the current directory, as ``-I`` has it, but with the very modules that this process has."""

_PATIENCE_SECONDS: Final = 1.0
"""How long nothing may come of a layer before others have its turn."""
Arrivals = Callable[[int], Awaitable[int]]
"""Waits until more of a blob is there than a number of bytes; returns how many are."""


class _Process:
    """One worker."""

    def __init__(self, process: trio.Process, link: socket.socket) -> None:
        self._process = process
        self._link = link
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(link))
        self._pending = bytearray()
        self.broken = False

    @property
    def ended(self) -> bool:
        """By itself, or killed by somebody."""
        return self._process.poll() is not None

    async def send(self, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        data = json.dumps(message).encode() + b"\n"
        if fds:
            sent = socket.send_fds(self._link, [data], fds)  # the first thing on an idle socket: it has room
            data = data[sent:]
        await self._stream.send_all(data)

    async def receive(self) -> dict[str, Any]:
        searched = 0
        while (end := self._pending.find(b"\n", searched)) < 0:
            searched = len(self._pending)
            data = await self._stream.receive_some(_LINE_BYTES)
            if not data:
                raise trio.BrokenResourceError("the worker has ended")
            self._pending += data
        line = bytes(self._pending[:end])
        del self._pending[: end + 1]
        message: dict[str, Any] = json.loads(line)
        return message

    async def end(self) -> None:
        """At once, whatever it does; what it has written is its directory's owner's to remove."""
        self._process.kill()
        with trio.CancelScope(shield=True):
            await self._process.wait()
            await self._stream.aclose()


class _Turn:
    """A place among those that are at work, which may be left and taken again."""

    def __init__(self, turns: trio.CapacityLimiter) -> None:
        self._turns = turns
        self._taken = False

    async def take(self) -> None:
        await self._turns.acquire_on_behalf_of(self)
        self._taken = True

    def leave(self) -> None:
        """Does nothing if it is left already."""
        if self._taken:
            self._taken = False
            self._turns.release_on_behalf_of(self)


@asynccontextmanager
async def _taking(turns: trio.CapacityLimiter) -> AsyncIterator[_Turn]:
    turn = _Turn(turns)
    await turn.take()
    try:
        yield turn
    finally:
        turn.leave()


class Workers:
    """The workers of a daemon."""

    def __init__(self, *, count: int | None = None) -> None:
        """At most ``count`` layers at a time of those that come in; as many as there are processors, and at least two, if absent."""
        self._turns = trio.CapacityLimiter(count or max(2, os.cpu_count() or 1))
        self._idle: list[_Process] = []
        self._users = 0

    @asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        """For as long as somebody is in such a block, workers that have nothing to do are kept."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                while self._idle:
                    await self._idle.pop().end()  # noqa: ASYNC102 -- shielded, and brief: it is killed

    async def apply(
        self,
        blob_fd: int,
        root: Path,
        *,
        size_bytes: int,
        algorithm: str,
        limits: ArchiveLimits,
        arrivals: Arrivals,
        progress: Callable[[int], None],
    ) -> tuple[Applied, str]:
        """Apply a layer to ``root``, an empty directory, while its blob comes in.

        Args:
            blob_fd: The blob, open for reading; stays the caller's.
            root: Where to.
            size_bytes: Of the whole blob.
            algorithm: Of the digest.
            limits: What the archive may make us do.
            arrivals: Tells how much of the blob is there.
            progress: Told how much of it was read.

        Returns:
            What was applied, and the hash of the uncompressed archive in hexadecimal.

        Raises:
            Corrupt: the layer is damaged, or not what a layer may be.
            ResourceExhausted: a limit was reached, or the disk is full.
            Internal: the worker ended, or failed.
        """
        answer: dict[str, Any] = {}
        async with _taking(self._turns) as turn, self._worker() as worker:
            try:
                await _request(worker, blob_fd, root, {
                    "algorithm": algorithm, "size_bytes": size_bytes, "limits": asdict(limits)
                })  # fmt: skip
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_feed, worker, arrivals, size_bytes, turn, name="feed a worker")
                    while "packed" in (answer := await worker.receive()):
                        progress(answer["packed"])
                    nursery.cancel_scope.cancel()
            except* (trio.BrokenResourceError, trio.ClosedResourceError, BrokenPipeError, ConnectionResetError):
                answer = {"code": ErrorCode.INTERNAL, "message": "the process that unpacked the layer has ended"}
                worker.broken = True
        if "applied" not in answer:
            raise _failure(answer)
        return unpack_applied(answer["applied"]), str(answer["digest"])

    @asynccontextmanager
    async def _worker(self) -> AsyncIterator[_Process]:
        """One that has nothing to do. It is kept for the next layer if all went well, and ended otherwise."""
        worker = await self._take_idle() or await _start()
        keep = False
        try:
            yield worker
            keep = self._users > 0 and not worker.broken
        finally:
            if keep:
                self._idle.append(worker)
            else:
                await worker.end()  # noqa: ASYNC102 -- shielded, and brief: it is killed

    async def _take_idle(self) -> _Process | None:
        """One that waits for work; those that have ended meanwhile, as for want of memory, are forgotten."""
        while self._idle:
            worker = self._idle.pop()
            if worker.ended:
                await worker.end()
            else:
                return worker
        return None


async def _start() -> _Process:
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            argv = [
                sys.executable,
                "-I",
                "-B",
                "-c",
                _PROGRAM,
                str(theirs.fileno()),
                json.dumps([place for place in sys.path if place]),
            ]
            process = await start(argv, env={"LC_ALL": "C.UTF-8"}, pass_fds=(theirs.fileno(),))
        except BaseException:
            ours.close()
            raise
    ours.setblocking(False)
    return _Process(process, ours)


async def _request(worker: _Process, blob_fd: int, root: Path, request: dict[str, Any]) -> None:
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        await worker.send(request, (blob_fd, root_fd))
    finally:
        os.close(root_fd)


async def _feed(worker: _Process, arrivals: Arrivals, size_bytes: int, turn: _Turn) -> None:
    available = -1
    while available < size_bytes:
        available = await _more_than(available, arrivals, turn)
        await worker.send({"available": available})


async def _more_than(seen: int, arrivals: Arrivals, turn: _Turn) -> int:
    with trio.move_on_after(_PATIENCE_SECONDS):
        return await arrivals(seen)
    turn.leave()
    available = await arrivals(seen)
    await turn.take()
    return available


def _failure(answer: dict[str, Any]) -> RossError:
    if answer.get("trace"):
        logger.error("a worker failed: %s", answer["trace"])
    return BY_CODE[ErrorCode(answer["code"])](answer["message"], hint=answer.get("hint"))
