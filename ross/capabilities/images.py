"""``Images`` and ``Image``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ross.capabilities.containers import ContainerServer
from ross.capabilities.loading import FeedServer, Load, LoadingServer, Report
from ross.capabilities.pages import ImagePagesServer, Pages, say
from ross.capabilities.progress import open_progress
from ross.capabilities.sharing import shared_by
from ross.model.archives import ImportOptions, LoadedImage, LoadOptions, SaveOptions
from ross.model.containers import ContainerSpec, CreateMode
from ross.model.images import ImageFilter, ImageInfo, Platform, PullOptions, PushOptions
from ross.services.feed import Feed
from ross.wire.bytestream import ByteStreamSink
from ross.wire.convert import from_wire, to_wire
from ross.wire.schema import schema
from ross.wire.serving import Served

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ross.capabilities.session import Session
    from ross.services.engine import Engine
    from ross.services.image import Image

_PAGES: Final[Pages[ImageInfo]] = Pages("images", ImagePagesServer, say)
_INFO_BYTES: Final = 2 << 20
"""Beyond this an image tells of itself abridged. A config of 4 MiB in JSON may take 20 in a message, and seconds to get there."""


class ImagesServer(Served, schema.Images.Server):  # type: ignore[misc]  # the schema is loaded at run time
    """The image store, for one connection."""

    def __init__(self, engine: Engine, session: Session) -> None:
        self._engine = engine
        self._session = session

    async def pull_context(self, context: Any) -> None:
        params = context.params
        options = from_wire(PullOptions, params.options) if params._has("options") else PullOptions()  # noqa: SLF001 -- pycapnp's way to ask for a null pointer
        reference = str(params.reference)
        async with open_progress(params.progress if params._has("progress") else None) as report:  # noqa: SLF001
            # Held before anything else is waited for: it may lose its name at once.
            held = self._reference(await self._engine.images.pull(reference, options, report, report.notify))
        context.results.image = held

    async def get_context(self, context: Any) -> None:
        params = context.params
        platform = from_wire(Platform, params.platform) if params._has("platform") else None  # noqa: SLF001
        context.results.image = self._reference(self._engine.images.get(params.name, platform))

    async def list_context(self, context: Any) -> None:
        wanted = from_wire(ImageFilter, context.params.filter)
        _PAGES.answer(context.results, self._engine.images.list(wanted))

    async def remove_context(self, context: Any) -> None:
        removed = await self._engine.remover.remove(context.params.name, force=context.params.force)
        context.results.removed = to_wire(removed)

    async def untag_context(self, context: Any) -> None:
        context.results.untagged = self._engine.images.untag(context.params.name, tuple(context.params.names))

    async def save_context(self, context: Any) -> None:
        params = context.params
        options = from_wire(SaveOptions, params.options) if params._has("options") else SaveOptions()  # noqa: SLF001
        sink = ByteStreamSink(params.sink)
        await self._engine.archives.save(tuple(params.names), options, sink.write)
        await sink.done()

    async def load_context(self, context: Any) -> None:
        params = context.params
        options = from_wire(LoadOptions, params.options) if params._has("options") else LoadOptions()  # noqa: SLF001

        async def load(feed: Feed, report: Report) -> Sequence[LoadedImage]:
            return await self._engine.archives.load(feed, options, report)

        self._begin(context, load)

    async def importFilesystem_context(self, context: Any) -> None:  # noqa: N802 -- pycapnp's spelling
        params = context.params
        options = from_wire(ImportOptions, params.options) if params._has("options") else ImportOptions()  # noqa: SLF001

        async def load(feed: Feed, report: Report) -> Sequence[LoadedImage]:
            return [await self._engine.archives.import_filesystem(feed, options, report)]

        self._begin(context, load)

    def _begin(self, context: Any, load: Load) -> None:
        params = context.params
        feed = Feed(self._session)
        context.results.stream = FeedServer(feed, self._session)
        progress = params.progress if params._has("progress") else None  # noqa: SLF001
        context.results.loading = LoadingServer(feed, load, progress, self._session)

    def _reference(self, image: Image) -> ImageServer:
        return ImageServer(self._engine, self._session, image)


class ImageServer(Served, schema.Image.Server):  # type: ignore[misc]
    """One image; pins its content until it is dropped, or its connection ends."""

    def __init__(self, engine: Engine, session: Session, image: Image) -> None:
        self._engine = engine
        self._session = session
        self._image = image
        self._holding = session.hold(image.hold().release)

    def __del__(self) -> None:
        self._holding.release()

    async def info_context(self, context: Any) -> None:
        context.results.info = say(self._image.info, most_bytes=_INFO_BYTES).message

    async def create_context(self, context: Any) -> None:
        spec = from_wire(ContainerSpec, context.params.spec)
        mode = from_wire(CreateMode, context.params.mode)
        async with shared_by(context.params, self._session) as shared:
            container = await self._engine.containers.create(self._image, spec, mode, shared=shared)
        context.results.container = ContainerServer(container, self._session, self._engine)

    async def tag_context(self, context: Any) -> None:
        self._engine.images.tag(self._image, context.params.reference)

    async def history_context(self, context: Any) -> None:
        context.results.history = [to_wire(step) for step in self._image.history]

    async def config_context(self, context: Any) -> None:
        context.results.config = await self._image.read_config()

    async def manifest_context(self, context: Any) -> None:
        context.results.manifest = await self._image.read_manifest()

    async def push_context(self, context: Any) -> None:
        params = context.params
        options, reference = from_wire(PushOptions, params.options), str(params.reference)
        async with open_progress(params.progress if params._has("progress") else None) as report:  # noqa: SLF001
            pushed = await self._engine.images.publisher.push(self._image, reference, options, report, report.notify)
        context.results.pushed = to_wire(pushed)

    async def referrers_context(self, context: Any) -> None:
        params = context.params
        found = await self._engine.images.publisher.referrers(self._image, params.repository, params.artifactType)
        context.results.referrers = [to_wire(referrer) for referrer in found]
