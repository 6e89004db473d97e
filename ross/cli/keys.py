"""The keys that let go of a container, as people write them and as they are typed."""

from __future__ import annotations

from typing import Final

from attrs import frozen

from ross.errors import InvalidArgument

DETACH_KEYS: Final = "ctrl-p,ctrl-q"
_CONTROL: Final = "@abcdefghijklmnopqrstuvwxyz[\\]^_"
_DELETE: Final = 127


def parse_detach_keys(text: str) -> bytes:
    """``ctrl-p,ctrl-q`` as the bytes that a terminal sends for it; nothing for nothing.

    Raises:
        InvalidArgument: a key is neither a character nor ``ctrl-`` and one of ``a`` to ``z``, ``@``, ``[``, ``\\``, ``]``, ``^`` and ``_``.
    """
    return bytes(_key(name) for name in text.split(",")) if text else b""


def _key(name: str) -> int:
    control = name[5:].lower() if name[:5].lower() == "ctrl-" else ""
    if len(control) == 1 and control in _CONTROL:
        return _CONTROL.index(control)
    if len(name) == 1 and name.isascii():
        return ord(name)
    if name == "DEL":
        return _DELETE
    raise InvalidArgument(
        f"{name!r} is no key that lets go", hint="write a character, or ctrl-a and the like, such as ctrl-p,ctrl-q"
    )


@frozen(kw_only=True)
class Manner:
    """How we are connected to a process."""

    keys: bytes = parse_detach_keys(DETACH_KEYS)
    """What lets go; nothing, if empty."""
    sig_proxy: bool = True
    """Hand signals on."""
    outputs: frozenset[int] = frozenset({1, 2})
    """Which of our outputs take its."""


class DetachKeys:
    """Finds the keys in what is typed, also when they come one by one."""

    def __init__(self, keys: bytes = Manner().keys) -> None:
        self._keys = keys
        self._held = b""

    def filter(self, data: bytes) -> tuple[bytes, bool]:
        """What is to be passed on, and whether the keys were typed."""
        if not self._keys:
            return data, False
        data = self._held + data
        self._held = b""
        found = data.find(self._keys)
        if found >= 0:
            return data[:found], True
        for length in range(min(len(self._keys) - 1, len(data)), 0, -1):
            if data.endswith(self._keys[:length]):
                return data[:-length], self._hold(data[-length:])
        return data, False

    def _hold(self, data: bytes) -> bool:
        """Keep what may be the beginning of the keys until more is typed."""
        self._held = data
        return False
