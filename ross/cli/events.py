"""``ross events``: what happens, as it happens."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from cyclopts import Parameter

from ross.cli import output
from ross.cli.session import with_engine
from ross.cli.template_values import Fields, Labels
from ross.errors import InvalidArgument
from ross.model.events import Event, EventFilter, EventGap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ross.client import Engine

_FILTERS = {"type": "kinds", "event": "actions", "container": "containers", "image": "images", "label": "labels"}


def events(
    *,
    since: str = "",
    until: str = "",
    after: int = 0,
    filter: Annotated[tuple[str, ...], Parameter(name=["--filter", "-f"], negative=())] = (),  # noqa: A002 -- the flag's name
    format: str = "text",  # noqa: A002 -- the flag's name
) -> None:
    """Print what happens, as it happens.

    Parameters
    ----------
    since
        Begin with what has happened since this time: 2026-01-31T12:00:00Z, seconds since the epoch, or how long ago, as 10m. The
        daemon knows the last few thousand events since it began.
    until
        End at this time, in the same forms.
    after
        Begin behind the event with this sequence number, as in the last line that --format json has printed.
    filter
        type=container|image|registry, event=ACTION, container=NAME, image=NAME or label=KEY[=VALUE]. May be repeated: of one kind any
        may hold, except of labels; of several kinds each must.
    format
        text, json (an object a line), jsonl, or a template such as '{{.Action}} {{.Actor.ID}}'.
    """
    from ross.cli.parse import parse_time

    if after < 0:
        raise InvalidArgument(f"--after takes the sequence number of an event, not {after}")
    wanted = parse_event_filter(filter)
    begin, end = (parse_time(text) if text else 0 for text in (since, until))
    show = _shower(format)

    async def body(engine: Engine) -> None:
        async with engine.events(after=after, since=begin, until=end, wanted=wanted) as found:
            async for one in found:
                show(one)

    with_engine(body)


def parse_event_filter(terms: Sequence[str]) -> EventFilter:
    """``key=value`` terms of ``events --filter``.

    Raises:
        InvalidArgument: a term is not one that there is.
    """
    found: dict[str, list[str]] = {field: [] for field in _FILTERS.values()}
    for term in terms:
        key, _equals, value = term.partition("=")
        if key not in _FILTERS or not value:
            raise InvalidArgument(f"{term!r} is not a filter of events", hint=f"there are {', '.join(_FILTERS)}")
        found[_FILTERS[key]].append(value)
    return EventFilter(**{field: tuple(values) for field, values in found.items()})


def _shower(form: str) -> Callable[[Event | EventGap], None]:
    """What prints an event, or that some are missing: among the events for programs, else beside them."""
    from ross.cli.template import Template, is_template

    if form in {"json", "jsonl"}:
        return lambda one: output.write(json.dumps(fields(one), ensure_ascii=False, separators=(",", ":")) + "\n")
    if is_template(form):
        template = Template(form)
        if template.is_table:
            raise InvalidArgument("events come one by one, and not as a table", hint="leave 'table' away")
        return _show_in(lambda event: template.render(fields(event)))
    if form != "text":
        raise InvalidArgument(
            f"there is no format {form!r}", hint="write text, json, jsonl, or a template such as '{{.Action}}'"
        )

    return _show_in(line)


def _show_in(text: Callable[[Event], str]) -> Callable[[Event | EventGap], None]:
    def show(one: Event | EventGap) -> None:
        if isinstance(one, EventGap):
            sys.stderr.write(f"warning: {one.lost or 'some'} events are missing here\n")
        else:
            output.write(output.line(text(one)))

    return show


def line(event: Event) -> str:
    """An event in words: time, kind, action, what it is about, and more in brackets."""
    attributes = ", ".join(f"{key}={value}" for key, value in sorted(_attributes(event).items()))
    return f"{_time(event.time)} {event.kind} {event.action} {event.subject}" + (
        f" ({attributes})" if attributes else ""
    )


class EventFields(Fields):
    """An event, as templates call its fields."""

    also: ClassVar[Mapping[str, str]] = {
        "Status": "status",
        "ID": "id",
        "From": "from",
        "Scope": "scope",
        "Time": "time",
        "TimeNano": "timeNano",
        "Sequence": "sequence",
    }


def fields(one: Event | EventGap) -> dict[str, Any]:
    """An event under the names that Docker has for it, and its sequence number."""
    if isinstance(one, EventGap):
        return {"Type": "gap", "lost": one.lost}
    return EventFields({
        "status": one.action,
        "id": one.subject,
        "from": one.attributes.get("image", ""),
        "Type": one.kind,
        "Action": one.action,
        "Actor": {"ID": one.subject, "Attributes": Labels(_attributes(one))},
        "scope": "local",
        "time": one.time // 10**9,
        "timeNano": one.time,
        "sequence": one.sequence,
    })


def _attributes(event: Event) -> dict[str, str]:
    """All that is said of it: a label never hides what we say."""
    return {**event.labels, **({"name": event.name} if event.name else {}), **event.attributes}


def _time(nanoseconds: int) -> str:
    """In this place's time, to the nanosecond."""
    whole = datetime.fromtimestamp(nanoseconds // 10**9).astimezone()
    zone = whole.strftime("%z")
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{nanoseconds % 10**9:09d}{zone}"
