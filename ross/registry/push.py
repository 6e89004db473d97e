"""Pushing to a registry (distribution-spec, "Pushing"): blobs as uploads that can go on after a drop, then manifests.

Whoever begins an upload ends it: with the whole blob, or by a ``DELETE``, so that no registry is left with half of one.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from ross.registry.exchanges import PushExchanges
from ross.registry.notices import Notices, Notify
from ross.registry.refusals import check_digest, refusal
from ross.registry.retry import Backoff, RetryPolicy, Transient
from ross.registry.uploads import Chunking, Uploader, UploadLostError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ross.oci.digest import Digest
    from ross.oci.image import Descriptor
    from ross.oci.reference import Reference
    from ross.registry.session import RegistrySession
    from ross.registry.uploads import ReadAt


class Sent(Enum):
    """How a blob got to the registry."""

    UPLOADED = "uploaded"
    MOUNTED = "mounted"
    EXISTED = "existed"


class RegistryPusher:
    """Pushes to all registries."""

    def __init__(
        self,
        session: RegistrySession,
        *,
        policy: RetryPolicy | None = None,
        chunking: Chunking | None = None,
        notices: Notices | None = None,
    ) -> None:
        self._session = session
        self._policy = policy or RetryPolicy()
        self._exchanges = PushExchanges(session, policy=self._policy, notices=notices)
        self._chunking = chunking or Chunking()

    def telling(self, notify: Notify) -> RegistryPusher:
        """The same, for one push: ``notify`` is told what the registry has to say."""
        notices = Notices(notify)
        return RegistryPusher(self._session, policy=self._policy, chunking=self._chunking, notices=notices)

    # -- what is there ------------------------------------------------------------------------------------------------

    async def has_blob(self, repository: Reference, digest: Digest) -> bool:
        """The registry has the blob, in this repository.

        Raises:
            As :meth:`put_manifest`.
        """
        return await self._has(repository, f"blobs/{digest}")

    async def has_manifest(self, repository: Reference, digest: Digest, *, media_type: str) -> bool:
        """The registry has the manifest, in this repository.

        Raises:
            As :meth:`put_manifest`.
        """
        return await self._has(repository, f"manifests/{digest}", headers={"Accept": media_type})

    async def _has(self, repository: Reference, path: str, *, headers: Mapping[str, str] | None = None) -> bool:
        async def ask() -> bool:
            async with self._exchanges.request(repository, "HEAD", path, headers=headers) as response:
                if response.status_code not in {200, 404}:
                    raise await refusal(response, repository)
                return response.status_code == 200

        return await self._exchanges.retried(ask, what=f"looking for {path}")

    # -- manifests ----------------------------------------------------------------------------------------------------

    async def put_manifest(self, reference: Reference, media_type: str, data: bytes, digest: Digest) -> None:
        """Let a tag of the registry, or the manifest's own digest, denote a manifest.

        Args:
            reference: With the tag or the digest.
            media_type: Of the manifest.
            data: The manifest, byte for byte.
            digest: What it hashes to.

        Raises:
            Unauthenticated: the registry wants credentials.
            Denied: it does not let us push there, or it leads where it must not.
            NotFound: it has no such repository and makes none.
            FailedPrecondition: it refuses the manifest.
            Unavailable: it does not answer.
            Corrupt: it took the manifest for another.
        """
        path = f"manifests/{reference.digest or reference.tag}"

        async def put() -> None:
            headers = {"Content-Type": media_type}
            async with self._exchanges.request(reference, "PUT", path, headers=headers, content=data) as response:
                if response.status_code not in {200, 201, 202, 204}:
                    raise await refusal(response, reference)
                check_digest(response, digest, reference)

        await self._exchanges.retried(put, what=f"pushing the manifest of {reference}")

    # -- blobs --------------------------------------------------------------------------------------------------------

    async def put_blob(
        self,
        repository: Reference,
        descriptor: Descriptor,
        read: ReadAt,
        *,
        mount_from: str | None,
        report: Callable[[int], None],
    ) -> Sent:
        """See that the registry has a blob: because it has it already, by a mount from another repository, or by an upload.

        Cancelling ends the upload that is under way.

        Args:
            repository: Where it is to be; the tag does not matter.
            descriptor: Of the blob.
            read: The blob's bytes.
            mount_from: Another repository of the same registry that probably has it.
            report: Told how many bytes the registry has.

        Raises:
            As :meth:`put_manifest`.
            Corrupt: the registry says that the bytes are not what the digest promises.
        """
        if await self.has_blob(repository, descriptor.digest):
            return Sent.EXISTED
        uploader = Uploader(self._exchanges, self._chunking, repository, descriptor, read, report)
        upload = await uploader.begin(mount_from)
        if upload is None:
            return Sent.MOUNTED
        backoff = Backoff(self._policy)
        furthest = 0
        try:
            while True:
                try:
                    await uploader.send(upload)
                    return Sent.UPLOADED
                except Transient as error:
                    if upload.offset > furthest:
                        furthest = upload.offset
                        backoff.progressed()
                    await backoff.wait(error, what=uploader.what)
                    known = await uploader.find_out(upload)
                except UploadLostError:
                    await backoff.wait(
                        Transient(f"the registry {repository.host} has lost the upload"), what=uploader.what
                    )
                    known = False
                if not known:
                    if await self.has_blob(repository, descriptor.digest):
                        return Sent.UPLOADED  # only the answer was lost
                    await uploader.abandon(upload)
                    upload = await uploader.begin_again()
                report(upload.offset)
        except BaseException:
            await uploader.abandon(upload)  # noqa: ASYNC120 -- bounded and shielded
            raise
