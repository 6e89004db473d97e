"""``ross __complete``: what a word of a command line may become. For the scripts of ``ross completion``.

    ross __complete bash WORDBREAKS LINE
    ross __complete zsh|fish WORD...

The line, or the words behind ``ross``, go up to the cursor. The answer is a line that says what kind it is of (``words``, ``more`` where
more is to be typed behind them, ``files`` where the shell knows better), and a line for each word. Whatever goes wrong, there is no answer,
and nothing is said; a daemon has two seconds for its part.
"""

from __future__ import annotations

import shlex
import sys
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from ross.cli.argv import PASSING_ON, find_command, flags_of

if TYPE_CHECKING:
    from cyclopts import App

    from ross.client import Engine

_DAEMON_SECONDS: Final = 2.0
_RESTING: Final = frozenset({"created", "stopped"})
_STATES: Final = {
    "start": _RESTING,
    "stop": frozenset({"running", "paused", "restarting"}),
    "kill": frozenset({"running", "paused"}),
    "pause": frozenset({"running"}),
    "unpause": frozenset({"paused"}),
    "checkpoint": frozenset({"running"}),
    "restore": frozenset({"stopped"}),
    "exec": frozenset({"running"}),
    "attach": frozenset({"running"}),
    "top": frozenset({"running"}),
}
"""Of which containers a command can make use; of any, where it is not said."""
_FILE_FLAGS: Final = frozenset({
    "--env-file",
    "--label-file",
    "--cidfile",
    "--input",
    "-i",
    "--output",
    "-o",
    "--volume",
    "-v",
    "--device",
})
_FLAG_WORDS: Final = {
    "--signal": ("HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "TERM", "CONT", "STOP", "WINCH"),
    "--stop-signal": ("HUP", "INT", "QUIT", "KILL", "USR1", "USR2", "TERM"),
    "--restart": ("no", "on-failure", "always", "unless-stopped"),
    "--format": ("json", "jsonl", "table"),
    "--network": ("none", "host"),
    "--log-driver": ("file", "journald", "none", "passthrough"),
}


@frozen(kw_only=True)
class Answer:
    """What a word may become."""

    kind: str = "words"
    words: tuple[str, ...] = ()


_FILES: Final = Answer(kind="files")
_NOTHING: Final = Answer()


def main(words: Sequence[str]) -> int:
    """Answer to a script; never fails."""
    with suppress(Exception, KeyboardInterrupt):
        shell, *rest = words
        cut = 0
        if shell == "bash":
            breaks, line = rest
            rest = _split(line)[1:]
            cut = max((rest[-1].rfind(one) + 1 for one in ":=" if one in breaks), default=0)
        answer = complete(rest)
        lines = [answer.kind, *sorted(word[cut:] for word in dict.fromkeys(answer.words) if word.isprintable())]
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def _split(line: str) -> list[str]:
    """The words of a line that is not finished; the last one may be empty."""
    for quote in ("", '"', "'"):
        with suppress(ValueError):
            words = shlex.split(line + quote)
            return [*words, ""] if not quote and line[-1:].isspace() else words
    return [""]


def complete(words: Sequence[str]) -> Answer:
    """What the last of these words may become, which stand behind ``ross``."""
    from ross.cli.app import build_app

    *before, current = words or [""]
    app = build_app()
    command, count = find_command(app, before)
    rest = before[count:]
    if command.default_command is None:
        names = [name for name in command if not rest and (current.startswith("-") or not name.startswith("-"))]
        return _that_begin(names, current)
    return _of_command(command, before[count - 1], rest, current)


def _that_begin(words: Iterable[str], current: str, *, kind: str = "words") -> Answer:
    return Answer(kind=kind, words=tuple(word for word in words if word.startswith(current)))


def _of_command(command: App, name: str, rest: Sequence[str], current: str) -> Answer:
    takes_value = flags_of(command).takes_value
    given, flag, ended = list[str](), "", False
    for word in rest:
        if flag:
            flag = ""
        elif not ended and word == "--":
            ended = True
        elif not ended and word.startswith("-") and word != "-":
            flag = word if "=" not in word and takes_value.get(word) else ""
        else:
            given.append(word)
            ended = ended or name in PASSING_ON
    if flag:
        return _value(command, flag, current)
    if not ended and current.startswith("-"):
        flag, equals, value = current.partition("=")
        if equals:
            found = _value(command, flag, value)
            return Answer(kind=found.kind, words=tuple(f"{flag}={word}" for word in found.words))
        return _that_begin(takes_value, current)
    return _positional(command, name, given, current)


def _value(command: App, flag: str, current: str) -> Answer:
    argument = next((one for one in command.assemble_argument_collection() if flag in one.names), None)
    if argument is None:
        return _NOTHING
    choices = _choices(argument.hint) or next((_FLAG_WORDS[one] for one in argument.names if one in _FLAG_WORDS), ())
    if choices:
        return _that_begin(choices, current)
    return _FILES if _FILE_FLAGS.intersection(argument.names) else _NOTHING


def _choices(hint: Any) -> tuple[str, ...]:
    """The words of a type that has only a few."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        return tuple(choice for part in typing.get_args(hint) for choice in _choices(part))
    return typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()


def _positional(command: App, name: str, given: Sequence[str], current: str) -> Answer:
    arguments = sorted(
        (one for one in command.assemble_argument_collection() if one.index is not None), key=lambda one: one.index or 0
    )
    if not arguments:
        return _NOTHING
    place = min(len(given), len(arguments) - 1)
    argument = arguments[place]
    if len(given) > place and not argument.token_count()[1]:
        return _NOTHING  # it takes no more
    if choices := _choices(argument.hint):
        return _that_begin(choices, current)
    what = argument.names[0]
    if what == "FILE" or (name == "cp" and (current[:1] in {"/", "."} or ":" in current)):
        return _FILES
    if name == "cp":
        found = _ask(lambda engine: _containers(engine, frozenset()))
        return _that_begin([f"{one}:" for one in found], current, kind="more") if found else _FILES
    kinds = _kinds(name, what, place)
    found = [word for kind in kinds for word in _ask(_LISTS[kind](name))]
    return _that_begin([word for word in found if word not in given], current)


def _kinds(name: str, what: str, place: int) -> tuple[str, ...]:
    """What an argument is the name of, told by how its help calls it."""
    if what == "CONTAINER":
        return ("container",)
    if name == "inspect":
        return ("container", "image") if what == "NAME" else ("image",)
    named = what in {"IMAGE", "SOURCE"} or (what == "NAME" and place == 0)
    return ("image",) if named or name == "untag" else ()


def _ask(question: Callable[[Engine], Any]) -> list[str]:
    """What the daemon knows; nothing if it does not say so at once."""
    import trio

    from ross.client import connect

    async def ask() -> list[str]:
        with trio.move_on_after(_DAEMON_SECONDS):
            async with connect() as engine:
                return list(await question(engine))
        return []

    try:
        return trio.run(ask, restrict_keyboard_interrupt_to_checkpoints=True)
    except BaseExceptionGroup:  # no daemon answers, or not to us
        return []


async def _containers(engine: Engine, states: frozenset[str]) -> list[str]:
    found = await engine.containers.list(all=True)
    return [one.name for one in found if not states or one.state.value in states]


async def _images(engine: Engine) -> list[str]:
    from ross.oci.reference import Reference

    return [Reference.parse(name).familiar for one in await engine.images.list() for name in one.names]


_LISTS: Final[dict[str, Callable[[str], Callable[[Engine], Any]]]] = {
    "container": lambda name: lambda engine: _containers(engine, _STATES.get(name, frozenset())),
    "image": lambda _name: _images,
}
