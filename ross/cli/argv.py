"""Command lines as people type them, before they are parsed: ``-it`` for ``-i -t``, ``-m512m`` for ``-m 512m``, and, for commands that
run something, everything behind the image's name left as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from attrs import frozen
from cyclopts import CycloptsError

if TYPE_CHECKING:
    from cyclopts import App

PASSING_ON = frozenset({"run", "create", "exec"})
"""Commands whose first positional argument ends their own flags."""


class NumberAsFlagError(CycloptsError):
    """A word as ``-15``, which is no flag and would be taken for a negative number, and so for a name."""

    def __init__(self, word: str) -> None:
        super().__init__(msg=f"unknown option: {word}")
        self.word = word


@frozen
class Flags:
    """The flags of one command."""

    takes_value: Mapping[str, bool]
    """By name, with its dashes."""
    only_once: Mapping[str, int]
    """Those that cannot be repeated, by name; the names of one flag have the same number."""


def flags_of(app: App) -> Flags:
    """The flags that a command declares."""
    takes_value = dict.fromkeys(app.help_flags, False)
    only_once: dict[str, int] = {}
    for number, argument in enumerate(app.assemble_argument_collection()):
        tokens, several = argument.token_count()
        names = [name for name in argument.names if name.startswith("-")]
        takes_value |= dict.fromkeys(names, tokens > 0)
        if not several:
            only_once |= dict.fromkeys(names, number)
    return Flags(takes_value, only_once)


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
    flags = flags_of(command)
    expanded, behind = _expand(rest, flags, ends_at_positional=words[-1] in PASSING_ON)
    return [*words, *_last_of_each(expanded, flags), *behind]


def _last_of_each(words: Sequence[str], flags: Flags) -> list[str]:
    """Of a flag that is there several times and means one thing only, the last: so people change what an alias says."""
    kept: list[str] = []
    seen: set[int] = set()
    for word in reversed(words):
        flag = flags.only_once.get(word.partition("=")[0])
        if flag is None or flag not in seen:
            kept.append(word)
        if flag is not None:
            seen.add(flag)
    return kept[::-1]


def _expand(argv: Sequence[str], flags: Flags, *, ends_at_positional: bool) -> tuple[list[str], list[str]]:
    """Flags as the parser knows them; and what stands behind them, beginning with ``--``, which it leaves alone."""
    done: list[str] = []
    index = 0
    while index < len(argv):
        word = argv[index]
        if word == "--":
            return done, list(argv[index:])
        if not word.startswith("-") or word == "-":
            if ends_at_positional:
                return done, ["--", *argv[index:]]
            done.append(word)
            index += 1
            continue
        expanded = _expand_word(word, flags)
        if word[1:2].isdigit() and word not in flags.takes_value:
            raise NumberAsFlagError(word)
        done += expanded
        index += 1
        if "=" not in expanded[-1] and flags.takes_value.get(expanded[-1]) and index < len(argv):
            # With '=' a value may begin with a dash, and is never taken for a flag.
            done[-1] = f"{done[-1]}={argv[index]}"
            index += 1
    return done, []


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
