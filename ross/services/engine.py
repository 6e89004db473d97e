"""The engine as a whole: who it is, what it runs on, what it is doing, and how it is asked to stop."""

from __future__ import annotations

import logging
import os
import time
from importlib.metadata import version as distribution_version
from typing import TYPE_CHECKING, Final

from attrs import frozen

from ross.linux.host import read_host
from ross.model.containers import ContainerFilter, ContainerState
from ross.model.engine import EngineInfo, Role, TaskInfo, VersionInfo
from ross.nursery.introspect import task_tree
from ross.services.snapshots import Snapshots

if TYPE_CHECKING:
    from collections.abc import Callable

    from ross.model.images import RemovedImages
    from ross.services.archives.service import Archives
    from ross.services.containers import Containers
    from ross.services.content import Content
    from ross.services.events import Events
    from ross.services.images import Images
    from ross.services.registries import Registries
    from ross.services.remover import Remover
    from ross.services.snapshotter import Snapshotter
    from ross.services.storage import Storage
    from ross.settings import Settings

logger = logging.getLogger(__name__)

VERSION: Final = distribution_version("ross-engine")
PROTOCOL: Final = 1
"""Rises when the schema gains a method or a field."""
FEATURES: Final = (
    "archives",
    "attach",
    "bindMounts",
    "checkpoints",
    "events",
    "fdPassing",
    "followLogs",
    "history",
    "platforms",
    "push",
    "referrers",
    "registryLogin",
    "resumablePulls",
    "snapshots",
    "tags",
)
"""What a client may rely on; asked for by name, never found out by trying."""

_RUNNING: Final = frozenset({ContainerState.RUNNING, ContainerState.PAUSED, ContainerState.STOPPING})


@frozen(kw_only=True)
class Programs:
    """The programs of the host that the engine drives, and their versions as they print them."""

    runtime: str
    runtime_version: str
    monitor: str
    monitor_version: str


class Engine:
    """What the daemon's services are together. Made by the composition root; capabilities hold it."""

    def __init__(
        self,
        *,
        settings: Settings,
        programs: Programs,
        images: Images,
        remover: Remover,
        archives: Archives,
        containers: Containers,
        registries: Registries,
        snapshotter: Snapshotter,
        storage: Storage,
        content: Content,
        events: Events,
        request_stop: Callable[[], None],
    ) -> None:
        self.images = images
        self.remover = remover
        self.archives = archives
        self.containers = containers
        self.registries = registries
        self.storage = storage
        self.content = content
        self.snapshots = Snapshots(snapshotter)
        self.events = events
        self._settings = settings
        self._programs = programs
        self._snapshotter = snapshotter
        self._request_stop = request_stop
        self._started_at = time.time_ns()

    def version(self, role: Role) -> VersionInfo:
        """Who answers, to a peer that has ``role``."""
        return version_info(role)

    def info(self) -> EngineInfo:
        """The engine and its host. Never waits for a container."""
        host = read_host()
        containers = self.containers.list(ContainerFilter(all=True))
        return EngineInfo(
            version=VERSION,
            root=str(self._settings.root),
            run=str(self._settings.run),
            pid=os.getpid(),
            started_at=self._started_at,
            runtime=self._programs.runtime,
            runtime_version=self._programs.runtime_version,
            monitor=self._programs.monitor,
            monitor_version=self._programs.monitor_version,
            kernel=host.kernel,
            architecture=host.architecture,
            operating_system=host.operating_system,
            hostname=host.hostname,
            cpus=host.cpus,
            memory_bytes=host.memory_bytes,
            cgroup_version=host.cgroup_version,
            images=len(self.images.list()),
            containers=len(containers),
            containers_running=sum(container.state in _RUNNING for container in containers),
            snapshots=len(self._snapshotter.list()),
            cgroup_manager=self._settings.cgroup_manager,
        )

    def tasks(self) -> tuple[TaskInfo, ...]:
        """The live task tree of this process."""
        return tuple(
            TaskInfo(name=node.name, depth=node.depth, waiting_at=node.waiting_at) for node in task_tree("ross")
        )

    async def collect(self) -> RemovedImages:
        """Remove what nothing references."""
        return await self.remover.collect()

    def shutdown(self) -> None:
        """Begin an orderly shutdown; containers keep running."""
        logger.info("a client asked for a shutdown")
        self._request_stop()


def version_info(role: Role) -> VersionInfo:
    """The answer to ``version()`` for a peer that has ``role``."""
    return VersionInfo(version=VERSION, protocol=PROTOCOL, features=FEATURES, role=role)
