"""Images and the registries of their names: pushing, and what a registry has that is about an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ross.errors import FailedPrecondition
from ross.model.images import PushedImage, Referrer
from ross.oci.reference import Reference
from ross.registry.notices import Notify, unheard
from ross.services.tags import nameable

if TYPE_CHECKING:
    from collections.abc import Callable

    from ross.model.images import BlobProgress, PushOptions
    from ross.oci.digest import Digest
    from ross.oci.image import Descriptor, Manifest
    from ross.registry.referrers import ReferrersClient
    from ross.services.image import Image
    from ross.services.pusher import Pusher
    from ross.services.tags import Tags


class Publisher:
    """Pushes images, and asks for their referrers."""

    def __init__(
        self,
        *,
        pusher: Pusher,
        referrers: ReferrersClient,
        tags: Tags,
        manifest: Callable[[Digest], Manifest],
    ) -> None:
        self._pusher = pusher
        self._referrers = referrers
        self._tags = tags
        self._manifest = manifest
        """The one with this digest, of an image that has a name."""

    async def push(
        self,
        image: Image,
        name: str,
        options: PushOptions,
        progress: Callable[[BlobProgress], None],
        notify: Notify = unheard,
    ) -> PushedImage:
        """Let a name of a registry denote an image.

        Args:
            image: The image.
            name: With the registry; it need not be a name of the image here.
            options: Whether the index goes along.
            progress: Told of each blob's progress.
            notify: Told what the registry has to say.

        Raises:
            InvalidArgument: the name is none, or has a digest in it.
            RossError: as :meth:`ross.services.pusher.Pusher.push`.
        """
        reference = nameable(name)
        target = image.digest if options.manifest_only else image.target
        mountable = self._mountable(reference)
        with image.hold() as pin:
            pushed = await self._pusher.push(
                reference, target, pin=pin, elsewhere=mountable.get, progress=progress, notify=notify
            )
        image.publish("push", str(reference))
        return PushedImage(name=str(reference), digest=pushed.digest, size_bytes=pushed.size)

    def _mountable(self, reference: Reference) -> dict[Digest, str]:
        """Which blobs the registry of a name probably has in another repository: those of images with a name there."""
        found: dict[Digest, str] = {}
        for other, record in self._tags.records():
            if other.host == reference.host and other.path != reference.path:
                for manifest in map(self._manifest, record.manifests):
                    found |= {blob.digest: other.path for blob in (manifest.config, *manifest.layers)}
        return found

    async def referrers(self, image: Image, repository: str, artifact_type: str) -> tuple[Referrer, ...]:
        """What its registry has that is about an image, or about the index that it was got as.

        Args:
            image: The image.
            repository: A name, whose registry and repository are asked; the image's first if empty.
            artifact_type: Only of this type; all if empty.

        Raises:
            FailedPrecondition: it has no name, and none was given.
            RossError: as :meth:`ross.registry.referrers.ReferrersClient.referrers`.
        """
        names = [Reference.parse(repository)] if repository else list(self._tags.of(image.digest))
        if not names:
            raise FailedPrecondition(
                f"the image {image.digest.short} has no name that says where to ask for its referrers"
            )
        found = [
            _referrer(subject, descriptor)
            for subject in dict.fromkeys((image.target, image.digest))
            for descriptor in await self._referrers.referrers(names[0], subject)
        ]
        return tuple(one for one in found if artifact_type in {"", one.artifact_type})


def _referrer(subject: Digest, descriptor: Descriptor) -> Referrer:
    return Referrer(
        subject=subject,
        digest=descriptor.digest,
        media_type=descriptor.media_type,
        artifact_type=descriptor.artifact_type,
        size_bytes=descriptor.size,
        annotations=descriptor.annotations or {},
    )
