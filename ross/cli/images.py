"""``ross pull``, ``images``, ``rmi``, ``image inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ross.cli import output
from ross.cli.output import Format
from ross.cli.session import for_each, with_engine

if TYPE_CHECKING:
    from ross.client import Engine, Image
    from ross.model.images import ImageInfo


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
                output.write(output.rendered(form, rows))
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
        "Digest": str(info.target),
        "ID": str(info.id) if no_trunc else info.id.short,
        "CreatedSince": created if created == "N/A" else f"{created} ago",
        "Size": output.size(info.unpacked_bytes),
    }
    references = [Reference.parse(name) for name in info.names]
    named = [
        (reference.familiar.partition("@")[0].removesuffix(f":{reference.tag}"), reference.tag or "<none>")
        for reference in references
    ]
    return [{"Repository": name, "Tag": tag, **rest} for name, tag in named or [("<none>", "<none>")]]


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
        All names of an image, and also if a container that does not run uses it.
    """
    _require(image)

    async def body(engine: Engine) -> int:
        async def remove(name: str) -> None:
            removed = await engine.images.remove(name, force=force)
            lines = [f"Untagged: {one}" for one in removed.untagged] + [f"Deleted: {one}" for one in removed.deleted]
            output.write("".join(f"{line}\n" for line in lines))

        return await for_each(image, remove)

    return with_engine(body)


def inspect_images(
    *image: str,
    referrers: Annotated[bool, Parameter(negative=())] = False,
    format: Format = "json",  # noqa: A002 -- the flag's name
) -> int:
    """Show all that is known of images, with their config and manifest.

    Parameters
    ----------
    image
        Names, ids or digests.
    referrers
        Ask the image's registry what else it has about it: signatures, SBOMs, attestations.
    format
        json, jsonl or table.
    """
    _require(image)

    async def body(engine: Engine) -> int:
        found: list[object] = []

        async def look(name: str) -> None:
            got = await engine.images.get(name)
            record = await inspected(got)
            if referrers:
                record["referrers"] = await _referrers(got, name)
            found.append(record)

        code = await for_each(image, look)
        show_records(found, format)
        return code

    return with_engine(body)


async def inspected(image: Image) -> dict[str, object]:
    """All that is known of an image: its record, with ``image_config`` and ``image_manifest`` as they are in the store."""
    from ross.oci.codec import parse_json, to_plain

    record = to_plain(await image.info())
    return {
        **(record if isinstance(record, dict) else {}),
        "image_config": parse_json(await image.config(), what="the config"),
        "image_manifest": parse_json(await image.manifest(), what="the manifest"),
    }


async def _referrers(image: Image, name: str) -> list[object]:
    """Those at the registry of this very name, if it is one; else of the image's first name."""
    from ross.errors import InvalidArgument
    from ross.oci.codec import to_plain
    from ross.oci.reference import Reference

    names = (await image.info()).names
    try:
        given = str(Reference.parse(name).with_default_tag())
    except InvalidArgument:
        given = ""
    return [to_plain(one) for one in await image.referrers(given if given in names else "")]


def show_records(found: list[object], form: Format) -> None:
    """Print records whole: as JSON, or as a table of fields and values."""
    if form != "table":
        output.write(output.records(found, form))
        return
    from ross.oci.codec import to_plain

    for record in found:
        plain = to_plain(record)
        fields = plain.items() if isinstance(plain, dict) else ()
        output.write(output.table(("FIELD", "VALUE"), [(str(key), str(value)) for key, value in fields]))


def _require(names: tuple[str, ...]) -> None:
    from ross.errors import InvalidArgument

    if not names:
        raise InvalidArgument("no image was named", hint="see them all with: ross images")
