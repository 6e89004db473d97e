"""The functions of templates: those of Go's text/template, and those that Docker adds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from ross.cli.template_values import NoList

_VERBS: Final = frozenset("sdvqtxXf%")
_MAX_WIDTH: Final = 1000


def show_value(value: Any) -> str:
    """A value as a template prints it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "<no value>"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{show_value(one)}" for key, one in value.items()) + "]"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + " ".join(map(show_value, value)) + "]"
    return str(value)


def _json(value: Any) -> str:
    if isinstance(value, NoList):
        return "null"
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key, "")
        elif value is None or isinstance(value, str) or not isinstance(key, int) or key < 0:
            raise LookupError(f"there is no {show_value(key)} in {show_value(value)}")
        else:
            value = value[key]
    return value


def _slice(value: Any, *bounds: int) -> Any:
    if any(not 0 <= bound <= len(value) for bound in bounds) or len(bounds) > 2:
        raise IndexError(f"it has the length {len(value)}")
    begin, end = (*bounds, *(0, len(value))[len(bounds) :])
    return value[begin:end]


def _eq(first: Any, *others: Any) -> bool:
    return any(first == other for other in others)


def _print(*values: Any) -> str:
    """With spaces between what is no text, on either side."""
    done = ""
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            done += " "
        done += show_value(value)
    return done


def _printf(form: str, *values: Any) -> str:
    done, rest, position = [], list(values), 0
    while position < len(form):
        if form[position] != "%":
            done.append(form[position])
            position += 1
            continue
        end = position + 1
        while end < len(form) and form[end] in "-+ 0123456789.#":
            end += 1
        verb, flags = form[end : end + 1], form[position + 1 : end]
        if verb not in _VERBS:
            raise ValueError(f"there is no %{verb}")
        done.append("%" if verb == "%" else _formatted(flags, verb, rest.pop(0) if rest else None))
        position = end + 1
    return "".join(done)


def _formatted(flags: str, verb: str, value: Any) -> str:
    widths = [int(part) for part in flags.replace("-", "").strip("+ 0#").split(".") if part]
    if any(width > _MAX_WIDTH for width in widths):
        raise ValueError(f"the width of %{flags}{verb} is too large")
    if verb in "svt":
        return _with(flags.replace("#", ""), "s", show_value(value))
    if verb == "q":
        return _with(flags, "s", json.dumps(show_value(value), ensure_ascii=False))
    if verb in "xX" and isinstance(value, str):
        value = value.encode().hex()
        return _with(flags, "s", value.upper() if verb == "X" else value)
    return _with(flags, verb, value)


def _with(flags: str, verb: str, value: object) -> str:
    done: str = f"%{flags}{verb}" % (value,)
    return done


def _pad(text: str, before: int, behind: int) -> str:
    return " " * min(before, _MAX_WIDTH) + text + " " * min(behind, _MAX_WIDTH) if text else text


def _needs_operands(*_operands: Any) -> Any:
    raise TypeError("it takes something")


FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "and": _needs_operands,
    "or": _needs_operands,
    "not": lambda value: not value,
    "eq": _eq,
    "ne": lambda first, other: first != other,
    "lt": lambda first, other: first < other,
    "le": lambda first, other: first <= other,
    "gt": lambda first, other: first > other,
    "ge": lambda first, other: first >= other,
    "index": _index,
    "slice": _slice,
    "len": len,
    "print": _print,
    "printf": _printf,
    "println": lambda *values: " ".join(map(show_value, values)) + "\n",
    "json": _json,
    "join": lambda values, separator: separator.join(map(show_value, values)),
    "split": lambda text, separator: text.split(separator),
    "lower": str.lower,
    "upper": str.upper,
    "title": str.title,
    "truncate": lambda text, length: text[:length],
    "pad": _pad,
}
