"""Whether the root is sound: every byte of content hashed again, every unpacked layer compared with its blob; and mending what is not.

Checking holds everything that images are made of, so that nothing of it is collected meanwhile, and changes nothing. Mending
fetches content again from where it came from, by its digest, and exchanges an unpacked layer, in one step, for one that was
unpacked anew.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

import trio
from attrs import evolve, frozen

from ross.errors import FailedPrecondition, RossError
from ross.linux.compare import compare_trees
from ross.linux.files import remove_tree
from ross.model.containers import ContainerFilter
from ross.model.storage import CheckProgress, CheckReport, CheckStage, Finding, Severity
from ross.oci.digest import Digest, chain_ids
from ross.oci.image import Descriptor, parse_config, parse_manifest
from ross.services.failures import first_error
from ross.services.snapshotter import committed_name
from ross.services.unpacker import LayerSource
from ross.services.usage import AT_REST, printable

if TYPE_CHECKING:
    from pathlib import Path

    from ross.layout import StateLayout
    from ross.oci.reference import Reference
    from ross.services.collector import Collector
    from ross.services.containers import Containers
    from ross.services.image import Image
    from ross.services.images import Images
    from ross.services.ingest import BlobInfo
    from ross.services.puller import Puller
    from ross.services.snapshotter import Snapshotter
    from ross.services.store import ContentStore
    from ross.services.unpacker import Unpacker
    from ross.services.usage import Usage

_THREADS: Final = 2
"""So many files are read at a time: a check is in no hurry."""
_CHUNK_BYTES: Final = 1 << 20
Tell = Callable[[CheckProgress], None]
Mend = Callable[[], Awaitable[str]]
"""Puts something right and says how; raises if it cannot."""


@frozen
class _Problem:
    """What is wrong, and what can be done about it."""

    finding: Finding
    mend: Mend | None = None


@frozen
class _Layer:
    """An unpacked layer, and how it comes to be."""

    name: str
    sources: tuple[LayerSource, ...]
    """Bottom first; the last one is its own."""

    @property
    def size_bytes(self) -> int:
        """Packed."""
        return self.sources[-1].descriptor.size


class _Meter:
    """How far a stage of a check has come."""

    def __init__(self, stage: CheckStage, total_bytes: int, tell: Tell) -> None:
        self._stage = stage
        self._current = 0
        self._total = total_bytes
        self._tell = tell
        self._lock = threading.Lock()
        self.add(0)

    def add(self, size_bytes: int) -> None:
        """So much more has been looked at; from any thread."""
        with self._lock:
            self._current += size_bytes
            self._tell(CheckProgress(stage=self._stage, current_bytes=self._current, total_bytes=self._total))


def unheard(_progress: CheckProgress) -> None:
    """Nobody looks."""


class Checker:
    """Checks the root, one check at a time."""

    def __init__(
        self,
        *,
        layout: StateLayout,
        store: ContentStore,
        snapshotter: Snapshotter,
        unpacker: Unpacker,
        puller: Puller,
        collector: Collector,
        images: Images,
        containers: Containers,
        usage: Usage,
    ) -> None:
        self._layout = layout
        self._store = store
        self._snapshotter = snapshotter
        self._unpacker = unpacker
        self._puller = puller
        self._collector = collector
        self._images = images
        self._containers = containers
        self._usage = usage
        self._turn = trio.Lock()
        self._threads = trio.CapacityLimiter(_THREADS)

    async def check(self, *, repair: bool, progress: Tell = unheard) -> CheckReport:
        """Look at everything. Cancelled, it stops at the next chunk or file, and leaves what it has put right.

        Args:
            repair: Put right what can be.
            progress: Told how far it has come, from worker threads too.
        """
        async with self._turn:
            with ExitStack() as held:
                images = self._images.known()
                for image in images:
                    held.enter_context(image.hold())
                findings: list[Finding] = []
                blobs, manifests = self._store.blobs(), self._store.manifests()
                content = await self._check_content(blobs, manifests, progress)
                await self._settle(findings, content, repair=repair)
                told = frozenset(finding.name for finding in findings)
                await self._settle(findings, await self._check_images(images, told), repair=repair)
                layers = self._layers(images)
                meter = _Meter(CheckStage.LAYERS, sum(layer.size_bytes for layer in layers), progress)
                for layer in layers:
                    await self._settle(findings, await self._check_layer(layer, repair=repair), repair=repair)
                    meter.add(layer.size_bytes)
                progress(CheckProgress(stage=CheckStage.REST, current_bytes=0, total_bytes=0))
                await self._settle(findings, await self._check_strangers(), repair=repair)
            findings += await self._orphans()
        return CheckReport(
            findings=tuple(findings),
            blobs=len(blobs),
            manifests=len(manifests),
            images=len(images),
            snapshots=len(layers),
            size_bytes=sum(info.size_bytes for info in (*blobs, *manifests)),
        )

    async def _settle(self, findings: list[Finding], problems: Sequence[_Problem], *, repair: bool) -> None:
        """Note what was found, and put right what can be."""
        for problem in problems:
            finding = problem.finding
            if repair and problem.mend is not None and not finding.repaired:
                try:
                    finding = evolve(finding, repaired=True, resolution=await problem.mend())
                except (OSError, RossError) as error:
                    finding = evolve(finding, resolution=f"cannot be repaired: {error}")
            findings.append(finding)

    # -- content ------------------------------------------------------------------------------------------------------

    async def _check_content(
        self, blobs: Sequence[BlobInfo], manifests: Sequence[BlobInfo], progress: Tell
    ) -> list[_Problem]:
        problems: list[_Problem] = []
        meter = _Meter(CheckStage.CONTENT, sum(info.size_bytes for info in (*blobs, *manifests)), progress)

        async def check(info: BlobInfo, kind: str, path: Path, mend: Mend) -> None:
            wrong = await trio.to_thread.run_sync(_look_at, path, info.digest, meter.add, limiter=self._threads)
            known = (self._store.find(info.digest), self._store.find_manifest(info.digest))
            if wrong is not None and any(
                one is info for one in known
            ):  # else it has gone since, and perhaps come again
                problems.append(_problem(kind, str(info.digest), wrong[0], wrong[1], mend))

        async with trio.open_nursery() as nursery:
            for info in blobs:
                nursery.start_soon(check, info, "blob", self._layout.blob(info.digest), self._mend_blob(info.digest))
            for info in manifests:
                path = self._layout.manifest(info.digest)
                nursery.start_soon(check, info, "manifest", path, self._mend_manifest(info.digest))
        return sorted(problems, key=lambda problem: problem.finding.name)

    def _mend_blob(self, digest: Digest) -> Mend:
        async def mend() -> str:
            with self._store.replacing(digest):
                return await self._from_anywhere(self._places(digest), self._puller.fetch_blob)

        return mend

    def _mend_manifest(self, digest: Digest) -> Mend:
        async def mend() -> str:
            return await self._from_anywhere(self._places(digest), self._puller.fetch_manifest)

        return mend

    def _places(self, digest: Digest) -> list[tuple[Reference, Descriptor]]:
        """Where content may be had, and what it is to be."""
        places: list[tuple[Reference, Descriptor]] = []
        for image in self._images.known():
            descriptors = [image.manifest.config, *image.manifest.layers]
            descriptors += [Descriptor(media_type="", digest=one, size=0) for one in (image.digest, image.target)]
            wanted = next((one for one in descriptors if one.digest == digest), None)
            if wanted is not None:
                places += [(reference, wanted) for reference in self._images.tags.of(image.digest)]
        return places

    async def _from_anywhere(
        self,
        places: Sequence[tuple[Reference, Descriptor]],
        fetch: Callable[[Reference, Descriptor], Awaitable[None]],
    ) -> str:
        problem: RossError = FailedPrecondition("no name of an image says where it came from")
        for reference, descriptor in places:
            try:
                await fetch(reference, descriptor)
            except RossError as error:
                problem = error
            else:
                return f"fetched again from {reference.host}/{reference.path}"
        raise problem

    # -- images -------------------------------------------------------------------------------------------------------

    async def _check_images(self, images: Sequence[Image], told: frozenset[str]) -> list[_Problem]:
        """Each must be whole: documents that can be read, and all that they name. What was ``told`` of is not told again."""
        problems: list[_Problem] = []
        for image in images:
            names = image.info.names
            what = names[0] if names else str(image.digest)

            def add(problem: str, detail: str, mend: Mend | None = None, what: str = what) -> None:
                problems.append(_problem("image", what, problem, detail, mend))

            config = image.manifest.config.digest
            for digest in dict.fromkeys((image.digest, image.target)):
                if self._store.find_manifest(digest) is None:
                    add("incomplete", f"its manifest {digest} is missing", self._mend_manifest(digest))
            for digest in dict.fromkeys((config, *(layer.digest for layer in image.manifest.layers))):
                if self._store.find(digest) is None:
                    add("incomplete", f"its content {digest} is missing", self._mend_blob(digest))
            try:
                if str(image.digest) not in told and self._store.find_manifest(image.digest) is not None:
                    parse_manifest(await self._store.read_manifest(image.digest), what=f"manifest {image.digest}")
                if str(config) not in told and self._store.find(config) is not None:
                    parse_config(await self._store.read(config), what=f"config {config}")
            except RossError as error:
                add("unreadable", str(error))
        return problems

    # -- layers -------------------------------------------------------------------------------------------------------

    def _layers(self, images: Sequence[Image]) -> Sequence[_Layer]:
        """All that images need, each once, and behind what it stands on."""
        found: dict[str, _Layer] = {}
        for image in images:
            diff_ids = image.config.rootfs.diff_ids
            sources = [
                LayerSource(descriptor=descriptor, diff_id=diff_id, fetch=trio.lowlevel.checkpoint)
                for descriptor, diff_id in zip(image.manifest.layers, diff_ids, strict=False)
            ]
            for index, chain in enumerate(chain_ids(diff_ids)):
                name = committed_name(chain)
                found.setdefault(name, _Layer(name, tuple(sources[: index + 1])))
        return tuple(found.values())

    async def _check_layer(self, layer: _Layer, *, repair: bool) -> list[_Problem]:
        """Unpack the blob anew, beside, and compare."""
        if self._snapshotter.find(layer.name) is None:
            return [_problem("snapshot", layer.name, "missing", "it is not there", self._mend_missing(layer))]
        try:
            async with self._unpacker.unpacked_again(layer.sources) as again:
                wrong = await trio.to_thread.run_sync(self._compare, layer.name, again.name, again.directory_times)
                if not wrong:
                    return []
                problem = _problem("snapshot", layer.name, "differs from its blob", "; ".join(wrong))
                if not repair:
                    return [problem]
                return [_Problem(await self._exchange(problem.finding, layer, again.name))]
        except (OSError, RossError) as error:
            if self._snapshotter.find(layer.name) is None:
                return []
            detail = f"it cannot be compared with its blob: {error}"
            return [_problem("snapshot", layer.name, "not checked", detail, severity=Severity.NOTE)]

    def _compare(self, name: str, again: str, directory_times: bool) -> Sequence[str]:
        actual, wanted = self._snapshotter.files(name), self._snapshotter.files(again)
        if not actual.is_dir():
            return ("its files are missing",)
        checkpoint = trio.from_thread.check_cancelled
        return compare_trees(actual, wanted, checkpoint=checkpoint, directory_times=directory_times)

    async def _exchange(self, finding: Finding, layer: _Layer, again: str) -> Finding:
        try:
            await self._snapshotter.exchange(layer.name, again, allow=partial(self._check_unused, layer.name))
        except (OSError, RossError) as error:
            return evolve(finding, resolution=f"cannot be repaired: {error}")
        return evolve(finding, repaired=True, resolution=f"unpacked again from {layer.sources[-1].descriptor.digest}")

    def _check_unused(self, name: str) -> None:
        """See that no container has the files of a layer mounted.

        Raises:
            FailedPrecondition: one runs on it, or is being copied from or to while it is at rest.
        """
        files = self._snapshotter.files(name)
        for container in self._containers.list(ContainerFilter(all=True)):
            at_rest = container.state in AT_REST
            if at_rest and not self._layout.container(container.id).rootfs.is_mount():
                continue
            used = (container.id, *self._containers.mounted_by(container.id))
            known = (one for one in used if self._snapshotter.find(one) is not None)
            if any(files in self._snapshotter.layers(one) for one in known):
                why = "is being read or written; try again" if at_rest else "runs on it; stop it first"
                raise FailedPrecondition(f"the container {container.name} {why}")

    def _mend_missing(self, layer: _Layer) -> Mend:
        async def mend() -> str:
            try:
                await self._unpacker.unpack(layer.sources, progress=lambda _progress: None)
            except ExceptionGroup as group:
                raise first_error(group) from None
            return "unpacked again"

        return mend

    # -- the rest -----------------------------------------------------------------------------------------------------

    async def _check_strangers(self) -> list[_Problem]:
        """What is below the root and nobody's: seen twice, since what comes and goes may look like it once."""
        seen = await self._usage.strangers()
        found = sorted(seen & await self._usage.strangers()) if seen else []
        detail = "it is below the root, and nobody knows what for"
        return [_problem("unknown", printable(path), "unknown", detail, self._mend_stranger(path)) for path in found]

    def _mend_stranger(self, path: str) -> Mend:
        async def mend() -> str:
            if self._usage.knows(path):  # what was a stranger may have become content that somebody has pulled
                return "somebody's meanwhile"
            doomed = self._store.set_aside(self._layout.root / path, "stranger")
            await trio.to_thread.run_sync(remove_tree, doomed)
            return "removed"

        return mend

    async def _orphans(self) -> list[Finding]:
        """What the next collection removes: nothing is wrong with it."""
        return [
            Finding(
                severity=Severity.NOTE,
                kind="snapshot" if isinstance(one, str) else "blob",
                name=str(one),
                problem="orphan",
                detail="nothing references it; ross system prune removes it",
                repaired=False,
                resolution="",
            )
            for one in await self._collector.garbage()
        ]


def _problem(
    kind: str, name: str, problem: str, detail: str, mend: Mend | None = None, *, severity: Severity = Severity.ERROR
) -> _Problem:
    finding = Finding(
        severity=severity, kind=kind, name=name, problem=problem, detail=detail, repaired=False, resolution=""
    )
    return _Problem(finding, mend)


def _look_at(path: Path, digest: Digest, hashed: Callable[[int], None]) -> tuple[str, str] | None:
    """In a thread: what is wrong with a file of content."""
    hasher = hashlib.new(digest.algorithm)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        return "missing", f"{path} cannot be opened: {error.strerror}"
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while chunk := os.read(fd, _CHUNK_BYTES):
            trio.from_thread.check_cancelled()
            hasher.update(chunk)
            hashed(len(chunk))
    except OSError as error:
        return "damaged", f"{path} cannot be read: {error.strerror}"
    finally:
        os.close(fd)
    found = Digest(digest.algorithm, hasher.hexdigest())
    return None if found == digest else ("damaged", f"it hashes to {found}")
