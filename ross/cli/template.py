"""``--format '{{.ID}} {{.Names}}'``: the part of Go's text/template that people use with container engines.

Fields and keys (``.Names``, ``.A.B``), ``json``, ``len``, ``index``, ``join``, ``split``, ``lower``, ``upper``, ``title``, ``println``,
pipes, ``if``/``else``, ``range`` and ``end``; texts in double or back quotes, numbers. ``table`` before the template makes columns, with
headings.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Final

from attrs import field, frozen

from ross.errors import InvalidArgument

_ACTION: Final = re.compile(r"\{\{(-?)\s*(.*?)\s*(-?)\}\}", re.DOTALL)
_WORD: Final = re.compile(r'\s*("(?:[^"\\]|\\.)*"|`[^`]*`|\||\(|\)|[^\s|()]+)')
_ESCAPES: Final = {r"\t": "\t", r"\n": "\n"}


@frozen
class _Text:
    text: str


@frozen
class _Value:
    pipeline: tuple[tuple[Any, ...], ...]


@frozen
class _Block:
    kind: str
    pipeline: tuple[tuple[Any, ...], ...]
    body: list[Any] = field(factory=list)
    otherwise: list[Any] = field(factory=list)


@frozen
class _Field:
    path: tuple[str, ...]


class Labels(dict[str, Any]):
    """A map whose keys are anybody's: one that is not there is no error."""


class Fields(dict[str, Any]):
    """A thing whose fields have other names in templates than in JSON, which are good too."""

    also: ClassVar[Mapping[str, str]] = {}
    """Names in templates, and what they stand for."""


class Template:
    """A template, parsed.

    Raises:
        InvalidArgument: it is none.
    """

    def __init__(self, text: str) -> None:
        for escape, character in _ESCAPES.items():
            text = text.replace(escape, character)
        self.is_table = text.startswith("table")
        self._text = text.removeprefix("table").lstrip() if self.is_table else text
        self._nodes = _parse(self._text)

    def render(self, value: Mapping[str, Any]) -> str:
        """The text for one thing.

        Raises:
            InvalidArgument: it asks for a field that the thing does not have.
        """
        return "".join(_render(self._nodes, value))

    def headings(self) -> str:
        """The text with the names of fields in the place of their values, in capitals."""
        return _ACTION.sub(lambda found: found[2].split(".")[-1].upper(), self._text)


def is_template(text: str) -> bool:
    """Whether a ``--format`` is a template, and not the name of a form."""
    return "{{" in text


def _parse(text: str) -> list[Any]:
    top: list[Any] = []
    lists, open_blocks = [top], list[_Block]()
    position = 0
    for found in _ACTION.finditer(text):
        before = text[position : found.start()]
        lists[-1].append(_Text(before.rstrip() if found[1] else before))
        position = found.end()
        if found[3]:
            position += len(text[position:]) - len(text[position:].lstrip())
        _parse_action(found[2], lists, open_blocks)
    if open_blocks:
        raise InvalidArgument(f"the template has a {open_blocks[-1].kind} without its end", hint="write {{end}}")
    if "{{" in text[position:]:
        raise InvalidArgument("the template has a '{{' without its '}}'")
    top.append(_Text(text[position:]))
    return top


def _parse_action(action: str, lists: list[list[Any]], open_blocks: list[_Block]) -> None:
    keyword, _space, rest = action.partition(" ")
    if keyword in {"if", "range"}:
        block = _Block(keyword, _pipeline(rest))
        lists[-1].append(block)
        open_blocks.append(block)
        lists.append(block.body)
    elif keyword in {"else", "end"}:
        if not open_blocks:
            raise InvalidArgument(f"the template has an {keyword} that nothing begins")
        lists.pop()
        if keyword == "else":
            lists.append(open_blocks[-1].otherwise)
        else:
            open_blocks.pop()
    else:
        lists[-1].append(_Value(_pipeline(action)))


def _pipeline(text: str) -> tuple[tuple[Any, ...], ...]:
    words, position = [], 0
    while position < len(text.rstrip()):
        found = _WORD.match(text, position)
        if found is None or found[1] in {"(", ")"}:
            raise InvalidArgument(f"the template's {text!r} is not understood", hint="use fields, pipes and functions")
        words.append(found[1])
        position = found.end()
    stages: list[list[Any]] = [[]]
    for word in words:
        if word == "|":
            stages.append([])
        else:
            stages[-1].append(_operand(word, first=not stages[-1]))
    if not all(stages):
        raise InvalidArgument(f"the template's {text!r} has nothing in it where something must be")
    return tuple(tuple(stage) for stage in stages)


def _operand(word: str, *, first: bool) -> Any:
    if word.startswith("."):
        return _Field(tuple(part for part in word.split(".") if part))
    if word[0] in '"`':
        return json.loads(word) if word[0] == '"' else word[1:-1]
    if word.lstrip("-").isdigit():
        return int(word)
    if first and word in _FUNCTIONS:
        return _FUNCTIONS[word]
    raise InvalidArgument(
        f"the template's {word!r} is no field and no function", hint=f"functions: {', '.join(_FUNCTIONS)}"
    )


def _render(nodes: list[Any], value: Any) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, _Text):
            yield node.text
        elif isinstance(node, _Value):
            yield _text(_evaluate(node.pipeline, value))
        elif node.kind == "if":
            yield from _render(node.body if _evaluate(node.pipeline, value) else node.otherwise, value)
        else:
            found = _evaluate(node.pipeline, value)
            items = list(found.values()) if isinstance(found, Mapping) else list(found or ())
            if not items:
                yield from _render(node.otherwise, value)
            for item in items:
                yield from _render(node.body, item)


def _evaluate(pipeline: tuple[tuple[Any, ...], ...], value: Any) -> Any:
    result: list[Any] = []
    for head, *rest in pipeline:
        operands = [_resolve(one, value) for one in rest] + result
        if callable(head):
            try:
                result = [head(*operands)]
            except (TypeError, LookupError, ValueError) as error:
                raise InvalidArgument(f"a function of the template cannot do that: {error}") from None
        elif operands:
            raise InvalidArgument("the template gives something to what is no function")
        else:
            result = [_resolve(head, value)]
    return result[0]


def _resolve(operand: Any, value: Any) -> Any:
    if not isinstance(operand, _Field):
        return operand
    for part in operand.path:
        if isinstance(value, Fields):
            part = value.also.get(part, part)
        if isinstance(value, Labels) and part not in value:
            return None
        if not isinstance(value, Mapping) or part not in value:
            known = ", ".join(value) if isinstance(value, Mapping) else "none"
            raise InvalidArgument(f"there is no field {part!r} for the template", hint=f"the fields are {known}")
        value = value[part]
    return value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "<no value>"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{_text(one)}" for key, one in value.items()) + "]"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + " ".join(map(_text, value)) + "]"
    return str(value)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value.get(key, "") if isinstance(value, Mapping) else value[key]
    return value


_FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "json": lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")),
    "len": len,
    "index": _index,
    "join": lambda values, separator: separator.join(map(_text, values)),
    "split": lambda text, separator: text.split(separator),
    "lower": str.lower,
    "upper": str.upper,
    "title": str.title,
    "println": lambda *values: " ".join(map(_text, values)) + "\n",
}
