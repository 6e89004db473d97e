"""The OCI runtime: runc, or whatever takes the same command line (runc(8)). Builders of command lines, and typed failures."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import trio
from attrs import frozen

from ross.errors import FailedPrecondition, Internal, Reason, RossError, Unavailable
from ross.linux.process import Completed, run, search_path, which
from ross.shim.direct import forget, let_begin

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ross.linux.pidfd import ProcessIdentity

_MOST_SECONDS: Final = 60.0
"""It needs a tenth of a second; one that hangs must not keep others from the container for ever."""
_MESSAGE: Final = re.compile(r'msg="((?:[^"\\]|\\.)*)"')
_NOT_FOUND: Final = ("executable file not found", "no such file or directory", "not found in $PATH")
_FREEZE_ATTEMPTS: Final = 5
_NOT_FROZEN: Final = "unable to freeze"
_NOT_EXECUTABLE: Final = ("permission denied", "exec format error", "is a directory")


def environment() -> dict[str, str]:
    """That of a monitor, and so of the runtime and of CRIU: nothing of ours is their business, or the container's.

    A runtime written in Go else starts a thread for each processor, of which it has no use in the milliseconds that it takes.
    """
    return {"PATH": search_path(), "GOMAXPROCS": "1"}


@frozen(kw_only=True)
class RuntimeState:
    """What the runtime knows of a container."""

    id: str
    status: str
    """``creating``, ``created``, ``running``, ``paused`` or ``stopped`` (runtime-spec, runtime.md, "State")."""
    pid: int


class Runtime:
    """One runtime with one state directory."""

    def __init__(self, program: Path, root: Path) -> None:
        self.program = program
        self.root = root

    def _argv(self, *arguments: str) -> list[str]:
        return [str(self.program), "--root", str(self.root), *arguments]

    async def _run(self, verb: str, *arguments: str, input: bytes = b"") -> Completed:  # noqa: A002 -- as in run
        with trio.move_on_after(_MOST_SECONDS):
            return await self._run_to_the_end([*self._argv(verb), *arguments], input=input)
        raise Unavailable(
            f"{self.program.name} {verb} did not end in {_MOST_SECONDS:g} s, and was killed", hint="try again"
        )

    async def _run_to_the_end(
        self,
        argv: Sequence[str],
        *,
        input: bytes = b"",  # noqa: A002 -- as in run
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        try:
            return await run(argv, input=input, env=env)
        except OSError as error:  # somebody removes or upgrades it just now, or there are too many processes
            raise self.not_executed(error) from None

    def not_executed(self, error: OSError) -> FailedPrecondition:
        """What to say where the runtime, or a monitor that is to run it, could not be executed."""
        why = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        if which(str(self.program)) is None:
            why = f"there is no program {self.program} any more"
        return FailedPrecondition(f"the runtime cannot be executed: {why}", hint="ross doctor tells what this host has")

    async def start(self, container_id: str, process: ProcessIdentity) -> None:
        """Let the first process of a created container begin.

        Raises:
            FailedPrecondition: it cannot; ``reason`` says so if the program is at fault.
        """
        if await let_begin(self.root / container_id, process):
            return
        done = await self._run("start", container_id)
        if done.returncode != 0:
            raise runtime_error(_text(done), what="start")

    async def delete(self, container_id: str, *, group: str | None = None) -> bool:
        """Forget a container, ending whatever is left of it; one that is not known is fine.

        Args:
            container_id: Which.
            group: Its control group, if that is for us to remove.

        Returns:
            Whether it is known that nothing of that group is left.

        Raises:
            Internal: it could not.
        """
        if group is not None and await forget(self.root / container_id, group):
            return True
        done = await self._run("delete", "--force", container_id)
        if done.returncode != 0 and (self.root / container_id).exists():
            raise Internal(f"{self.program.name} cannot delete the container {container_id[:12]}: {_text(done)[:300]}")
        return False

    async def pause(self, container_id: str) -> None:
        """Freeze the processes of a running container.

        Raises:
            FailedPrecondition: it cannot.
            Unavailable: the runtime hangs.
        """
        attempts = _FREEZE_ATTEMPTS
        while attempts:
            attempts -= 1
            try:
                await self._control("pause", container_id)
            except FailedPrecondition as error:
                # On a busy host it may lose the race with what begins processes, on version 1 of control groups.
                if not attempts or _NOT_FROZEN not in error.message:
                    raise
            else:
                return

    async def resume(self, container_id: str) -> None:
        """Let the processes of a paused container go on.

        Raises:
            FailedPrecondition: it cannot.
        """
        await self._control("resume", container_id)

    async def update(self, container_id: str, resources: dict[str, Any]) -> None:
        """Change the limits of a container that lives.

        Args:
            container_id: Which.
            resources: As in its config (runtime-spec, config-linux.md, "Control groups"); what is left out stays.

        Raises:
            FailedPrecondition: it cannot.
        """
        done = await self._run("update", "--resources", "-", container_id, input=json.dumps(resources).encode())
        if done.returncode != 0:
            raise runtime_error(_text(done), what="update")

    async def checkpoint(self, container_id: str, *, images: Path, work: Path, flags: Sequence[str]) -> None:
        """Have CRIU write the processes of a running container to files. Cancelled, the runtime is ended, and CRIU is not.

        Args:
            container_id: Which.
            images: Where the files go.
            work: Where CRIU's log goes.
            flags: More that the runtime is told.

        Raises:
            FailedPrecondition: it could not.
        """
        argv = self._argv("checkpoint", "--image-path", str(images), "--work-path", str(work), *flags, container_id)
        done = await self._run_to_the_end(argv, env=environment())
        if done.returncode != 0:
            raise runtime_error(_text(done), what="checkpoint")

    async def _control(self, verb: str, container_id: str) -> None:
        done = await self._run(verb, container_id)
        if done.returncode != 0:
            raise runtime_error(_text(done), what=verb)

    async def state(self, container_id: str) -> RuntimeState | None:
        """What the runtime knows; None if it knows nothing, or nothing that can be read."""
        if not (self.root / container_id).exists():
            return None  # of a thousand containers that are at rest it need not be asked
        done = await self._run("state", container_id)
        if done.returncode != 0:
            return None
        try:
            document: Any = json.loads(done.stdout)
            return RuntimeState(id=str(document["id"]), status=str(document["status"]), pid=int(document["pid"]))
        except (ValueError, KeyError, TypeError):
            return None

    def known(self) -> tuple[str, ...]:
        """The containers in the state directory, whole or not."""
        try:
            return tuple(path.name for path in self.root.iterdir())
        except FileNotFoundError:
            return ()


def _text(done: Completed) -> str:
    return done.stderr.decode(errors="replace").strip() or f"{done.argv[0]} {done.how}"


def runtime_error(text: str, *, what: str) -> RossError:
    """A failure of the runtime as an error of ours: its own words, without their wrapping.

    Args:
        text: What it printed, or the monitor read from it.
        what: What was tried, as the runtime calls it: ``create``, ``start``, ``pause``, ...
    """
    messages = [message.replace('\\"', '"').replace("\\\\", "\\") for message in _MESSAGE.findall(text)]
    message = (messages[-1] if messages else text.strip().splitlines()[-1] if text.strip() else "no reason given")[:500]
    short = message.rsplit("container process: ", 1)[-1]
    if "exec" in message or "container process" in message:
        if any(sign in message for sign in _NOT_FOUND):
            return FailedPrecondition(f"the program cannot be found: {short}", reason=Reason.COMMAND_NOT_FOUND)
        if any(sign in message for sign in _NOT_EXECUTABLE):
            return FailedPrecondition(f"the program cannot be executed: {short}", reason=Reason.COMMAND_NOT_EXECUTABLE)
    return FailedPrecondition(f"the runtime could not {what} the container: {message}")
