"""conmon as the monitor of a program that is executed in a running container: one each, outside of the container's control group.

What it holds and writes is in a directory of the exec's own (``ross.layout.ExecLayout``), by which it is found again after our death.
"""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import trio
from attrs import frozen

from ross.linux.files import make_directory, remove_tree, write_atomic
from ross.linux.pidfd import ProcessIdentity, identify, send_to
from ross.linux.process import NO_STDIO, spawn_and_forget
from ross.linux.processes import end_with_children
from ross.shim.conmon import answered_pid, ended_early, read_answer
from ross.shim.handed import pipe_above, preserving
from ross.shim.monitor import Exit
from ross.shim.process_table import running
from ross.shim.runtime import environment, runtime_error

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from ross.errors import RossError
    from ross.layout import ExecLayout
    from ross.shim.handed import Handed
    from ross.shim.runtime import Runtime


@frozen(kw_only=True)
class Executed:
    """Who runs; None for what has ended already, as a brief program has."""

    process: ProcessIdentity | None
    monitor: ProcessIdentity | None


class ExecMonitor:
    """Launches monitors of execs, and reads what they leave."""

    def __init__(self, program: Path, runtime: Runtime) -> None:
        self._program = program
        self._runtime = runtime

    async def launch(
        self,
        container_id: str,
        layout: ExecLayout,
        process: dict[str, Any],
        *,
        stdin: bool,
        handed: Handed,
        connect: Callable[[], Awaitable[None]],
    ) -> Executed:
        """Start a monitor, which has the runtime execute the process.

        Args:
            container_id: In which container.
            layout: The exec's directory, which exists.
            process: What to execute.
            stdin: Whether somebody may want to write to its input.
            handed: What it is given. Without streams the monitor makes some.
            connect: Called when the monitor can be attached to, and nothing has been executed yet; not where it is given streams.

        Raises:
            FailedPrecondition: the runtime could not; in its words.
            Unavailable: somebody has ended the monitor, or the runtime.
            Internal: the monitor failed.
        """
        make_directory(layout.exits)
        write_atomic(layout.process, json.dumps(process, separators=(",", ":")).encode(), sync=False)
        with _Pipes() as pipes:
            passing = bool(handed.stdio)
            argv = self._argv(container_id, layout, terminal=process["terminal"], stdin=stdin, passing=passing)
            variables = {"_OCI_SYNCPIPE": pipes.sync[1]}
            if not passing:
                # The monitor waits twice for a word of ours: before it does anything, and until we are attached.
                variables |= {"_OCI_STARTPIPE": pipes.start[0], "_OCI_ATTACHPIPE": pipes.attach[1]}
                os.write(pipes.start[1], b"1")
            try:
                await spawn_and_forget(
                    [*argv, *preserving(handed.fds)],
                    env=environment() | {name: str(fd) for name, fd in variables.items()},
                    cwd=layout.directory,
                    pass_fds=tuple(variables.values()),
                    stdio=handed.stdio or NO_STDIO,
                    behind=handed.fds,
                )
            except OSError as error:
                raise self._runtime.not_executed(error) from None
            pipes.close_theirs()
            if not passing and await read_answer(pipes.attach[0]):
                await connect()
                os.write(pipes.start[1], b"1")
            answer = await read_answer(pipes.sync[0])
        if not answer:
            raise self._failure(layout)
        pid = answered_pid(answer, what="exec")
        return Executed(process=identify(pid), monitor=self.monitor_of(layout))

    def _argv(self, container_id: str, layout: ExecLayout, *, terminal: bool, stdin: bool, passing: bool) -> list[str]:
        return [
            str(self._program),
            "--api-version", "1",
            "--exec",
            "--exec-process-spec", str(layout.process),
            "--cid", container_id,
            "--cuuid", container_id,
            "--runtime", str(self._runtime.program),
            *(f"--runtime-arg={word}" for word in ("--root", self._runtime.root, "--log", layout.runtime_log)),
            "--container-pidfile", str(layout.pid),
            "--conmon-pidfile", str(layout.monitor_pid),
            "--exit-dir", str(layout.exits),
            "--log-level", "error",
            "--no-sync-log",
            "--log-path", "passthrough" if passing else "none",
            *([] if passing else ["--exec-attach", "--full-attach", "--bundle", str(layout.directory)]),
            *(["--terminal"] if terminal else ["--stdin"] if stdin else []),
        ]  # fmt: skip

    def _failure(self, layout: ExecLayout) -> RossError:
        """Why nothing was executed, where the monitor says nothing."""
        try:
            text = layout.runtime_log.read_text(errors="replace")
        except FileNotFoundError:
            text = ""
        return runtime_error(text, what="exec") if text else ended_early("exec")

    def monitor_of(self, layout: ExecLayout) -> ProcessIdentity | None:
        """The exec's monitor, if it runs."""
        return _identify_in(layout.monitor_pid)

    def process_of(self, layout: ExecLayout) -> ProcessIdentity | None:
        """The exec's process, if the runtime has made it and it runs."""
        return _identify_in(layout.pid)

    def find_monitor(self, layout: ExecLayout) -> ProcessIdentity | None:
        """The exec's monitor, from the process table, whatever it wrote."""
        return next((identify(pid) for pid, _argv in running(self._program, about=str(layout.exits))), None)

    def exit_of(self, container_id: str, layout: ExecLayout) -> Exit | None:
        """What the monitor wrote at the end; None if it has not."""
        path = layout.exits / container_id
        try:
            status, written = int(path.read_text()), path.stat().st_mtime_ns
        except (OSError, ValueError):
            return None
        return Exit(status=status & 0xFF, finished_at=written, oom=False)

    async def abandon(self, layout: ExecLayout) -> None:
        """End what a launch has got to: the runtime, the process and the monitor; then remove the directory."""
        await trio.to_thread.run_sync(self._end_launch, layout)
        await trio.to_thread.run_sync(remove_tree, layout.directory)

    def _end_launch(self, layout: ExecLayout) -> None:
        """Blocks, for seconds at worst.

        The runtime may have made the process and not told anybody yet. While the monitor lives it adopts what the runtime leaves
        (PR_SET_CHILD_SUBREAPER), so it is stopped, that it begins nothing more, and ends last.
        """
        while (monitor := self.find_monitor(layout)) is not None:
            end_with_children(monitor)
        process = self.process_of(layout)
        if process is not None:
            send_to(process, signal.SIGKILL)


def _identify_in(path: Path) -> ProcessIdentity | None:
    try:
        return identify(int(path.read_text()))
    except (OSError, ValueError):
        return None


class _Pipes:
    """The three pipes between a monitor and us; nothing of them is open behind the block."""

    def __init__(self) -> None:
        self._open: set[int] = set()
        self.sync, self.start, self.attach = self._pipe(), self._pipe(), self._pipe()

    def _pipe(self) -> tuple[int, int]:
        ends = pipe_above()
        self._open.update(ends)
        return ends

    def close_theirs(self) -> None:
        """Close the ends that only the monitor is to have, so that its end is the end of what we read."""
        for fd in (self.sync[1], self.start[0], self.attach[1]):
            self._open.discard(fd)
            os.close(fd)

    def __enter__(self) -> _Pipes:
        return self

    def __exit__(self, *_details: object) -> None:
        for fd in self._open:
            os.close(fd)
