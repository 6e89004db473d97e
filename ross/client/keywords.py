"""What the keyword options of containers and of execs have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ross.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Sequence


def check_options(options: Mapping[str, object], known: type) -> None:
    """Check that a caller without a type checker has not made an option up.

    Raises:
        InvalidArgument: an option is not among those of the typed dictionary ``known``.
    """
    unknown = set(options) - set(known.__annotations__)
    if unknown:
        raise InvalidArgument(
            f"there is no option {min(unknown)!r}", hint=f"the options are {', '.join(known.__annotations__)}"
        )


def command_words(args: Sequence[str]) -> tuple[str, ...]:
    """A program and its arguments.

    Raises:
        InvalidArgument: it is one text, of which nobody but a shell knows where its words end.
    """
    if isinstance(args, str):
        raise InvalidArgument("the command is a list of words, not one text", hint=f"did you mean {args.split()!r}?")
    return tuple(args)


def listed(option: str, values: Sequence[str]) -> tuple[str, ...]:
    """The texts of an option that takes several.

    Raises:
        InvalidArgument: it is one text, which would be as many as it has letters.
    """
    if isinstance(values, str):
        raise InvalidArgument(f"{option} takes a list, not one text", hint=f"did you mean [{values!r}]?")
    return tuple(values)


def env_entries(env: Mapping[str, str] | Sequence[str]) -> tuple[str, ...]:
    """``NAME=value`` for each variable.

    Raises:
        InvalidArgument: it is one text.
    """
    return tuple(f"{key}={value}" for key, value in env.items()) if isinstance(env, Mapping) else listed("env", env)
