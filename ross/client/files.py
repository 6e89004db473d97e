"""The files of a container: looking, copying in and out, exporting."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ross.client.connection import answer
from ross.client.receive import BytesReceiver, ChangeReceiver, receiving
from ross.client.sending import send_and_finish
from ross.model.files import CopiedFiles, FileInfo
from ross.wire.convert import from_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from ross.model.snapshots import SnapshotChange

_BUFFERED = 4


class Files:
    """The files of one container. Paths are the container's, absolute, as text or as the kernel has them; no link leads out of it."""

    def __init__(self, capability: Any) -> None:
        self._capability = capability

    async def stat(self, path: str | bytes, *, follow: bool = False) -> FileInfo:
        """What is at a path: ``await container.files.stat("/etc/passwd")``.

        Args:
            path: Where.
            follow: If it is a link, what that leads to.

        Raises:
            NotFound: there is nothing.
        """
        return from_wire(FileInfo, (await answer(self._capability.stat(os.fsencode(path), follow))).file)

    def read(
        self, path: str | bytes, *, name: str | bytes = "", follow: bool = False
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """A tar of what is at a path: ``async with container.files.read("/etc") as chunks: async for chunk in chunks: ...``

        Args:
            path: Where; of a directory that ends with ``/.``, what is in it.
            name: What it is called in the archive; the last part of the path if empty.
            follow: If it is a link, what that leads to.

        Raises:
            NotFound: there is nothing; in the iteration, as everything that fails.
            FailedPrecondition: it is no file to copy, or the container ended meanwhile.
        """
        arguments = (os.fsencode(path), os.fsencode(name), follow)
        return receiving(lambda sink: self._capability.readFiles(*arguments, sink), BytesReceiver, buffered=_BUFFERED)

    async def write(self, path: str | bytes, source: AsyncIterable[bytes], *, keep_owners: bool = False) -> CopiedFiles:
        """Put what is in a tar into a directory.

        Args:
            path: Of the directory, which is there.
            source: The tar, which may be compressed, in pieces of any size.
            keep_owners: Files get the owners that the tar says; else the container's root.

        Raises:
            NotFound: there is no such directory.
            FailedPrecondition: it cannot be written to, or something in it is in the way.
            Corrupt: the tar is damaged, or leads out of the directory. What came before is there.
        """
        call = self._capability.writeFiles(os.fsencode(path), keep_owners)
        found = await send_and_finish(call, source, finish=lambda begun: begun.writing.finish())
        return from_wire(CopiedFiles, found.copied)

    def export(self) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """A tar of the whole root filesystem, without what is mounted in it: ``async with container.files.export() as chunks: ...``"""
        return receiving(self._capability.exportFiles, BytesReceiver, buffered=_BUFFERED)

    def diff(self) -> AbstractAsyncContextManager[AsyncIterator[SnapshotChange]]:
        """What the container has changed in the files of its image: ``async with container.files.diff() as changes: ...``

        Each directory comes before what is inside of it.
        """
        return receiving(self._capability.diff, ChangeReceiver)
