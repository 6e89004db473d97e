"""``ross checkpoint`` and ``restore``."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ross.cli.lifecycle import for_each_container


def checkpoint(
    *container: str,
    keep: Annotated[bool, Parameter(name=["--keep", "-k"], negative=())] = False,
    leave_running: Annotated[bool, Parameter(name=["--leave-running", "-R"], negative=())] = False,
    tcp_established: Annotated[bool, Parameter(negative=())] = False,
    file_locks: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Write the processes of containers to files, and stop them: ross restore lets them go on. It takes CRIU.

    A checkpoint has all that was in memory. It stays on the engine's host, for root only, until the container is restored, checkpointed
    again, or removed. ross start begins at the beginning.

    Parameters
    ----------
    container
        Names or ids.
    keep
        Keep the log and the statistics of CRIU: ross inspect says where.
    leave_running
        Let the containers go on.
    tcp_established
        Take established connections of TCP too.
    file_locks
        Take locks of files too.
    """
    return for_each_container(
        container,
        lambda found: found.checkpoint(
            keep=keep, leave_running=leave_running, tcp_established=tcp_established, file_locks=file_locks
        ),
    )


def restore(
    *container: str,
    keep: Annotated[bool, Parameter(name=["--keep", "-k"], negative=())] = False,
    tcp_established: Annotated[bool, Parameter(negative=())] = False,
    file_locks: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Let containers go on from their checkpoints, with their files as they are now.

    Parameters
    ----------
    container
        Names or ids.
    keep
        Keep the checkpoint, to restore from it again, and the log and the statistics of CRIU.
    tcp_established
        Restore connections of TCP: necessary where some were checkpointed.
    file_locks
        Restore locks of files: necessary where some were checkpointed.
    """
    return for_each_container(
        container,
        lambda found: found.restore(keep=keep, tcp_established=tcp_established, file_locks=file_locks),
    )
