"""Records to messages and back, by the definition of the record alone.

A field ``created_at`` of a record is the field ``createdAt`` of the struct. ``None`` is a null pointer; a dictionary of texts is a list of
pairs; an enumeration's value is the enumerant's name, and a name that we do not know becomes ``unknown``.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from functools import cache
from typing import Any, TypeVar

import attrs

from ross.errors import InvalidArgument
from ross.oci.digest import Digest
from ross.wire.schema import schema

T = TypeVar("T")
Decode = Callable[[Any], Any]
Encode = Callable[[Any], Any]


def camel_case(name: str) -> str:
    """``created_at`` as the schema spells it: ``createdAt``."""
    head, *tail = name.split("_")
    return head + "".join(part.title() for part in tail)


def to_wire(record: Any) -> dict[str, Any]:
    """A dictionary that pycapnp copies into the struct of the record's shape.

    What the receiver reads from an empty message too is left out: of a container's fields that is most, and each costs two microseconds.

    Raises:
        InvalidArgument: something else stands in it where a record or a member of an enumeration belongs.
    """
    message: dict[str, Any] = {}
    for name, wire_name, encode, absent in _encoders(typing.cast("Any", type(record))):
        value = getattr(record, name)
        if value is not None and value != absent:
            message[wire_name] = encode(value)
    return message


def from_wire(cls: type[T], reader: Any) -> T:
    """The record that a struct stands for.

    Raises:
        InvalidArgument: a digest in it is not one.
    """
    return cls(**{name: decode(reader) for name, decode in _decoders(typing.cast("Any", cls))})


@cache
def _encoders(cls: Any) -> tuple[tuple[str, str, Encode, Any], ...]:
    hints, absent = typing.get_type_hints(cls), _absent(cls)
    return tuple(
        (field.name, camel_case(field.name), _encoder(hints[field.name]), absent.get(field.name))
        for field in attrs.fields(cls)
    )


def _absent(cls: Any) -> dict[str, Any]:
    """What a receiver makes of fields that no message has, by the schema; without those that must be there."""
    empty = getattr(schema, cls.__name__).new_message().as_reader()
    found: dict[str, Any] = {}
    for name, decode in _decoders(cls):
        with suppress(InvalidArgument):
            found[name] = decode(empty)
    return found


@cache
def _decoders(cls: Any) -> tuple[tuple[str, Decode], ...]:
    hints = typing.get_type_hints(cls)
    return tuple((field.name, _field_decoder(camel_case(field.name), hints[field.name])) for field in attrs.fields(cls))


def _without_none(hint: Any) -> tuple[Any, bool]:
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        (inner,) = (part for part in typing.get_args(hint) if part is not type(None))
        return inner, True
    return hint, False


def _encoder(hint: Any) -> Encode:
    hint, _optional = _without_none(hint)
    if hint in {str, int, bool, bytes}:
        return _same
    if hint is Digest:
        return str
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        item = _encoder(arguments[0])
        return list if item is _same else lambda values: [item(value) for value in values]
    if origin is dict:
        return lambda pairs: [{"key": key, "value": value} for key, value in pairs.items()]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return lambda member: _checked(member, hint).value
    if isinstance(hint, type) and attrs.has(hint):
        return lambda record: to_wire(_checked(record, hint))
    raise TypeError(f"a record of the wire cannot have a field of type {hint}")


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise InvalidArgument(
            f"{value!r:.200} is no {kind.__name__}", hint=f"it is made by {kind.__module__}.{kind.__name__}"
        )
    return value


def _same(value: Any) -> Any:
    return value


def _field_decoder(wire_name: str, hint: Any) -> Decode:
    hint, optional = _without_none(hint)
    decode = _decoder(hint)
    if optional:
        return lambda reader: decode(getattr(reader, wire_name)) if reader._has(wire_name) else None  # noqa: SLF001 -- pycapnp's spelling
    if decode is _same:
        return lambda reader: getattr(reader, wire_name)
    return lambda reader: decode(getattr(reader, wire_name))


def _decoder(hint: Any) -> Decode:
    if hint in {str, int, bool, bytes}:
        return _same
    if hint is Digest:
        return Digest.parse
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is tuple:
        item = _decoder(arguments[0])
        return tuple if item is _same else lambda values: tuple(item(value) for value in values)
    if origin is dict:
        return lambda pairs: {pair.key: pair.value for pair in pairs}
    if isinstance(hint, type) and issubclass(hint, Enum):
        members = {member.value: member for member in hint}
        unknown = members["unknown"]
        return lambda value: members.get(_enumerant(value), unknown)
    if isinstance(hint, type) and attrs.has(hint):
        return lambda reader: from_wire(hint, reader)
    raise TypeError(f"a record of the wire cannot have a field of type {hint}")


def _enumerant(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 -- pycapnp raises a KjException for an enumerant that it does not know
        return "unknown"
