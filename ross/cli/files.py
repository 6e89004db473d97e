"""``ross cp``, ``diff``, ``export``, ``commit``."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ross.cli import output
from ross.cli.output import Format
from ross.cli.session import with_engine
from ross.errors import InvalidArgument

if TYPE_CHECKING:
    from ross.client import Engine
    from ross.client.files import Files
    from ross.linux.archive.place import Placed

_LETTERS = {"added": "A", "modified": "C", "deleted": "D"}
_NAMED_LEFT_OUT = 10


def cp(
    source: Annotated[str, Parameter(allow_leading_hyphen=True)],
    destination: Annotated[str, Parameter(allow_leading_hyphen=True)],
    /,
    *,
    archive: Annotated[bool, Parameter(name=["--archive", "-a"], negative=())] = False,
    follow_link: Annotated[bool, Parameter(name=["--follow-link", "-L"], negative=())] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative=())] = False,
) -> None:
    """Copy files between a container and here: ross cp CONTAINER:SRC DEST, or ross cp SRC CONTAINER:DEST.

    Parameters
    ----------
    source
        CONTAINER:PATH, a path here, or - for a tar on standard input. A directory that ends with /. means what is in it.
    destination
        CONTAINER:PATH, a path here, or - for a tar on standard output.
    archive
        Keep owners, and what else only root may give. If not given, files in the container belong to its root, and files here to you.
    follow_link
        If the source is a symbolic link, copy what it leads to.
    quiet
        Say nothing when it is done.
    """
    from ross.cli.copying import Side, parse_side

    here = Side(None, "-")
    first = here if source == "-" else parse_side(source)
    second = here if destination == "-" else parse_side(destination)
    if first.container is not None and second.container is not None:
        raise InvalidArgument(
            "files are not copied from one container to another",
            hint="by way of here: ross cp A:PATH - | ross cp - B:PATH",
        )

    async def body(engine: Engine) -> int:
        if first.container is not None:
            files = engine.containers.get(first.container).now.files
            if second.path == "-":
                return await _to_output(files, first.path, follow=follow_link)
            return await _out(files, first.path, second.path, keep=archive, follow=follow_link)
        if second.container is None:
            raise InvalidArgument("one of the two must be in a container", hint="write CONTAINER:PATH")
        files = engine.containers.get(second.container).now.files
        if first.path == "-":
            return await _from_input(files, second.path, keep=archive)
        from ross.cli.copying import copy_in

        return await copy_in(files, first.path, second.path, keep=archive, follow=follow_link)

    size = with_engine(body)
    if not quiet and destination != "-" and sys.stderr.isatty():
        sys.stderr.write(output.line(f"Successfully copied {output.size(size)} to {destination}"))


async def _out(files: Files, source: str, destination: str, *, keep: bool, follow: bool) -> int:
    from ross.cli.copying import copy_out

    placed = await copy_out(files, source, destination, keep=keep, follow=follow)
    _tell_left_out(placed)
    return placed.size_bytes


def _tell_left_out(placed: Placed) -> None:
    for name in placed.left_out[:_NAMED_LEFT_OUT]:
        text = f"warning: {os.fsdecode(name)} was left out: it is a device, which only root makes, with --archive"
        sys.stderr.write(output.line(text))
    if len(placed.left_out) > _NAMED_LEFT_OUT:
        sys.stderr.write(f"warning: and {len(placed.left_out) - _NAMED_LEFT_OUT} devices more\n")


async def _to_output(files: Files, source: str, *, follow: bool) -> int:
    if os.isatty(1):
        raise InvalidArgument("an archive is not for a terminal", hint="send it on: ross cp CONTAINER:PATH - | tar -t")
    async with files.read(source, follow=follow) as chunks:
        async for chunk in chunks:
            output.write_bytes(1, chunk)
    return 0


async def _from_input(files: Files, destination: str, *, keep: bool) -> int:
    from ross.cli.archives import open_input, read_chunks
    from ross.cli.copying import put_archive

    with open_input("-") as fd:
        return await put_archive(files, destination, read_chunks(fd), keep=keep)


def diff(container: str, /, *, format: Format = "table") -> None:  # noqa: A002 -- the flag's name
    """Show what a container has changed in the files of its image: A for added, C for changed, D for deleted.

    Parameters
    ----------
    container
        Name or id.
    format
        table (a line for each), json or jsonl.
    """

    async def body(engine: Engine) -> None:
        async with engine.containers.get(container).now.files.diff() as changes:
            found = [change async for change in changes]
        found.sort(key=lambda change: change.path)
        rows = [
            {"change": _LETTERS.get(one.change.value, "?"), "path": one.text, "kind": one.kind.value} for one in found
        ]
        if format == "table":
            output.write("".join(output.line(f"{row['change']} {row['path']}") for row in rows))
        else:
            output.write(output.records(rows, format))

    with_engine(body)


def export(
    container: str,
    /,
    *,
    output: Annotated[str, Parameter(name=["--output", "-o"])] = "",
) -> None:
    """Write the whole root filesystem of a container to a tar.

    Parameters
    ----------
    container
        Name or id.
    output
        The file to write; standard output if not given.
    """
    from ross.cli.archives import open_output
    from ross.cli.output import write_bytes

    if not output and os.isatty(1):
        raise InvalidArgument(
            "an archive is not for a terminal", hint="write it to a file: ross export -o FILE CONTAINER"
        )

    async def body(engine: Engine) -> None:
        async with engine.containers.get(container).now.files.export() as chunks:
            with open_output(output) as fd:
                async for chunk in chunks:
                    write_bytes(fd, chunk)

    with_engine(body)


def commit(
    container: str,
    name: str = "",
    /,
    *,
    author: Annotated[str, Parameter(name=["--author", "-a"])] = "",
    message: Annotated[str, Parameter(name=["--message", "-m"])] = "",
    change: Annotated[tuple[str, ...], Parameter(name=["--change", "-c"], negative=())] = (),
    pause: Annotated[bool, Parameter(name=["--pause", "-p"])] = True,
) -> None:
    """Make an image of a container, and print its id.

    Parameters
    ----------
    container
        Name or id.
    name
        Of the image.
    author
        Stands in the image.
    message
        Stands in the image's history.
    change
        An instruction of a Dockerfile for its config: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR.
        May be given several times.
    pause
        Let nothing in the container run while its files are read.
    """

    async def body(engine: Engine) -> None:
        image = await engine.containers.get(container).now.commit(
            name, author=author, message=message, changes=change, pause=pause
        )
        info = await image.info()
        output.write(f"{info.id}\n")

    with_engine(body)
