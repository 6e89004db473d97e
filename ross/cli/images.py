"""``ross pull``, ``images``, ``rmi``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from ross.cli import output
from ross.cli.session import for_each, with_engine

if TYPE_CHECKING:
    from ross.client import Engine, Image
    from ross.model.images import ImageInfo

_UNKNOWN: Final = "N/A"
_NONE: Final = "<none>"
HEADINGS: Final = {
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
}
"""Where they are not the names of the fields."""


def pull(
    image: str,
    /,
    *,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative=())] = False,
    platform: str | None = None,
) -> None:
    """Fetch an image from its registry and unpack it.

    Parameters
    ----------
    image
        [registry/]name[:tag][@digest]
    quiet
        Print nothing but the image's id.
    platform
        os/architecture[/variant]; this machine's own if not given.
    """

    async def body(engine: Engine) -> None:
        info = await (await fetch(engine, image, platform=platform, quiet=quiet)).info()
        output.write(f"{info.id}\n" if quiet else f"{info.names[0] if info.names else image}\n")

    with_engine(body)


async def fetch(engine: Engine, image: str, *, platform: str | None, quiet: bool) -> Image:
    """Pull, and show how it goes on standard error."""
    from ross.cli.progress import open_display, warn

    if quiet:
        return await engine.images.pull(image, platform=platform, on_notice=warn)
    with open_display(image) as display:
        return await engine.images.pull(image, platform=platform, on_progress=display, on_notice=display.notify)


def images(
    name: str = "",
    /,
    *,
    all: Annotated[bool, Parameter(name=["--all", "-a"], negative=())] = False,  # noqa: A002 -- the flag's name
    filter: Annotated[tuple[str, ...], Parameter(name=["--filter", "-f"], negative=())] = (),  # noqa: A002 -- as above
    digests: Annotated[bool, Parameter(negative=())] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative=())] = False,
    no_trunc: Annotated[bool, Parameter(negative=())] = False,
    format: str = "table",  # noqa: A002 -- the flag's name
) -> None:
    """List the images.

    Parameters
    ----------
    name
        Only images of this name or name:tag; * stands for anything but a slash.
    all
        Also images that a name has for another platform than the one it denotes.
    filter
        dangling=true|false, reference=PATTERN, label=KEY[=VALUE], before=IMAGE or since=IMAGE. May be repeated.
    digests
        Show what the names denote at their registry.
    quiet
        Print ids only.
    no_trunc
        Print ids in full.
    format
        table, json, jsonl, or a template such as '{{.Repository}}:{{.Tag}}', with 'table ' before it for columns.
    """
    from ross.cli.parse import parse_image_filter

    form = output.parse_format(format)
    wanted = parse_image_filter(filter, name=name, all=all)

    async def body(engine: Engine) -> None:
        found = await engine.images.list(wanted)
        if quiet:
            ids = dict.fromkeys(str(info.id) if no_trunc else info.id.short for info in found)
            output.write("".join(f"{one}\n" for one in ids))
        elif isinstance(form, str) and form != "table":
            output.write(output.records(found, form))
        else:
            rows = [row for info in found for row in _rows(info, no_trunc=no_trunc)]
            if not isinstance(form, str):
                output.write(output.rendered(form, rows, HEADINGS))
                return
            fields = ("Repository", "Tag", *(("Digest",) if digests else ()), "ID", "CreatedSince", "Size")
            headings = ("REPOSITORY", "TAG", *(("DIGEST",) if digests else ()), "IMAGE ID", "CREATED", "SIZE")
            output.write(output.table(headings, [[row[key] for key in fields] for row in rows]))

    with_engine(body)


def _rows(info: ImageInfo, *, no_trunc: bool) -> list[dict[str, str]]:
    """A row for each name, under the names of ``docker images --format``."""
    from ross.oci.reference import Reference

    created = output.ago(info.created_at)
    rest = {
        "Digest": str(info.target) if info.names else _NONE,
        "ID": str(info.id) if no_trunc else info.id.short,
        "CreatedSince": created if created == _UNKNOWN else f"{created} ago",
        "CreatedAt": output.moment(info.created_at),
        "Size": output.size(info.unpacked_bytes),
        "VirtualSize": output.size(info.unpacked_bytes),
        # Docker's list has no answers to these either; system df -v has.
        "SharedSize": _UNKNOWN,
        "UniqueSize": _UNKNOWN,
        "Containers": _UNKNOWN,
    }
    references = [Reference.parse(name) for name in info.names]
    named = [
        (reference.familiar.partition("@")[0].removesuffix(f":{reference.tag}"), reference.tag or _NONE)
        for reference in references
    ]
    return [{"Repository": name, "Tag": tag, **rest} for name, tag in named or [(_NONE, _NONE)]]


def rmi(
    *image: str,
    force: Annotated[bool, Parameter(name=["--force", "-f"], negative=())] = False,
) -> int:
    """Remove images, by name or id; what nothing references goes with them.

    Parameters
    ----------
    image
        Names, ids or digests.
    force
        All names of an image, also if a container uses it, which keeps it then, but not by id if that runs; and what does not exist is no
        failure.
    """
    from ross.cli.errors import show
    from ross.errors import NotFound

    _require(image)

    async def body(engine: Engine) -> int:
        async def remove(name: str) -> None:
            try:
                removed = await engine.images.remove(name, force=force)
            except NotFound as error:
                if not force:
                    raise
                show(error.message)
                return
            lines = [f"Untagged: {one}" for one in removed.untagged] + [f"Deleted: {one}" for one in removed.deleted]
            output.write("".join(f"{line}\n" for line in lines))
            if removed.used_by:
                users = ", ".join(removed.used_by)
                sys.stderr.write(f"note: {name} stays without a name, for the container {users} uses it\n")

        return await for_each(image, remove)

    return with_engine(body)


def exists(image: str, /) -> int:
    """End with 0 if there is such an image, else with 1, and say nothing.

    Parameters
    ----------
    image
        Its name, id or digest.
    """
    from ross.cli.errors import FAILED
    from ross.errors import NotFound

    async def body(engine: Engine) -> int:
        try:
            await engine.images.get(image)
        except NotFound:
            return FAILED
        return 0

    return with_engine(body)


def _require(names: tuple[str, ...]) -> None:
    from ross.errors import InvalidArgument

    if not names:
        raise InvalidArgument("no image was named", hint="see them all with: ross images")
