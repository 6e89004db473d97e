"""Bounds on what a peer can make us hold. Imports nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of each connection, unless it says otherwise. Sizes are bytes."""

    connections: int = 512
    """Of one listening socket; more are closed as soon as they are accepted."""
    calls_in_flight: int = 256
    """Method calls that run at the same time; more fail at once, before their bodies run."""
    bytes_in_flight: int = 48 << 20
    """Of the messages of calls that were not answered yet; a call that makes them more fails at once, unless it is small or the only one.
    It is what half of the calls that may be in flight have, if each is a piece of a stream, and one of the largest beside them. A peer
    that goes a message further, by what waits behind others, is disconnected: to stop reading would be no kindness, since what was not
    read may be what ends a call, or takes it back."""
    message_bytes: int = 16 << 20
    """The largest message that is read; also bounds what following its pointers may cost."""
    nesting: int = 64
    """How deep pointers may lead."""
    write_high_bytes: int = 1 << 20
    """With more than this waiting to be sent, KJ is asked to wait, and a server reads no more requests from this peer."""
    write_low_bytes: int = 256 << 10
    """With no more than this waiting, both go on."""
    unclaimed_fds: int = 32
    """Received file descriptors that no call has claimed; a peer that sends more is disconnected."""
