"""Signals as people name them."""

from __future__ import annotations

import signal

from ross.errors import InvalidArgument


def parse_signal(text: str) -> int:
    """The number of ``TERM``, ``SIGTERM``, ``sigterm``, ``15`` or ``RTMIN+3``.

    Raises:
        InvalidArgument: it is no signal.
    """
    name = text.strip().upper().removeprefix("SIG") if text.isascii() else ""
    base, sign, offset = name.partition("+") if "+" in name else name.partition("-")
    try:
        if name.isdigit():
            number = int(name)
        elif sign and base in {"RTMIN", "RTMAX"} and offset.isdigit():
            number = getattr(signal, f"SIG{base}") + (int(offset) if sign == "+" else -int(offset))
        else:
            number = signal.Signals[f"SIG{name}"].value
    except (KeyError, ValueError):
        number = 0
    if number not in signal.valid_signals() or number <= 0:
        raise InvalidArgument(f"{text!r} is not a signal", hint="name one as TERM, SIGTERM or 15")
    return number
