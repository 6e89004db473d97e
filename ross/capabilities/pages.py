"""Lists that may be longer than a message: as much of one as there is room for, and a reference to the rest.

So no number of things makes an answer too large, and nothing that one of them says of itself does: what is uncommonly long is abridged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from attrs import fields, frozen, has

from ross.wire.convert import to_wire
from ross.wire.schema import schema
from ross.wire.serving import Served

_PAGE_BYTES: Final = 4 << 20
"""A quarter of the largest message: thousands of containers as they usually are."""
_ENTRY_BYTES: Final = 128 << 10
"""Twice of what the labels of a container may take."""
_POINTER_BYTES: Final = 16
"""What a text takes in a message at least."""
_UNLIMITED: Final = 1 << 60
"""How many words of a message may be read, each time counted again: it is our own."""


class Abridgeable(Protocol):
    """A record that can be told of more briefly."""

    def abridge(self) -> Self: ...


R = TypeVar("R")


@frozen
class Said:
    """A record as a struct, which is copied into a list in a hundredth of the time that it takes to be made."""

    message: Any
    size: int
    """Bytes."""
    opened: Any
    """What keeps the struct."""


def say(record: Abridgeable, *, most_bytes: int = _ENTRY_BYTES) -> Said:
    """The struct of a record; of the abridged one if it would be larger."""
    if _has_many(record, most_bytes):  # which would take seconds to be put into words
        return say_whole(record.abridge())
    said = say_whole(record)
    return said if said.size <= most_bytes else say_whole(record.abridge())


def say_whole(record: Any) -> Said:
    """The struct of a record, which is of a bounded size."""
    kind = getattr(schema, type(record).__name__)
    # As bytes it is a tenth of what it is while it is being made: messages begin with room for much more.
    made = kind.new_message(**to_wire(record)).to_bytes()
    opened = kind.from_bytes(made, traversal_limit_in_words=_UNLIMITED)
    return Said(opened.__enter__(), len(made), opened)


def _has_many(record: Any, most_bytes: int) -> bool:
    """Whether a list or a dictionary in a record takes more than this by its pointers alone."""
    for field in fields(type(record)):
        value = getattr(record, field.name)
        if isinstance(value, tuple):
            if len(value) * _POINTER_BYTES > most_bytes:
                return True
        elif isinstance(value, dict):
            if len(value) * 2 * _POINTER_BYTES > most_bytes:
                return True
        elif has(type(value)) and _has_many(value, most_bytes):
            return True
    return False


@frozen
class Pages(Generic[R]):
    """How a list is answered."""

    field: str
    """Its name in the results."""
    server: Callable[[Pages[R], Sequence[R]], Any]
    """Makes the object that has the rest."""
    say: Callable[[R], Said] = say_whole

    def answer(self, results: Any, records: Sequence[R]) -> None:
        """Put into the results what they have room for, and a reference to the rest if there is one."""
        page: list[Said] = []
        room = _PAGE_BYTES
        for record in records:
            said = self.say(record)
            room -= said.size
            if page and room < 0:
                results.rest = self.server(self, records[len(page) :])
                break
            page.append(said)
        setattr(results, self.field, [said.message for said in page])


class _Rest(Served):
    """The rest of a list."""

    def __init__(self, pages: Pages[Any], records: Sequence[Any]) -> None:
        self._pages = pages
        self._records = records

    async def next_context(self, context: Any) -> None:
        self._pages.answer(context.results, self._records)


class ContainerPagesServer(_Rest, schema.ContainerPages.Server):  # type: ignore[misc]  # the schema is loaded at run time
    """The rest of a list of containers."""


class ImagePagesServer(_Rest, schema.ImagePages.Server):  # type: ignore[misc]  # as above
    """The rest of a list of images."""


class LoadedPagesServer(_Rest, schema.LoadedPages.Server):  # type: ignore[misc]  # as above
    """The rest of what was loaded."""


class SnapshotPagesServer(_Rest, schema.SnapshotPages.Server):  # type: ignore[misc]  # as above
    """The rest of a list of snapshots."""


class ContentPagesServer(_Rest, schema.ContentPages.Server):  # type: ignore[misc]  # as above
    """The rest of a list of content."""
