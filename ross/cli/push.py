"""``ross push``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ross.cli import output
from ross.cli.session import with_engine
from ross.errors import InvalidArgument, NotFound
from ross.model.images import ImageFilter

if TYPE_CHECKING:
    from ross.client import Engine, Image
    from ross.model.images import PushedImage
    from ross.oci.reference import Reference


def push(
    name: str,
    /,
    *,
    all_tags: Annotated[bool, Parameter(name=["--all-tags", "-a"], negative=())] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative=())] = False,
    platform: str | None = None,
) -> None:
    """Send an image to the registry that its name says.

    Parameters
    ----------
    name
        [registry/]name[:tag], as ross tag has given it.
    all_tags
        Push every tag that the name has here.
    quiet
        Print nothing but what was pushed.
    platform
        os/architecture[/variant]: push the image for this platform only. If not given, all that the name denotes.
    """
    from ross.oci.reference import Reference

    given = Reference.parse(name)
    if given.digest is not None:
        raise InvalidArgument(f"{name!r} has a digest in it; a push goes to a tag", hint="write [registry/]name:tag")
    if all_tags and given.tag is not None:
        raise InvalidArgument(f"{name!r} says a tag, but all are to be pushed", hint="write [registry/]name")

    async def body(engine: Engine) -> None:
        tags = await _tags(engine, given)
        if not all_tags:
            wanted = str(given.with_default_tag())
            if wanted not in tags:
                raise _not_here(given, tags)
            tags = (wanted,)
        elif not tags:
            raise _not_here(given, tags)
        for tag in tags:
            image = await engine.images.get(tag, platform=platform)
            pushed = await _push(image, tag, manifest_only=platform is not None, quiet=quiet)
            output.write(
                f"{pushed.name}\n" if quiet else f"{pushed.name}: digest: {pushed.digest} size: {pushed.size_bytes}\n"
            )

    with_engine(body)


async def _tags(engine: Engine, given: Reference) -> tuple[str, ...]:
    """What this name is called here, with each of its tags."""
    from ross.oci.reference import Reference

    found = [name for info in await engine.images.list(ImageFilter(named=True)) for name in info.names]
    known = [reference for reference in map(Reference.parse, found) if reference.repository == given.repository]
    return tuple(sorted({str(reference) for reference in known if reference.tag is not None}))


def _not_here(given: Reference, tags: tuple[str, ...]) -> NotFound:
    hint = f"there is {', '.join(tags[:8])}" if tags else f"give an image here this name with: ross tag IMAGE {given}"
    return NotFound(f"no image here is called {given.with_default_tag()}", hint=hint)


async def _push(image: Image, name: str, *, manifest_only: bool, quiet: bool) -> PushedImage:
    from ross.cli.progress import open_display, warn

    if quiet:
        return await image.push(name, manifest_only=manifest_only, on_notice=warn)
    with open_display(name, verb="Pushing") as display:
        return await image.push(name, manifest_only=manifest_only, on_progress=display, on_notice=display.notify)
