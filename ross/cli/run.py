"""``ross run`` and ``ross create``."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from attrs import define, evolve, field
from cyclopts import Parameter

from ross.cli import output
from ross.cli.flags.health import HealthFlags
from ross.cli.flags.limits import LimitFlags, ResourceFlags
from ross.cli.flags.logs import PASSTHROUGH, LogFlags
from ross.cli.flags.mounts import MountFlags
from ross.cli.flags.namespaces import NamespaceFlags
from ross.cli.flags.security import SecurityFlags
from ross.cli.flags.sharing import shared_options
from ross.cli.keys import DETACH_KEYS, Manner, parse_detach_keys
from ross.cli.parse import parse_env, parse_labels, read_env_files, read_label_files
from ross.cli.session import with_engine
from ross.cli.streams import preserved
from ross.errors import InvalidArgument, NotFound, RossError
from ross.linux.terminal import is_terminal
from ross.model.mounts import MountKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ross.client import Container, Engine, Image, Process
    from ross.client.specs import CreateOptions
    from ross.model.containers import Outcome

PullPolicy = Literal["always", "missing", "never"]
Begin = Callable[..., Awaitable[None]]
_STREAMS: Final = ("stdin", "stdout", "stderr")


@Parameter(name="*")
@define(kw_only=True)
class CreateFlags:
    """What ``run`` and ``create`` have in common."""

    interactive: Annotated[bool, Parameter(name=["--interactive", "-i"], negative=())] = False
    """Keep the container's input open, and connect it to ours."""
    tty: Annotated[bool, Parameter(name=["--tty", "-t"], negative=())] = False
    """Give it a terminal."""
    rm: Annotated[bool, Parameter(negative=())] = False
    """Remove it when it has stopped, or cannot be started."""
    name: str = ""
    """How to call it; made up if not given."""
    env: Annotated[tuple[str, ...], Parameter(name=["--env", "-e"], negative=())] = ()
    """NAME=value, or NAME for our own value of it. May be repeated."""
    env_file: Annotated[tuple[str, ...], Parameter(negative=())] = ()
    """A file of such entries, one a line. May be repeated."""
    workdir: Annotated[str, Parameter(name=["--workdir", "-w"])] = ""
    """The directory it begins in."""
    user: Annotated[str, Parameter(name=["--user", "-u"])] = ""
    """user[:group], by name or number."""
    entrypoint: str | None = None
    """The program in the place of the image's entrypoint; empty for none."""
    hostname: Annotated[str, Parameter(name=["--hostname", "-h"])] = ""
    """Its host name."""
    network: Annotated[str, Parameter(name=["--network", "--net"])] = "none"
    """none or host."""
    label: Annotated[tuple[str, ...], Parameter(name=["--label", "-l"], negative=())] = ()
    """key=value. May be repeated."""
    label_file: Annotated[tuple[str, ...], Parameter(negative=())] = ()
    """A file of labels, one a line. May be repeated."""
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
    init: Annotated[bool, Parameter(negative=())] = False
    """Let a small init be the first process, which reaps children and hands signals on."""
    cidfile: str = ""
    """A file to write the id to; it must not be there yet."""
    replace: Annotated[bool, Parameter(negative=())] = False
    """Remove the container that has the name first."""
    mounts: MountFlags = field(factory=MountFlags)
    limits: LimitFlags = field(factory=LimitFlags)
    resources: ResourceFlags = field(factory=ResourceFlags)
    security: SecurityFlags = field(factory=SecurityFlags)
    namespaces: NamespaceFlags = field(factory=NamespaceFlags)
    logs: LogFlags = field(factory=LogFlags)
    health: HealthFlags = field(factory=HealthFlags)


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
    preserve_fds: int = 0,
    attach: Annotated[tuple[str, ...], Parameter(name=["--attach", "-a"], negative=())] = (),
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
    preserve_fds
        Hand it so many of our descriptors, from 3 on.
    attach
        stdin, stdout or stderr: be connected to these only. May be repeated.
    """
    wanted = flags or CreateFlags()
    streams = _streams(attach, wanted, detach=detach)
    manner = Manner(keys=parse_detach_keys(detach_keys), sig_proxy=sig_proxy, outputs=streams - {0})
    if wanted.tty and wanted.interactive and not detach and not is_terminal(0):
        raise InvalidArgument("the input is no terminal, which -it wants", hint="use -i alone to pipe something in")
    fds = preserved(preserve_fds)

    async def body(engine: Engine) -> int:
        container = await _create(engine, image, command, wanted, detached=detach)
        begin = partial(_begin, container, wanted, fds=fds)
        if detach:
            await begin()
            output.write(f"{(await container.info()).id}\n")
            return 0
        run_so = _run_on_our_streams if wanted.logs.log_driver == PASSTHROUGH else _run_attached
        return await run_so(container, evolve(wanted, interactive=0 in streams), manner, begin)

    return with_engine(body)


def _streams(names: tuple[str, ...], wanted: CreateFlags, *, detach: bool) -> frozenset[int]:
    """Which of our three streams are to be connected, by descriptor."""
    if not names:
        return frozenset({*([0] if wanted.interactive else []), 1, 2})
    unknown = [name for name in names if name.lower() not in _STREAMS]
    if unknown:
        raise InvalidArgument(f"{unknown[0]!r} is no stream", hint="there are stdin, stdout and stderr")
    if detach:
        raise InvalidArgument("--attach and --detach contradict each other", hint="leave one out")
    if wanted.logs.log_driver == PASSTHROUGH:
        raise InvalidArgument("with the log driver passthrough all streams are handed over", hint="leave out --attach")
    streams = frozenset(_STREAMS.index(name.lower()) for name in names)
    return streams if wanted.interactive else streams - {0}


async def _run_attached(container: Container, wanted: CreateFlags, manner: Manner, begin: Begin) -> int:
    from ross.cli.interactive import attach

    async with attach(container, stdin=wanted.interactive, terminal=wanted.tty, manner=manner) as attached:
        await begin()
        outcome = await attached.wait()
    if wanted.rm and not attached.detached:
        await container.wait()  # until nothing of it is left
    return _code(outcome)


async def _run_on_our_streams(container: Container, wanted: CreateFlags, manner: Manner, begin: Begin) -> int:
    from ross.cli.interactive import on_our_streams

    async def begin_on(stdio: Sequence[int]) -> Process:
        process = await container.attach()
        await begin(stdio=stdio)
        return process

    outcome = await on_our_streams(begin_on, stdin=wanted.interactive, sig_proxy=manner.sig_proxy)
    if wanted.rm:
        await container.wait()  # until nothing of it is left
    return _code(outcome)


def _code(outcome: Outcome | None) -> int:
    if outcome is None:  # the user has let go
        return 0
    if outcome.error:
        raise RossError(f"the container ended, but {outcome.error}")
    return outcome.exit_code


async def _begin(
    container: Container, wanted: CreateFlags, *, stdio: Sequence[int] = (), fds: Sequence[int] = ()
) -> None:
    try:
        await container.start(stdio=stdio, fds=fds)
    except RossError:
        if wanted.rm:
            await container.discard()  # noqa: ASYNC120 -- shielded
        raise


async def _create(
    engine: Engine, image: str, command: tuple[str, ...], wanted: CreateFlags, *, detached: bool = False
) -> Container:
    options = _options(wanted, detached=detached)
    with _id_file(wanted.cidfile) as write_id:
        found = await _image(engine, image, wanted, platform=wanted.platform)
        # Held until the container has them.
        mounted = [
            await _image(engine, mount.source, wanted, platform=None)
            for mount in options["mounts"]
            if mount.kind is MountKind.IMAGE
        ]
        options.update(
            shared_options(
                engine,
                pid=wanted.namespaces.pid,
                ipc=wanted.namespaces.ipc,
                volumes_from=wanted.mounts.volumes_from,
            )
        )
        container = await found.create(command, replace=wanted.replace, **options)
        del mounted
        if wanted.cidfile:
            write_id((await container.info()).id)
    return container


@contextmanager
def _id_file(path: str) -> Iterator[Callable[[str], object]]:
    """A new file for the id of a container; removed if there will be none."""
    if not path:
        yield str
        return
    try:
        with Path(path).open("x") as file:
            try:
                yield file.write
            except BaseException:
                Path(path).unlink(missing_ok=True)
                raise
    except FileExistsError:
        raise InvalidArgument(
            f"the file {path!r} is there already", hint="is its container still needed? else remove it"
        ) from None
    except OSError as error:
        raise InvalidArgument(f"the file {path!r} cannot be written: {error.strerror}") from None


def _options(wanted: CreateFlags, *, detached: bool) -> CreateOptions:
    options: CreateOptions = {
        "name": wanted.name,
        "env": [*read_env_files(wanted.env_file, os.environ), *parse_env(wanted.env, os.environ)],
        "workdir": wanted.workdir,
        "user": wanted.user,
        "hostname": wanted.hostname,
        "terminal": wanted.tty,
        "stdin": wanted.interactive,
        "stdin_kept": wanted.interactive and detached,
        "network": wanted.network,
        "labels": {**read_label_files(wanted.label_file), **parse_labels(wanted.label)},
        "auto_remove": wanted.rm,
        "stop_signal": wanted.stop_signal,
        "stop_timeout": wanted.stop_timeout,
        "restart": wanted.restart,
        "init": wanted.init,
    }
    options.update(wanted.limits.options())  # type: ignore[typeddict-item]  # its options are among these
    options.update(wanted.resources.options())
    options.update(wanted.security.options())
    options.update(wanted.namespaces.options())
    options.update(wanted.mounts.options())
    options.update(wanted.logs.options())
    options.update(wanted.health.options())
    if wanted.entrypoint is not None:
        options["entrypoint"] = [wanted.entrypoint] if wanted.entrypoint else []
    return options


async def _image(engine: Engine, image: str, wanted: CreateFlags, *, platform: str | None) -> Image:
    from ross.cli.images import fetch

    if wanted.pull == "always":
        return await fetch(engine, image, platform=platform, quiet=wanted.quiet)
    try:
        return await engine.images.get(image, platform=platform)
    except NotFound as error:
        if wanted.pull == "never":
            raise NotFound(error.message, hint=f"get it with: ross pull {image}") from None
        return await fetch(engine, image, platform=platform, quiet=wanted.quiet)


def start_attached(name: str, *, stdin: bool, manner: Manner) -> int:
    """``ross start -a``: start a container and be connected to it."""
    from ross.cli.interactive import attach, on_our_streams
    from ross.model.logs import LogDriver

    async def body(engine: Engine) -> int:
        container = await engine.containers.get(name)
        spec = (await container.info()).spec
        if spec.log.driver is LogDriver.PASSTHROUGH:

            async def begin(stdio: Sequence[int]) -> Process:
                process = await container.attach()
                await container.start(stdio=stdio)
                return process

            return _code(await on_our_streams(begin, stdin=stdin, sig_proxy=manner.sig_proxy))
        async with attach(container, stdin=stdin, terminal=spec.terminal, manner=manner) as attached:
            await container.start()
            return _code(await attached.wait())

    return with_engine(body)
