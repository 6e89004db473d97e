"""``ross run`` and ``ross create``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from attrs import define
from cyclopts import Parameter

from ross.cli import output
from ross.cli.errors import Exit
from ross.cli.keys import DETACH_KEYS, Manner, parse_detach_keys
from ross.cli.parse import parse_env, parse_labels, parse_mount
from ross.cli.session import with_engine
from ross.errors import InvalidArgument, NotFound, RossError
from ross.linux.terminal import is_terminal
from ross.sizes import parse_size

if TYPE_CHECKING:
    from ross.client import Container, Engine, Image
    from ross.client.specs import CreateOptions

PullPolicy = Literal["always", "missing", "never"]


@Parameter(name="*")
@define(kw_only=True)
class CreateFlags:
    """What ``run`` and ``create`` have in common."""

    interactive: Annotated[bool, Parameter(name=["--interactive", "-i"], negative=())] = False
    """Keep the container's input open, and connect it to ours."""
    tty: Annotated[bool, Parameter(name=["--tty", "-t"], negative=())] = False
    """Give it a terminal."""
    rm: Annotated[bool, Parameter(negative=())] = False
    """Remove it when it has stopped."""
    name: str = ""
    """How to call it; made up if not given."""
    env: Annotated[tuple[str, ...], Parameter(name=["--env", "-e"], negative=())] = ()
    """NAME=value, or NAME for our own value of it. May be repeated."""
    workdir: Annotated[str, Parameter(name=["--workdir", "-w"])] = ""
    """The directory it begins in."""
    user: Annotated[str, Parameter(name=["--user", "-u"])] = ""
    """user[:group], by name or number."""
    entrypoint: str | None = None
    """The program in the place of the image's entrypoint; empty for none."""
    hostname: str = ""
    """Its host name."""
    volume: Annotated[tuple[str, ...], Parameter(name=["--volume", "-v"], negative=())] = ()
    """source:target[:ro]; a file or directory of this host, seen in the container. May be repeated."""
    network: str = "none"
    """none or host."""
    read_only: Annotated[bool, Parameter(negative=())] = False
    """Let it write to nothing but its mounts."""
    privileged: Annotated[bool, Parameter(negative=())] = False
    """Give it all the daemon may do. Not a sandbox any more."""
    memory: Annotated[str, Parameter(name=["--memory", "-m"])] = ""
    """The most memory, such as 512m or 2g."""
    cpus: float = 0.0
    """How many processors' worth of time, such as 1.5."""
    pids_limit: int = 0
    """The most processes; -1 for no limit. 4096 if not given."""
    label: Annotated[tuple[str, ...], Parameter(name=["--label", "-l"], negative=())] = ()
    """key=value. May be repeated."""
    pull: PullPolicy = "missing"
    """When to fetch the image: always, missing or never."""
    platform: str | None = None
    """os/architecture[/variant] of the image."""
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative=())] = False
    """Do not show how a pull goes."""
    stop_signal: str = ""
    """What asks it to stop, in the place of the image's."""
    stop_timeout: int = 10
    """Seconds that it has to stop."""
    restart: str = "no"
    """When to start it again: no, on-failure[:retries], always or unless-stopped."""
    replace: Annotated[bool, Parameter(negative=())] = False
    """Remove the container that has the name first."""


def create(
    image: str, /, *command: Annotated[str, Parameter(allow_leading_hyphen=True)], flags: CreateFlags | None = None
) -> None:
    """Make a container without starting it; prints its id.

    Parameters
    ----------
    image
        A name, digest or id.
    command
        What to run in the place of the image's command.
    """
    wanted = flags or CreateFlags()

    async def body(engine: Engine) -> None:
        container = await _create(engine, image, command, wanted)
        output.write(f"{(await container.info()).id}\n")

    with_engine(body)


def run(
    image: str,
    /,
    *command: Annotated[str, Parameter(allow_leading_hyphen=True)],
    detach: Annotated[bool, Parameter(name=["--detach", "-d"], negative=())] = False,
    detach_keys: str = DETACH_KEYS,
    sig_proxy: bool = True,
    flags: CreateFlags | None = None,
) -> int:
    """Run a command in a new container; ends with the command's exit code.

    Parameters
    ----------
    image
        A name, digest or id.
    command
        What to run in the place of the image's command.
    detach
        Leave it running, and print its id.
    detach_keys
        What is typed to let go of it: keys with commas between them, each a character or ctrl-CHARACTER; nothing for no such keys.
    sig_proxy
        Hand the signals that we are sent on to it; on a terminal the keys do that.
    """
    wanted = flags or CreateFlags()
    manner = Manner(keys=parse_detach_keys(detach_keys), sig_proxy=sig_proxy)
    if wanted.tty and wanted.interactive and not detach and not is_terminal(0):
        raise InvalidArgument("the input is no terminal, which -it wants", hint="use -i alone to pipe something in")

    async def body(engine: Engine) -> int:
        container = await _create(engine, image, command, wanted, detached=detach)
        if detach:
            await _begin(container, wanted)
            output.write(f"{(await container.info()).id}\n")
            return 0
        return await _run_attached(container, wanted, manner)

    return with_engine(body)


async def _run_attached(container: Container, wanted: CreateFlags, manner: Manner) -> int:
    from ross.cli.interactive import attach

    async with attach(container, stdin=wanted.interactive, terminal=wanted.tty, manner=manner) as attached:
        await _begin(container, wanted)
        outcome = await attached.wait()
    if wanted.rm and not attached.detached:
        await container.wait()  # until nothing of it is left
    if outcome is None:
        return 0
    if outcome.error:
        raise RossError(f"the container ended, but {outcome.error}")
    return outcome.exit_code


async def _begin(container: Container, wanted: CreateFlags) -> None:
    try:
        await container.start()
    except RossError:
        if wanted.rm:
            await container.discard()  # noqa: ASYNC120 -- shielded
        raise


async def _create(
    engine: Engine, image: str, command: tuple[str, ...], wanted: CreateFlags, *, detached: bool = False
) -> Container:
    found = await _image(engine, image, wanted)
    options: CreateOptions = {
        "name": wanted.name,
        "env": parse_env(wanted.env, os.environ),
        "workdir": wanted.workdir,
        "user": wanted.user,
        "hostname": wanted.hostname,
        "terminal": wanted.tty,
        "stdin": wanted.interactive,
        "stdin_kept": wanted.interactive and detached,
        "mounts": [parse_mount(text, here=Path.cwd()) for text in wanted.volume],
        "network": wanted.network,
        "read_only": wanted.read_only,
        "privileged": wanted.privileged,
        "memory": parse_size(wanted.memory) if wanted.memory else 0,
        "cpus": wanted.cpus,
        "pids_limit": wanted.pids_limit,
        "labels": parse_labels(wanted.label),
        "auto_remove": wanted.rm,
        "stop_signal": wanted.stop_signal,
        "stop_timeout": wanted.stop_timeout,
        "restart": wanted.restart,
    }
    if wanted.entrypoint is not None:
        options["entrypoint"] = [wanted.entrypoint] if wanted.entrypoint else []
    return await found.create(command, replace=wanted.replace, **options)


async def _image(engine: Engine, image: str, wanted: CreateFlags) -> Image:
    from ross.cli.images import fetch

    if wanted.pull == "always":
        return await fetch(engine, image, platform=wanted.platform, quiet=wanted.quiet)
    try:
        return await engine.images.get(image, platform=wanted.platform)
    except NotFound as error:
        if wanted.pull == "never":
            raise NotFound(error.message, hint=f"get it with: ross pull {image}") from None
        return await fetch(engine, image, platform=wanted.platform, quiet=wanted.quiet)


def start_attached(name: str, *, stdin: bool, manner: Manner) -> int:
    """``ross start -a``: start a container and be connected to it."""
    from ross.cli.interactive import attach

    async def body(engine: Engine) -> int:
        container = await engine.containers.get(name)
        terminal = (await container.info()).spec.terminal
        async with attach(container, stdin=stdin, terminal=terminal, manner=manner) as attached:
            await container.start()
            outcome = await attached.wait()
        if outcome is None:
            raise Exit(0)
        return outcome.exit_code

    return with_engine(body)
