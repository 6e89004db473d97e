"""``--format '{{.ID}} {{.Names}}'``: Go's text/template, as far as people use it with container engines.

Fields and keys (``.Names``, ``.A.B``, ``(index .A 0).B``), variables, ``if``, ``else if``, ``else``, ``with``, ``range`` and ``end``,
pipes, texts in double or back quotes, numbers, comments, and the functions of :mod:`ross.cli.template_functions`. ``table`` before the
template makes columns, with headings.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, ClassVar, Final

from ross.cli.template_functions import FUNCTIONS, show_value
from ross.cli.template_syntax import ACTION, Branch, Function, Literal, Node, Path, Pipeline, Text, parse
from ross.errors import InvalidArgument

_ESCAPES: Final = {r"\t": "\t", r"\n": "\n"}
_Scope = ChainMap[str, Any]


class Labels(dict[str, Any]):
    """A map whose keys are anybody's: one that is not there is no error."""


class Fields(dict[str, Any]):
    """A thing whose fields have other names in templates than in JSON, which are good too."""

    also: ClassVar[Mapping[str, str]] = {}
    """Names in templates, and what they stand for."""
    absent: ClassVar[frozenset[str]] = frozenset()
    """Fields that may be left out, and are nothing then."""


class Template:
    """A template, parsed.

    Raises:
        InvalidArgument: it is none.
    """

    def __init__(self, text: str) -> None:
        for escape, character in _ESCAPES.items():
            text = _outside_actions(text, escape, character)
        self.is_table = text.startswith("table")
        self._text = text.removeprefix("table").lstrip() if self.is_table else text
        self._nodes = parse(self._text)

    def render(self, value: Mapping[str, Any]) -> str:
        """The text for one thing.

        Raises:
            InvalidArgument: it asks for a field that the thing does not have.
        """
        return "".join(_render(self._nodes, ChainMap({".": value, "$": value})))

    def headings(self) -> str:
        """The text with the names of fields in the place of their values, in capitals."""
        return ACTION.sub(lambda found: found["action"].split(".")[-1].upper(), self._text)


def is_template(text: str) -> bool:
    """Whether a ``--format`` is a template, and not the name of a form."""
    return "{{" in text


def _outside_actions(text: str, escape: str, character: str) -> str:
    """A shell has no easy way to type a tab; within an action the text's own quotes say what is meant."""
    done, position = [], 0
    for found in ACTION.finditer(text):
        done += [text[position : found.start()].replace(escape, character), found[0]]
        position = found.end()
    return "".join(done) + text[position:].replace(escape, character)


def _render(nodes: list[Node], scope: _Scope) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, Text):
            yield node.text
        elif isinstance(node, Pipeline):
            value = _evaluate(node, scope)
            if not node.variables:
                yield show_value(value)
        elif node.kind == "range":
            yield from _render_range(node, scope)
        else:
            inside = scope.new_child()
            value = _evaluate(node.pipeline, inside)
            if value and node.kind == "with":
                inside["."] = value
            yield from _render(node.body if value else node.otherwise, inside)


def _render_range(node: Branch, scope: _Scope) -> Iterator[str]:
    found = _evaluate(Pipeline(node.pipeline.commands), scope)
    if isinstance(found, Mapping):
        items: list[tuple[Any, Any]] = sorted(found.items())
    elif found is None or isinstance(found, list | tuple):
        items = list(enumerate(found or ()))
    else:
        raise InvalidArgument(f"the template ranges over {show_value(found)!r}, which is no list and no map")
    if not items:
        yield from _render(node.otherwise, scope.new_child())
    for key, item in items:
        inside = scope.new_child({".": item})
        for name, value in zip(reversed(node.pipeline.variables), (item, key), strict=False):
            inside[name] = value
        yield from _render(node.body, inside)


def _evaluate(pipeline: Pipeline, scope: _Scope) -> Any:
    last: list[Any] = []
    for command in pipeline.commands:
        last = [_call(command, last, scope)]
    (value,) = last
    for name in pipeline.variables:
        if pipeline.declares:
            scope[name] = value
        else:
            next((one for one in scope.maps if name in one), scope)[name] = value
    return value


def _call(command: tuple[Literal | Function | Path, ...], last: list[Any], scope: _Scope) -> Any:
    head, *rest = command
    if not isinstance(head, Function):
        if rest or last:
            raise InvalidArgument("the template gives something to what is no function")
        return _value(head, scope)
    if head.name in {"and", "or"}:  # these look no further than they must
        if not rest and not last:
            raise InvalidArgument(f"the function {head.name} of the template has no value to look at")
        value: Any = None
        for value in chain((_value(one, scope) for one in rest), last):
            if bool(value) is (head.name == "or"):
                break
        return value
    operands = [*(_value(one, scope) for one in rest), *last]
    try:
        return FUNCTIONS[head.name](*operands)
    except (TypeError, LookupError, ValueError, AttributeError) as error:
        raise InvalidArgument(f"the function {head.name} of the template cannot do that: {error}") from None


def _value(operand: Literal | Function | Path, scope: _Scope) -> Any:
    if isinstance(operand, Literal):
        return operand.value
    if isinstance(operand, Function):
        return _call((operand,), [], scope)
    if isinstance(operand.of, Pipeline):
        value = _evaluate(operand.of, scope)
    elif operand.of in scope:
        value = scope[operand.of]
    else:
        raise InvalidArgument(f"the template has no variable {operand.of}")
    for name in operand.names:
        value = _look_up(value, name)
    return value


def _look_up(value: Any, name: str) -> Any:
    if isinstance(value, Fields):
        name = value.also.get(name, name)
        if name in value.absent:
            return value.get(name)
    if isinstance(value, Labels):
        return value.get(name)
    if not isinstance(value, Mapping) or name not in value:
        known = ", ".join(map(str, value)) if isinstance(value, Mapping) else "none"
        raise InvalidArgument(f"there is no field {name!r} for the template", hint=f"the fields are {known}")
    return value[name]
