"""``ross tag``, ``untag``, ``history``: what images are called, and how they came to be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from ross.cli import output
from ross.cli.session import with_engine

if TYPE_CHECKING:
    from ross.client import Engine
    from ross.model.images import History

_COMMAND_CHARACTERS: Final = 45
_FIELDS: Final = ("ID", "CreatedSince", "CreatedBy", "Size", "Comment")
HEADINGS: Final = {"ID": "IMAGE", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "CreatedBy": "CREATED BY"}
"""Where they are not the names of the fields."""


def tag(source: str, target: str, /) -> None:
    """Give an image one more name.

    Parameters
    ----------
    source
        A name, an id or a digest.
    target
        [registry/]name[:tag]. If it denotes another image, it is moved.
    """

    async def body(engine: Engine) -> None:
        await (await engine.images.get(source)).tag(target)

    with_engine(body)


def untag(image: str, /, *name: str) -> None:
    """Take names away from an image. Nothing is deleted: rmi does that too.

    Parameters
    ----------
    image
        A name, an id or a digest.
    name
        Names of this image; all that it has, if none is given.
    """

    async def body(engine: Engine) -> None:
        untagged = await engine.images.untag(image, name)
        output.write("".join(f"Untagged: {one}\n" for one in untagged))

    with_engine(body)


def history(
    image: str,
    /,
    *,
    human: Annotated[bool, Parameter(name=["--human", "-H"], negative=())] = True,
    no_trunc: Annotated[bool, Parameter(negative=())] = False,
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"], negative=())] = False,
    format: str = "table",  # noqa: A002 -- the flag's name
) -> None:
    """Show how an image was made, the last step first.

    Parameters
    ----------
    image
        A name, an id or a digest.
    human
        Sizes and times in words; with --human=false in bytes, and as dates.
    no_trunc
        Print ids and commands in full.
    quiet
        Print ids only.
    format
        table, json, jsonl, or a template such as '{{.ID}} {{.CreatedBy}}', with 'table ' before it for columns.
    """
    form = output.parse_format(format)

    async def body(engine: Engine) -> None:
        steps = await (await engine.images.get(image)).history()
        if quiet:
            output.write("".join(f"{_identity(step, no_trunc=no_trunc)}\n" for step in steps))
        elif isinstance(form, str) and form != "table":
            output.write(output.records(steps, form))
        else:
            rows = [_row(step, human=human, no_trunc=no_trunc) for step in steps]
            if not isinstance(form, str):
                output.write(output.rendered(form, rows, HEADINGS))
                return
            headings = [HEADINGS.get(key, key.upper()) for key in _FIELDS]
            output.write(output.table(headings, [[row[key] for key in _FIELDS] for row in rows]))

    with_engine(body)


def _identity(step: History, *, no_trunc: bool) -> str:
    if step.id is None:
        return "<missing>"
    return str(step.id) if no_trunc else step.id.short


def _row(step: History, *, human: bool, no_trunc: bool) -> dict[str, str]:
    """A step, under the names of ``docker history --format``."""
    command = " ".join(step.created_by.split())
    if not no_trunc and len(command) > _COMMAND_CHARACTERS:
        command = f"{command[: _COMMAND_CHARACTERS - 1]}\N{HORIZONTAL ELLIPSIS}"
    return {
        "ID": _identity(step, no_trunc=no_trunc),
        "CreatedAt": _date(step.created_at),
        "CreatedSince": _ago(step.created_at) if human else _date(step.created_at),
        "CreatedBy": command,
        "Size": output.size(step.size_bytes) if human else str(step.size_bytes),
        "Comment": step.comment,
    }


def _ago(nanoseconds: int) -> str:
    return f"{output.ago(nanoseconds)} ago" if nanoseconds else "N/A"


def _date(nanoseconds: int) -> str:
    return (
        datetime.fromtimestamp(nanoseconds // 10**9, UTC).isoformat().replace("+00:00", "Z") if nanoseconds else "N/A"
    )
