"""``ByteStream`` on both ends: received into a function, and written from one, with the flow control of the wire."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ross.errors import InvalidArgument
from ross.wire.errors import translated
from ross.wire.schema import schema
from ross.wire.serving import Served

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CHUNK_BYTES: Final = 256 << 10
"""A message's worth. An archive in pieces of 64 KiB costs both sides twice as much."""


class ByteStreamServer(Served, schema.ByteStream.Server):  # type: ignore[misc]  # the schema is loaded at run time
    """Receives a stream. The writer goes on when ``write`` has returned, so a slow one slows the writer down."""

    def __init__(
        self,
        write: Callable[[bytes], Awaitable[None]],
        *,
        done: Callable[[], Awaitable[None]],
        gap: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        self._write = write
        self._done = done
        self._gap = gap

    async def write_context(self, context: Any) -> None:
        await self._write(context.params.data)

    async def done_context(self, context: Any) -> None:  # noqa: ARG002 -- pycapnp's signature
        await self._done()

    async def gap_context(self, context: Any) -> None:
        if self._gap is None:
            raise InvalidArgument("bytes are missing of a stream of which all are needed")
        await self._gap(context.params.lostBytes)


class ByteStreamSink:
    """Writes to a ``ByteStream`` capability."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def write(self, data: bytes) -> None:
        """Send; returns when the peer has room for more.

        Raises:
            Unavailable: the peer is gone.
        """
        with translated():
            for start in range(0, len(data), CHUNK_BYTES):
                await self._stream.write(data=data[start : start + CHUNK_BYTES])

    async def gap(self, lost_bytes: int) -> None:
        """Say that so many bytes are left out here.

        Raises:
            RossError: the peer is gone, or needs every byte.
        """
        with translated():
            await self._stream.gap(lostBytes=lost_bytes)

    async def done(self) -> None:
        """Say that no more will come; returns when the peer has taken everything.

        Raises:
            Unavailable: the peer is gone.
        """
        with translated():
            await self._stream.done()
