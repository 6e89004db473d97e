"""A blob on its way: bounded by its descriptor, in large pieces, and given up when it hardly comes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

import httpx
import trio

from ross.errors import Corrupt, Unavailable
from ross.registry.retry import Transient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ross.registry.session import Timing

CHUNK_BYTES: Final = 1 << 20
"""How much of a blob is handed on at once: each piece costs its taker a switch to a thread."""
_CHUNK_SECONDS: Final = 0.5
"""After so long a smaller piece is handed on, for the sake of progress bars and of what a broken connection would lose."""


class NoRanges(Unavailable):
    """Whoever serves a blob does not serve parts of it as they were asked for."""


class BlobStream:
    """A blob, or a part of it, on its way."""

    def __init__(self, source: AsyncIterator[bytes], offset: int, left: int, host: str, timing: Timing) -> None:
        self.offset = offset
        """Where it begins: 0 if the registry sends the whole although a part was asked for."""
        self._source = source
        self._failure: Transient | Corrupt | None = None
        self._left = left
        self._host = host
        self._pace = _Pace(timing)

    def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, in large pieces. What came before a failure is handed on before the failure is told.

        Raises:
            Corrupt: there are more than the descriptor says.
            Transient: the connection broke, or became too slow to be called one.
        """
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        begun = trio.current_time()
        while self._failure is None and size < CHUNK_BYTES and trio.current_time() - begun < _CHUNK_SECONDS:
            part = await self._part()
            if not part:
                break
            parts.append(part)
            size += len(part)
        if parts:
            return b"".join(parts)
        if self._failure is not None:
            raise self._failure
        raise StopAsyncIteration

    async def _part(self) -> bytes:
        """What comes next, empty at the end; a failure is kept for later, so that nothing that came before it is lost."""
        try:
            part = await anext(self._source, b"")
            self._take(part)
        except httpx.TimeoutException:
            self._failure = Transient(f"the registry {self._host} stopped sending")
        except httpx.TransportError:
            self._failure = Transient(f"the connection to the registry {self._host} broke")
        except (Transient, Corrupt) as error:
            self._failure = error
        else:
            return part
        return b""

    def _take(self, part: bytes) -> None:
        self._left -= len(part)
        if self._left < 0:
            raise Corrupt(f"the registry {self._host} sends more of a blob than its descriptor says")
        if not part and self._left:
            raise Transient(f"the registry {self._host} sent {self._left} bytes of a blob too few")
        if not self._pace.keeps_up(len(part)):
            raise Transient(f"the registry {self._host} sends too slowly to ever end")


class _Pace:
    """Tells a slow connection from one that is only kept open: so many bytes in each stretch of time."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._begun = trio.current_time()
        self._seen = 0

    def keeps_up(self, count: int) -> bool:
        self._seen += count
        now = trio.current_time()
        if now - self._begun < self._timing.window_seconds:
            return True
        enough = self._seen >= self._timing.window_bytes
        self._begun, self._seen = now, 0
        return enough


def begins_at(response: httpx.Response, asked: int, size: int) -> int | None:
    """Where the body begins: where it was asked to, or at 0; None if it is another part, or none."""
    if response.status_code == 200:
        return 0
    return asked if is_part(response, asked, size, size) else None


def is_part(response: httpx.Response, begin: int, end: int, size: int) -> bool:
    """The body is that very part, by what it says of itself."""
    promised = response.headers.get("Content-Range", "").strip().lower()
    return response.status_code == 206 and promised in {
        f"bytes {begin}-{end - 1}/{size}",
        f"bytes {begin}-{end - 1}/*",
    }


def check_blob(response: httpx.Response, expected: int, host: str) -> None:
    """Refuse a body that announces itself as something else than so many bytes, as they are.

    Raises:
        Corrupt: it is encoded, or longer.
    """
    if response.headers.get("Content-Encoding", "identity").lower() not in {"", "identity"}:
        raise Corrupt(f"the registry {host} sends a blob in an encoding that was not asked for")
    announced = response.headers.get("Content-Length", "")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > expected:
        raise Corrupt(f"the registry {host} announces more of a blob than its descriptor says")
