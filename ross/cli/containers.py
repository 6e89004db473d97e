"""``ross start``, ``stop``, ``kill``, ``rm``, ``ps``, ``wait``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

from cyclopts import Parameter

from ross.cli import output
from ross.cli.errors import FAILED
from ross.cli.keys import DETACH_KEYS, Manner, parse_detach_keys
from ross.cli.session import for_each, with_engine
from ross.errors import FailedPrecondition, InvalidArgument, NotFound
from ross.model.containers import ContainerState

if TYPE_CHECKING:
    from ross.client import Engine

Grace = Annotated[int | None, Parameter(name=["--time", "-t", "--timeout"])]
"""How long to wait for a container that is asked to stop."""
_FOR_EVER: Final = (1 << 31) - 1
_AS_CREATED: Final = -1


def grace_seconds(time: int | None) -> int:
    """What the engine takes such a length of time as."""
    if time is None:
        return _AS_CREATED
    return time if time >= 0 else _FOR_EVER


def start(
    *container: str,
    attach: Annotated[bool, Parameter(name=["--attach", "-a"], negative=())] = False,
    interactive: Annotated[bool, Parameter(name=["--interactive", "-i"], negative=())] = False,
    detach_keys: str = DETACH_KEYS,
    sig_proxy: bool = True,
) -> int:
    """Start containers; one that runs goes on.

    Parameters
    ----------
    container
        Names or ids.
    attach
        Show the output of the one container, and end with its exit code.
    interactive
        Also connect its input.
    detach_keys
        What is typed to let go of it: keys with commas between them, each a character or ctrl-CHARACTER; nothing for no such keys.
    sig_proxy
        Hand the signals that we are sent on to it.
    """
    require(container)
    if attach or interactive:
        from ross.cli.run import start_attached

        if len(container) != 1:
            raise InvalidArgument("only one container can be attached to")
        manner = Manner(keys=parse_detach_keys(detach_keys), sig_proxy=sig_proxy)
        return start_attached(container[0], stdin=interactive, manner=manner)

    async def body(engine: Engine) -> int:
        async def begin(name: str) -> None:
            container = engine.containers.get(name).now
            refused: FailedPrecondition | None = None
            try:
                await container.start()
            except FailedPrecondition as error:
                refused = error
            if refused is not None and (await container.info()).state is not ContainerState.RUNNING:
                raise refused
            output.write(f"{name}\n")

        return await for_each(container, begin)

    return with_engine(body)


def stop(
    *container: str,
    time: Grace = None,
    signal: Annotated[str, Parameter(name=["--signal", "-s"])] = "",
) -> int:
    """Stop containers: ask, wait, then kill.

    Parameters
    ----------
    container
        Names or ids.
    time
        Seconds to wait before killing, -1 for ever; what the container was created with if not given, else 10.
    signal
        What to ask with; what the image says if not given, else SIGTERM.
    """
    require(container)

    async def body(engine: Engine) -> int:
        async def end(name: str) -> None:
            await engine.containers.get(name).now.stop(signal=signal, timeout=grace_seconds(time))
            output.write(f"{name}\n")

        return await for_each(container, end)

    return with_engine(body)


def kill(*container: str, signal: Annotated[str, Parameter(name=["--signal", "-s"])] = "KILL") -> int:
    """Send a signal to containers.

    Parameters
    ----------
    container
        Names or ids.
    signal
        By name or number.
    """
    require(container)

    async def body(engine: Engine) -> int:
        async def send(name: str) -> None:
            await engine.containers.get(name).now.kill(signal)
            output.write(f"{name}\n")

        return await for_each(container, send)

    return with_engine(body)


def rm(*container: str, force: Annotated[bool, Parameter(name=["--force", "-f"], negative=())] = False) -> int:
    """Remove containers.

    Parameters
    ----------
    container
        Names or ids.
    force
        Also those that run; and those that do not exist are no error.
    """
    require(container)

    async def body(engine: Engine) -> int:
        async def remove(name: str) -> None:
            try:
                await engine.containers.get(name).now.remove(force=force)
            except NotFound:
                if not force:
                    raise
                return
            output.write(f"{name}\n")

        return await for_each(container, remove)

    return with_engine(body)


def exists(container: str, /) -> int:
    """End with 0 if there is such a container, else with 1, and say nothing.

    Parameters
    ----------
    container
        Its name or id.
    """

    async def body(engine: Engine) -> int:
        try:
            await engine.containers.get(container)
        except NotFound:
            return FAILED
        return 0

    return with_engine(body)


def wait(*container: str, condition: Literal["not-running", "next-exit", "removed", "healthy"] = "not-running") -> int:
    """Wait until containers have stopped, and print their exit codes; -1 for one that was only to be healthy.

    Parameters
    ----------
    container
        Names or ids.
    condition
        What to wait for: not-running, next-exit, removed or healthy.
    """
    from ross.model.containers import WaitCondition

    require(container)
    wanted = {
        "not-running": WaitCondition.NOT_RUNNING,
        "next-exit": WaitCondition.NEXT_EXIT,
        "removed": WaitCondition.REMOVED,
        "healthy": WaitCondition.HEALTHY,
    }[condition]

    async def body(engine: Engine) -> int:
        async def until_stopped(name: str) -> None:
            container = await engine.containers.get(name)
            if wanted is WaitCondition.NOT_RUNNING:
                info = await container.info()
                if (
                    info.state is ContainerState.CREATED
                ):  # it does not run, although the library would wait for its first end
                    output.write(f"{info.error_code}\n")
                    return
            outcome = await container.wait(wanted)
            output.write(f"{-1 if wanted is WaitCondition.HEALTHY else outcome.exit_code}\n")

        return await for_each(container, until_stopped)

    return with_engine(body)


def require(names: tuple[str, ...]) -> None:
    """See that a container was named.

    Raises:
        InvalidArgument: none was.
    """
    if not names:
        raise InvalidArgument("no container was named", hint="see them all with: ross ps -a")
