"""Bytes that a client sends, on their way to whoever takes them: one chunk at a time, so that a slow taker slows the client."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from ross.errors import Cancelled, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Hashable


class Feed:
    """A stream from one writer to one reader, neither of which need be there yet. Holds no more than one chunk."""

    def __init__(self, sender: Hashable = None) -> None:
        """``sender`` is the client that it comes from: all streams of one share what there is for it."""
        self.sender = sender
        self._send, self._receive = trio.open_memory_channel[bytes](0)
        self._done = False

    async def write(self, data: bytes) -> None:
        """Hand on; returns when it was taken.

        Raises:
            Cancelled: nobody takes it any more.
        """
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._send.send(data)
            return
        await trio.lowlevel.checkpoint()  # a writer that is being cancelled too is told that, and nothing else
        raise Cancelled("nobody reads this any more")

    async def done(self) -> None:
        """Say that this was all."""
        self._done = True
        self._send.close()
        await trio.lowlevel.checkpoint()

    def break_off(self) -> None:
        """Say that no more will come, whether or not this was all. Does nothing the second time."""
        self._send.close()

    def close(self) -> None:
        """Take no more; whoever writes is told so."""
        self._receive.close()

    async def next_chunk(self) -> bytes:
        """The next chunk; the empty one at the end, and from then on.

        Raises:
            InvalidArgument: the writer went away before the end.
        """
        while True:
            try:
                chunk = await self._receive.receive()
            except trio.EndOfChannel:
                if self._done:
                    return b""
                raise InvalidArgument("the archive broke off: its sender went away before its end") from None
            if chunk:
                return chunk
