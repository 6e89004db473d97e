"""Messages taken out of a stream that comes in pieces, and what is made of them."""

from __future__ import annotations

import struct

from hypothesis import example, given
from hypothesis import strategies as st

from ross.wire.ledger import Frames, Ledger


def framed(*segments: bytes) -> bytes:
    """A message of whole words (encoding.md, "Serialization Over a Stream")."""
    table = struct.pack(f"<I{len(segments)}I", len(segments) - 1, *(len(segment) // 8 for segment in segments))
    return table + bytes(-len(table) % 8) + b"".join(segments)


def call(number: int, size: int = 0, *, kind: int = 2, gap: int = 0) -> bytes:
    """A call as every implementation writes it; with a gap before its struct, one that is just as good."""
    root = struct.pack("<iHHH6x", 0, 1, 1, kind)
    return framed(
        root
        + struct.pack("<iHH", gap << 2, 3, 3)
        + bytes(8 * gap)
        + struct.pack("<I", number)
        + bytes(size // 8 * 8 + 44)
    )


def receive(ledger: Ledger, data: bytes) -> None:
    """In two pieces, in a buffer that is larger."""
    for piece in (data[:50], data[50:]):
        ledger.receive(memoryview(piece + bytes(100)), len(piece))


CALLS = st.tuples(st.integers(0, 1 << 31), st.integers(0, 600), st.integers(0, 9), st.integers(0, 3))
JUNK = st.lists(st.integers(0, 100).map(lambda words: b"\x01" * 8 * words), min_size=1, max_size=6)


@given(st.lists(CALLS | JUNK, max_size=6), st.lists(st.integers(1, 700), min_size=1, max_size=20))
def test_messages_are_found_however_they_are_cut(
    messages: list[tuple[int, int, int, int] | list[bytes]], cuts: list[int]
) -> None:
    expected: list[tuple[int, int, int]] = []
    stream = b""
    for message in messages:
        if isinstance(message, list):
            raw = framed(*message)
            expected.append((len(raw), -1, -1))
        else:
            number, size, kind, gap = message
            raw = call(number, size, kind=kind, gap=gap)
            expected.append((len(raw), kind, number))
        stream += raw
    found: list[tuple[int, int, int]] = []
    frames = Frames(lambda *seen: found.append(seen))
    at = 0
    while at < len(stream):
        cut = cuts[at % len(cuts)]
        frames.feed(memoryview(stream)[at : at + cut])
        at += cut
    assert [(size, kind) for size, kind, _number in found] == [(size, kind) for size, kind, _number in expected]
    assert [one for one in found if one[1] in {2, 3}] == [one for one in expected if one[1] in {2, 3}]
    assert frames.is_between


@given(st.binary(max_size=300))
@example(b"")
@example(bytes(16))
def test_whatever_is_no_call_costs_no_more_than_it_is(segment: bytes) -> None:
    """A peer may send anything: what hides what it is counts as a call that nobody answers."""
    ledger = Ledger()
    message = framed(segment + bytes(-len(segment) % 8))
    receive(ledger, message)
    assert ledger.held_bytes in {0, len(message)}


def test_a_call_is_held_until_it_is_answered() -> None:
    ledger, sizes = Ledger(), (0, 1000, 1 << 20)
    for number, size in enumerate(sizes):
        receive(ledger, call(number, size, gap=number))
        assert ledger.newest_bytes == len(call(number, size, gap=number))
    ledger.taken()
    assert ledger.newest_bytes == 0
    assert ledger.held_bytes == sum(len(call(number, size, gap=number)) for number, size in enumerate(sizes))
    receive(ledger, call(1, 4000, kind=4))
    ledger.send(memoryview(call(7, kind=3)))
    ledger.send(memoryview(call(2, 100_000, kind=3)))
    ledger.send(memoryview(call(0, kind=2)))
    assert ledger.held_bytes == len(call(0)) + len(call(1, 1000, gap=1))
    ledger.send(memoryview(call(0, kind=3)))
    ledger.send(memoryview(call(1, kind=3)))
    assert ledger.held_bytes == 0


def test_what_leads_out_of_a_message_is_held_for_ever() -> None:
    ledger, far = Ledger(), framed(struct.pack("<iHH", 1000 << 2, 1, 1) + bytes(64))
    receive(ledger, far)
    receive(ledger, framed(struct.pack("<II", 2, 0)))
    assert ledger.held_bytes == len(far) + 16
