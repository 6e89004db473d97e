"""What is executed in one container beside its first process: beginning it, and finding again what an earlier daemon has begun.

How an exec has ended is kept in memory, for those who hold it and for a while.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

from ross.errors import FailedPrecondition, RossError
from ross.linux.files import make_directory
from ross.model.containers import AttachOptions, ContainerState, Pace
from ross.oci.codec import read_record
from ross.services.attachment import Attachment
from ross.services.exec import Exec, ExecRecord
from ross.services.names import make_id
from ross.shim.exec_process import Surroundings, validate_exec
from ross.shim.handed import NOTHING, Handed
from ross.shim.state import ALIVE, check_alive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ross.layout import ExecLayout
    from ross.model.execs import ExecOptions
    from ross.services.containers import Parts
    from ross.services.running import RunnableContainer
    from ross.shim.attach import Sink

_KEPT: Final = 32
"""So many execs of a container are remembered when they have ended."""


class Execs:
    """The execs of one container."""

    def __init__(self, parts: Parts, container: RunnableContainer) -> None:
        self._parts = parts
        self._container = container
        self._running: dict[str, Exec] = {}
        self._ended: deque[Exec] = deque(maxlen=_KEPT)

    def list(self) -> tuple[Exec, ...]:
        """Those that run, and the last ones that have ended; the oldest first."""
        return (*self._ended, *(one for one in self._running.values() if one.listed))

    async def begin(
        self,
        options: ExecOptions,
        *,
        stdout: Sink | None,
        stderr: Sink | None,
        handed: Handed = NOTHING,
        listed: bool = True,
    ) -> tuple[Exec, Attachment | None]:
        """Execute something. Cancelled, or failed, nothing of it is left. Whoever begins it holds it, and is to let go of it.

        Args:
            options: What.
            stdout: Takes its output.
            stderr: Takes its error output.
            handed: Descriptors that it is given, streams in the place of both; they stay the caller's.
            listed: Whether others are to see it, in lists and events.

        Raises:
            InvalidArgument: something of the options is not allowed.
            FailedPrecondition: it cannot be executed; for a program that is missing ``reason`` says so.
            Unavailable: the runtime hangs.
        """
        validate_exec(options)
        handed.check()
        await self._container.checkpoints.over()
        name, state = self._container.record.name, self._container.state
        check_alive(name, state)
        if state not in ALIVE or state is ContainerState.PAUSED:
            verb = "unpause" if state is ContainerState.PAUSED else "start"
            raise FailedPrecondition(
                f"the container {name} is {state.value}: nothing can be executed in it",
                hint=f"first: ross {verb} {name}",
            )
        record = ExecRecord(id=make_id(), container=self._container.id, options=options, started_at=time.time_ns())
        begun = Exec(self._parts, self._container, record)
        begun.listed = listed
        begun.hold()  # others find it from here on, and let go of it, before whoever begins it has heard of it
        attachment: Attachment | None = None
        if not handed.stdio and (stdout is not None or stderr is not None or options.stdin):
            streams = AttachOptions(
                stdin=options.stdin, stdout=stdout is not None, stderr=stderr is not None, pace=Pace.BLOCK
            )
            attachment = Attachment(begun, streams, stdout, stderr)
            begun.pending.add(attachment)
        own = handed.duplicate()
        try:
            self._add(begun)
            await begun.launch(self._surroundings(), handed=own)
        finally:
            own.close()
        return begun, attachment

    def _surroundings(self) -> Surroundings:
        container = self._container
        image_env = container.image.config.execution.env if container.image is not None else None
        return Surroundings(
            layout=container.layout,
            declared_env=(*(image_env or ()), *container.record.spec.env),
            privileged=container.record.spec.privileged,
            users=container.record.spec.namespaces.users,
            host=self._parts.host,
        )

    def _add(self, one: Exec) -> None:
        self._running[one.record.id] = one

        async def forget() -> None:
            await one.ended.wait()
            del self._running[one.record.id]
            if one.listed and not one.failed:
                self._ended.append(one)

        self._container.spawn(forget, name=f"record of the {one.title}")

    def adopt(self, record: ExecRecord) -> None:
        """Take over what an earlier daemon has begun."""
        one = Exec(self._parts, self._container, record)
        self._add(one)
        one.adopt()

    def runs_any(self) -> bool:
        """Whether somebody has something executed; the engine's own checks do not count."""
        return any(one.listed and not one.has_ended() for one in self._running.values())

    async def all_ended(self) -> None:
        """Wait until none runs any more. With the container's first process all others end."""
        for one in tuple(self._running.values()):
            await one.ended.wait()


def recover_execs(parts: Parts, containers: Mapping[str, RunnableContainer]) -> list[ExecLayout]:
    """Let each container take over the execs that an earlier daemon has begun in it.

    Returns:
        Those that nobody owns, or of which no record can be read, to be ended.
    """
    forsaken = []
    make_directory(parts.runtime_layout.execs)
    for directory in sorted(parts.runtime_layout.execs.iterdir()):
        layout = parts.runtime_layout.exec(directory.name)
        try:
            record = read_record(layout.record.read_bytes(), ExecRecord, what="exec record")
        except (OSError, RossError):
            forsaken.append(layout)
            continue
        owner = containers.get(record.container)
        if owner is None or owner.record.run is None:
            forsaken.append(layout)
        else:
            owner.execs.adopt(record)
    return forsaken
