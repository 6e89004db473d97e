"""``ross save``, ``load``, ``import``."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from ross.cli.output import write, write_bytes
from ross.cli.session import with_engine
from ross.errors import FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ross.client import Engine
    from ross.model.archives import LoadedImage

_READ_BYTES = 1 << 20


def save(
    *image: str,
    output: Annotated[str, Parameter(name=["--output", "-o"])] = "",
    format: Literal["docker-archive", "oci-archive", ""] = "",  # noqa: A002 -- the flag's name
    platform: str | None = None,
) -> None:
    """Write images to an archive that Ross, Docker and Podman can load.

    Parameters
    ----------
    image
        Names, which also stand in the archive; or ids or digests.
    output
        The file to write; standard output if not given.
    format
        docker-archive or oci-archive only; one that is both if not given.
    platform
        os/architecture[/variant]: the one image of a name; all that is here of it if not given.
    """
    if not image:
        raise InvalidArgument("no image was named", hint="see them all with: ross images")
    if not output and os.isatty(1):
        raise InvalidArgument("an archive is not for a terminal", hint="write it to a file: ross save -o FILE IMAGE")

    async def body(engine: Engine) -> None:
        async with engine.images.save(*image, format=format, platform=platform) as chunks:
            with open_output(output) as fd:
                async for chunk in chunks:
                    write_bytes(fd, chunk)

    with_engine(body)


def load(
    *,
    input: Annotated[str, Parameter(name=["--input", "-i"])] = "",  # noqa: A002 -- the flag's name
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative=())] = False,
    platform: str | None = None,
) -> None:
    """Take in the images of an archive, as Ross, Docker, Podman and others save them.

    Parameters
    ----------
    input
        The file to read; standard input if not given.
    quiet
        Do not show how it goes.
    platform
        os/architecture[/variant], where the archive has a choice; this machine's own if not given.
    """
    from ross.cli.progress import open_display

    async def body(engine: Engine) -> None:
        with open_input(input or "-") as fd:
            if quiet:
                loaded = await engine.images.load(read_chunks(fd), platform=platform)
            else:
                with open_display(input or "standard input", verb="Loading") as report:
                    loaded = await engine.images.load(read_chunks(fd), platform=platform, on_progress=report)
        write("".join(_lines(loaded)))

    with_engine(body)


def _lines(loaded: tuple[LoadedImage, ...]) -> Iterator[str]:
    from ross.oci.reference import Reference

    for one in loaded:
        for name in one.names:
            yield f"Loaded image: {Reference.parse(name).familiar}\n"
        if not one.names:
            yield f"Loaded image ID: {one.image.id}\n"


def import_(
    file: Annotated[str, Parameter(allow_leading_hyphen=True)],
    name: str = "",
    /,
    *,
    change: Annotated[tuple[str, ...], Parameter(name=["--change", "-c"], negative=())] = (),
    message: Annotated[str, Parameter(name=["--message", "-m"])] = "",
    platform: str | None = None,
) -> None:
    """Make an image of the tar of a root filesystem, and print its id.

    Parameters
    ----------
    file
        The tar, which may be compressed; - for standard input.
    name
        Of the image.
    change
        An instruction of a Dockerfile for its config: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR.
        May be given several times.
    message
        Stands in the image's history.
    platform
        os/architecture[/variant]; this machine's own if not given.
    """

    async def body(engine: Engine) -> None:
        with open_input(file) as fd:
            loaded = await engine.images.import_filesystem(
                read_chunks(fd), name, changes=change, message=message, platform=platform
            )
        write(f"{loaded.image.id}\n")

    with_engine(body)


async def read_chunks(fd: int) -> AsyncIterator[bytes]:
    """What can be read, until its end. The daemon never opens a file of ours."""
    import trio

    try:
        while chunk := await trio.to_thread.run_sync(os.read, fd, _READ_BYTES, abandon_on_cancel=True):
            yield chunk
    except OSError as error:
        raise FailedPrecondition(f"the archive cannot be read: {error.strerror}") from None


@contextmanager
def open_input(path: str) -> Iterator[int]:
    """A file that is to be read; ``-`` is standard input.

    Raises:
        InvalidArgument: it cannot be, or is a terminal.
    """
    if path == "-":
        if os.isatty(0):
            raise InvalidArgument("an archive is not typed", hint="name the file, or send it to standard input")
        yield 0
        return
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be read: {error.strerror}") from None
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise InvalidArgument(f"{path} is a directory", hint=f"send it as a tar: tar -C {path} -c . | ross ...")
        yield fd
    finally:
        os.close(fd)


@contextmanager
def open_output(path: str) -> Iterator[int]:
    """A file that appears when it is complete; or what is there already, if it is a pipe or a device."""
    if not path:
        yield 1
        return
    target = Path(path)
    special = target.exists() and not target.is_file()
    fresh = target if special else target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    flags = os.O_WRONLY | os.O_CLOEXEC | (0 if special else os.O_CREAT | os.O_EXCL)
    try:
        fd = os.open(fresh, flags, 0o600)
    except OSError as error:
        raise InvalidArgument(f"{path} cannot be written: {error.strerror}") from None
    try:
        yield fd
        if not special:
            fresh.rename(target)
    except OSError as error:
        raise FailedPrecondition(f"{path} cannot be written: {error.strerror}") from None
    finally:
        os.close(fd)
        if not special:
            fresh.unlink(missing_ok=True)
