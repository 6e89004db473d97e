"""The command line. Commands are imported when they are called for: what is not used costs no start-up time."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from cyclopts import App, CycloptsError

from ross.cli import output
from ross.cli.argv import PASSING_ON, find_command, normalise
from ross.cli.errors import (
    BROKEN_PIPE,
    ENGINE_FAILED,
    FAILED,
    INTERRUPTED,
    USAGE,
    Exit,
    exit_code,
    show,
    unexpected,
)
from ross.errors import RossError

if TYPE_CHECKING:
    from collections.abc import Sequence


_GROUPS: Final = {
    "image": "Images: the same commands, by their long names.",
    "container": "Containers: the same commands, by their long names.",
    "registry": "Registries: who the engine is to them.",
    "system": "Looking after the daemon and what it keeps on the disk.",
    "debug": "Looking into the daemon.",
}
_COMMANDS: Final = (
    ("ross container", "containers", "start stop kill rm wait"),
    ("ross container", "lifecycle", "restart pause unpause rename update"),
    ("ross container", "checkpoints", "checkpoint restore"),
    ("ross container", "exec", "exec:exec_ attach top"),
    ("ross container", "files", "cp diff export commit"),
    ("ross container", "logs", "logs"),
    ("ross container", "stats", "stats"),
    ("ross", "listing", "ps"),
    ("container", "listing", "ls:ps list:ps ps"),
    ("container", "containers", "exists"),
    ("ross", "inspect", "inspect"),
    ("container", "inspect", "inspect:inspect_containers"),
    ("image", "inspect", "inspect:inspect_images"),
    ("ross", "images", "pull images rmi"),
    ("image", "images", "ls:images list:images pull rm:rmi exists"),
    ("ross image", "naming", "tag untag history"),
    ("ross image", "push", "push"),
    ("ross image", "archives", "save load import:import_"),
    ("ross", "registries", "login logout"),
    ("registry", "registries", "login logout ls:list_logins"),
    ("image", "storage", "prune:prune_images"),
    ("container", "storage", "prune:prune_containers"),
    ("system", "storage", "df prune check"),
    ("ross system", "events", "events"),
    ("ross", "completion", "completion"),
    ("ross", "system", "daemon health version info doctor"),
    ("system", "system", "info"),
    ("debug", "system", "tasks"),
)
"""In which groups, of which module, which commands: a name, with its function's behind a colon where that is another."""


class _Root(App):
    """Whose own output fails as any other does."""

    def help_print(self, *args: Any, **kwargs: Any) -> None:
        with output.told():
            super().help_print(*args, **kwargs)

    def version_print(self, *args: Any, **kwargs: Any) -> None:
        with output.told():
            super().version_print(*args, **kwargs)


def build_app() -> App:
    """The tree of commands."""
    app = _Root(
        name="ross",
        help="A container engine whose clients hold references to containers.",
        version=_version,
        version_flags=["--version"],
        help_flags=["--help", "-h"],
        help_format="plaintext",
        default_parameter=None,
    )
    groups = {"ross": app} | {name: App(name=name, help=text) for name, text in _GROUPS.items()}
    for places, module, commands in _COMMANDS:
        for place in places.split():
            for command in commands.split():
                name, _colon, function = command.partition(":")
                groups[place].command(f"ross.cli.{module}:{function or name}", name=name)
    for place in ("ross", "container"):
        for name in ("run", "create"):  # whose -h is the host's name
            groups[place].command(f"ross.cli.run:{name}", name=name, help_flags=["--help"])
    for name in _GROUPS:
        app.command(groups[name])
    return app


def _version() -> str:
    from importlib.metadata import version

    return version("ross-engine")


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command line and end the process with its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["__complete"]:
        from ross.cli.complete import main as complete

        sys.exit(complete(words[1:]))
    # What goes wrong is printed as an error, once; a library's own complaints about it are not for users.
    logging.getLogger().addHandler(logging.NullHandler())
    code = execute(words)
    # At once: nothing is left to be done, and an interpreter that takes itself apart takes a tenth of a short command's time for it.
    os._exit(code)


def execute(words: Sequence[str]) -> int:
    """Run a command line; returns its exit code. Whatever goes wrong is printed as an error of one line."""
    running = any(word in PASSING_ON for word in words[:2])
    try:
        app = build_app()
        command, count = find_command(app, words)
        if count < len(words) and not words[count].startswith("-") and command.default_command is None:
            from ross.cli.usage import unknown_command

            show(*unknown_command(words[: count + 1], tuple(command)))
            return USAGE
        if command.default_command is None:
            _load(command)
        result = app(normalise(app, words), exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        from ross.cli.usage import explain

        show(*explain(error, words[: _names(words)]))
        return ENGINE_FAILED if running else USAGE
    except Exit as leaving:
        return leaving.code
    except RossError as error:
        show(error.message, error.hint)
        return exit_code(error, running=running)
    except BrokenPipeError:
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 -- no traceback ever reaches a user
        unexpected(error)
        return ENGINE_FAILED if running else FAILED
    return result if isinstance(result, int) else 0


def _load(group: App) -> None:
    """Import what a group's help is about to describe: it takes each command's first line from its function."""
    for name in tuple(group):
        group[name]


def _names(words: Sequence[str]) -> int:
    _command, count = find_command(build_app(), words)
    return count
