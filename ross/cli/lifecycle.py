"""``ross restart``, ``pause``, ``unpause``, ``rename``, ``update``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ross.cli import output
from ross.cli.containers import Grace, grace_seconds, require
from ross.cli.flags.limits import LimitFlags
from ross.cli.session import for_each, with_engine
from ross.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ross.client import Container, Engine


def restart(
    *container: str,
    time: Grace = None,
    signal: Annotated[str, Parameter(name=["--signal", "-s"])] = "",
) -> int:
    """Stop containers, and start them again.

    Parameters
    ----------
    container
        Names or ids.
    time
        Seconds to wait before killing, -1 for ever; what the container was created with if not given, else 10.
    signal
        What to ask with; what the image says if not given, else SIGTERM.
    """
    return for_each_container(container, lambda found: found.restart(signal=signal, timeout=grace_seconds(time)))


def pause(*container: str) -> int:
    """Freeze all processes of containers.

    Parameters
    ----------
    container
        Names or ids.
    """
    return for_each_container(container, lambda found: found.pause())


def unpause(*container: str) -> int:
    """Let the processes of paused containers go on.

    Parameters
    ----------
    container
        Names or ids.
    """
    return for_each_container(container, lambda found: found.resume())


def rename(container: str, name: str, /) -> None:
    """Give a container another name.

    Parameters
    ----------
    container
        Its name, or id.
    name
        The new one.
    """

    async def body(engine: Engine) -> None:
        await engine.containers.get(container).now.rename(name)

    with_engine(body)


def update(
    *container: str,
    restart: str = "",
    limits: LimitFlags | None = None,
) -> int:
    """Change limits of containers, at once if they run, and when they are restarted. A limit of -1 is none.

    Parameters
    ----------
    container
        Names or ids.
    restart
        When to start it again: no, on-failure[:retries], always or unless-stopped.
    """
    from ross.client.specs import parse_restart

    if limits is None and not restart:
        raise InvalidArgument("nothing to change was given", hint="see: ross update --help")
    policy = parse_restart(restart) if restart else None
    options = (limits or LimitFlags()).options()
    return for_each_container(container, lambda found: found.update(restart=policy, **options))


def for_each_container(names: tuple[str, ...], action: Callable[[Container], Awaitable[None]]) -> int:
    """Do something with each container, and print its name behind it."""
    require(names)

    async def body(engine: Engine) -> int:
        async def act(name: str) -> None:
            await action(engine.containers.get(name).now)
            output.write(f"{name}\n")

        return await for_each(names, act)

    return with_engine(body)
