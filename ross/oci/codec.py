"""JSON in and out, in one place: strict where Ross reads what others wrote, stable where Ross writes.

Documents of the specs may carry unknown fields (the specs require that they are ignored); Ross's own files may not.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from ross.errors import Corrupt, InvalidArgument
from ross.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

MAX_DOCUMENT_BYTES: Final = 4 << 20
"""The largest manifest, index or config that is read; the distribution-spec asks registries to take at least as much."""


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.title() for part in tail)


def _strict(kind: type) -> Callable[[Any, Any], Any]:
    def structure(value: object, _: object) -> object:
        if type(value) is not kind:
            raise TypeError(f"expected {kind.__name__}, found {type(value).__name__}")
        return value

    return structure


def _digest(value: object, _: object) -> Digest:
    if not isinstance(value, str):
        raise TypeError("a digest is a string")
    return Digest.parse(value)


def _converter(*, forbid_extra_keys: bool, rename: bool) -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=forbid_extra_keys, detailed_validation=False)
    for kind in (str, int, bool):
        converter.register_structure_hook(kind, _strict(kind))
    converter.register_structure_hook(Digest, _digest)
    converter.register_unstructure_hook(Digest, str)

    def json_name(attribute: attrs.Attribute[object]) -> str:
        given = attribute.metadata.get("json")
        if isinstance(given, str):
            return given
        return _camel(attribute.name) if rename else attribute.name

    def structure_factory(cls: Any) -> Any:
        renames = {a.name: override(rename=json_name(a)) for a in attrs.fields(cls)}
        return make_dict_structure_fn(
            cls,
            converter,
            _cattrs_forbid_extra_keys=forbid_extra_keys,
            _cattrs_detailed_validation=False,
            **renames,  # type: ignore[arg-type]  # overrides are keyed by attribute name
        )

    def unstructure_factory(cls: Any) -> Any:
        renames = {a.name: override(rename=json_name(a), omit_if_default=rename) for a in attrs.fields(cls)}
        return make_dict_unstructure_fn(cls, converter, **renames)  # type: ignore[arg-type]  # as above

    converter.register_structure_hook_factory(attrs.has, structure_factory)
    converter.register_unstructure_hook_factory(attrs.has, unstructure_factory)
    return converter


_documents: Final = _converter(forbid_extra_keys=False, rename=True)
_records: Final = _converter(forbid_extra_keys=True, rename=False)


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    # Two readers that keep different twins of a key see two documents in the same bytes (CVE-2021-41190's family).
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is not JSON")


def parse_json(data: bytes, *, what: str) -> dict[str, object]:
    """Read a JSON object.

    Raises:
        Corrupt: it is not UTF-8, not JSON, not an object, nested too deep, too large, or repeats a key.
    """
    value = _parse(data, what)
    if not isinstance(value, dict):
        raise Corrupt(f"{what} is not a JSON object")
    return value


def _parse(data: bytes, what: str) -> object:
    if len(data) > MAX_DOCUMENT_BYTES:
        raise Corrupt(f"{what} has {len(data)} bytes, more than the {MAX_DOCUMENT_BYTES} that Ross reads")
    try:
        value: object = json.loads(data.decode(), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Corrupt(f"{what} is not valid JSON: {error}") from None
    if b"\\u" in data:  # the only way to half a surrogate pair, which is text that nothing else can take
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise Corrupt(f"{what} has text in it that is not Unicode") from None
    return value


def read_documents(data: bytes, kind: type[T], *, what: str) -> tuple[T, ...]:
    """A JSON array of spec documents.

    Raises:
        Corrupt: it is not an array, or something of it is not of that kind.
    """
    values = _parse(data, what)
    if not isinstance(values, list):
        raise Corrupt(f"{what} is not a JSON array")
    return tuple(_structure(_documents, value, kind, what) for value in values)


def structure_document(value: dict[str, object], kind: type[T], *, what: str) -> T:
    """Turn a parsed spec document into a value, ignoring fields that it does not know.

    Raises:
        Corrupt: a field is missing, or has another type than the spec gives it.
    """
    return _structure(_documents, value, kind, what)


def read_document(data: bytes, kind: type[T], *, what: str) -> T:
    """:func:`parse_json`, then :func:`structure_document`."""
    return structure_document(parse_json(data, what=what), kind, what=what)


def write_document(value: object) -> bytes:
    """A spec document as JSON, in the field names of the spec, defaults left out."""
    return _write(_documents.unstructure(value))


def read_record(data: bytes, kind: type[T], *, what: str) -> T:
    """Read one of Ross's own files; unknown fields are refused.

    Raises:
        Corrupt: it is not what :func:`write_record` wrote.
    """
    return _structure(_records, parse_json(data, what=what), kind, what)


def write_record(value: object) -> bytes:
    """One of Ross's own files as JSON."""
    return _write(_records.unstructure(value))


def write_plain(value: dict[str, object]) -> bytes:
    """A document that is kept as a dictionary, since it may have fields that Ross does not know."""
    return _write(value)


def to_plain(value: object) -> object:
    """A record as dictionaries, lists and scalars, in snake_case: the shape of ``--format json``."""
    return _records.unstructure(value)


def _write(plain: object) -> bytes:
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":")).encode()


def _structure(converter: cattrs.Converter, value: object, kind: type[T], what: str) -> T:
    try:
        return converter.structure(value, kind)
    except InvalidArgument as error:
        raise Corrupt(f"{what} is malformed: {error}") from None
    except KeyError as error:
        raise Corrupt(f"{what} is malformed: {error} is missing") from None
    except (TypeError, ValueError, AttributeError, RecursionError, cattrs.BaseValidationError) as error:
        raise Corrupt(f"{what} is malformed: {error}") from None
    except cattrs.ForbiddenExtraKeysError as error:
        raise Corrupt(f"{what} is malformed: {error}") from None
