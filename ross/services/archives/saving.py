"""What goes into an archive, and writing it: the same bytes for the same images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import Final

import trio
from attrs import define, field, frozen

from ross.errors import Corrupt
from ross.linux.archive.inflate import LayerBytes
from ross.linux.archive.limits import ArchiveLimits
from ross.linux.archive.pack import END, directory_header, file_header, padding
from ross.linux.archive.stream import uncompressed
from ross.model.archives import ArchiveFormat
from ross.oci.archive import (
    DOCKER_FILE,
    INDEX_FILE,
    LAYOUT,
    LAYOUT_FILE,
    blob_name,
    make_docker,
    make_index,
)
from ross.oci.digest import Digest
from ross.oci.image import Descriptor, ImageConfig, Manifest
from ross.oci.reference import Reference
from ross.services.image import Image
from ross.services.threads import hand_over

Write = Callable[[bytes], Awaitable[None]]
READ_BYTES: Final = 1 << 20


@frozen(kw_only=True)
class Saved:
    """An image that is to be saved."""

    image: Image
    target: Descriptor
    reference: Reference | None
    documents: Mapping[Digest, bytes]
    """The target, and all manifests below it that the archive will have."""
    images: tuple[tuple[Digest, Manifest, ImageConfig], ...]
    """Those manifests that are images; the first is the one that Docker's form has."""


@frozen
class Blob:
    """Content that is in the store."""

    path: Path
    digest: Digest


@frozen
class Layer:
    """A layer that is in the store, to be uncompressed on the way."""

    path: Path
    diff_id: Digest


Content = bytes | Blob | Layer


@define
class Contents:
    """The members of an archive, by name."""

    members: dict[str, Content] = field(factory=dict)

    @classmethod
    def of(cls, saved: Iterable[Saved], form: ArchiveFormat, find: Callable[[Digest], Path]) -> Contents:
        """What an archive of these images has in it.

        Args:
            saved: The images.
            form: Which documents it has.
            find: Where a blob is.
        """
        contents = cls()
        images = tuple(saved)
        if form is ArchiveFormat.DOCKER_ARCHIVE:
            contents._add_docker_only(images, find)
        else:
            contents._add_layout(images, find)
            if form is ArchiveFormat.BOTH:
                contents._add_docker(images)
        return contents

    def _add_layout(self, images: Iterable[Saved], find: Callable[[Digest], Path]) -> None:
        for image in images:
            self.members |= {blob_name(digest): data for digest, data in image.documents.items()}
            for _digest, manifest, _config in image.images:
                for part in (manifest.config, *manifest.layers):
                    self.members[blob_name(part.digest)] = Blob(find(part.digest), part.digest)
        self.members[LAYOUT_FILE] = LAYOUT
        self.members[INDEX_FILE] = make_index((image.target, image.reference) for image in images)

    def _add_docker(self, images: Iterable[Saved]) -> None:
        entries: dict[str, tuple[list[Reference], list[str]]] = {}
        for image in images:
            _digest, manifest, _config = image.images[0]
            layers = [blob_name(layer.digest) for layer in manifest.layers]
            references, _layers = entries.setdefault(blob_name(manifest.config.digest), ([], layers))
            references += [image.reference] if image.reference is not None else []
        self.members[DOCKER_FILE] = make_docker(entries)

    def _add_docker_only(self, images: Iterable[Saved], find: Callable[[Digest], Path]) -> None:
        entries: dict[str, tuple[list[Reference], list[str]]] = {}
        for image in images:
            _digest, manifest, config = image.images[0]
            layers = []
            for layer, diff_id in zip(manifest.layers, config.rootfs.diff_ids, strict=True):
                layers.append(f"{diff_id.encoded}.tar")
                self.members[layers[-1]] = Layer(find(layer.digest), diff_id)
            name = f"{manifest.config.digest.encoded}.json"
            self.members[name] = Blob(find(manifest.config.digest), manifest.config.digest)
            references, _layers = entries.setdefault(name, ([], layers))
            references += [image.reference] if image.reference is not None else []
        self.members[DOCKER_FILE] = make_docker(entries)

    async def write(self, write: Write, *, threads: trio.CapacityLimiter) -> None:
        """Write the archive; what takes a while is done by ``threads``, of which none waits for whoever reads it.

        Raises:
            Corrupt: content in the store is damaged.
        """
        directories = {f"{name.rpartition('/')[0]}/" for name in self.members if "/" in name}
        directories |= {f"{name.partition('/')[0]}/" for name in directories}
        for name in sorted({*self.members, *directories}):
            content = self.members.get(name)
            if content is None:
                await write(directory_header(name))
            elif isinstance(content, bytes):
                await write(file_header(name, len(content)) + content + padding(len(content)))
            elif isinstance(content, Blob):
                await hand_over(_blob(name, content), write, threads=threads)
            else:
                await hand_over(_layer(name, content), write, threads=threads)
        await write(END)


def _blob(name: str, blob: Blob) -> Generator[bytes, None, None]:
    fd = os.open(blob.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        size = os.fstat(fd).st_size
        yield file_header(name, size)
        found = hashlib.new(blob.digest.algorithm)
        seen = 0
        while chunk := os.read(fd, READ_BYTES):
            found.update(chunk)
            seen += len(chunk)
            yield chunk
        if seen != size or found.hexdigest() != blob.digest.encoded:
            raise _damaged(blob.digest)
        yield padding(size)
    finally:
        os.close(fd)


def _layer(name: str, layer: Layer) -> Generator[bytes, None, None]:
    """Twice through it: its size stands before it. In a thread."""
    with _open_layer(layer) as source:
        while source.next_chunk():
            trio.from_thread.check_cancelled()
        size = source.unpacked_bytes
        if source.hexdigest() != layer.diff_id.encoded:
            raise _damaged(layer.diff_id)
    yield file_header(name, size)
    fd = os.open(layer.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:  # not read ahead: a thread that does so would wait for the client
        next_chunk = uncompressed(lambda: os.read(fd, READ_BYTES), limits=ArchiveLimits())
        yield from iter(next_chunk, b"")
    finally:
        os.close(fd)
    yield padding(size)


def _open_layer(layer: Layer) -> LayerBytes:
    return LayerBytes(layer.path, limits=ArchiveLimits(), algorithm=layer.diff_id.algorithm)


def _damaged(digest: Digest) -> Corrupt:
    return Corrupt(
        f"the content {digest} in the store is damaged",
        hint="remove the image with ross rmi --force, and pull it again",
    )
