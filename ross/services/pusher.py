"""From content in the store to a registry: blobs side by side, then manifests, the one that the tag will denote last.

What the registry has is not sent; what it has in another repository of ours is mounted from there. Every document goes as it came, byte for
byte. A push that fails or is cancelled leaves blobs in the registry, which belong to nothing, and no tag.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

import trio
from attrs import define, field, frozen

from ross.errors import Corrupt, FailedPrecondition, NotFound
from ross.model.images import BlobProgress, PullPhase
from ross.oci import media_types
from ross.oci.digest import Digest
from ross.oci.image import Descriptor, Index, Manifest, parse_manifest
from ross.oci.reference import Reference
from ross.registry.notices import Notify, unheard
from ross.registry.push import Sent
from ross.services.failures import first_error
from ross.services.pins import Pin

if TYPE_CHECKING:
    from ross.registry.push import RegistryPusher
    from ross.services.store import ContentStore

Report = Callable[[BlobProgress], None]
FindRepository = Callable[[Digest], str | None]
"""Another repository of the same registry that probably has a blob."""

MAX_INDEX_DEPTH: Final = 4
_NAMED_MISSING: Final = 8
_PHASES: Final = {
    Sent.UPLOADED: PullPhase.DONE,
    Sent.MOUNTED: PullPhase.MOUNTED,
    Sent.EXISTED: PullPhase.EXISTS,
}


@frozen(kw_only=True)
class _Document:
    """A manifest or index, to be pushed byte for byte."""

    digest: Digest
    media_type: str
    data: bytes


@define
class _Plan:
    """What belongs to a push."""

    pin: Pin
    documents: list[_Document] = field(factory=list)
    """Each behind what it lists; the last one is the target."""
    blobs: dict[Digest, Descriptor] = field(factory=dict)
    absent: dict[Digest, Descriptor] = field(factory=dict)
    """Manifests that an index lists and that are not here."""


class Pusher:
    """Pushes images."""

    def __init__(self, *, registry: RegistryPusher, store: ContentStore, max_uploads: int = 4) -> None:
        self._registry = registry
        self._store = store
        self._uploads = trio.CapacityLimiter(max_uploads)

    async def push(
        self,
        reference: Reference,
        target: Digest,
        *,
        pin: Pin,
        elsewhere: FindRepository,
        progress: Report,
        notify: Notify = unheard,
    ) -> Descriptor:
        """Let a name of a registry denote what is in the store.

        Args:
            reference: With a tag.
            target: A manifest, or an index, of which all that is here is pushed.
            pin: Gets every document: an index does not keep what is removed of it.
            elsewhere: Where a blob could be mounted from.
            progress: Told of each blob's progress.
            notify: Told what the registry has to say.

        Raises:
            FailedPrecondition: the index lists manifests that are neither here nor there; or the registry refuses something.
            NotFound: some content is neither here nor there; or the registry has no such repository.
            Unauthenticated, Denied, Unavailable, Corrupt: the registry.
        """
        plan, registry = _Plan(pin), self._registry.telling(notify)
        await self._collect(plan, target, "", depth=0)
        for descriptor in plan.blobs.values():
            _report(progress, descriptor, PullPhase.WAITING, 0)
        await _check_absent(registry, reference, plan)
        try:
            async with trio.open_nursery() as nursery:
                for descriptor in sorted(plan.blobs.values(), key=lambda one: -one.size):
                    nursery.start_soon(self._push_blob, registry, reference, descriptor, elsewhere, progress)
        except ExceptionGroup as group:
            # Blobs fail side by side; whoever pushes is told of one. A group with a cancellation in it is not caught here.
            raise first_error(group) from None
        for document in plan.documents:
            last = document is plan.documents[-1]
            where = reference if last else Reference(reference.host, reference.path, None, document.digest)
            await registry.put_manifest(where, document.media_type, document.data, document.digest)
        return Descriptor(media_type=plan.documents[-1].media_type, digest=target, size=len(plan.documents[-1].data))

    # -- what belongs to it -------------------------------------------------------------------------------------------

    async def _collect(self, plan: _Plan, digest: Digest, media_type: str, *, depth: int) -> None:
        if any(document.digest == digest for document in plan.documents):
            return
        if depth == MAX_INDEX_DEPTH:
            raise Corrupt(f"the index {digest.short} is one of indexes of indexes, deeper than {MAX_INDEX_DEPTH}")
        plan.pin.add(digest)
        data = await self._store.read_manifest(digest)
        what = f"manifest {digest.short}"
        document = parse_manifest(data, content_type=media_type or None, what=what)
        if isinstance(document, Manifest):
            plan.blobs |= {blob.digest: blob for blob in _blobs(document)}
        else:
            await self._collect_index(plan, document, depth=depth)
        own = media_types.OCI_MANIFEST if isinstance(document, Manifest) else media_types.OCI_INDEX
        kind = document.media_type or media_type or own
        plan.documents.append(_Document(digest=digest, media_type=kind, data=data))

    async def _collect_index(self, plan: _Plan, index: Index, *, depth: int) -> None:
        for child in index.manifests:
            plan.pin.add(child.digest)  # before it is looked for
            if self._store.find_manifest(child.digest) is not None:
                await self._collect(plan, child.digest, child.media_type, depth=depth + 1)
            else:
                plan.absent[child.digest] = child

    # -- blobs --------------------------------------------------------------------------------------------------------

    async def _push_blob(
        self,
        registry: RegistryPusher,
        reference: Reference,
        descriptor: Descriptor,
        elsewhere: FindRepository,
        progress: Report,
    ) -> None:
        async with self._uploads:
            if self._store.find(descriptor.digest) is None:
                if not await registry.has_blob(reference, descriptor.digest):
                    raise NotFound(
                        f"{descriptor.digest} of {reference} is neither in the store nor at {reference.host}",
                        hint="pull the image again, and then push it",
                    )
                sent = Sent.EXISTED
            else:
                sent = await self._upload(registry, reference, descriptor, elsewhere, progress)
        _report(progress, descriptor, _PHASES[sent], descriptor.size)

    async def _upload(
        self,
        registry: RegistryPusher,
        reference: Reference,
        descriptor: Descriptor,
        elsewhere: FindRepository,
        progress: Report,
    ) -> Sent:
        def report(offset: int) -> None:
            _report(progress, descriptor, PullPhase.UPLOADING, offset)

        fd = os.open(self._store.path(descriptor.digest), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:

            async def read(offset: int, size: int) -> bytes:
                return await trio.to_thread.run_sync(os.pread, fd, size, offset)

            return await registry.put_blob(
                reference, descriptor, read, mount_from=elsewhere(descriptor.digest), report=report
            )
        finally:
            os.close(fd)


async def _check_absent(registry: RegistryPusher, reference: Reference, plan: _Plan) -> None:
    names: list[str] = []
    for child in plan.absent.values():
        if not await registry.has_manifest(reference, child.digest, media_type=child.media_type):
            names.append(str(child.platform or child.digest.short))
        if len(names) > _NAMED_MISSING:
            break
    if not names:
        return
    more = ", ..." if len(names) > _NAMED_MISSING else ""
    raise FailedPrecondition(
        f"{reference} is an index of which some is neither here nor at {reference.host}: {', '.join(names[:_NAMED_MISSING])}{more}",
        hint="pull those too, each with --platform; or push what is here for one platform only, with --platform",
    )


def _blobs(manifest: Manifest) -> Iterator[Descriptor]:
    yield manifest.config
    for layer in manifest.layers:
        if layer.media_type not in media_types.NONDISTRIBUTABLE:  # which is all that this kind of layer is about
            yield layer


def _report(progress: Report, descriptor: Descriptor, phase: PullPhase, current: int) -> None:
    progress(BlobProgress(digest=descriptor.digest, phase=phase, current_bytes=current, total_bytes=descriptor.size))
