"""What the calls of a peer hold: the bytes of those that it has sent and that were not answered yet, whether they run or wait.

KJ lets a call wait behind one of the same stream that is not done, or behind the answer that it is made on, and says to nobody how many
there are. So the messages of both directions are looked at on their way: a ``Call`` begins what a ``Return`` ends, also one that was
cancelled (rpc.capnp). Imports nothing of Ross.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_WORD: Final = 8
_LOOKED_AT: Final = 32 * _WORD
"""Of the first segment: where every implementation puts what is looked for."""
_CALL: Final = 2
_RETURN: Final = 3
_STRANGE: Final = -1
_TABLE: Final = struct.Struct("<II")
"""The segments but for one, and the words of the first."""
_USUAL: Final = struct.Struct("<QH6xI4xI")
"""The root's pointer, and which message it is; where the pointer there leads to, and the number that is there."""
_USUAL_ROOT: Final = 1 << 48 | 1 << 32
"""A struct right behind it, with a word of data and a pointer."""


class Frames:
    """Takes messages out of pieces of a stream (encoding.md, "Serialization Over a Stream"), of any size."""

    def __init__(self, seen: Callable[[int, int, int], None]) -> None:
        self._seen = seen
        """Told of each message as soon as its beginning is here: how large and which it is, and the number of a call or its answer."""
        self._head = bytearray()
        self._wanted = _WORD
        self.left = 0
        """Of a message that was told of, what is still to come."""

    @property
    def is_between(self) -> bool:
        """Whether no message is on its way."""
        return not self.left and not self._head

    def feed(self, data: memoryview) -> None:
        while data:
            if self.left:
                skipped = min(self.left, len(data))
                self.left -= skipped
                data = data[skipped:]
                continue
            if usual := self._usual(data):
                self.left = usual
                continue
            if missing := self._wanted - len(self._head):
                self._head += data[:missing]
                data = data[missing:]
                if len(self._head) < self._wanted or self._may_be_usual():
                    continue
            self._go_on()

    def _may_be_usual(self) -> bool:
        """Whether what is here is the table of a single segment, and no more."""
        return len(self._head) == _WORD and not any(self._head[:4]) and any(self._head[4:])

    def _usual(self, data: memoryview) -> int:
        """Tell of a message as KJ writes nearly all, with its table before or in ``data``, and return how far it goes in there; a third of
        the time. 0 if it is none, or too little of it is here."""
        begin = 0 if self._head else _WORD
        if len(data) < begin + _USUAL.size or len(self._head) not in {0, _WORD}:
            return 0
        more_segments, words = _TABLE.unpack_from(data if begin else self._head)
        root, kind, pointer, number = _USUAL.unpack_from(data, begin)
        if more_segments or words < 4 or root != _USUAL_ROOT or pointer:
            return 0
        self._seen(_WORD * (1 + words), kind, number)
        self._head.clear()
        self._wanted = _WORD
        return begin + _WORD * int(words)

    def _go_on(self) -> None:
        segments = int.from_bytes(self._head[:4], "little") + 1
        table = _WORD * (segments // 2 + 1)
        if len(self._head) < table:
            self._wanted = table
            return
        sizes = struct.unpack_from(f"<{segments}I", self._head, 4)
        size = table + _WORD * sum(sizes)
        wanted = table + min(_WORD * sizes[0], _LOOKED_AT)
        if len(self._head) < wanted:
            self._wanted = wanted
            return
        self._seen(size, *_kind_and_number(bytes(self._head[table:])))
        self.left = size - wanted
        self._head.clear()
        self._wanted = _WORD


class Ledger:
    """Of one connection, on the side that is called."""

    def __init__(self) -> None:
        self.held_bytes = 0
        """Of the messages of calls that were not answered yet."""
        self.newest_bytes = 0
        """Of the call that is being read."""
        self._calls: dict[int, int] = {}
        self._incoming = Frames(self._received)
        self._outgoing = Frames(self._sent)

    def receive(self, buffer: memoryview, count: int) -> None:
        """Note what has come from the peer."""
        if count <= self._incoming.left:
            self._incoming.left -= count
        else:
            self._incoming.feed(memoryview(buffer)[:count])

    def send(self, data: memoryview) -> None:
        """Note what goes to the peer."""
        self._outgoing.feed(data)

    def taken(self) -> None:
        """All that came was taken up: what begins now, if anything does, is what has waited."""
        if self._incoming.is_between:
            self.newest_bytes = 0

    def _received(self, size: int, kind: int, number: int) -> None:
        is_call = kind in {_CALL, _STRANGE}
        self.newest_bytes = size if is_call else 0
        if is_call:
            self._calls[number] = self._calls.get(number, 0) + size
            self.held_bytes += size

    def _sent(self, _size: int, kind: int, number: int) -> None:
        if kind == _RETURN:
            self.held_bytes -= self._calls.pop(number, 0)


def _kind_and_number(segment: bytes) -> tuple[int, int]:
    """Which message it is; of a call or its answer, its number too. What nobody writes so counts as a call without an answer."""
    try:
        root, data_words = _struct_at(segment, 0)
        kind = int.from_bytes(segment[root : root + 2], "little") if data_words else 0
        if kind not in {_CALL, _RETURN}:
            return kind, 0
        found, data_words = _struct_at(segment, root + _WORD * data_words)
        return kind, int.from_bytes(segment[found : found + 4], "little") if data_words else 0
    except ValueError:
        return _STRANGE, _STRANGE


def _struct_at(segment: bytes, place: int) -> tuple[int, int]:
    """Where the struct is that the pointer at a place leads to (encoding.md, "Structs"), and how many words of data it has."""
    pointer = int.from_bytes(segment[place : place + _WORD], "little", signed=True)
    offset = struct.unpack_from("<i", segment, place)[0] >> 2 if place + _WORD <= len(segment) else 0
    found = place + _WORD * (1 + offset)
    if pointer & 3 or not 0 <= found <= len(segment) - _WORD:
        raise ValueError("no struct that is here")
    return found, pointer >> 32 & 0xFFFF
