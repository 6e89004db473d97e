"""Images: pulling, finding, and making containers of them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Unpack
from uuid import uuid4

import anyio

from ross.client.connection import Pending, all_of, answer
from ross.client.containers import Container
from ross.client.processes import Completed
from ross.client.receive import BytesReceiver, ProgressReceiver, receiving
from ross.client.sending import send_and_finish
from ross.client.specs import CreateOptions, make_spec, parse_format, parse_platform, shared_of
from ross.errors import InvalidArgument, RossError
from ross.model.archives import ImportOptions, LoadedImage, LoadOptions, SaveOptions
from ross.model.images import (
    BlobProgress,
    History,
    ImageFilter,
    ImageInfo,
    PullOptions,
    PushedImage,
    PushOptions,
    Referrer,
    RemovedImages,
)
from ross.wire.convert import from_wire, to_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from ross.client.connection import Session
    from ross.model.containers import ContainerSpec
    from ross.model.registries import Notice

_CANCELLED_SECONDS: Final = 10.0
"""So long a run that is cancelled while its container is created waits for the daemon to remove that."""
_BESIDE_A_SPEC: Final = frozenset({"pid", "ipc", "volumes_from", "mount_fds"})
"""Options that may hand something over, which no spec can."""


class Image:
    """One image, which stays what it is when its name moves on. As long as it is held, its content stays in the store."""

    def __init__(self, session: Session, capability: Any) -> None:
        self._session = session
        self._capability = capability

    async def info(self) -> ImageInfo:
        """What it is."""
        return from_wire(ImageInfo, (await answer(self._capability.info())).info)

    async def config(self) -> bytes:
        """Its config, byte for byte: JSON."""
        return bytes((await answer(self._capability.config())).config)

    async def manifest(self) -> bytes:
        """Its manifest, byte for byte: JSON."""
        return bytes((await answer(self._capability.manifest())).manifest)

    async def history(self) -> tuple[History, ...]:
        """How it was made, the last step first."""
        found = (await answer(self._capability.history())).history
        return tuple(from_wire(History, step) for step in found)

    async def tag(self, reference: str) -> None:
        """Let a name denote it, and no longer what it denoted: ``await image.tag("host/app:2")``.

        Raises:
            InvalidArgument: the name is none.
        """
        await answer(self._capability.tag(reference))

    async def referrers(self, repository: str = "", *, artifact_type: str = "") -> tuple[Referrer, ...]:
        """What its registry has that is about it, by the registry's word: signatures, SBOMs, attestations.

        Args:
            repository: A name of it, whose registry is asked; the first that it has if empty.
            artifact_type: Only those of this type; all if empty.

        Raises:
            FailedPrecondition: it has no name.
            RossError: whatever the registry fails with.
        """
        found = (await answer(self._capability.referrers(repository, artifact_type))).referrers
        return tuple(from_wire(Referrer, one) for one in found)

    async def push(
        self,
        reference: str,
        *,
        manifest_only: bool = False,
        on_progress: Callable[[BlobProgress], None] | None = None,
        on_notice: Callable[[Notice], None] | None = None,
    ) -> PushedImage:
        """Let a name of a registry denote it: ``await image.push("host/app:2")``. It needs no such name here.

        Args:
            reference: With the registry; the tag is ``latest`` if absent.
            manifest_only: Only this image, where it was got as part of an index; else the whole index is pushed.
            on_progress: Told of each blob's progress.
            on_notice: Told what the registry has to say.

        Raises:
            FailedPrecondition: a part of the index is neither here nor at the registry, or the registry refuses something.
            Unauthenticated: the registry wants credentials.
            Denied: they do not suffice.
            RossError: whatever else the registry fails with.
        """
        options = PushOptions(manifest_only=manifest_only)
        arguments: dict[str, Any] = {"reference": reference, "options": to_wire(options)}
        if on_progress is not None or on_notice is not None:
            arguments["progress"] = ProgressReceiver(on_progress, on_notice)
        return from_wire(PushedImage, (await answer(self._capability.push(**arguments))).pushed)

    def create(
        self,
        args: Sequence[str] = (),
        *,
        spec: ContainerSpec | None = None,
        replace: bool = False,
        key: str = "",
        **options: Unpack[CreateOptions],
    ) -> Pending[Container]:
        """Make a container, not started: ``await image.create(["true"], network="none")``.

        Args:
            args: The command; the image's own if empty.
            spec: Everything at once, in the place of ``args`` and ``options``, but for what they hand over.
            replace: Remove the container that has the name first, also if it runs.
            key: Creating again with the same key gives the container that the key has made, so that it is safe to try again.
            options: As the flags of ``ross run``; see :class:`~ross.client.specs.CreateOptions`.

        Raises:
            InvalidArgument: something of it is not allowed.
            AlreadyExists: the name is taken.
        """
        wanted = spec if spec is not None else make_spec(args, options)
        if spec is not None and (args or options.keys() - _BESIDE_A_SPEC):
            raise InvalidArgument(
                "a whole spec was given, and options beside it",
                hint="say everything in the spec: attrs.evolve(spec, ...)",
            )
        arguments = {"spec": to_wire(wanted), "mode": {"replace": replace, "key": key}}
        if shared := shared_of(options, self._session):
            arguments["shared"] = shared
        call = self._capability.create(**arguments)
        return Pending(call, lambda answered: Container(self._session, self._session.hold(answered.container)))

    async def run(self, args: Sequence[str] = (), **options: Unpack[CreateOptions]) -> Completed:
        """Create, run to the end, remove; the output comes back whole.

        Raises:
            FailedPrecondition: it cannot be started.
        """
        container = await self._create_to_run(args, options)
        try:
            done = await self._run(container)
        except BaseException as error:
            await _discard_because_of(error, container)
            raise
        await container.discard()
        return done

    async def _create_to_run(self, args: Sequence[str], options: CreateOptions) -> Container:
        """Create one; who is cancelled meanwhile does not know whether it was, and asks by a key for what there is to be removed."""
        key = uuid4().hex
        try:
            return await self.create(args, key=key, **options)
        except Exception:
            raise
        except BaseException:
            with anyio.move_on_after(_CANCELLED_SECONDS, shield=True), suppress(RossError):
                await (await self.create(args, key=key, **options)).discard()
            raise

    async def _run(self, container: Container) -> Completed:
        stdout, stderr = bytearray(), bytearray()

        async def keep_out(data: bytes) -> None:
            stdout.extend(data)

        async def keep_err(data: bytes) -> None:
            stderr.extend(data)

        process = await container.attach(stdout=keep_out, stderr=keep_err, pace="block")
        await container.start()
        outcome = await process.wait()
        return Completed(outcome=outcome, stdout=bytes(stdout), stderr=bytes(stderr))


async def _discard_because_of(error: BaseException, container: Container) -> None:
    """Remove a container whose run has failed with ``error``, which then says so if it could not be removed."""
    try:
        await container.discard()
    except RossError as left:
        error.add_note(f"and its container may be left: {left}")


class Images:
    """The images of a daemon."""

    def __init__(self, session: Session, capability: Any) -> None:
        self._session = session
        self._capability = capability

    def pull(
        self,
        reference: str,
        *,
        platform: str | None = None,
        on_progress: Callable[[BlobProgress], None] | None = None,
        on_notice: Callable[[Notice], None] | None = None,
    ) -> Pending[Image]:
        """Fetch and unpack what is missing of an image: ``image = await engine.images.pull("alpine")``.

        Args:
            reference: As people type it.
            platform: ``os/architecture[/variant]``; the daemon's own if absent.
            on_progress: Told of each layer's progress.
            on_notice: Told what the registry has to say: warnings, and how much one may still pull.

        Raises:
            NotFound: there is no such image.
            RossError: whatever the registry, the store or the image fails with.
        """
        options = PullOptions(platform=parse_platform(platform) if platform else None)
        arguments: dict[str, Any] = {"reference": reference, "options": to_wire(options)}
        if on_progress is not None or on_notice is not None:
            arguments["progress"] = ProgressReceiver(on_progress, on_notice)
        return Pending(self._capability.pull(**arguments), self._image)

    def get(self, name: str, *, platform: str | None = None) -> Pending[Image]:
        """An image of the store, by reference, digest, id or a unique beginning of one.

        Args:
            name: Any of them.
            platform: ``os/architecture[/variant]``, where the name has several here; else the daemon's own, or the last pulled.

        Raises:
            NotFound: there is none.
        """
        wanted = () if platform is None else (to_wire(parse_platform(platform)),)
        return Pending(self._capability.get(name, *wanted), self._image)

    async def list(self, wanted: ImageFilter | None = None) -> tuple[ImageInfo, ...]:
        """The images that fit, the newest first; all if there is no filter.

        Raises:
            NotFound: the filter names an image that there is none of.
        """
        call = self._capability.list(filter=to_wire(wanted or ImageFilter(all=True)))
        return await all_of(call, ImageInfo, "images")

    async def untag(self, name: str, names: Sequence[str] = ()) -> tuple[str, ...]:
        """Take names away from an image, all if none is given; nothing is deleted before the next collection. Returns them.

        Raises:
            NotFound: there is no such image, or one of the names is not its.
        """
        return tuple((await answer(self._capability.untag(name, list(names)))).untagged)

    async def remove(self, name: str, *, force: bool = False) -> RemovedImages:
        """Take a name away; with the last name the image goes, and what nothing else references.

        Raises:
            NotFound: there is no such image.
            FailedPrecondition: a container uses it.
        """
        return from_wire(RemovedImages, (await answer(self._capability.remove(name, force))).removed)

    def save(
        self,
        *names: str,
        format: str = "",  # noqa: A002 -- the flag's name
        platform: str | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """An archive of images: ``async with engine.images.save("alpine") as chunks: async for chunk in chunks: ...``

        Args:
            names: References, which also stand in the archive; or digests or ids, and then nothing does.
            format: ``oci-archive`` or ``docker-archive``; an archive that is both if empty.
            platform: ``os/architecture[/variant]``, for the one image of a name; what the name denotes if absent.

        Raises:
            NotFound: there is no such image; in the iteration, as everything that fails.
            Corrupt: something of it is damaged; what has come is of no use.
        """
        options = SaveOptions(format=parse_format(format), platform=parse_platform(platform) if platform else None)
        return receiving(
            lambda sink: self._capability.save(names=list(names), options=to_wire(options), sink=sink),
            BytesReceiver,
            buffered=4,
        )

    async def load(
        self,
        source: AsyncIterable[bytes],
        *,
        platform: str | None = None,
        on_progress: Callable[[BlobProgress], None] | None = None,
    ) -> tuple[LoadedImage, ...]:
        """Take in the images of an archive: an OCI layout or Docker's form, as a tar that may be compressed.

        Args:
            source: The archive, in pieces of any size.
            platform: Where there is a choice; the daemon's own, or the only one there is, if absent.
            on_progress: Told of each layer's progress.

        Raises:
            InvalidArgument: it is no archive of images, or ``source`` ended before its end.
            Corrupt: something of it is not what it should be. No name is set.
        """
        options = LoadOptions(platform=parse_platform(platform) if platform else None)
        call = self._capability.load(options=to_wire(options), **_progress(on_progress))
        return await all_of(send_and_finish(call, source), LoadedImage, "loaded")

    async def import_filesystem(
        self,
        source: AsyncIterable[bytes],
        name: str = "",
        *,
        changes: Sequence[str] = (),
        message: str = "",
        platform: str | None = None,
        on_progress: Callable[[BlobProgress], None] | None = None,
    ) -> LoadedImage:
        """Make an image with one layer of a tar of a root filesystem.

        Args:
            source: The tar, which may be compressed, in pieces of any size.
            name: Of the image; it is kept by its digest if empty.
            changes: Instructions of a Dockerfile that change its config: ``CMD ["/bin/sh"]``.
            message: Stands in its history.
            platform: ``os/architecture[/variant]``; the daemon's own if absent.
            on_progress: Told of the layer's progress.

        Raises:
            InvalidArgument: the name or a change is none.
            Corrupt: the tar is damaged or hostile.
        """
        options = ImportOptions(
            name=name,
            changes=tuple(changes),
            message=message,
            platform=parse_platform(platform) if platform else None,
        )
        call = self._capability.importFilesystem(options=to_wire(options), **_progress(on_progress))
        (loaded,) = await all_of(send_and_finish(call, source), LoadedImage, "loaded")
        return loaded

    def _image(self, answered: Any) -> Image:
        return Image(self._session, self._session.hold(answered.image))


def _progress(on_progress: Callable[[BlobProgress], None] | None) -> dict[str, Any]:
    return {"progress": ProgressReceiver(on_progress)} if on_progress is not None else {}
