"""Removing images: one by a name, those that are unwanted, and whatever nothing references any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ross.errors import FailedPrecondition
from ross.model.images import RemovedImages
from ross.services.tags import is_keeper

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ross.model.images import ImageInfo
    from ross.oci.digest import Digest
    from ross.oci.reference import Reference
    from ross.services.collector import Collector
    from ross.services.image import Image
    from ross.services.images import Images, ImageUser
    from ross.services.store import ContentStore
    from ross.services.tags import TagRecord


class Remover:
    """Takes names away from images, and has collected what goes with the last of them."""

    def __init__(self, *, images: Images, store: ContentStore, collector: Collector) -> None:
        self._images = images
        self._tags = images.tags
        self._store = store
        self._collector = collector

    async def remove(self, name: str, *, force: bool) -> RemovedImages:
        """Take a name away, or by id all of them; with the last name the image goes, and what nothing else references.

        As in Docker: what was forced leaves the image to the containers that use it. One that runs has it kept without a name.

        Raises:
            NotFound: there is no such image.
            FailedPrecondition: a container uses it, or it was named by id and has several names; ``force`` is not given, or does not help:
                by id, while a container that runs uses it.
        """
        image, reference, _target = self._images.resolve(name)
        by_id = reference is None or is_keeper(reference)
        changes: dict[Reference, TagRecord | None] = {}
        changes.update({reference: None} if reference is not None else self._tags.without(image.digest))
        nameless = self._tags.nameless_after(changes) if changes else (image.digest,)
        users = [user for digest in nameless for user in self._images.used_by(digest)]
        _check(name, self._tags.of(image.digest) if by_id else (), users, by_id=by_id, force=force)
        untagged = self._untag(image, changes)
        if any(user.runs for user in users):
            self._images.keep_nameless(image.target, nameless)
        self._images.forget_unused()
        dropped, freed = await self._drop(nameless)
        removed = await self._collector.collect()
        return RemovedImages(
            untagged=untagged,
            deleted=dropped + removed.deleted,
            freed_bytes=freed + removed.freed_bytes,
            used_by=tuple(user.name for user in users),
        )

    def _untag(self, image: Image, changes: Mapping[Reference, TagRecord | None]) -> tuple[str, ...]:
        """Let names denote less, or nothing any more. Returns those."""
        untagged: list[str] = []
        with self._store.space.room_to_remove():
            for known, record in changes.items():
                self._tags.change(known, record)
                if record is None and not is_keeper(known):
                    untagged.append(str(known))
                    image.publish("untag", str(known))
        return tuple(untagged)

    async def _drop(self, manifests: Iterable[Digest]) -> tuple[tuple[Digest, ...], int]:
        """Remove manifests that an index would keep although nobody wants their platform any more."""
        dropped, freed = [], 0
        for digest in manifests:
            if digest not in self._collector.roots() and self._store.find_manifest(digest) is not None:
                freed += await self._store.remove_manifest(digest)
                dropped.append(digest)
        return tuple(dropped), freed

    async def prune(self, unwanted: Callable[[ImageInfo], bool]) -> RemovedImages:
        """Remove the images that are unwanted and that nobody uses, then what nothing references, and what is left of downloads."""
        doomed = [
            image for image in self._images.known() if not self._images.used_by(image.digest) and unwanted(image.info)
        ]
        untagged = [name for image in doomed for name in self._untag(image, self._tags.without(image.digest))]
        self._images.forget_unused()
        dropped, freed = await self._drop(image.digest for image in doomed)
        removed = await self.collect()
        return RemovedImages(
            untagged=tuple(untagged), deleted=dropped + removed.deleted, freed_bytes=freed + removed.freed_bytes
        )

    async def collect(self) -> RemovedImages:
        """Remove what nothing references, and what was downloaded in part and not gone on with."""
        self._images.forget_unused()
        removed = await self._collector.collect()
        freed = await self._store.ingests.expire(older_than_seconds=0)
        return RemovedImages(untagged=(), deleted=removed.deleted, freed_bytes=removed.freed_bytes + freed)


def _check(name: str, names: Sequence[Reference], users: Sequence[ImageUser], *, by_id: bool, force: bool) -> None:
    """In Docker's order."""
    running = [user.name for user in users if user.runs]
    if by_id and running:
        raise FailedPrecondition(
            f"the image {name} is in use by the container {', '.join(running)}, which runs: that cannot be forced",
            hint=f"remove it first: ross rm -f {running[0]}",
        )
    if len(names) > 1 and not force:
        raise FailedPrecondition(
            f"the image {name} has several names: {', '.join(known.familiar for known in names)}",
            hint="remove it by each name, or all at once with --force",
        )
    if users and not force:
        first = users[0]
        raise FailedPrecondition(
            f"the image {name} is in use by the container {', '.join(user.name for user in users)}",
            hint=f"remove it first: ross rm {'-f ' if first.runs else ''}{first.name}; or have it lose its names only, with --force",
        )
