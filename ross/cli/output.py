"""What is printed: tables for people, JSON for programs, and sizes and times in words."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from ross.errors import FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ross.cli.template import Template

Format = Literal["table", "json", "jsonl"]


def write(text: str) -> None:
    """Print to standard output, at once.

    Raises:
        BrokenPipeError: nobody reads it any more.
        FailedPrecondition: it cannot be written.
    """
    with told():
        if sys.stdout is None:  # it was closed before we began
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        sys.stdout.write(text)


@contextmanager
def told() -> Iterator[None]:
    """Print something, at once: what our output does not take is told, with the reason; what is printed later goes nowhere.

    Raises:
        BrokenPipeError: nobody reads it any more.
        FailedPrecondition: it cannot be written.
    """
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 -- as long as the process
        raise unwritten(error) from None


def unwritten(error: OSError) -> FailedPrecondition:
    """What is told of an output that takes no more."""
    return FailedPrecondition(f"the output cannot be written: {error.strerror}")


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns, as wide as they must be; never wrapped, never cut."""
    lines = [tuple(headings), *(tuple(_printable(cell) for cell in row) for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(headings))]
    return "".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )


def parse_format(text: str) -> Format | Template:
    """``--format`` of what can also be told by a template.

    Raises:
        InvalidArgument: it is neither a form nor a template.
    """
    from ross.cli.template import Template, is_template

    if is_template(text):
        return Template(text)
    if text not in get_args(Format):
        raise InvalidArgument(
            f"there is no format {text!r}", hint="write table, json, jsonl, or a template such as '{{.ID}}'"
        )
    return cast("Format", text)


def rendered(template: Template, values: Sequence[Mapping[str, Any]], headings: Mapping[str, str] | None = None) -> str:
    """A line for each thing, by a template; in columns if it begins with ``table``.

    Args:
        template: The template.
        values: The things.
        headings: Of the columns whose headings are not the names of their fields.

    Raises:
        InvalidArgument: the template asks for what the things do not have.
    """
    lines = [template.render(value) for value in values]
    if not template.is_table:
        return "".join(f"{_printable_line(one)}\n" for one in lines)
    return table(template.headings(headings).split("\t"), [one.split("\t") for one in lines])


def records(values: Sequence[object], form: Format) -> str:
    """Records as one JSON array, or one JSON object a line."""
    from ross.oci.codec import to_plain

    plain = [to_plain(value) for value in values]
    if form == "jsonl":
        return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in plain)
    return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"


def document(value: object, form: Format) -> str:
    """One record as JSON."""
    from ross.oci.codec import to_plain

    plain: Any = to_plain(value)
    return json.dumps(plain, indent=None if form == "jsonl" else 2, ensure_ascii=False) + "\n"


def size(count: int) -> str:
    """Bytes in decimal units, three figures: ``1.23MB``."""
    value, units = float(count), iter(("B", "kB", "MB", "GB", "TB", "PB"))
    unit = next(units)
    while value >= 999.5 and unit != "PB":
        value /= 1000
        unit = next(units)
    return f"{value:.3g}{unit}"


def binary_size(count: int) -> str:
    """Bytes in binary units, four figures: ``1.234MiB``."""
    value, units = float(count), iter(("B", "KiB", "MiB", "GiB", "TiB", "PiB"))
    unit = next(units)
    while value >= 1023.95 and unit != "PiB":
        value /= 1024
        unit = next(units)
    return f"{value:.4g}{unit}"


def ago(nanoseconds: int, *, now: int | None = None) -> str:
    """How long since a time: ``3 minutes``; ``N/A`` for no time."""
    if not nanoseconds:
        return "N/A"
    seconds = max(0, ((now or time.time_ns()) - nanoseconds) // 10**9)
    if seconds < 1:
        return "Less than a second"
    for unit, length, limit in (
        ("second", 1, 60), ("minute", 60, 3600), ("hour", 3600, 48 * 3600), ("day", 86400, 14 * 86400),
        ("week", 7 * 86400, 60 * 86400), ("month", 30 * 86400, 730 * 86400), ("year", 365 * 86400, 1 << 62),
    ):  # fmt: skip
        if seconds < limit:
            count = seconds // length
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return "N/A"


def moment(nanoseconds: int) -> str:
    """A time as Docker's lists have it: in our zone, without fractions."""
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(nanoseconds // 10**9, tz=UTC).astimezone():%Y-%m-%d %H:%M:%S %z %Z}"


def line(text: str) -> str:
    """A line that cannot steer a terminal, whoever has chosen its words."""
    return f"{_printable(text)}\n"


def write_bytes(fd: int, data: bytes) -> None:
    """Write all of it, unbuffered and unchanged.

    Raises:
        BrokenPipeError: nobody reads it any more.
        FailedPrecondition: it is for our standard output, and cannot be written.
        OSError: it is for another file, and cannot be written.
    """
    with told() if fd in {1, 2} else nullcontext():
        write_all(fd, data)


def write_all(fd: int, data: bytes) -> None:
    """Write all of it, unbuffered and unchanged.

    Raises:
        OSError: it cannot be written.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def is_lost(error: OSError) -> bool:
    """Whether what could not be written was wanted: nobody wants it who has closed what it is for."""
    return error.errno not in {errno.EPIPE, errno.EBADF}


def _printable_line(text: str) -> str:
    return "\n".join("\t".join(map(_printable, line.split("\t"))) for line in text.split("\n"))


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
