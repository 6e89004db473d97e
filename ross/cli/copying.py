"""Between files here and files of a container: where a copy goes by the rules of ``cp``, and reading and writing our side of it.

What comes out of a container is hostile: it is placed by descriptor in the one directory that it was asked for, under the one name, and no
link on the way is followed (:mod:`ross.linux.archive.place`).
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio
from attrs import frozen

from ross.errors import FailedPrecondition, InvalidArgument, NotFound, Reason
from ross.linux.archive.packer import pack
from ross.linux.archive.place import Placed, Placing, place
from ross.linux.statfs import is_kernels_own
from ross.model.snapshots import FileKind

if TYPE_CHECKING:
    from ross.client.files import Files
    from ross.model.files import FileInfo

_MAX_LINKS: Final = 40


@frozen
class Side:
    """One end of a copy, as it was typed."""

    container: str | None
    """None: here."""
    path: str


def parse_side(text: str) -> Side:
    """``CONTAINER:PATH``, or a path here: one that is absolute, begins with a dot, or has no colon in it.

    Raises:
        InvalidArgument: there is no path.
    """
    container, colon, path = text.partition(":")
    if not colon or text.startswith(("/", ".")):
        path, container = text, ""
    if not path or (colon and not container and path != text):
        raise InvalidArgument(f"{text!r} names no file", hint="write CONTAINER:PATH, or ./PATH for a file here")
    return Side(container or None, path if not container or path.startswith("/") else f"/{path}")


@frozen(kw_only=True)
class Target:
    """What is where a copy is to go."""

    path: str
    exists: bool
    is_directory: bool


def choose(source: str, *, is_directory: bool, target: Target) -> tuple[str, str]:
    """The directory that a copy goes into, and what it is called there; ``.`` for what is in a directory.

    Args:
        source: What the source is called; ``.`` if it is what is in a directory.
        is_directory: Whether it is one.
        target: Where it is to go.

    Raises:
        InvalidArgument: it cannot go there.
    """
    if target.exists and target.is_directory:
        return target.path, source
    if target.exists and is_directory:
        raise InvalidArgument(f"a directory cannot be copied to {target.path}, which is a file")
    if not target.exists and not is_directory and asserts_directory(target.path):
        raise InvalidArgument(f"the directory {target.path} does not exist", hint="make it first")
    path = target.path.rstrip("/").removesuffix("/.").rstrip("/")
    head, _slash, name = path.rpartition("/")
    return head or "/", name


def asserts_directory(path: str) -> bool:
    """Whether a path says that it is a directory's."""
    return path.endswith(("/", "/.")) or path == "."


# -- out of a container -------------------------------------------------------------------------------------------------


async def copy_out(files: Files, source: str, destination: str, *, keep: bool, follow: bool) -> Placed:
    """Copy what is at ``source`` in a container to ``destination`` here.

    Raises:
        InvalidArgument: it cannot go there.
        RossError: whatever the container fails with, or writing here.
    """
    found = await files.stat(source, follow=follow)
    name = os.fsdecode(found.name)
    directory, name = choose(name, is_directory=found.kind is FileKind.DIRECTORY, target=_look(destination))
    how = Placing(
        owner=None if keep else (os.geteuid(), os.getegid()),
        privileged=keep,
        name=b"" if name == "." else os.fsencode(name),
    )
    with _open_directory(directory) as fd:
        async with files.read(source, name=name, follow=follow) as chunks:

            async def next_chunk() -> bytes:
                return await anext(chunks, b"")

            return await trio.to_thread.run_sync(lambda: place(lambda: trio.from_thread.run(next_chunk), fd, how))


def _look(path: str) -> Target:
    """What is at a path here, all links followed."""
    real = os.path.realpath(path)
    try:
        found = Path(real).stat()
    except FileNotFoundError:
        return Target(path=f"{real}/" if asserts_directory(path) else real, exists=False, is_directory=False)
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be used: {error.strerror}") from None
    is_directory = stat.S_ISDIR(found.st_mode)
    if not is_directory and (asserts_directory(path) or not stat.S_ISREG(found.st_mode)):
        raise InvalidArgument(
            f"{path} is neither a directory nor a regular file"
            if not asserts_directory(path)
            else f"{path} is no directory"
        )
    return Target(path=real, exists=True, is_directory=is_directory)


@contextmanager
def _open_directory(path: str) -> Iterator[int]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidArgument(f"the directory {path} cannot be used: {error.strerror}") from None
    try:
        yield fd
    finally:
        os.close(fd)


# -- into a container ---------------------------------------------------------------------------------------------------


async def copy_in(files: Files, source: str, destination: str, *, keep: bool, follow: bool) -> int:
    """Copy what is at ``source`` here to ``destination`` in a container. Returns the bytes that were copied.

    Raises:
        InvalidArgument: there is no such thing here, or it cannot go there.
        RossError: whatever the container fails with.
    """
    target = await _look_inside(files, destination)
    with _open_source(source, follow=follow) as fd:
        mode = os.fstat(fd).st_mode
        name = "." if source.endswith("/.") or source in {".", "/"} else source.rstrip("/").rpartition("/")[2]
        if name == "..":
            name = "."
        directory, name = choose(name, is_directory=stat.S_ISDIR(mode), target=target)
        copied = await files.write(directory, _packed(fd, os.fsencode(name)), keep_owners=keep)
        return copied.size_bytes


async def put_archive(files: Files, destination: str, source: AsyncIterator[bytes], *, keep: bool) -> int:
    """Put what is in a tar into a directory of a container. Returns the bytes that were copied.

    Raises:
        InvalidArgument: the destination is no directory.
        RossError: whatever the container fails with.
    """
    target = await _look_inside(files, destination)
    if not target.is_directory:
        raise InvalidArgument(f"{destination} in the container is no directory, and an archive goes into one")
    return (await files.write(target.path, source, keep_owners=keep)).size_bytes


async def _look_inside(files: Files, path: str) -> Target:
    """What is at a path of a container, links at its end followed; what they lead to need not be there."""
    for _link in range(_MAX_LINKS):
        found = await _find(files, path)
        if found is None:
            return Target(path=path, exists=False, is_directory=False)
        if found.kind is not FileKind.LINK:
            is_directory = found.kind is FileKind.DIRECTORY
            if not is_directory and found.kind is not FileKind.FILE:
                raise InvalidArgument(f"{path} in the container is neither a directory nor a regular file")
            return Target(path=path, exists=True, is_directory=is_directory)
        path = posixpath.join(posixpath.dirname(path.rstrip("/")), os.fsdecode(found.link_target))
    raise InvalidArgument(f"{path} in the container is a link to a link to a link, and so on")


async def _find(files: Files, path: str) -> FileInfo | None:
    try:
        return await files.stat(path)
    except NotFound as error:
        if error.reason != Reason.FILE_NOT_FOUND:
            raise
        return None


@contextmanager
def _open_source(path: str, *, follow: bool) -> Iterator[int]:
    flags = os.O_PATH | os.O_CLOEXEC | (0 if follow or asserts_directory(path) else os.O_NOFOLLOW)
    try:
        fd = os.open(path, flags)
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror}") from None
    try:
        if is_kernels_own(fd):
            raise InvalidArgument(f"{path} is in a filesystem of the kernel's own, which has no files to copy")
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            raise InvalidArgument(f"{path} is a socket, which cannot be copied")
        yield fd
    finally:
        os.close(fd)


async def _packed(fd: int, name: bytes) -> AsyncIterator[bytes]:
    chunks = pack(fd, name)
    try:
        while (chunk := await trio.to_thread.run_sync(next, chunks, b"")) != b"":
            yield chunk
    except OSError as error:
        raise FailedPrecondition(f"what is to be copied cannot be read: {error.strerror}") from None
    finally:
        chunks.close()
