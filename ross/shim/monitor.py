"""conmon, the monitor of one container: its parent, holder of its terminal or pipes, writer of its log and of its exit code.

It outlives us. We reach it by files: ``attach`` (a socket) and ``ctl`` (a fifo) in the bundle, pid files in a directory of its own,
and the exit file that it writes last (conmon(8)).
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio
from attrs import frozen

from ross.errors import FailedPrecondition, Unavailable
from ross.linux.files import make_directory, remove_tree
from ross.linux.pidfd import ProcessIdentity, identify
from ross.linux.process import NO_STDIO, spawn_and_forget
from ross.model.logs import LogDriver
from ross.shim.conmon import answered_pid, read_answer
from ross.shim.criu import RESTORE_LOG, criu_error, flags_of
from ross.shim.handed import NOTHING, Handed, pipe_above, preserving
from ross.shim.journal import check_journal
from ross.shim.process_table import id_after, running
from ross.shim.runtime import environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ross.layout import ContainerLayout, RuntimeLayout
    from ross.model.containers import ContainerSpec
    from ross.model.logs import LogConfig
    from ross.shim.criu import Restoring
    from ross.shim.runtime import Runtime

_RUNTIME_LOG: Final = "runtime.log"


@frozen(kw_only=True)
class Launched:
    """A container that the runtime has created and not started, with its monitor."""

    process: ProcessIdentity
    monitor: ProcessIdentity


@frozen(kw_only=True)
class Exit:
    """How a container's process ended, as the monitor wrote it."""

    status: int
    """Its exit code, or 128 + signal."""
    finished_at: int
    """Nanoseconds since the epoch."""
    oom: bool


class Monitor:
    """Launches monitors and reads what they leave."""

    def __init__(self, program: Path, runtime: Runtime, layout: RuntimeLayout, *, systemd_groups: bool = False) -> None:
        self.program = program
        self._systemd_groups = systemd_groups
        self._runtime = runtime
        self._layout = layout

    def _argv(
        self, container_id: str, bundle: ContainerLayout, spec: ContainerSpec, restoring: Restoring | None
    ) -> list[str]:
        directory = self._layout.monitor(container_id)
        return [
            str(self.program),
            "--api-version", "1",
            "--cid", container_id,
            "--cuuid", container_id,
            f"--name={spec.name if spec.log.driver is LogDriver.JOURNALD else container_id}",
            "--runtime", str(self._runtime.program),
            "--runtime-arg", "--root",
            "--runtime-arg", str(self._runtime.root),
            # What it warns of would else stand in the container's log; why it fails it says to the monitor all the same.
            "--runtime-arg", "--log",
            "--runtime-arg", str(directory / _RUNTIME_LOG),
            *(["--systemd-cgroup"] if self._systemd_groups else []),
            "--bundle", str(bundle.bundle),
            "--container-pidfile", str(directory / "pid"),
            "--conmon-pidfile", str(directory / "monitor.pid"),
            "--exit-dir", str(self._layout.exits),
            "--full-attach",
            *_log(bundle, spec),
            "--log-level", "error",
            "--no-sync-log",
            *([] if spec.log.driver is LogDriver.PASSTHROUGH else _streams(spec)),
            *(_restore(restoring) if restoring is not None else []),
        ]  # fmt: skip

    def check_log(self, log: LogConfig) -> None:
        """Check that what a container prints can be kept here as it is wanted.

        Raises:
            FailedPrecondition: it cannot.
        """
        if log.driver is LogDriver.JOURNALD:  # a monitor would take what cannot be sent for written
            check_journal(self.program)

    async def launch(
        self,
        container_id: str,
        bundle: ContainerLayout,
        spec: ContainerSpec,
        *,
        handed: Handed = NOTHING,
        restoring: Restoring | None = None,
    ) -> Launched:
        """Start a monitor, which has the runtime create the container, or go on with it.

        Args:
            container_id: Which.
            bundle: Where its bundle is.
            spec: What its user wants.
            handed: What its process is given; where its log driver is passthrough and no streams are, the null device.
            restoring: What it is to go on from; it runs then when this returns.

        Raises:
            FailedPrecondition: the runtime could not, in its words; or there is no journal to log to.
            Unavailable: somebody has ended the monitor, the runtime or the process.
            Internal: the monitor failed.
        """
        self.check_log(spec.log)
        self.forget(container_id)
        make_directory(self._layout.monitor(container_id))
        read_end, write_end = pipe_above()
        try:
            try:
                await spawn_and_forget(
                    [*self._argv(container_id, bundle, spec, restoring), *preserving(handed.fds)],
                    env={**environment(), "_OCI_SYNCPIPE": str(write_end)},
                    cwd=bundle.bundle,
                    pass_fds=(write_end,),
                    stdio=handed.stdio or NO_STDIO,
                    behind=handed.fds,
                )
            except OSError as error:
                raise self._runtime.not_executed(error) from None
            finally:
                os.close(write_end)
            answer = await read_answer(read_end)
        finally:
            os.close(read_end)
        try:
            pid = answered_pid(answer, what="create" if restoring is None else "restore")
        except FailedPrecondition as error:
            raise (error if restoring is None else criu_error(error, bundle.bundle / RESTORE_LOG)) from None
        process, monitor = identify(pid), self.pid_of_monitor(container_id)
        if process is None or monitor is None:
            raise Unavailable(
                f"the container {container_id[:12]} or its monitor was ended before it was started", hint="try again"
            )
        return Launched(process=process, monitor=monitor)

    def pid_of_monitor(self, container_id: str) -> ProcessIdentity | None:
        """The monitor that wrote its pid, if it still runs."""
        try:
            return identify(int((self._layout.monitor(container_id) / "monitor.pid").read_text()))
        except (OSError, ValueError):
            return None

    def launched_at(self, container_id: str) -> int:
        """When the process of a container was made, in nanoseconds since the epoch; now, if nobody knows any more."""
        try:
            return (self._layout.monitor(container_id) / "pid").stat().st_mtime_ns
        except OSError:
            return time.time_ns()

    def exit_of(self, container_id: str, bundle: ContainerLayout) -> Exit | None:
        """What the monitor wrote at the end; None if it has not."""
        path = self._layout.exits / container_id
        try:
            status, written = int(path.read_text()), path.stat().st_mtime_ns
        except (OSError, ValueError):
            return None
        return Exit(status=status & 0xFF, finished_at=written, oom=(bundle.bundle / "oom").exists())

    def forget(self, container_id: str) -> None:
        """Remove what monitors have left beside the bundle."""
        (self._layout.exits / container_id).unlink(missing_ok=True)
        remove_tree(
            self._layout.monitor(container_id)
        )  # one that was killed may have left files that it had not named yet

    def left_behind(self) -> set[str]:
        """The ids of all containers of which a monitor has left something."""
        found: set[str] = set()
        for directory in (self._layout.exits, self._layout.monitors):
            if directory.exists():
                found |= {path.name for path in directory.iterdir()}
        return found

    def running(self) -> dict[str, ProcessIdentity]:
        """The monitors of this run directory that run now, by container; from the process table, whatever they wrote."""
        found: dict[str, ProcessIdentity] = {}
        for pid, argv in self._monitors():
            identity, container_id = identify(pid), id_after("--cid", argv)
            if identity is not None and container_id:
                found[container_id] = identity
        return found

    def _monitors(self) -> Iterator[tuple[int, list[str]]]:
        return running(self.program, about=str(self._layout.exits))

    def _runtimes(self) -> Iterator[tuple[int, list[str]]]:
        """A monitor is none, although it names the same root, and any program may run where the runtime is a script."""
        found = running(self._runtime.program, about=str(self._runtime.root))
        return ((pid, argv) for pid, argv in found if str(self._layout.exits) not in argv)

    def is_forsaken(self, container_id: str) -> bool:
        """Whether a container's monitor is there, and no runtime: it waits for a word of one that somebody has killed."""
        if any(container_id in argv for _pid, argv in self._runtimes()):
            return False
        return any(container_id in argv for _pid, argv in self._monitors())

    def abandon(self, container_id: str) -> None:
        """End a launch that hangs: the monitor, and the runtime that it has started."""
        for pid, argv in chain(self._monitors(), self._runtimes()):
            if container_id in argv:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    async def settle(self, *, seconds: float) -> None:
        """Wait until no runtime of an earlier daemon is in the middle of something; after so long, end those that are."""
        with trio.move_on_after(seconds):
            while self._busy_runtimes():  # noqa: ASYNC110 -- they are not our children: there is nothing to wait on
                await trio.sleep(0.02)
            return
        for pid in self._busy_runtimes():
            identity = identify(pid)
            if identity is not None:
                os.kill(identity.pid, signal.SIGKILL)

    def _busy_runtimes(self) -> list[int]:
        verbs = {"create", "start", "delete", "exec", "checkpoint", "restore"}
        return [pid for pid, argv in self._runtimes() if verbs & set(argv)]


def _log(bundle: ContainerLayout, spec: ContainerSpec) -> list[str]:
    driver = spec.log.driver
    tag = [f"--log-tag={spec.log.tag}"] if spec.log.tag else []
    return ["--log-path", f"k8s-file:{bundle.log}" if driver is LogDriver.FILE else driver.value, *tag]


def _restore(restoring: Restoring) -> list[str]:
    options = [word for flag in flags_of(restoring.options) for word in ("--runtime-opt", flag)]
    return ["--restore", str(restoring.images), *options]


def _streams(spec: ContainerSpec) -> list[str]:
    # With a terminal its input is always there; else a pipe only if somebody may want to write to it.
    kept = ["--leave-stdin-open"] if spec.stdin_kept else []
    return (["--terminal"] if spec.terminal else ["--stdin"] if spec.stdin_open else []) + kept
