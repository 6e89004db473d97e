"""Checkpoints: the processes of a container as files, from which they go on later."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class CheckpointOptions:
    """How to make one."""

    keep: bool = False
    """Keep what CRIU has logged and counted beside the images."""
    leave_running: bool = False
    """Let the container go on behind it."""
    tcp_established: bool = False
    """Take connections of TCP too that are established."""
    file_locks: bool = False
    """Take locks of files too."""


@frozen(kw_only=True)
class RestoreOptions:
    """How to let a container go on from one."""

    keep: bool = False
    """Keep the checkpoint, so that it can be restored from again, and what CRIU has logged and counted."""
    tcp_established: bool = False
    """Restore connections of TCP that were established; necessary where there are some."""
    file_locks: bool = False
    """Restore locks of files; necessary where there are some."""


@frozen(kw_only=True)
class CheckpointInfo:
    """The one that a container has."""

    made_at: int
    path: str
    """Where it is on the engine's host. It has all that was in memory, and is root's only."""
    log_path: str = ""
    """What CRIU said while it made it; empty if that was not kept."""
    restore_log_path: str = ""
    """The same of the last restore from it."""
