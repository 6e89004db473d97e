"""Containers: what is asked for, what there is, how it ended."""

from __future__ import annotations

from enum import Enum
from typing import Final

from attrs import evolve, field, frozen

from ross.model.checkpoints import CheckpointInfo
from ross.model.health import HealthCheck, HealthInfo, HealthState
from ross.model.limits import Limits, Resources
from ross.model.logs import LogConfig
from ross.model.mounts import Mount
from ross.model.namespaces import Namespaces, Resolution
from ross.model.security import Security
from ross.oci.digest import Digest

_MOST_ARGUMENTS: Final = 8
_LONGEST_TEXT: Final = 1024
"""Of what an abridged description has."""


class ContainerState(Enum):
    """Where a container is in its life. Drawn in ``schema/ross.capnp``."""

    UNKNOWN = "unknown"
    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    """Its processes are frozen."""
    RESTARTING = "restarting"
    """It has ended, and its restart policy will start it again."""
    STOPPING = "stopping"
    STOPPED = "stopped"
    REMOVING = "removing"
    REMOVED = "removed"


class RestartMode(Enum):
    """When a container that has ended is started again."""

    UNKNOWN = "unknown"
    NO = "no"
    ON_FAILURE = "onFailure"
    """When it ended with another exit code than 0."""
    ALWAYS = "always"
    """Unless somebody stopped it; and when the daemon begins."""
    UNLESS_STOPPED = "unlessStopped"
    """As always; but one that somebody stopped stays so when the daemon begins."""


class WaitCondition(Enum):
    """What to wait for."""

    UNKNOWN = "unknown"
    NOT_RUNNING = "notRunning"
    """At once, if it has stopped; one that will be started again has not."""
    NEXT_EXIT = "nextExit"
    """The next end of its process, also if it is started again."""
    REMOVED = "removed"
    HEALTHY = "healthy"
    """Its health checks say that it is well. The outcome says nothing then."""


class Pace(Enum):
    """What becomes of a process's output while one of its readers is slow."""

    UNKNOWN = "unknown"
    LOG = "log"
    """The reader reads the log, as far behind as it likes: the process never waits, and nothing is lost that the log keeps."""
    DROP = "drop"
    """The process never waits; what the reader cannot take is left out, and it is told how much."""
    BLOCK = "block"
    """The process waits."""


class NetworkMode(Enum):
    """The networks a container can have today."""

    UNKNOWN = "unknown"
    NONE = "none"
    HOST = "host"


@frozen(kw_only=True)
class RestartPolicy:
    """Whether a container that has ended is started again. The pauses between grow from 0.1 s to a minute."""

    mode: RestartMode = RestartMode.NO
    max_retries: int = 0
    """With ``ON_FAILURE``: so often at most, counted from the last start by hand. 0: for ever."""

    def __str__(self) -> str:
        text = {RestartMode.ON_FAILURE: "on-failure", RestartMode.UNLESS_STOPPED: "unless-stopped"}.get(
            self.mode, self.mode.value
        )
        return f"{text}:{self.max_retries}" if self.max_retries else text


@frozen(kw_only=True)
class ContainerSpec:
    """What ``create`` may ask for. What is left at its default comes from the image, then from Ross."""

    name: str = ""
    """Empty: the engine makes one up."""
    args: tuple[str, ...] = ()
    """Replaces the image's command; follows the entrypoint."""
    entrypoint: tuple[str, ...] | None = None
    """Absent: the image's. Empty: none, and the image's command is dropped too (as Docker does)."""
    env: tuple[str, ...] = ()
    """``NAME=value``, or ``NAME`` to have no such variable; later ones win, and all win over the image's."""
    working_dir: str = ""
    user: str = ""
    hostname: str = ""
    terminal: bool = False
    stdin_open: bool = False
    stdin_kept: bool = False
    """The input stays open when whoever wrote to it has ended it or is gone. With a terminal it always does."""
    mounts: tuple[Mount, ...] = ()
    network: NetworkMode = NetworkMode.NONE
    read_only: bool = False
    privileged: bool = False
    init: bool = False
    """A small init is the first process, which reaps the others' children and hands signals on."""
    limits: Limits = field(factory=Limits)
    resources: Resources = field(factory=Resources)
    security: Security = field(factory=Security)
    namespaces: Namespaces = field(factory=Namespaces)
    resolution: Resolution = field(factory=Resolution)
    annotations: dict[str, str] = field(factory=dict)
    """For the runtime and its hooks. An image has no say in them."""
    labels: dict[str, str] = field(factory=dict)
    auto_remove: bool = False
    stop_signal: str = ""
    stop_grace_seconds: int = 10
    restart: RestartPolicy = RestartPolicy()
    log: LogConfig = field(factory=LogConfig)
    health: HealthCheck = field(factory=HealthCheck)


@frozen(kw_only=True)
class CreateMode:
    """How to create, beside what."""

    replace: bool = False
    """Remove the container that has the name first, also if it runs."""
    key: str = ""
    """Creating again with the same key gives the container that the key made, if that was asked for in the same way."""


@frozen(kw_only=True)
class ContainerUpdate:
    """What to change of a container, at once where it runs, and for its next runs."""

    limits: Limits = field(factory=Limits)
    restart: RestartPolicy | None = None


@frozen(kw_only=True)
class Outcome:
    """How a process ended. The shell's number is derived, never stored apart."""

    exit_code: int
    """0 to 255; for one that a signal ended, 128 + signal."""
    signal: int = 0
    """The signal that ended it, or 0."""
    oom: bool = False
    """The kernel killed a process of the container for want of memory."""
    error: str = ""
    """Why the engine could not run it or lost sight of it; empty for a process that ran and ended."""
    finished_at: int = 0
    checkpointed: bool = False
    """A checkpoint of it was made, from which it can go on: that has ended it."""


@frozen(kw_only=True)
class Bounds:
    """What keeps a container in, as its runtime is told: where the spec says nothing, what the engine has chosen."""

    pids_limit: int = 0
    """-1: unlimited."""
    masked_paths: tuple[str, ...] = ()
    read_only_paths: tuple[str, ...] = ()


@frozen(kw_only=True)
class ContainerInfo:
    """A container: the stored facts and the state last observed."""

    id: str
    name: str
    image: str
    """The reference or digest it was created from, as the user would type it."""
    image_id: Digest
    manifest: Digest
    spec: ContainerSpec
    command: tuple[str, ...]
    """What runs: entrypoint and arguments, merged."""
    state: ContainerState
    pid: int
    created_at: int
    started_at: int
    outcome: Outcome | None
    error: str
    """Why the last start failed, or why the container cannot be observed; empty otherwise."""
    error_code: int = 0
    """Of a last start that failed: 127 if the program is missing, 126 if it cannot be executed, 128 for what else; 0 otherwise."""
    log_path: str
    rootfs_path: str
    restart_count: int = 0
    """How often its restart policy has started it since somebody did."""
    written_bytes: int = -1
    """What is in the files that it has written to its root filesystem; -1 where nobody asked for it to be measured."""
    seccomp: str = ""
    """The digest of the system calls that it is allowed, as its runtime is told; empty if all are."""
    health: HealthInfo | None = None
    """Absent for one without health checks, and before its first start."""
    checkpoint: CheckpointInfo | None = None
    """What it can be restored from, while it does not run."""
    restored_at: int = 0
    """When its last run went on from a checkpoint; 0 for one that began at the beginning."""
    abridged: bool = False
    """Of its spec and its command only what is brief is there, since they are uncommonly long; ``Container.info`` tells all."""
    bounds: Bounds | None = None
    """Absent in lists."""

    def abridge(self) -> ContainerInfo:
        """The same, as short as it can be."""
        spec = self.spec
        return evolve(
            self,
            spec=ContainerSpec(
                name=spec.name,
                terminal=spec.terminal,
                stdin_open=spec.stdin_open,
                stdin_kept=spec.stdin_kept,
                network=spec.network,
                read_only=spec.read_only,
                privileged=spec.privileged,
                init=spec.init,
                auto_remove=spec.auto_remove,
                stop_grace_seconds=spec.stop_grace_seconds,
                restart=spec.restart,
            ),
            command=tuple(text[:_LONGEST_TEXT] for text in self.command[:_MOST_ARGUMENTS]),
            outcome=evolve(self.outcome, error=self.outcome.error[:_LONGEST_TEXT]) if self.outcome else None,
            error=self.error[:_LONGEST_TEXT],
            health=evolve(self.health, results=()) if self.health else None,
            abridged=True,
        )


@frozen(kw_only=True)
class ContainerFilter:
    """Which containers a list holds."""

    all: bool = False
    """False: only those that are starting, running, paused, restarting or stopping, unless ``states`` or ``exit_codes`` are given."""
    names: tuple[str, ...] = ()
    """Any of these is a part of its name."""
    ids: tuple[str, ...] = ()
    """Its id begins with any of these."""
    states: tuple[ContainerState, ...] = ()
    """It is in any of these."""
    exit_codes: tuple[int, ...] = ()
    """It has stopped with any of these."""
    labels: tuple[str, ...] = ()
    """It has all of these: ``key`` or ``key=value``."""
    ancestors: tuple[str, ...] = ()
    """It was made of any of these images: a name, digest or id."""
    before: str = ""
    """It was created before this container."""
    since: str = ""
    """It was created after this container."""
    last: int = 0
    """Only so many that were created last, in whatever state; 0: all."""
    sizes: bool = False
    """Measure what they have written; it costs a look at every file of theirs."""
    health: tuple[HealthState, ...] = ()
    """Its checks say any of these."""
    volumes: tuple[str, ...] = ()
    """Something is mounted in it that was asked for at any of these paths, or comes from there."""


@frozen(kw_only=True)
class AttachOptions:
    """Which streams of the init process to connect."""

    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    rows: int = 0
    columns: int = 0
    """The terminal's size to begin with; 0 leaves it as it is."""
    pace: Pace = Pace.LOG
    tail: int = 0
    """By the log: begin with the last so many lines that are there already; -1: with all of them."""
    since: int = 0
    """By the log: begin with what is not older than this, in nanoseconds since the epoch; ``tail`` is then of no effect."""
