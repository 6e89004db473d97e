"""Command lines as people type them, before they are parsed: ``-it`` for ``-i -t``, ``-m512m`` for ``-m 512m``, and, for commands that
run something, everything behind the image's name left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from cyclopts import App

PASSING_ON = frozenset({"run", "create", "exec"})
"""Commands whose first positional argument ends their own flags."""


@frozen
class Flags:
    """The flags of one command."""

    takes_value: Mapping[str, bool]
    """By name, with its dashes."""


def flags_of(app: App) -> Flags:
    """The flags that a command declares."""
    found = dict.fromkeys(app.help_flags, False)
    for argument in app.assemble_argument_collection():
        for name in argument.names:
            if name.startswith("-"):
                found[name] = argument.token_count()[0] > 0
    return Flags(found)


def find_command(app: App, argv: Sequence[str]) -> tuple[App, int]:
    """The command that a line names, and how many of its words name it."""
    for index, word in enumerate(argv):
        if word.startswith("-"):
            return app, index
        try:
            app = app[word]
        except KeyError:
            return app, index
    return app, len(argv)


def normalise(app: App, argv: Sequence[str]) -> list[str]:
    """The same line, for a parser that knows none of these habits."""
    command, count = find_command(app, argv)
    words, rest = list(argv[:count]), list(argv[count:])
    if not words or command.default_command is None:
        return list(argv)
    return words + _expand(rest, flags_of(command), ends_at_positional=words[-1] in PASSING_ON)


def _expand(argv: Sequence[str], flags: Flags, *, ends_at_positional: bool) -> list[str]:
    done: list[str] = []
    index = 0
    while index < len(argv):
        word = argv[index]
        if word == "--":
            return [*done, *argv[index:]]
        if not word.startswith("-") or word == "-":
            if ends_at_positional:
                return [*done, "--", *argv[index:]]
            done.append(word)
            index += 1
            continue
        expanded = _expand_word(word, flags)
        done += expanded
        index += 1
        if "=" not in expanded[-1] and flags.takes_value.get(expanded[-1]) and index < len(argv):
            # With '=' a value may begin with a dash, and is never taken for a flag.
            done[-1] = f"{done[-1]}={argv[index]}"
            index += 1
    return done


def _expand_word(word: str, flags: Flags) -> list[str]:
    """``-it`` to ``-i -t``; ``-m512m`` to ``-m=512m``. What is no bundle of known letters stays."""
    if word.startswith("--") or len(word) == 2:
        return [word]
    parts: list[str] = []
    for position in range(1, len(word)):
        flag = f"-{word[position]}"
        takes_value = flags.takes_value.get(flag)
        if takes_value is None:
            return [word]
        if takes_value:
            value = word[position + 1 :].removeprefix("=")
            return [*parts, f"{flag}={value}" if value else flag]
        parts.append(flag)
    return parts
