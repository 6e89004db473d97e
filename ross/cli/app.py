"""The command line. Commands are imported when they are called for: what is not used costs no start-up time."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

from cyclopts import App, CycloptsError

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


def build_app() -> App:
    """The tree of commands."""
    app = App(
        name="ross",
        help="A container engine whose clients hold references to containers.",
        version=_version,
        version_flags=["--version"],
        help_flags=["--help", "-h"],
        help_format="plaintext",
        default_parameter=None,
    )
    image = App(name="image", help="Images: the same commands, by their long names.")
    container = App(name="container", help="Containers: the same commands, by their long names.")
    registry = App(name="registry", help="Registries: who the engine is to them.")
    system = App(name="system", help="Looking after the daemon and what it keeps on the disk.")
    debug = App(name="debug", help="Looking into the daemon.")
    for module, names in (
        ("containers", ("start", "stop", "kill", "rm", "wait")),
        ("inspect", ("inspect",)),
        ("listing", ("ps",)),
        ("logs", ("logs",)),
        ("lifecycle", ("restart", "pause", "unpause", "rename", "update")),
        ("exec", ("exec", "attach", "top")),
        ("stats", ("stats",)),
        ("images", ("pull", "images", "rmi")),
        ("naming", ("tag", "untag", "history")),
        ("push", ("push",)),
        ("registries", ("login", "logout")),
        ("archives", ("save", "load")),
        ("files", ("cp", "diff", "export", "commit")),
        ("events", ("events",)),
        ("completion", ("completion",)),
        ("system", ("daemon", "health", "version", "info", "doctor")),
    ):
        for name in names:
            app.command(f"ross.cli.{module}:{_function(name)}", name=name)
    for name, target in (("ls", "images"), ("pull", "pull"), ("rm", "rmi")):
        image.command(f"ross.cli.images:{target}", name=name)
    for name in ("tag", "untag", "history"):
        image.command(f"ross.cli.naming:{name}", name=name)
    image.command("ross.cli.push:push", name="push")
    for name in ("save", "load"):
        image.command(f"ross.cli.archives:{name}", name=name)
    for group in (app, image):
        group.command("ross.cli.archives:import_", name="import")
    container.command("ross.cli.logs:logs", name="logs")
    for name in ("start", "stop", "kill", "rm", "wait"):
        container.command(f"ross.cli.containers:{name}", name=name)
    for name in ("restart", "pause", "unpause", "rename", "update"):
        container.command(f"ross.cli.lifecycle:{name}", name=name)
    container.command("ross.cli.listing:ps", name="ls")
    for name in ("exec", "attach", "top"):
        container.command(f"ross.cli.exec:{_function(name)}", name=name)
    container.command("ross.cli.stats:stats", name="stats")
    container.command("ross.cli.inspect:inspect_containers", name="inspect")
    image.command("ross.cli.inspect:inspect_images", name="inspect")
    for group in (app, container):
        for name in ("run", "create"):  # whose -h is the host's name
            group.command(f"ross.cli.run:{name}", name=name, help_flags=["--help"])
    for name, target in (("login", "login"), ("logout", "logout"), ("ls", "list_logins")):
        registry.command(f"ross.cli.registries:{target}", name=name)
    for name in ("cp", "diff", "export", "commit"):
        container.command(f"ross.cli.files:{name}", name=name)
    image.command("ross.cli.storage:prune_images", name="prune")
    container.command("ross.cli.storage:prune_containers", name="prune")
    for name in ("df", "prune", "check"):
        system.command(f"ross.cli.storage:{name}", name=name)
    system.command("ross.cli.system:info", name="info")
    system.command("ross.cli.events:events", name="events")
    debug.command("ross.cli.system:tasks", name="tasks")
    for group in (image, container, registry, system, debug):
        app.command(group)
    return app


def _function(name: str) -> str:
    """What a command is called in its module."""
    return f"{name}_" if name == "exec" else name


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
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # What could not be written is not tried again when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = BROKEN_PIPE
    sys.exit(code)


def execute(words: Sequence[str]) -> int:
    """Run a command line; returns its exit code. Whatever goes wrong is printed as an error of one line."""
    running = any(word in PASSING_ON for word in words[:2])
    try:
        app = build_app()
        command, count = find_command(app, words)
        if count < len(words) and not words[count].startswith("-") and command.default_command is None:
            return _unknown(words[: count + 1])
        if command.default_command is None:
            _load(command)
        result = app(normalise(app, words), exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        show(_usage(error), f"see: ross {' '.join(words[: _names(words)])} --help".replace("  ", " "))
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


def _unknown(words: Sequence[str]) -> int:
    show(f"there is no command {' '.join(words)!r}", "see: ross --help")
    return USAGE


def _usage(error: CycloptsError) -> str:
    text = " ".join(str(error).split())
    return text[:1].lower() + text[1:].rstrip(".")
