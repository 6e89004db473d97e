"""Where the control group of a container is, and how the runtime is told: by its path, or as a scope that systemd makes.

Without a parent of its own a container is below ``/ross``, or in ``ross.slice``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from attrs import frozen

from ross.errors import FailedPrecondition, InvalidArgument

CGROUPFS: Final = "cgroupfs"
SYSTEMD: Final = "systemd"
_PARENT: Final = {CGROUPFS: "/ross", SYSTEMD: "ross.slice"}
_PREFIX: Final = "ross"
_BOOTED: Final = Path("/run/systemd/system")
"""There if systemd is the init of this host (sd_booted(3))."""
_PATH: Final = re.compile(r"/?[^/\0\n]+(/[^/\0\n]+)*/?\Z")
_SLICE: Final = re.compile(r"[a-zA-Z0-9_.@\\]+(-[a-zA-Z0-9_.@\\]+)*\.slice\Z", re.ASCII)
_MOST_CHARACTERS: Final = 255


@frozen(kw_only=True)
class Groups:
    """The control groups of this engine's containers."""

    manager: str = CGROUPFS

    @property
    def by_systemd(self) -> bool:
        """Whether systemd makes them, and removes each when its last process has ended."""
        return self.manager == SYSTEMD

    def check_parent(self, parent: str) -> None:
        """Check what a container wants its group to be in; empty for the usual.

        Raises:
            InvalidArgument: it is none, or could lead out of the hierarchy.
        """
        if not parent:
            return
        if self.by_systemd:
            if not _SLICE.match(parent) or len(parent) > _MOST_CHARACTERS:
                raise InvalidArgument(
                    f"the parent {parent[:300]!r} of a control group is no slice",
                    hint="systemd makes the groups here: write the name of a slice, such as web.slice",
                )
            return
        parts = parent.strip("/").split("/")
        if not _PATH.match(parent) or {"..", "."} & set(parts) or max(map(len, parts)) > _MOST_CHARACTERS:
            raise InvalidArgument(
                f"the parent {parent[:300]!r} of a control group is no path of one", hint="write /web, or /web/front"
            )

    def path(self, container_id: str, parent: str = "") -> str:
        """The group of a container, from the root of each hierarchy."""
        parent = parent or _PARENT[self.manager]
        if self.by_systemd:
            return f"{_directory_of(parent)}/{_PREFIX}-{container_id}.scope"
        return f"/{parent.strip('/')}/{container_id}"

    def for_runtime(self, container_id: str, parent: str = "") -> str:
        """The same as a runtime config has it (runtime-spec, config-linux.md, "Cgroups Path")."""
        if self.by_systemd:
            return f"{parent or _PARENT[SYSTEMD]}:{_PREFIX}:{container_id}"
        return self.path(container_id, parent)


def make_groups(manager: str) -> Groups:
    """The groups, by a manager that is there.

    Raises:
        FailedPrecondition: systemd is to make them, and is not the init of this host.
    """
    if manager == SYSTEMD and not _BOOTED.is_dir():
        raise FailedPrecondition(
            "systemd is to make the control groups, and it does not run here", hint="set cgroup_manager to cgroupfs"
        )
    return Groups(manager=manager)


def usual_paths(container_id: str) -> tuple[str, ...]:
    """Where the group of a container is that nothing else is known of."""
    return tuple(Groups(manager=manager).path(container_id) for manager in _PARENT)


def _directory_of(slice_name: str) -> str:
    """A slice is in those that its name begins with: ``a-b.slice`` is ``/a.slice/a-b.slice`` (systemd.slice(5))."""
    words = slice_name.removesuffix(".slice").split("-")
    return "".join(f"/{'-'.join(words[: count + 1])}.slice" for count in range(len(words)))
