"""``ross inspect``, ``container inspect``, ``image inspect``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from ross.cli import output
from ross.cli.session import for_each, with_engine
from ross.errors import InvalidArgument, NotFound, RossError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ross.cli.output import Format
    from ross.cli.template import Template
    from ross.client import Engine

Kind = Literal["container", "image"]


def inspect(
    *name: str,
    format: Annotated[str, Parameter(name=["--format", "-f"])] = "json",  # noqa: A002 -- the flag's name
    type: Kind | None = None,  # noqa: A002 -- as above
    size: Annotated[bool, Parameter(name=["--size", "-s"], negative=())] = False,
) -> int:
    """Show all that is known of containers or images, under the names that Docker has for it.

    Parameters
    ----------
    name
        Names or ids; of a container if there is one, else of an image.
    format
        json, jsonl, table, or a template such as '{{.State.Status}}'.
    type
        container or image: look for nothing else.
    size
        Also the size of a container's files: it costs a look at each that it has written.
    """
    kinds: tuple[Kind, ...] = ("container", "image") if type is None else (type,)
    return _inspect(name, format, kinds, sizes=size)


def inspect_containers(
    *container: str,
    format: Annotated[str, Parameter(name=["--format", "-f"])] = "json",  # noqa: A002 -- the flag's name
    size: Annotated[bool, Parameter(name=["--size", "-s"], negative=())] = False,
) -> int:
    """Show all that is known of containers, under the names that Docker has for it.

    Parameters
    ----------
    container
        Names or ids.
    format
        json, jsonl, table, or a template such as '{{.State.Status}}'.
    size
        Also the size of its files: it costs a look at each that it has written.
    """
    return _inspect(container, format, ("container",), sizes=size)


def inspect_images(
    *image: str,
    referrers: Annotated[bool, Parameter(negative=())] = False,
    format: Annotated[str, Parameter(name=["--format", "-f"])] = "json",  # noqa: A002 -- the flag's name
) -> int:
    """Show all that is known of images, with their config and manifest.

    Parameters
    ----------
    image
        Names, ids or digests.
    referrers
        Ask the image's registry what else it has about it: signatures, SBOMs, attestations.
    format
        json, jsonl, table, or a template such as '{{.Id}}'.
    """
    return _inspect(image, format, ("image",), referrers=referrers)


def _inspect(
    names: tuple[str, ...], form: str, kinds: tuple[Kind, ...], *, sizes: bool = False, referrers: bool = False
) -> int:
    if not names:
        raise InvalidArgument(f"no {_what(kinds)} was named", hint="see: ross ps -a, and ross images")
    wanted = output.parse_format(form)

    async def body(engine: Engine) -> int:
        found: list[dict[str, Any]] = []

        async def look(name: str) -> None:
            found.append(await _look(engine, name, kinds, sizes=sizes, referrers=referrers))

        code = await for_each(names, look)
        output.write(_shown(found, wanted))
        return code

    return with_engine(body)


async def _look(engine: Engine, name: str, kinds: tuple[Kind, ...], *, sizes: bool, referrers: bool) -> dict[str, Any]:
    for kind in kinds:
        try:
            if kind == "container":
                return await _container(engine, name, sizes=sizes)
            return await _image(engine, name, referrers=referrers)
        except NotFound:
            continue
    hints = {"container": "ross ps -a", "image": "ross images"}
    raise NotFound(f"no such {_what(kinds)}: {name}", hint=f"see: {', and '.join(hints[kind] for kind in kinds)}")


def _what(kinds: tuple[Kind, ...]) -> str:
    return kinds[0] if len(kinds) == 1 else "object"


async def _container(engine: Engine, name: str, *, sizes: bool) -> dict[str, Any]:
    from attrs import evolve

    from ross.cli.inspected import container_fields
    from ross.model.containers import ContainerFilter
    from ross.oci.codec import parse_json

    info = await engine.containers.get(name).now.info()
    config: dict[str, Any] = {}
    root_bytes = -1
    try:
        image = await engine.images.get(str(info.manifest))
        config = parse_json(await image.config(), what="the config")
        root_bytes = (await image.info()).unpacked_bytes if sizes else -1
    except RossError:
        root_bytes = 0 if sizes else -1  # of a damaged image there is nothing to tell
    if sizes:
        measured = await engine.containers.list(ContainerFilter(all=True, ids=(info.id,), sizes=True))
        info = evolve(info, written_bytes=sum(one.written_bytes for one in measured))
    execution = config.get("config")
    return container_fields(info, execution if isinstance(execution, dict) else {}, root_bytes=root_bytes)


async def _image(engine: Engine, name: str, *, referrers: bool) -> dict[str, Any]:
    from ross.cli.inspected_images import image_fields
    from ross.oci.codec import parse_json

    image = await engine.images.get(name)
    info = await image.info()
    config = parse_json(await image.config(), what="the config")
    manifest = parse_json(await image.manifest(), what="the manifest")
    asked = await image.referrers(_given(name, info.names)) if referrers else None
    return image_fields(info, config, manifest, referrers=asked)


def _given(name: str, names: Sequence[str]) -> str:
    """The name whose registry is to be asked: this very one, if it is one of the image's; else empty, for its first."""
    from ross.oci.reference import Reference

    try:
        given = str(Reference.parse(name).with_default_tag())
    except InvalidArgument:
        return ""
    return given if given in names else ""


def _shown(found: Sequence[dict[str, Any]], form: Format | Template) -> str:
    if not isinstance(form, str):
        return output.rendered(form, found)
    if form == "table":
        return "".join(
            output.table(("FIELD", "VALUE"), [(key, _short(value)) for key, value in one.items()]) for one in found
        )
    if form == "jsonl":
        return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in found)
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _short(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
