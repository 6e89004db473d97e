"""Whose the run directory is: at most one daemon's at a time, the root's whose containers run, and of this boot.

A daemon ends, at its start, whatever runs in its run directory and is in no record of its root. So one with another root must not begin in
a run directory where the containers of the first one run, and the default of ``--run`` is the same for every root. What is noted there of
processes is true in one boot only: where a run directory outlives a reboot, their numbers are anybody's.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from attrs import frozen

from ross.errors import Corrupt, FailedPrecondition
from ross.linux.files import remove_or_leave, write_atomic
from ross.oci.codec import read_record, write_record
from ross.services.records import boot_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ross.layout import RuntimeLayout, StateLayout

logger = logging.getLogger(__name__)


@frozen(kw_only=True)
class OwnerRecord:
    """Which root: its path may become another, and another root may come to its path."""

    root: str
    device: int
    inode: int
    boot: str


def own_run_directory(state: StateLayout, runtime: RuntimeLayout) -> None:
    """Note that the run directory is this root's, and remove what an earlier boot has left there. For the one daemon that holds both.

    Raises:
        FailedPrecondition: containers run there that are another root's; or it cannot be noted.
    """
    found = state.root.stat()
    ours = OwnerRecord(root=str(state.root), device=found.st_dev, inode=found.st_ino, boot=boot_id())
    noted = _read(runtime)
    if noted == ours:
        return
    if noted is not None and noted.boot != ours.boot:
        for directory in (runtime.runtime_root, runtime.monitors, runtime.execs):
            for left in tuple(directory.iterdir()):
                remove_or_leave(left)
    elif noted is not None and (noted.device, noted.inode) != (ours.device, ours.inode):
        stranger = next((name for name in _known(runtime) if not state.container(name).directory.exists()), None)
        if stranger is not None:
            raise FailedPrecondition(
                f"the run directory {runtime.run} has containers of another root, {noted.root}, such as {stranger[:12]}",
                hint=f"start the daemon with --root {noted.root}, or give this root a run directory of its own with --run; "
                f"to have those containers ended, remove {runtime.owner}",
            )
    try:
        write_atomic(runtime.owner, write_record(ours), sync=False)
    except OSError as error:
        raise FailedPrecondition(f"{runtime.owner} cannot be written: {error.strerror}") from None


def _known(runtime: RuntimeLayout) -> Iterator[str]:
    """The ids of the containers of which there is something."""
    for directory in (runtime.runtime_root, runtime.monitors, runtime.exits):
        yield from (path.name for path in directory.iterdir())


def _read(runtime: RuntimeLayout) -> OwnerRecord | None:
    try:
        return read_record(runtime.owner.read_bytes(), OwnerRecord, what="the owner of the run directory")
    except FileNotFoundError:
        return None
    except (Corrupt, OSError) as error:
        logger.warning("%s cannot be read: %s", runtime.owner, error)
        return None
