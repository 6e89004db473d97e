"""Errors as a person reads them: what and why on one line, what to do on the next, and the right exit code."""

from __future__ import annotations

import os
import secrets
import sys
import traceback
from contextlib import suppress
from typing import Final

from ross.errors import Reason, RossError

USAGE: Final = 2
FAILED: Final = 1
ENGINE_FAILED: Final = 125
"""``run`` and ``create``: Ross failed, not the container."""
NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141

_BY_REASON: Final = {Reason.COMMAND_NOT_FOUND: NOT_FOUND, Reason.COMMAND_NOT_EXECUTABLE: NOT_EXECUTABLE}


class Exit(Exception):
    """End the program with this exit code, saying nothing more."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def show(message: str, hint: str | None = None) -> None:
    """Print an error, and what to do about it; if even that cannot be written, the exit code is all that says so."""
    text = f"error: {_clean(message)}\n"
    if hint:
        text += f"hint: {_clean(hint)}\n"
    if sys.stderr is None:
        return
    with suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()


def exit_code(error: RossError, *, running: bool) -> int:
    """The exit code for an error: the shell's for a program that cannot be run, 125 for what else keeps one from running.

    Args:
        error: What failed.
        running: The command was to run something.
    """
    if not running:
        return FAILED
    return _BY_REASON.get(error.reason or "", ENGINE_FAILED)


def unexpected(error: BaseException) -> None:
    """Print an error of ours that nobody foresaw: one line, and where the rest is."""
    identity = secrets.token_hex(4)
    if os.environ.get("ROSS_DEBUG"):
        traceback.print_exception(error)
    first_line = next(iter(str(error).splitlines()), "")
    show(
        f"internal error {identity}: {type(error).__name__}: {first_line[:200]}",
        "this is a fault of Ross; to see where it is, run the same with ROSS_DEBUG=1 in the environment",
    )


def _clean(text: str) -> str:
    """What an image or a registry has named may stand in a message; it may not steer a terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
