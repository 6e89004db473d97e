"""``--format '{{.ID}} {{.Names}}'``: Go's text/template, as far as people use it with container engines.

Fields and keys (``.Names``, ``.A.B``, ``(index .A 0).B``), fields that are given something (``.Label "x"``), variables, ``if``,
``else if``, ``else``, ``with``, ``range`` and ``end``, pipes, texts in double or back quotes, numbers, comments, and the functions of
:mod:`ross.cli.template_functions`. ``table`` before the template makes columns, with headings.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Any, Final

from ross.cli.template_functions import FUNCTIONS, show_value
from ross.cli.template_syntax import ACTION, Branch, Function, Literal, Node, Path, Pipeline, Text, parse
from ross.cli.template_values import Fields, look_up
from ross.errors import InvalidArgument

_ESCAPES: Final = {r"\t": "\t", r"\n": "\n"}
_Scope = ChainMap[str, Any]


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

    def headings(self, names: Mapping[str, str] | None = None) -> str:
        """The text with the headings of fields in the place of their values: those of ``names``, else the field's own in capitals."""
        return "".join(_headings(self._nodes, names or {}))

    def asks_for(self, name: str) -> bool:
        """Whether the template has such a field in it."""
        return any(name in path.names for path in _paths(self._nodes))


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


# -- rendering ----------------------------------------------------------------------------------------------------------


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
        if not rest and not last:
            return _value(head, scope)
        if isinstance(head, Path) and head.names and (method := _method(head, scope)) is not None:
            return _apply(method, head.names[-1], [*(_value(one, scope) for one in rest), *last])
        raise InvalidArgument("the template gives something to what is no function")
    if head.name in {"and", "or"}:  # these look no further than they must
        if not rest and not last:
            raise InvalidArgument(f"the function {head.name} of the template has no value to look at")
        value: Any = None
        for value in chain((_value(one, scope) for one in rest), last):
            if bool(value) is (head.name == "or"):
                break
        return value
    return _apply(FUNCTIONS[head.name], head.name, [*(_value(one, scope) for one in rest), *last])


def _apply(function: Callable[..., Any], name: str, operands: list[Any]) -> Any:
    try:
        return function(*operands)
    except (TypeError, LookupError, ValueError, AttributeError) as error:
        raise InvalidArgument(f"the function {name} of the template cannot do that: {error}") from None


def _method(head: Path, scope: _Scope) -> Callable[..., Any] | None:
    """A field that is given something."""
    *before, name = head.names
    owner = _value(Path(head.of, tuple(before)), scope)
    method = owner.methods.get(name) if isinstance(owner, Fields) else None
    return partial(method, owner) if method is not None else None


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
        value = look_up(value, name)
    return value


# -- headings -----------------------------------------------------------------------------------------------------------


def _headings(nodes: list[Node], names: Mapping[str, str]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, Text):
            yield node.text
        elif isinstance(node, Branch):
            yield from _headings(node.body, names)
        elif not node.variables:
            yield " ".join(_heading(node, names))


def _heading(pipeline: Pipeline, names: Mapping[str, str]) -> Iterator[str]:
    for command in pipeline.commands:
        for position, operand in enumerate(command):
            if not isinstance(operand, Path):
                continue
            given = command[position + 1 :]
            if operand.names[-1:] == ("Label",) and given and isinstance(given[0], Literal):
                yield re.sub("[-_]", " ", str(given[0].value).rpartition(".")[2])
            elif operand.names:
                yield names.get(operand.names[-1], operand.names[-1].upper())
            elif isinstance(operand.of, Pipeline):
                yield from _heading(operand.of, names)


def _paths(nodes: list[Node]) -> Iterator[Path]:
    """All that is looked at."""
    pipelines: list[Pipeline] = []
    for node in nodes:
        if isinstance(node, Branch):
            pipelines.append(node.pipeline)
            yield from _paths([*node.body, *node.otherwise])
        elif isinstance(node, Pipeline):
            pipelines.append(node)
    while pipelines:
        for operand in chain.from_iterable(pipelines.pop().commands):
            if isinstance(operand, Path):
                yield operand
                if isinstance(operand.of, Pipeline):
                    pipelines.append(operand.of)
