"""Removing what nobody uses: containers that do not run, images that no container is made of, and what is left of downloads."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ross.errors import RossError
from ross.model.containers import ContainerFilter
from ross.model.images import ImageInfo, RemovedImages
from ross.model.storage import Pruned, PruneOptions
from ross.services.filters import has_label
from ross.services.usage import AT_REST

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ross.services.containers import Containers
    from ross.services.events import Events
    from ross.services.remover import Remover
    from ross.services.usage import Usage

logger = logging.getLogger(__name__)


class Pruner:
    """Prunes."""

    def __init__(self, *, remover: Remover, containers: Containers, usage: Usage, events: Events) -> None:
        self._remover = remover
        self._containers = containers
        self._usage = usage
        self._events = events

    async def prune(self, options: PruneOptions) -> Pruned:
        """Remove what nobody uses, containers first: what they were made of may be unused then. Of images those without a name, or all.

        What cannot be removed, or is used again meanwhile, stays; the rest goes.
        """
        containers: list[str] = []
        freed = 0
        if options.containers:
            for info in self._containers.list(ContainerFilter(all=True)):
                if info.state in AT_REST and _fits(options, info.created_at, info.spec.labels):
                    size = await self._usage.measure_container(info.id)
                    if await self._remove(info.id):
                        containers.append(info.id)
                        freed += size
            self._events.publish("container", "prune", subject="", reclaimed=str(freed))
        removed = RemovedImages(untagged=(), deleted=(), freed_bytes=0)
        if options.images:

            def unwanted(image: ImageInfo) -> bool:
                return (options.all or not image.names) and _fits(options, image.created_at, image.labels)

            removed = await self._remover.prune(unwanted)
            self._events.publish("image", "prune", subject="", reclaimed=str(removed.freed_bytes))
        return Pruned(
            containers=tuple(containers),
            untagged=removed.untagged,
            deleted=removed.deleted,
            freed_bytes=freed + removed.freed_bytes,
        )

    async def _remove(self, container_id: str) -> bool:
        try:
            await self._containers.get(container_id).remove(force=False)
        except RossError as error:
            logger.info("the container %s is not pruned: %s", container_id[:12], error)
            return False
        return True


def _fits(options: PruneOptions, created_at: int, labels: Mapping[str, str]) -> bool:
    return (
        (not options.until or created_at < options.until)
        and all(has_label(labels, text) for text in options.labels)
        and not any(has_label(labels, text) for text in options.without_labels)
    )
