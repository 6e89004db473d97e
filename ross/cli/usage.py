"""What is wrong with a command line, and what was meant."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

from cyclopts.exceptions import UnknownOptionError, UnusedCliTokensError

from ross.cli.argv import NumberAsFlagError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cyclopts import CycloptsError

_NO_NETWORKS: Final = "there are no networks yet but --network none and host, and no ports to be published"
_NOT_THERE: Final = {
    **dict.fromkeys(("-p", "--publish", "-P", "--publish-all", "--expose"), _NO_NETWORKS),
    **dict.fromkeys(("--ip", "--ip6", "--mac-address", "--link", "--network-alias", "--net-alias"), _NO_NETWORKS),
    **dict.fromkeys(
        ("--volume-driver", "--volumes"), "there are no volumes yet but files and directories of this host"
    ),
    "--gpus": "name the devices: --device /dev/dri",
    "--runtime": "the runtime is the daemon's setting: ROSS_RUNTIME, see ross daemon --help",
}
"""What other engines have."""
_NO_COMMANDS: Final = {
    **dict.fromkeys(("network", "port"), _NO_NETWORKS),
    "volume": "there are no volumes yet: -v and --mount take files and directories of this host, and images",
    **dict.fromkeys(
        ("build", "buildx", "builder"),
        "images are built by others, as buildah or BuildKit: ross pull, load or import them",
    ),
    "compose": "there is nothing yet that starts several containers at once",
    "help": "see: ross --help",
}


def explain(error: CycloptsError, command: Sequence[str]) -> tuple[str, str]:
    """What a parser complains of, and what to do.

    Args:
        error: The complaint.
        command: The words that name the command.
    """
    see = " ".join(("see: ross", *command, "--help"))
    if isinstance(error, UnknownOptionError):
        flag = (error.token.keyword or error.token.value).partition("=")[0]
        if flag in _NOT_THERE:
            return f"unknown option: {flag}", _NOT_THERE[flag]
    if isinstance(error, NumberAsFlagError):
        meant = f"; for a signal: ross kill -s {error.word[1:]}" if command[-1:] == ["kill"] else ""
        return f"unknown option: {error.word}", see + meant
    if isinstance(error, UnusedCliTokensError):
        extra = " ".join(error.unused_tokens or ())
        return f"there is nothing that {extra!r} could be for", see
    text = " ".join(str(error).split())
    return text[:1].lower() + text[1:].rstrip("."), see


def unknown_command(words: Sequence[str], known: Iterable[str]) -> tuple[str, str]:
    """That there is no such command, and which was meant.

    Args:
        words: Up to the one that is not known.
        known: What could stand in its place.
    """
    *group, word = words
    if not group and word in _NO_COMMANDS:
        return f"there is no command {word!r}", _NO_COMMANDS[word]
    close = difflib.get_close_matches(word, known, n=1)
    named = " ".join(("ross", *group))
    hint = f"did you mean {f'{named} {close[0]}'!r}?" if close else f"see: {named} --help"
    return f"there is no command {' '.join(words)!r}", hint
