"""What templates look into: maps with anybody's keys, and things with the fields that Docker's have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final

from ross.errors import InvalidArgument


class Labels(dict[str, Any]):
    """A map whose keys are anybody's: they are sorted, as Go does, and one that is not there is no error."""

    def __init__(self, found: Mapping[str, Any] | None = None) -> None:
        super().__init__(sorted((found or {}).items()))


class NoList(list[Any]):
    """A list that there is not: it prints as an empty one, and is null in JSON."""


class Fields(dict[str, Any]):
    """A thing whose fields have other names in templates than in JSON, which are good too."""

    also: ClassVar[Mapping[str, str]] = {}
    """Names in templates, and what they stand for."""
    absent: ClassVar[Mapping[str, Any]] = {}
    """Fields that may be left out or null, and what they are then."""
    methods: ClassVar[Mapping[str, Callable[..., Any]]] = {}
    """What is given something: the thing itself, and then what stands behind the name."""


NO_LIST: Final = NoList()


def look_up(value: Any, name: str) -> Any:
    """A field, or what a map has under a key.

    Raises:
        InvalidArgument: there is no such field.
    """
    if isinstance(value, Fields):
        name = value.also.get(name, name)
        if name in value.absent:
            found = value.get(name)
            return value.absent[name] if found is None else found
    if isinstance(value, Labels):
        return value.get(name)
    if not isinstance(value, Mapping) or name not in value:
        known = ", ".join(map(str, value)) if isinstance(value, Mapping) else "none"
        raise InvalidArgument(f"there is no field {name!r} for the template", hint=f"the fields are {known}")
    return value[name]
